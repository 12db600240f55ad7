"""A row laid out as a prompt: the document once, several times (JRT-Prompt), or level by level."""

from __future__ import annotations

from dataclasses import dataclass

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prompts.gpt2 import count_tokens
from jrt_lmeval.prompts.passes import hier_text
from jrt_lmeval.prompts.spec import LAYOUT_KEYS, LayoutSpec, Level, layout_spec

__all__ = ["LAYOUT_KEYS", "LayoutSpec", "Level", "Parts", "Prompt", "build", "layout_spec"]


@dataclass(frozen=True)
class Parts:
    """One row, ready to lay out; the document is already cut to its window.

    Attributes:
        document: the document.
        question: the stem that is completed, such as ``Director:``.
        lead: what goes before the document where the layout wants it, its trailing space included.
        joiner: what stands between the last copy of the document and the question.
        query: what BM25 looks for in ``hier``; empty means the question.
        first_document: the first of several copies in ``flat`` where it differs from the others; None: it does not.
    """

    document: str
    question: str
    lead: str = ""
    joiner: str = " "
    query: str = ""
    first_document: str | None = None


class Prompt(str):
    """What is sent to the model: a plain string for all who do not look, with the document's place in it.

    Attributes:
        document_start: character at which the first copy of the document starts.
        document_end: character at which the last copy or pass ends; what follows is joiner and question.
        document: one copy of the (cut) document.
        counters: ``prompt_tokens`` and ``document_tokens`` (GPT-2), and what the window and the layout counted.
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
    """Lay out a row.

    * ``once``: document, joiner, question.
    * ``flat``: first copy, newline, further copies (each on a new line), joiner, question.
    * ``hier``: passes over the levels of the document (``passes.hier_text``), joiner, question.

    The lead stands in front of all of it where ``spec.lead`` says so. The question may be empty (in a published SQuAD
    window that ends before the stem); ``counters["question_missing"]`` then is 1.

    Raises:
        JRTError: the document is empty or white space.
    """
    if not parts.document.strip():
        raise JRTError("empty document: the row has no text to read; check the field that 'document' is made from.")
    counters: dict[str, int | float] = {}
    if spec.layout == "hier":
        body, counters = hier_text(parts.document, parts.query or parts.question, spec)
    elif spec.layout == "flat" and spec.repeats > 1:
        first = parts.document if parts.first_document is None else parts.first_document
        body = "\n".join([first] + [parts.document] * (spec.repeats - 1))
    else:
        body = parts.document
    lead = parts.lead if spec.lead else ""
    text = lead + body + parts.joiner + parts.question
    if not parts.question.strip():
        counters["question_missing"] = 1
    counters["prompt_tokens"] = count_tokens(text)
    counters["document_tokens"] = count_tokens(parts.document)
    return Prompt(text, len(lead), len(lead) + len(body), parts.document, counters)
