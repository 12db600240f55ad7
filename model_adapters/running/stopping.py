"""What a task asks of generation: where to stop. Decoding is greedy; anything else is refused, not approximated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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

    A special token vanishes when tokens are decoded for an answer. A stop string that is one is therefore looked for
    among the tokens; for a stop string that holds one beside other text, tokens are decoded with the special ones.

    Args:
        until: the stop strings.
        decode: turns token ids into text, with or without the special tokens (second argument).
        special: ids of the special tokens by their text.
        think_end: text or token id that ends a model's reasoning. Stop strings before it do not count, and the answer
            is what follows it; None for a model that does not reason.
    """

    def __init__(
        self,
        until: tuple[str, ...],
        decode: Callable[[list[int], bool], str],
        special: Mapping[str, int],
        think_end: str | int | None = None,
    ):
        self.until = until
        self._decode = decode
        self._ids = frozenset(special[stop] for stop in until if stop in special)
        self._mixed = any(text in stop and text != stop for stop in until for text in special)
        self._special = tuple(special)
        self._think_end = special.get(think_end, think_end) if isinstance(think_end, str) else think_end
        # tokens that hold the longest stop string even if every token is one byte of it
        self._reach = max((len(stop.encode()) for stop in until), default=0) + 8

    def hit(self, ids: list[int]) -> bool:
        """Whether the last token has completed a stop string. Only the end of the text is decoded at each step."""
        if ids[-1] in self._ids:
            return True
        if not self.until:
            return False
        if self._think_end is not None:
            return self._cut(ids)[1]
        end = self._decode(ids[-self._reach :], self._mixed)
        return any(stop in end for stop in self.until) and self._cut(ids)[1]

    def answer(self, ids: list[int], ended: bool) -> str:
        """The text of an answer before the first stop string; `ended` leaves out the last token, which ended it."""
        text, _ = self._cut(ids[:-1] if ended or ids[-1] in self._ids else ids)
        for special in self._special if self._mixed else ():
            text = text.replace(special, "")
        return text

    def _cut(self, ids: list[int]) -> tuple[str, bool]:
        """The text before the first stop string, and whether there was one."""
        thought = True
        if isinstance(self._think_end, int):
            end = len(ids) - ids[::-1].index(self._think_end) if self._think_end in ids else 0
            thought, ids = end > 0, ids[end:]
        text = self._decode(ids, self._mixed)
        if isinstance(self._think_end, str):
            thought, text = self._think_end in text, text.split(self._think_end)[-1]
        text = text if self._think_end is None else text.lstrip()
        places = [place for stop in self.until if (place := text.find(stop)) >= 0]
        return (text[: min(places)], thought) if places else (text, False)
