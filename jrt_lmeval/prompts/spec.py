"""What a layout is asked to do, and how a YAML `jrt:` block says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.prompts.segments import LEVELS

LAYOUTS = ("once", "flat", "hier", "repeat_random", "repeat_question")
SELECTS = ("all", "question", "information")
ORDERS = ("coarse_to_fine", "fine_to_coarse")
LAYOUT_KEYS = ("layout", "repeats", "lead", "levels", "select", "repeat_level", "overlap", "order", "budget")
"""Keys that `layout_spec` takes; a `jrt:` block may hold others, which are not about the layout."""
LEVEL_KEYS = ("name", "repeats", "select", "keep")


def _whole_number(what: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise JRTError(f"{what} must be a whole number of at least 1, not {value!r}.")


def _number(what: str, value: object, right: str, is_right: Callable[[float], bool]) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not is_right(value):
        raise JRTError(f"{what} must be a number {right}, not {value!r}.")


@dataclass(frozen=True)
class Level:
    """One level of the hierarchical layout.

    Attributes:
        name: document, paragraph or sentence.
        repeats: how often the pass over this level is written.
        select: which segments are critical: all, those that match the question, or the most informative ones.
        keep: fraction of the document's tokens that the selected segments may hold, overlap included; best ranked
            segments first, at least one. 1.0 is no cap, and the only value with `all`. The document level is always
            kept whole.
    """

    name: str
    repeats: int = 1
    select: str = "all"
    keep: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in LEVELS:
            raise unknown("level", self.name, LEVELS)
        if self.select not in SELECTS:
            raise unknown("select", self.select, SELECTS)
        _whole_number(f"repeats of level {self.name}", self.repeats)
        _number(f"keep of level {self.name}", self.keep, "above 0, at most 1", lambda x: 0 < x <= 1)
        if self.select == "all" and self.keep < 1 and self.name != "document":
            raise JRTError(
                f"level {self.name}: select: all with keep: {self.keep} contradict each other; keep caps what question "
                "or information select. Leave keep out, or choose one of them."
            )


DEFAULT_LEVELS: tuple[Level, ...] = (
    Level("document"),
    Level("paragraph", select="question", keep=0.5),
    Level("sentence", repeats=2, select="question", keep=0.2),
)


@dataclass(frozen=True)
class LayoutSpec:
    """How a row is laid out.

    Attributes:
        layout: once (document, question), flat (the document `repeats` times), hier (passes over levels), or a
            control as long as flat: repeat_random (the document once, then sentences of other documents) and
            repeat_question (what is asked again and again, then the document once).
        repeats: copies of the document in `flat`, and that the controls are as long as.
        lead: whether the text that asks goes in front; without it the prompt is the same for all questions on a
            document up to the question itself, so a model's state can be kept. None: yes, but not for `once`.
        levels: the levels of `hier`.
        overlap: share of the preceding segment that a segment repeats, 0 to below 1.
        order: coarse_to_fine (document first) or fine_to_coarse.
        budget: cap on all passes of `hier` together, as a multiple of the document's GPT-2 tokens.
    """

    layout: str = "once"
    repeats: int = 2
    lead: bool | None = None
    levels: tuple[Level, ...] = DEFAULT_LEVELS
    overlap: float = 0.2
    order: str = "coarse_to_fine"
    budget: float = 2.0

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise unknown("layout", self.layout, LAYOUTS)
        if self.order not in ORDERS:
            raise unknown("order", self.order, ORDERS)
        if self.lead is None:
            object.__setattr__(self, "lead", self.layout != "once")
        if not isinstance(self.lead, bool):
            raise JRTError(f"lead must be true or false, not {self.lead!r}: it says whether the leading text is used.")
        _whole_number("repeats", self.repeats)
        _number("overlap", self.overlap, "at least 0, below 1", lambda x: 0 <= x < 1)
        names = [level.name for level in self.levels]
        if not names:
            raise JRTError(f"levels is empty; name at least one of {', '.join(LEVELS)}.")
        if len(set(names)) < len(names):
            raise JRTError(f"levels names {', '.join(names)}: each level may stand once; use repeats to repeat it.")
        _number("budget", self.budget, "above 0", lambda x: x > 0)
        copies = sum(level.repeats for level in self.levels if level.name == "document")
        if self.layout == "hier" and self.budget < copies:
            raise JRTError(
                f"budget {self.budget} cannot hold {copies} whole cop{'y' if copies == 1 else 'ies'} of the document: "
                f"it must be at least {copies}, or take the document out of levels."
            )


def layout_spec(mapping: Mapping[str, Any]) -> LayoutSpec:
    """The layout that a YAML `jrt:` block describes.

    Keys are those of `LayoutSpec`, `select`, which goes for every level, and `repeat_level`, the one level whose
    pass is written twice. `levels` is a list of level names or
    of mappings with the fields of `Level`; fields left out have the defaults of `Level`. A key that the layout does
    not use (`budget` with `flat`) is checked and has no effect, so that one block can serve several tasks.

    Raises:
        JRTError: unknown key or name (with the nearest valid one), or a value out of its range.
    """
    for key in mapping:
        if key not in LAYOUT_KEYS:
            raise unknown("key of the jrt block", key, LAYOUT_KEYS)
    fields = {key: value for key, value in mapping.items() if key not in ("levels", "select", "repeat_level")}
    levels = DEFAULT_LEVELS
    if "levels" in mapping:
        entries = mapping["levels"]
        if not isinstance(entries, (list, tuple)):
            raise JRTError(f"levels must be a list such as [document, paragraph], not {entries!r}.")
        levels = tuple(_level(entry) for entry in entries)
    if "select" in mapping:
        chosen = mapping["select"]
        levels = tuple(
            Level(level.name, level.repeats, chosen, 1.0 if chosen == "all" else level.keep) for level in levels
        )
    twice = mapping.get("repeat_level")
    if twice is not None:
        if twice not in (names := [level.name for level in levels]):
            raise unknown("level to repeat (repeat_level)", twice, names)
        levels = tuple(replace(level, repeats=2 if level.name == twice else 1) for level in levels)
    return LayoutSpec(levels=levels, **fields)


def _level(entry: Any) -> Level:
    if isinstance(entry, Level):
        return entry
    if isinstance(entry, str):
        return Level(entry)
    if not isinstance(entry, Mapping):
        raise JRTError(f"a level must be a name or a mapping such as {{name: sentence, repeats: 2}}, not {entry!r}.")
    for key in entry:
        if key not in LEVEL_KEYS:
            raise unknown("key of a level", key, LEVEL_KEYS)
    if "name" not in entry:
        raise JRTError(f"the level {dict(entry)!r} has no name; choices: {', '.join(LEVELS)}.")
    return Level(**entry)
