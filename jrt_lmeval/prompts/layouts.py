"""A row laid out as a prompt: the document once, several times, level by level, or with the passages asked for.

A user's settings (the layout keys of a YAML `jrt:` block) become a `LayoutSpec`; `build` writes the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from jrt_lmeval.errors import JRTError, one_of, unknown, whole_number
from jrt_lmeval.prompts.passes import hier_text, passages_text
from jrt_lmeval.prompts.prompt import Counters, LayoutSpec, Parts, Prompt
from jrt_lmeval.prompts.segments import LEVELS, MOST_REPEATS, Level
from jrt_lmeval.prompts.tokens import count_tokens, fill

SELECTS = ("all", "information", "learned", "random", "question")
ORDERS = ("coarse_to_fine", "fine_to_coarse")
LAYOUT_KEYS = (
    "layout", "repeats", "lead", "levels", "select", "repeat_level", "overlap", "order", "budget", "as_long_as",
)  # fmt: skip
"""The keys of a `jrt:` block that are about the layout."""
_LEVEL_KEYS = ("name", "repeats")


class Laid(NamedTuple):
    """The text that a layout puts in front of joiner and question."""

    lead: str
    body: str
    counters: Counters


Lay = Callable[[Parts, LayoutSpec, str, str], Laid]
"""Writes a layout, given the parts, the settings, the lead (empty if it is not wanted) and the text after the body."""


@dataclass(frozen=True)
class Layout:
    """One layout: its names and its rules. To add one, add an entry to `LAYOUTS` and its YAML files.

    Attributes:
        name: the value of `layout:` in a `jrt:` block.
        ending: the ending of its tasks' names, such as `_jrt`; empty for a layout without tasks of its own.
        label: its name in tables and plots.
        keys: the settings that it reads.
        lay: writes it.
        defaults: of `lead`, `levels` and `budget`, where they are not the general ones.
        selects: values that `select` can have, the first being the default; empty where nothing is selected.
        document_level: whether the document is one of its levels; otherwise it is written once, or not at all.
        reads_question: whether the text before the question depends on the question, the lead aside.
        equal_length: whether it is a control that is cut to the length of another layout (`as_long_as`).
        needs_filler: whether it needs other text than the row's own (`Parts.filler`).
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


def build(parts: Parts, spec: LayoutSpec) -> Prompt:
    """Lay out a row: lead (where `spec.lead` says so), the body of the layout, joiner, question.

    The question may be empty (in a published SQuAD window that ends before the stem); `counters["question_missing"]`
    is 1 then.

    Raises:
        JRTError: the document is empty or white space, or there is no filler for `repeat_random`.
    """
    if not parts.document.strip():
        raise JRTError("empty document: the row has no text to read; check the field that 'document' is made from.")
    after = parts.joiner + parts.question
    lead, body, counters = LAYOUTS[spec.layout].lay(parts, spec, parts.lead if spec.lead else "", after)
    text = lead + body + after
    counters = dict(counters)
    if not parts.question.strip():
        counters["question_missing"] = 1
    counters["prompt_tokens"] = count_tokens(text)
    counters["document_tokens"] = count_tokens(parts.document)
    return Prompt(text, len(lead), len(lead) + len(body), parts.document, counters)


def _once(parts: Parts, spec: LayoutSpec, lead: str, after: str) -> Laid:
    return Laid(lead, parts.document, {})


def _flat(parts: Parts, spec: LayoutSpec, lead: str, after: str) -> Laid:
    if spec.repeats == 1:
        return Laid(lead, parts.document, {})
    first = parts.document if parts.first_document is None else parts.first_document
    return Laid(lead, "\n".join([first] + [parts.document] * (spec.repeats - 1)), {})


def _hier(parts: Parts, spec: LayoutSpec, lead: str, after: str) -> Laid:
    return Laid(lead, *hier_text(parts.document, spec))


def _passages(parts: Parts, spec: LayoutSpec, lead: str, after: str) -> Laid:
    return Laid(lead, *passages_text(parts.document, parts.query or parts.question, spec))


def _focus(parts: Parts, spec: LayoutSpec, lead: str, after: str) -> Laid:
    lead, passages, counters = _passages(parts, spec, lead, after)
    return Laid(lead, f"{parts.document}\n{passages}", counters)


def _length(parts: Parts, spec: LayoutSpec, lead: str, after: str) -> int:
    """Tokens of the prompt that a control is as long as."""
    lead, body, _ = LAYOUTS[spec.form].lay(parts, replace(spec, layout=spec.form), lead, after)
    return count_tokens(lead + body + after)


def _repeat_random(parts: Parts, spec: LayoutSpec, lead: str, after: str) -> Laid:
    body = parts.document + "\n"
    return Laid(lead, body + fill(lead + body, parts.filler, after, _length(parts, spec, lead, after)), {})


def _repeat_question(parts: Parts, spec: LayoutSpec, lead: str, after: str) -> Laid:
    asked = lead if lead.strip() else parts.question + " "
    tokens = _length(parts, spec, lead, after)
    return Laid(fill("", asked, parts.document + after, tokens, from_end=True), parts.document, {})


_HIER = (Level("document"), Level("paragraph"), Level("sentence", repeats=2))


def _retrieval(name: str, ending: str, label: str, lay: Lay) -> Layout:
    """A layout with the passages that match the question (`passes.passages_text`)."""
    keys, selects = ("lead", "levels", "select", "overlap", "budget"), ("question", "random")
    defaults = {"levels": (Level("paragraph"),), "budget": 1.5}
    return Layout(name, ending, label, keys, lay, defaults, selects, reads_question=True)


def _as_long(name: str, label: str, lay: Lay, needs_filler: bool = False) -> Layout:
    """A control that is as long as another layout."""
    keys = ("lead", "as_long_as")
    return Layout(name, "", label, keys, lay, reads_question=True, equal_length=True, needs_filler=needs_filler)


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        # Document, joiner, question.
        Layout("once", "_once", "read once", ("lead",), _once, {"lead": False}),
        # Lead, document, joiner, question: what a state can hold that was told beforehand what it will be asked.
        Layout("lead_once", "", "read once, question first", ("lead",), _once),
        # Lead, first copy, newline, further copies (each on a new line), joiner, question: JRT-Prompt.
        Layout("flat", "_jrt", "read twice (JRT)", ("repeats", "lead"), _flat),
        # Passes over the levels of the document (`passes.hier_text`), joiner, question.
        Layout(
            "hier",
            "_jrt_hier",
            "hierarchical",
            ("lead", "levels", "select", "overlap", "order", "budget"),
            _hier,
            {"lead": False, "levels": _HIER},
            ("all", "information", "learned", "random"),
            document_level=True,
        ),
        # Lead, document, newline, the passages, joiner, question.
        _retrieval("focus", "_jrt_focus", "focus (retrieval)", _focus),
        # Its control: the same passages, without the document.
        _retrieval("passages", "_passages", "passages only (retrieval)", _passages),
        # Lead, document, newline, the start of the filler, joiner, question.
        _as_long("repeat_random", "other text, equal length", _repeat_random, needs_filler=True),
        # The lead over and over (the question where there is no lead), document, joiner, question.
        _as_long("repeat_question", "question repeated, equal length", _repeat_question),
    )
}


def layout_spec(given: Mapping[str, Any]) -> LayoutSpec:
    """The layout that a user's settings describe.

    Args:
        given: keys among `LAYOUT_KEYS`; one that is missing or None takes the default of the layout. `levels` is a
            list of level names or of mappings with the fields of `Level`; `repeat_level` is the one level whose pass
            is written twice, all others once; `as_long_as` is the layout that an equal-length control is as long as.

    Raises:
        JRTError: an unknown key or name (with the nearest valid one), a value out of its range, or a setting that the
            layout does not read.
    """
    layout, form, keys = _read(given)
    for key in unread_keys(given):
        readers = ", ".join(name for name, other in LAYOUTS.items() if _base(key) in other.keys)
        raise JRTError(f"{key}: {given[key]} has no effect with layout {layout.name!r}; it needs layout {readers}.")
    values = {key: value for key, value in given.items() if value is not None}
    lead = values.get("lead", form.defaults.get("lead", True))
    if not isinstance(lead, bool):
        raise JRTError(f"lead must be true or false, not {lead!r}: it says whether the leading text is used.")
    select = one_of("select", values.get("select", next(iter(form.selects), "all")), SELECTS)
    if form.selects and select not in form.selects:
        hint = " That would be retrieval: use layout focus." if select == "question" else ""
        raise JRTError(f"layout {form.name!r} cannot have select: {select}; choices: {', '.join(form.selects)}.{hint}")
    levels = _levels(values, form)
    return LayoutSpec(
        layout=layout.name,
        keys=keys,
        form=form.name,
        reads_question=lead or layout.reads_question,
        repeats=whole_number("repeats", values.get("repeats", 2), most=MOST_REPEATS),
        lead=lead,
        levels=levels,
        select=select,
        overlap=_number("overlap", values.get("overlap", 0.2), "at least 0, below 1", lambda x: 0 <= x < 1),
        order=one_of("order", values.get("order", ORDERS[0]), ORDERS),
        budget=_budget(values, form, levels),
    )


def unread_keys(given: Mapping[str, Any]) -> list[str]:
    """Those of a user's settings that the layout, which is one of them, does not read; None is no setting.

    Raises:
        JRTError: an unknown key or layout.
    """
    keys = _read(given)[2]
    return [key for key, value in given.items() if value is not None and _base(key) not in keys]


def _base(key: str) -> str:
    """The setting that a key is about: `repeat_level` is short for `levels`."""
    return "levels" if key == "repeat_level" else key


def _read(given: Mapping[str, Any]) -> tuple[Layout, Layout, tuple[str, ...]]:
    """The layout, the layout in whose form the row is read, and the settings that they read."""
    for key in given:
        if key not in LAYOUT_KEYS:
            raise unknown("key of the jrt block", key, LAYOUT_KEYS)
    layout = form = LAYOUTS[one_of("layout", given.get("layout", "once"), LAYOUTS)]
    if not layout.equal_length:
        return layout, form, ("layout", *layout.keys)
    name = given.get("as_long_as")
    form = LAYOUTS[one_of("layout", "flat" if name is None else name, LAYOUTS)]
    if form.equal_length:
        models = [name for name, other in LAYOUTS.items() if not other.equal_length]
        raise JRTError(f"as_long_as {form.name!r} is itself cut to a length; choices: {', '.join(models)}.")
    return layout, form, tuple(dict.fromkeys(("layout", *layout.keys, *form.keys)))


def _levels(values: Mapping[str, Any], form: Layout) -> tuple[Level, ...]:
    entries = values.get("levels", form.defaults.get("levels", ()))
    if not isinstance(entries, (list, tuple)):
        raise JRTError(f"levels must be a list such as [document, paragraph], not {entries!r}.")
    levels = tuple(map(_level, entries))
    names = [level.name for level in levels]
    if "levels" in form.keys and not names:
        raise JRTError(f"levels is empty; name at least one of {', '.join(LEVELS)}.")
    if len(set(names)) < len(names):
        raise JRTError(f"levels names {', '.join(names)}: each level may stand once; use repeats to repeat it.")
    if "levels" in form.keys and "document" in names and not form.document_level:
        raise JRTError(f"levels of layout {form.name!r} are those of its passages: {', '.join(LEVELS[1:])}.")
    if "repeat_level" not in values:
        return levels
    twice = one_of("level to repeat (repeat_level)", values["repeat_level"], names)
    return tuple(replace(level, repeats=2 if level.name == twice else 1) for level in levels)


def _level(entry: Any) -> Level:
    if isinstance(entry, Level):
        return entry
    if isinstance(entry, str):
        return Level(entry)
    if not isinstance(entry, Mapping):
        raise JRTError(f"a level must be a name or a mapping such as {{name: sentence, repeats: 2}}, not {entry!r}.")
    for key in entry:
        if key not in _LEVEL_KEYS:
            raise unknown("key of a level", key, _LEVEL_KEYS)
    if "name" not in entry:
        raise JRTError(f"the level {dict(entry)!r} has no name; choices: {', '.join(LEVELS)}.")
    return Level(**entry)


def _budget(values: Mapping[str, Any], form: Layout, levels: tuple[Level, ...]) -> float:
    """The budget, one document more than the copies of the document unless it is given or the layout has another."""
    copies = sum(level.repeats for level in levels if level.name == "document")
    given = values.get("budget", form.defaults.get("budget", copies + 1))
    budget = _number("budget", given, "above 0", lambda x: x > 0)
    if "budget" not in form.keys:
        return budget
    whole = copies if form.document_level else 1
    below = [level.name for level in levels if level.name != "document"]
    if budget < whole or (below and budget == whole):
        more = f" and anything of {', '.join(below)}: it must be above {whole}." if below else ""
        raise JRTError(
            f"budget {budget} cannot hold {whole} whole cop{'y' if whole == 1 else 'ies'} of the document"
            + (more or f": it must be at least {whole}.")
        )
    return budget


def _number(what: str, value: Any, right: str, is_right: Callable[[float], bool]) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not is_right(value):
        raise JRTError(f"{what} must be a number {right}, not {value!r}.")
    return value
