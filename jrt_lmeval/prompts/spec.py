"""What a layout is asked to do, and how a YAML `jrt:` block says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.prompts.segments import LEVELS

if TYPE_CHECKING:
    from jrt_lmeval.prompts.layouts import Parts

SELECTS = ("all", "information", "random", "question")
ORDERS = ("coarse_to_fine", "fine_to_coarse")
LAYOUT_KEYS = (
    "layout", "repeats", "lead", "levels", "select", "repeat_level", "overlap", "order", "budget", "as_long_as",
)  # fmt: skip
"""Keys that `layout_spec` takes; a `jrt:` block may hold others, which are not about the layout."""
LEVEL_KEYS = ("name", "repeats")


class Laid(NamedTuple):
    """What a layout puts in front of joiner and question."""

    lead: str
    body: str
    counters: dict[str, int | float]


Lay = Callable[["Parts", "LayoutSpec", str, str], Laid]
"""Writes a layout: the parts, the settings, the lead and what follows the body."""


@dataclass(frozen=True)
class Layout:
    """All that is to be known of a layout; to add one is to add an entry of `layouts.LAYOUTS` and its YAML files.

    Attributes:
        name: what `layout:` calls it.
        ending: what the names of its tasks end in, such as `_jrt`; empty for one that has no tasks of its own.
        label: what tables and plots call it.
        keys: the fields of `LayoutSpec` that it reads.
        lay: writes it, given the parts, the settings, the lead (empty if it is not wanted) and what follows the body.
        defaults: of `lead`, `levels` and `budget`, where they are not those of the fields.
        selects: values that `select` can have, the first being the default; empty where nothing is selected.
        document_level: whether the document is one of its levels; else it is written once, or not at all.
        reads_question: whether what it writes before the question depends on the question, the lead aside.
        equal_length: a control that is cut to the length of another layout (`as_long_as`).
        needs_filler: it needs other text than the row's own (`Parts.filler`).
    """

    name: str
    ending: str
    label: str
    keys: tuple[str, ...]
    lay: Lay
    defaults: Mapping[str, Any] = field(default_factory=dict)
    selects: tuple[str, ...] = ()
    document_level: bool = False
    reads_question: bool = False
    equal_length: bool = False
    needs_filler: bool = False


LAYOUTS: dict[str, Layout] = {}
"""Layouts by name; `layouts.py` fills it."""


def _whole_number(what: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise JRTError(f"{what} must be a whole number of at least 1, not {value!r}.")


def _number(what: str, value: object, right: str, is_right: Callable[[float], bool]) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not is_right(value):
        raise JRTError(f"{what} must be a number {right}, not {value!r}.")


@dataclass(frozen=True)
class Level:
    """One level of a document.

    Attributes:
        name: document, paragraph or sentence.
        repeats: how often the pass over this level is written.
    """

    name: str
    repeats: int = 1

    def __post_init__(self) -> None:
        if self.name not in LEVELS:
            raise unknown("level", self.name, LEVELS)
        _whole_number(f"repeats of level {self.name}", self.repeats)


@dataclass(frozen=True)
class LayoutSpec:
    """How a row is laid out. What is None takes the default of the layout.

    Attributes:
        layout: a name in `LAYOUTS`.
        repeats: copies of the document in `flat`.
        lead: whether the text that asks goes in front. Without it, a layout that does not read the question is the same
            for all questions on a document up to the question itself, so that a model's state can be kept.
        levels: the levels that are written, each with its repeats.
        select: which segments of a level stay where the budget cannot hold all: `all` (none is preferred: what is left
            is spread evenly over the document), `information` (names, numbers and rare words first), `random` (drawn by
            a generator seeded with the document) or `question` (those that share a word with the question, best BM25
            score first; the others never).
        overlap: share of the preceding segment that a segment repeats, 0 to below 1.
        order: coarse_to_fine (document first) or fine_to_coarse.
        budget: cap on document copies and passes together, as a multiple of the document's GPT-2 tokens.
        as_long_as: the layout that an equal-length control is as long as, in every row.
    """

    layout: str = "once"
    repeats: int = 2
    lead: bool | None = None
    levels: tuple[Level, ...] | None = None
    select: str | None = None
    overlap: float = 0.2
    order: str = "coarse_to_fine"
    budget: float | None = None
    as_long_as: str = "flat"

    def __post_init__(self) -> None:
        for name in (self.layout, self.as_long_as):
            if name not in LAYOUTS:
                raise unknown("layout", name, LAYOUTS)
        if LAYOUTS[self.as_long_as].equal_length:
            models = [name for name, layout in LAYOUTS.items() if not layout.equal_length]
            raise JRTError(f"as_long_as {self.as_long_as!r} is itself cut to a length; choices: {', '.join(models)}.")
        form = LAYOUTS[self.form]
        _whole_number("repeats", self.repeats)
        _number("overlap", self.overlap, "at least 0, below 1", lambda x: 0 <= x < 1)
        if self.order not in ORDERS:
            raise unknown("order", self.order, ORDERS)
        self._default("lead", form.defaults.get("lead", True))
        if not isinstance(self.lead, bool):
            raise JRTError(f"lead must be true or false, not {self.lead!r}: it says whether the leading text is used.")
        self._default("select", next(iter(form.selects), "all"))
        if self.select not in SELECTS:
            raise unknown("select", self.select, SELECTS)
        if form.selects and self.select not in form.selects:
            hint = " That would be retrieval: use layout focus." if self.select == "question" else ""
            raise JRTError(
                f"layout {self.form!r} cannot have select: {self.select}; choices: {', '.join(form.selects)}.{hint}"
            )
        self._default("levels", form.defaults.get("levels", ()))
        self._check_levels(form)
        self._default("budget", form.defaults.get("budget", self._copies + 1))
        self._check_budget(form)

    def _default(self, name: str, value: Any) -> None:
        if getattr(self, name) is None:
            object.__setattr__(self, name, value)

    def _check_levels(self, form: Layout) -> None:
        assert self.levels is not None
        names = [level.name for level in self.levels]
        if not names and "levels" in form.keys:
            raise JRTError(f"levels is empty; name at least one of {', '.join(LEVELS)}.")
        if len(set(names)) < len(names):
            raise JRTError(f"levels names {', '.join(names)}: each level may stand once; use repeats to repeat it.")
        if "document" in names and "levels" in form.keys and not form.document_level:
            raise JRTError(f"levels of layout {self.form!r} are those of its passages: {', '.join(LEVELS[1:])}.")

    def _check_budget(self, form: Layout) -> None:
        _number("budget", self.budget, "above 0", lambda x: x > 0)
        assert self.budget is not None and self.levels is not None
        if "budget" not in form.keys:
            return
        copies = self._copies if form.document_level else 1
        below = [level.name for level in self.levels if level.name != "document"]
        if self.budget < copies or (below and self.budget == copies):
            more = f" and anything of {', '.join(below)}: it must be above {copies}." if below else ""
            raise JRTError(
                f"budget {self.budget} cannot hold {copies} whole cop{'y' if copies == 1 else 'ies'} of the document"
                + (more or f": it must be at least {copies}.")
            )

    @property
    def _copies(self) -> int:
        return sum(level.repeats for level in self.levels or () if level.name == "document")

    @property
    def form(self) -> str:
        """The layout in whose form the row is read: of an equal-length control, the one that it is as long as."""
        return self.as_long_as if LAYOUTS[self.layout].equal_length else self.layout

    @property
    def reads_question(self) -> bool:
        """Whether anything that stands before the question depends on it."""
        return bool(self.lead) or LAYOUTS[self.layout].reads_question

    @property
    def keys(self) -> tuple[str, ...]:
        """The fields that this layout reads, those of the layout that a control is as long as included."""
        layout = LAYOUTS[self.layout]
        more = LAYOUTS[self.form].keys if layout.equal_length else ()
        return tuple(dict.fromkeys(("layout", *layout.keys, *more)))


def layout_spec(mapping: Mapping[str, Any]) -> LayoutSpec:
    """The layout that a YAML `jrt:` block describes.

    Keys are those of `LayoutSpec`, and `repeat_level`, the one level whose pass is written twice, all others once.
    `levels` is a list of level names or of mappings with the fields of `Level`. A key that the layout does not use
    (`budget` with `flat`) is checked and has no effect, so that one block can serve several tasks.

    Raises:
        JRTError: unknown key or name (with the nearest valid one), or a value out of its range.
    """
    for key in mapping:
        if key not in LAYOUT_KEYS:
            raise unknown("key of the jrt block", key, LAYOUT_KEYS)
    fields = {key: value for key, value in mapping.items() if key not in ("levels", "repeat_level")}
    if mapping.get("levels") is not None:
        entries = mapping["levels"]
        if not isinstance(entries, (list, tuple)):
            raise JRTError(f"levels must be a list such as [document, paragraph], not {entries!r}.")
        fields["levels"] = tuple(_level(entry) for entry in entries)
    twice = mapping.get("repeat_level")
    if twice is None:
        return LayoutSpec(**fields)
    levels = LayoutSpec(**{**fields, "budget": None}).levels or ()
    if twice not in (names := [level.name for level in levels] or LEVELS):
        raise unknown("level to repeat (repeat_level)", twice, names)
    fields["levels"] = tuple(replace(level, repeats=2 if level.name == twice else 1) for level in levels)
    return LayoutSpec(**fields)


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
