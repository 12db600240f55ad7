"""A row laid out as a prompt: the document once, several times, level by level, or with the passages asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prompts.equal_length import fill
from jrt_lmeval.prompts.gpt2 import count_tokens
from jrt_lmeval.prompts.passes import hier_text, passages_text
from jrt_lmeval.prompts.spec import LAYOUT_KEYS, LAYOUTS, Laid, Lay, Layout, LayoutSpec, Level, layout_spec

__all__ = ["LAYOUTS", "LAYOUT_KEYS", "Layout", "LayoutSpec", "Level", "Parts", "Prompt", "build", "layout_spec"]


@dataclass(frozen=True)
class Parts:
    """One row, ready to lay out; the document is already cut to its window.

    Attributes:
        document: the document.
        question: the stem that is completed, such as `Director:`.
        lead: what goes before the document where the layout wants it, its trailing space included.
        joiner: what stands between the last copy of the document and the question.
        query: what BM25 looks for where passages are selected by the question; empty means the question.
        first_document: the first of several copies in `flat` where it differs from the others; None: it does not.
        filler: other text, for `repeat_random`; it is repeated where it is too short.
    """

    document: str
    question: str
    lead: str = ""
    joiner: str = " "
    query: str = ""
    first_document: str | None = None
    filler: str = ""


class Prompt(str):
    """What is sent to the model: a plain string for all who do not look, with the document's place in it.

    Attributes:
        document_start: character at which the first copy of the document starts.
        document_end: character at which the last copy or pass ends; what follows is joiner and question.
        document: one copy of the (cut) document.
        counters: `prompt_tokens` and `document_tokens` (GPT-2), and what the window and the layout counted.
    """

    document_start: int
    document_end: int
    document: str
    counters: dict[str, int | float]

    def __new__(
        cls,
        text: str,
        document_start: int = 0,
        document_end: int | None = None,
        document: str = "",
        counters: dict[str, int | float] | None = None,
    ) -> Prompt:
        prompt = super().__new__(cls, text)
        prompt.document_start = document_start
        prompt.document_end = len(text) if document_end is None else document_end
        prompt.document = document
        prompt.counters = dict(counters or {})
        return prompt


def build(parts: Parts, spec: LayoutSpec) -> Prompt:
    """Lay out a row: lead (where `spec.lead` says so), what the layout writes, joiner, question.

    The question may be empty (in a published SQuAD window that ends before the stem); `counters["question_missing"]`
    then is 1.

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


LAYOUTS |= {
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
            ("all", "information", "random"),
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
