"""The benchmarks: what their rows hold, and how a row becomes the parts of a prompt, as published to the byte.

The order in which dots, newlines and spaces are stripped differs between tasks, and between the document read once and
read twice; it is kept because the prompts must be the published ones. All other layouts take the form of `flat`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jrt_lmeval.errors import JRTError, one_of
from jrt_lmeval.prompts.layouts import LAYOUTS, build, layout_spec
from jrt_lmeval.prompts.prompt import LayoutSpec, Parts, Prompt
from jrt_lmeval.prompts.window import Cut, Window, cut

Row = Mapping[str, Any]
Text = Callable[[Row, str, Window], str]
Form = Callable[[Row, str, str, Window], Parts]

SWDE_MARKER = "Summary of information above..."
ALTERNATIVES = "alt_answers"
"""Field of some published rows: other names of the answer, which place the window where the answer stands nowhere."""
_TRIVIAQA_MARKS = re.compile(r"\[(?:PAR|DOC|TLE)\]")


@dataclass(frozen=True)
class BenchmarkSpec:
    """What is known of a benchmark: its rows, and what a task does with one.

    Attributes:
        dataset: name of the data set, on the hub or among what ships with the package.
        document: field that is read.
        question: field that says what is asked for; rows that ask for the same have the same.
        answers: field that holds the accepted answers, a string or a list of them.
        sought: fields that place the answer-centred window; of a list the first entry.
        text: the text that the window cuts, for a row, a layout and a window.
        parts: the parts, for a row, its cut text, a layout and a window.
        sample: file of the sample rows that ship with the package, if any do.
        again: further fields that hold the document or a part of it.
        named_by: field that tells documents apart; None where only their text does, because rows have no such field or
            (TriviaQA) one that names the question too.
    """

    dataset: str
    document: str
    question: str
    answers: str
    sought: tuple[str, ...]
    text: Text
    parts: Form
    sample: str | None = None
    again: tuple[str, ...] = ()
    named_by: str | None = "doc_id"

    def labels(self, row: Row) -> list[str]:
        """The accepted answers, at least one."""
        return labels_of(row, self.answers)

    def seeks(self, row: Row) -> list[str]:
        """The strings that place the answer-centred window."""
        return [self.labels(row)[0] if field == self.answers else filled(row, field) for field in self.sought]

    def rewritten(self, row: Row, rewrite: Callable[[str], str], answer: str) -> dict[str, Any]:
        """A copy of a row with its document rewritten and one accepted answer."""
        texts = {field: row[field] for field in (self.document, *self.again) if isinstance(row.get(field), str)}
        for field, text in texts.items():
            before, mark, after = text.partition(SWDE_MARKER)
            texts[field] = rewrite(before) + mark + after
        copy = {**row, **texts, self.answers: answer if isinstance(row[self.answers], str) else [answer]}
        copy.pop(ALTERNATIVES, None)
        return copy


def text_of(row: Row, field: str) -> str:
    """A field that has to be there and to be a string."""
    value = row.get(field)
    if not isinstance(value, str):
        raise JRTError(f"{_name(row)}: field {field!r} must be a string, not {value!r}; fields are {', '.join(row)}.")
    return value


def filled(row: Row, field: str) -> str:
    """A field that must not be blank."""
    value = text_of(row, field)
    if not value.strip():
        raise JRTError(f"{_name(row)}: field {field!r} is empty; it has to hold what the prompt asks for.")
    return value


def alternatives_of(row: Row) -> list[str]:
    """Other names of the answer; none for most rows."""
    return labels_of(row, ALTERNATIVES) if row.get(ALTERNATIVES) else []


def labels_of(row: Row, field: str) -> list[str]:
    """The accepted answers, at least one."""
    value = row.get(field)
    labels = [value] if isinstance(value, str) else value
    if not isinstance(labels, (list, tuple)) or not labels or not all(isinstance(label, str) for label in labels):
        raise JRTError(f"{_name(row)}: field {field!r} must hold at least one accepted answer, not {value!r}.")
    return list(labels)


def _name(row: Row) -> str:
    return f"row {row['doc_id']!r}" if "doc_id" in row else "a row"


def _capital(key: str) -> str:
    return key[0].upper() + key[1:]


def _without_tail(text: str, tail: str) -> str:
    """`text` without the repetitions of `tail` at its end, letter case aside."""
    while text.lower().endswith(tail.lower()):
        text = text[: -len(tail)]
    return text


def _ending_in_dot(text: str) -> str:
    return text if text.endswith(".") else text + "."


def _key_parts(row: Row, document: str) -> Parts:
    key = _capital(filled(row, "key"))
    return Parts(document, key + ":", lead=f"Information about {key.strip(':')}. ", query=text_of(row, "key"))


def _swde_text(row: Row, layout: str, window: Window) -> str:
    text = text_of(row, "text")
    if SWDE_MARKER not in text:
        raise JRTError(f"{_name(row)}: field 'text' of an SWDE row must hold the mark {SWDE_MARKER!r}, and does not.")
    # The published window cuts the text with its tail; any other window is spared it.
    return text if window.published else text.split(SWDE_MARKER)[0]


def _swde(row: Row, text: str, layout: str, window: Window) -> Parts:
    text = _without_tail(text.split(SWDE_MARKER)[0], filled(row, "key") + ":")
    if layout == "once":
        return _key_parts(row, text.strip("\n").strip().strip("\n").strip().strip(".") + ".")
    return _key_parts(row, _ending_in_dot(text.strip("\n").strip(".").strip().strip("\n").strip()))


def _fda(row: Row, text: str, layout: str, window: Window) -> Parts:
    text = _without_tail(text, filled(row, "key") + ":")
    return _key_parts(row, _ending_in_dot(text.strip("\n").strip(".")))


def _cloze_parts(row: Row, text: str, layout: str, asks: str) -> Parts:
    """The document in its layout's form, and the stem; `asks` is the natural question that goes in front."""
    document = text.strip().strip(".")
    if layout != "once":
        document = document.strip()
    return Parts(document + ".", _stem(row), lead=asks + " ", query=asks)


def _stem(row: Row) -> str:
    return filled(row, "question").strip()


def _asks(row: Row, field: str, layout: str) -> str:
    """The natural question, which the document read once does without."""
    return str(row.get(field) or "") if layout == "once" else text_of(row, field)


def _nq(row: Row, text: str, layout: str, window: Window) -> Parts:
    stem = _stem(row)
    text = text.strip().removesuffix(stem) if layout == "once" else _without_tail(text.strip(), stem)
    return _cloze_parts(row, text, layout, _asks(row, "orig_question", layout).strip(":"))


def _drop(row: Row, text: str, layout: str, window: Window) -> Parts:
    text = _without_tail(text.strip(), _stem(row))
    return _cloze_parts(row, text, layout, _asks(row, "orig_question", layout).strip(":"))


def _triviaqa(row: Row, text: str, layout: str, window: Window) -> Parts:
    text = _without_tail(_TRIVIAQA_MARKS.sub("", text.strip()), _stem(row))
    return _cloze_parts(row, text, layout, _asks(row, "orig_question", layout))


def _squad_stem(row: Row) -> str:
    """The words at the end of `text` that are completed: what follows the passage, or the last line or sentence."""
    text = text_of(row, "text").strip()
    passage = text_of(row, "context").split("Question:")[0].strip()
    if passage and text.startswith(passage) and text[len(passage) :][:1].isspace():
        return text[len(passage) :].strip()
    for mark in ("Question:", "\n", ". "):
        before, _, after = text.rpartition(mark)
        if before.strip() and after.strip():
            return (mark + after if mark == "Question:" else after).strip()
    return ""


def _split_off(text: str, stem: str) -> tuple[str, str, str]:
    """Passage, white space, stem; all is passage if the text does not end in the stem, or is nothing else."""
    passage = text.removesuffix(stem).rstrip()
    if not passage or passage == text:
        return text, "", ""
    return passage, text[len(passage) : len(text) - len(stem)], stem


def _stem_apart(layout: str, window: Window) -> bool:
    # As published, the window cuts passage and stem as one text, so that a window may lose the stem.
    # A layout that cuts the document into segments must not take the stem for one of them.
    return "levels" in LAYOUTS[layout].keys or not window.published


def _squad_text(row: Row, layout: str, window: Window) -> str:
    text = text_of(row, "text")
    return _split_off(text.strip(), _squad_stem(row))[0] if _stem_apart(layout, window) else text


def _squad(row: Row, text: str, layout: str, window: Window) -> Parts:
    question = _asks(row, "question", layout)
    if not _stem_apart(layout, window):
        document, joiner, stem = _split_off(text.strip(), _squad_stem(row))
        first = text_of(row, "context").split("Question:")[0]
        return Parts(document, stem, question + " ", joiner, question, first)
    whole = text_of(row, "text").strip()
    _, joiner, stem = _split_off(whole, _squad_stem(row))
    if not stem:
        raise JRTError(f"{_name(row)}: field 'text' must be a passage and the words to complete, not {whole!r}.")
    return Parts(text.strip(), stem, question + " ", joiner, question)


def _field(name: str) -> Callable[[Row, str, Window], str]:
    return lambda row, layout, window: text_of(row, name)


def _key_value(dataset: str, sample: str | None, text: Text, parts: Form) -> BenchmarkSpec:
    return BenchmarkSpec(dataset, "text", "key", "value", ("key", "value"), text, parts, sample)


def _cloze(dataset: str, sample: str, parts: Form, sought: tuple[str, ...] = ()) -> BenchmarkSpec:
    return BenchmarkSpec(
        dataset, "context", "question", "answers", sought, _field("context"), parts, sample, named_by=None
    )


BENCHMARKS: dict[str, BenchmarkSpec] = {
    "swde": _key_value("hazyresearch/based-swde-v2", "swde.jsonl", _swde_text, _swde),
    "swde_uniform": _key_value("swde_uniform", "swde_uniform.jsonl.gz", _swde_text, _swde),
    "fda": _key_value("hazyresearch/based-fda", "fda.jsonl.gz", _field("text"), _fda),
    "factbook": _key_value("factbook", None, _field("text"), _fda),
    "factbook_large": _key_value("factbook_large", None, _field("text"), _fda),
    "factbook_paraphrased": _key_value("factbook_paraphrased", None, _field("text"), _fda),
    "squadv2": BenchmarkSpec(
        dataset="hazyresearch/based-squad",
        document="text",
        question="question",
        answers="value",
        sought=("value",),
        text=_squad_text,
        parts=_squad,
        sample="squadv2.jsonl.gz",
        again=("context",),
    ),
    "nq_512": _cloze("hazyresearch/based_nq_512", "nq_512.jsonl.gz", _nq, ("answers",)),
    "nq_1024": _cloze("hazyresearch/based_nq_1024", "nq_1024.jsonl.gz", _nq, ("answers",)),
    "nq_2048": _cloze("hazyresearch/based_nq_2048", "nq_2048.jsonl.gz", _nq, ("answers",)),
    "triviaqa": _cloze("hazyresearch/based_triviaqa", "triviaqa.jsonl.gz", _triviaqa),
    "drop": _cloze("hazyresearch/based_drop", "drop.jsonl.gz", _drop),
}
"""Every benchmark; all are the published ones but those of the factbook, which are ours and asked the way FDA is, and
`swde_uniform`, of which there are generated rows only."""


def benchmark_of(name: str) -> BenchmarkSpec:
    """The benchmark that `recipe:` names in a task's YAML.

    Raises:
        JRTError: there is none; the nearest name is given.
    """
    return BENCHMARKS[one_of("recipe", name, BENCHMARKS)]


def sample_of(dataset: str) -> str | None:
    """The file of the sample rows of a data set, whoever its owner on the hub; None if there are none."""
    names = {spec.dataset.rpartition("/")[2]: spec.sample for spec in BENCHMARKS.values()}
    return names.get(dataset.rpartition("/")[2])


def render(task: str, layout: str, row: Row, context_length: int | None = None) -> str | None:
    """The prompt of a row as published, with the default settings of the layout.

    Args:
        task: a name in `BENCHMARKS`.
        layout: once (published as "default"), flat (published as "twice") or one of ours.
        row: the row as the data set gives it; it is not changed.
        context_length: GPT-2 tokens of one document copy plus 50, cut around the answer; None leaves it whole.

    Returns:
        The prompt, or None where the published code drops the row (with a context length, if a string that places the
        window has at most one character).

    Raises:
        JRTError: unknown task or layout, or a field that is missing or empty.
    """
    return prompt_for(task, layout_spec({"layout": layout}), row, Window(context_length=context_length))


def prompt_for(task: str, spec: LayoutSpec, row: Row, window: Window | None = None) -> Prompt | None:
    """As `render`, for any settings of layout and window; the window's counters are among the prompt's."""
    parts, read = read_row(task, spec.form, row, window or Window())
    if parts is None:
        return None
    prompt = build(parts, spec)
    prompt.counters.update(read.counters)
    return prompt


def read_row(task: str, layout: str, row: Row, window: Window) -> tuple[Parts | None, Cut]:
    """The parts from which the prompt of a row is laid out, None where the row is dropped, and what the window did.

    The parts differ between layouts, since the published prompts strip the document differently.
    """
    spec = benchmark_of(task)
    one_of("layout", layout, LAYOUTS)
    read = cut(
        spec.text(row, layout, window),
        window,
        spec.labels(row),
        spec.seeks(row),
        alternatives_of(row),
        token_position=row.get("tok_pos"),
    )
    return (None if read.text is None else spec.parts(row, read.text, layout, window)), read
