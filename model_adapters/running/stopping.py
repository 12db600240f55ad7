"""What a task asks of generation: where to stop. Decoding is greedy; anything else is refused, not approximated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jrt_lmeval.errors import JRTError, unknown

DEFAULT_MAX_GEN_TOKS = 256
LENGTH_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
# Each with the values that mean greedy decoding; they are allowed because many task files spell them out.
GREEDY_VALUES: dict[str, tuple[Any, ...]] = {
    "do_sample": (False, None),
    "temperature": (0, 0.0, None),
    "top_p": (1, 1.0, None),
    "top_k": (0, 1, None),
    "num_beams": (1, None),
}


@dataclass(frozen=True)
class Goal:
    """Generate until one of `until` appears in the text, or for `max_gen_toks` tokens."""

    until: tuple[str, ...] = ()
    max_gen_toks: int = DEFAULT_MAX_GEN_TOKS


def read_goal(kwargs: Mapping[str, Any]) -> Goal:
    """Read a task's `generation_kwargs` (and `--gen_kwargs`).

    Raises:
        JRTError: for an unknown name, for sampling or beams, and for a length below 1.
    """
    known = ("until", *LENGTH_NAMES, *GREEDY_VALUES)
    for name in kwargs:
        if name not in known:
            raise unknown("generation argument", name, known)
    # With do_sample=False written out, temperature and its kin have no effect anywhere in the harness.
    names = ("do_sample", "num_beams") if kwargs.get("do_sample") is False else GREEDY_VALUES
    for name in names:
        if name in kwargs and kwargs[name] not in GREEDY_VALUES[name]:
            raise JRTError(
                f"generation_kwargs: {name}={kwargs[name]!r} asks for more than greedy decoding, which is all these "
                "models offer; use do_sample=False without beams."
            )
    until = kwargs.get("until") or ()
    if not isinstance(until, (str, list, tuple)):
        raise JRTError(f"generation_kwargs: until={until!r} must be text or a list of texts, such as ['\\n'].")
    until = (until,) if isinstance(until, str) else tuple(until)
    for stop in until:
        if not isinstance(stop, str):
            raise JRTError(f"generation_kwargs: until={stop!r} must be text; write {str(stop)!r} in quotes.")
    length = next((kwargs[name] for name in LENGTH_NAMES if kwargs.get(name) is not None), DEFAULT_MAX_GEN_TOKS)
    if isinstance(length, bool) or not isinstance(length, (int, float)) or int(length) != length or length < 1:
        raise JRTError(f"generation_kwargs: max_gen_toks={length!r} must be a whole number of at least 1.")
    return Goal(tuple(stop for stop in until if stop), int(length))


class StopStrings:
    """Finds stop strings in a text that grows token by token.

    Only the end of the text is decoded at each step: enough tokens to hold the longest stop string even if every
    token were one byte of it.
    """

    def __init__(self, until: tuple[str, ...], decode: Any):
        self.until = until
        self.decode = decode
        self.reach = max((len(stop.encode()) for stop in until), default=0) + 8

    def hit(self, ids: list[int]) -> bool:
        """Whether a stop string has just been completed."""
        if not self.until:
            return False
        end = self.decode(ids[-self.reach :])
        return any(stop in end for stop in self.until) and self.cut(self.decode(ids))[1]

    def cut(self, text: str) -> tuple[str, bool]:
        """The text before the first stop string, and whether there was one."""
        places = [place for stop in self.until if (place := text.find(stop)) >= 0]
        return (text[: min(places)], True) if places else (text, False)
