"""The parts of a prompt, the settings of its layout, and the prompt itself, which knows where its document stands."""

from __future__ import annotations

from dataclasses import dataclass

from jrt_lmeval.prompts.segments import Level
from jrt_lmeval.prompts.tokens import count_tokens

Counters = dict[str, int | float]


@dataclass(frozen=True)
class Parts:
    """One row, ready to lay out; the document is already cut to its window.

    Attributes:
        document: the document.
        question: the stem that is completed, such as `Director:`.
        lead: the text that goes before the document where the layout wants it, its trailing space included.
        joiner: the text between the last copy of the document and the question.
        query: the text that BM25 looks for where passages are selected by the question; empty means the question.
        first_document: the first of several copies in `flat` where it differs from the others, otherwise None.
        filler: other text, for `repeat_random`; it is repeated where it is too short.
    """

    document: str
    question: str
    lead: str = ""
    joiner: str = " "
    query: str = ""
    first_document: str | None = None
    filler: str = ""


@dataclass(frozen=True)
class LayoutSpec:
    """How a row is laid out, with every default filled in: what `layouts.layout_spec` makes of the user's settings.

    Attributes:
        layout: a name in `layouts.LAYOUTS`.
        keys: the settings that this layout reads, those of the layout that a control is as long as included.
        form: the layout in whose form the row is read: for an equal-length control, the layout that it is as long as.
        reads_question: whether anything before the question depends on the question.
        repeats: copies of the document in `flat`.
        lead: whether the text that asks goes in front. Without it, a layout that does not read the question writes the
            same text for all questions on a document up to the question itself, so that a model's state can be kept.
        levels: the levels that are written, each with its repeats.
        select: which segments of a level stay where the budget cannot hold all: `all` (none is preferred: the rest is
            spread evenly over the document), `information` (names, numbers and rare words first), `learned` (what a
            linear model expects to be asked), `random` (drawn by a generator seeded with the document) or
            `question` (those that share a word with the question, best BM25 score first; the others never).
        overlap: share of the preceding segment that a segment repeats, 0 to below 1.
        order: `coarse_to_fine` (document first) or `fine_to_coarse`.
        budget: cap on document copies and passes together, as a multiple of the document's GPT-2 tokens.
    """

    layout: str
    keys: tuple[str, ...]
    form: str
    reads_question: bool
    repeats: int
    lead: bool
    levels: tuple[Level, ...]
    select: str
    overlap: float
    order: str
    budget: float


class Prompt(str):
    """The text that is sent to the model: a plain string that also says where the document stands in it.

    Attributes:
        document_start: character at which the first copy of the document starts.
        document_end: character at which the last copy or pass ends; joiner and question follow.
        document: one copy of the (cut) document.
        counters: `prompt_tokens` and `document_tokens` (GPT-2), and the counts of the window and the layout.
    """

    document_start: int
    document_end: int
    document: str
    counters: Counters

    def __new__(
        cls,
        text: str,
        document_start: int = 0,
        document_end: int | None = None,
        document: str = "",
        counters: Counters | None = None,
    ) -> Prompt:
        prompt = super().__new__(cls, text)
        prompt.document_start = document_start
        prompt.document_end = len(text) if document_end is None else document_end
        prompt.document = document
        prompt.counters = dict(counters or {})
        return prompt


def without_document(parts: Parts, with_lead: bool) -> Prompt:
    """The prompt with nothing to read: the lead, where it is wanted, and the question."""
    lead = parts.lead if with_lead else ""
    text = lead + parts.question
    return Prompt(text, len(lead), len(lead), "", {"prompt_tokens": count_tokens(text), "answer_outside": 1})


def placed(prompt: Prompt, context: str) -> str:
    """`context` as a prompt with the spans of the prompt that it holds; unchanged if it does not hold the prompt.

    Chat templates often strip a message, so the prompt is also looked for without white space at its ends.
    """
    for text, cut_off in ((str(prompt), 0), (prompt.strip(), len(prompt) - len(prompt.lstrip()))):
        at = context.rfind(text)
        if at >= 0:
            shift = at - cut_off
            start, end = max(0, prompt.document_start + shift), min(len(context), prompt.document_end + shift)
            return Prompt(context, start, end, prompt.document, prompt.counters)
    return context


def cut_left(prompt: Prompt, characters: int) -> Prompt:
    """The rest of a prompt whose first characters a model could not read.

    `document` is kept as it was; the rest of its copies stands between `document_start` and `document_end`, and
    `counters["document_cut"]` is 1 where some of it was lost.
    """
    text = prompt[characters:]
    start, end = (max(0, place - characters) for place in (prompt.document_start, prompt.document_end))
    counters = {**prompt.counters, "prompt_tokens": count_tokens(text)}
    if characters > prompt.document_start:
        counters["document_cut"] = 1
    return Prompt(text, start, end, prompt.document, counters)
