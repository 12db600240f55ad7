"""A row laid out as a prompt: the document once, several times (JRT-Prompt), or level by level."""

from __future__ import annotations

from dataclasses import dataclass

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prompts.gpt2 import count_tokens, gpt2_tokenizer
from jrt_lmeval.prompts.passes import hier_text
from jrt_lmeval.prompts.spec import LAYOUT_KEYS, LayoutSpec, Level, layout_spec

__all__ = ["LAYOUT_KEYS", "LayoutSpec", "Level", "Parts", "Prompt", "build", "layout_spec"]


@dataclass(frozen=True)
class Parts:
    """One row, ready to lay out; the document is already cut to its window.

    Attributes:
        document: the document.
        question: the stem that is completed, such as `Director:`.
        lead: what goes before the document where the layout wants it, its trailing space included.
        joiner: what stands between the last copy of the document and the question.
        query: what BM25 looks for in `hier`; empty means the question.
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
    """Lay out a row.

    * `once`: document, joiner, question.
    * `flat`: first copy, newline, further copies (each on a new line), joiner, question.
    * `hier`: passes over the levels of the document (`passes.hier_text`), joiner, question.
    * `repeat_random`: document, newline, the start of the filler, joiner, question; as many tokens as `flat`.
    * `repeat_question`: the lead over and over (the question where there is no lead), document, joiner, question; as
      many tokens as `flat`.

    Both controls are cut to a token, so that a word can be broken, and end within two tokens of the length of `flat`.
    The lead stands in front of all of it where `spec.lead` says so. The question may be empty (in a published SQuAD
    window that ends before the stem); `counters["question_missing"]` then is 1.

    Raises:
        JRTError: the document is empty or white space, or there is no filler for `repeat_random`.
    """
    if not parts.document.strip():
        raise JRTError("empty document: the row has no text to read; check the field that 'document' is made from.")
    counters: dict[str, int | float] = {}
    if spec.layout == "hier":
        body, counters = hier_text(parts.document, parts.query or parts.question, spec)
    elif spec.layout == "flat" and spec.repeats > 1:
        body = _copies(parts, spec)
    else:
        body = parts.document
    lead = parts.lead if spec.lead else ""
    after = parts.joiner + parts.question
    if spec.layout == "repeat_random":
        body += "\n"
        body += _fill(lead + body, parts.filler, after, count_tokens(lead + _copies(parts, spec) + after))
    elif spec.layout == "repeat_question":
        asked = lead if lead.strip() else parts.question + " "
        tokens = count_tokens(lead + _copies(parts, spec) + after)
        lead = _fill("", asked, parts.document + after, tokens, from_end=True)
    text = lead + body + after
    if not parts.question.strip():
        counters["question_missing"] = 1
    counters["prompt_tokens"] = count_tokens(text)
    counters["document_tokens"] = count_tokens(parts.document)
    return Prompt(text, len(lead), len(lead) + len(body), parts.document, counters)


def _copies(parts: Parts, spec: LayoutSpec) -> str:
    first = parts.document if parts.first_document is None else parts.first_document
    return "\n".join([first] + [parts.document] * (spec.repeats - 1))


def _fill(before: str, filler: str, after: str, tokens: int, from_end: bool = False) -> str:
    """Start or end of the filler, repeated if need be, with which before, it and after have so many tokens."""
    if not filler.strip():
        raise JRTError("this layout needs text to fill the prompt with: other documents, or a lead or question.")
    wanted = tokens - count_tokens(before + after)
    ids = gpt2_tokenizer().encode(filler).ids
    while len(ids) < wanted + 8:
        filler += filler if filler.endswith(" ") else " " + filler
        ids = gpt2_tokenizer().encode(filler).ids
    size, best, nearest = wanted, "", tokens
    for _ in range(4):  # tokens melt together where texts meet
        cut = ids[len(ids) - max(0, size) :] if from_end else ids[: max(0, size)]
        # Half a character, where a token was cut off from its neighbour, is no text.
        text = gpt2_tokenizer().decode(cut, skip_special_tokens=True).strip("\ufffd")
        off = tokens - count_tokens(before + text + after)
        if abs(off) < nearest:
            best, nearest = text, abs(off)
        if off == 0:
            break
        size += off
    return best
