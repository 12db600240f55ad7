"""What a sample's log says of its prompt, and what a task counts over its rows."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jrt_lmeval.answers import readable, spans, stands
from jrt_lmeval.prompts.prompt import Prompt
from jrt_lmeval.prompts.tokens import token_span
from jrt_lmeval.scoring import contains_normalised

COUNTED = (
    "document_cut", "answer_outside", "answer_displaced", "question_missing", "over_budget", "levels_missing",
    "no_question_match",
)  # fmt: skip
"""Counters of a prompt; rows asked that have any are counted, but for the first two only where there are such rows."""


def in_our_names(row: Mapping[str, Any], document: str, question: str) -> dict[str, str]:
    """Question and document under our names, whatever the fields of a row are called.

    The document is in the row's log already if one field holds it: then only that field is named.
    """
    field = next((name for name, value in row.items() if value == document), None)
    return {"question": question, **({"document": document} if field is None else {"document_field": field})}


def answer_places(prompt: Prompt, labels: Iterable[str]) -> dict[str, int | float | None]:
    """Where the accepted answers stand in the document of a prompt, all copies and passes included.

    Returns:
        `answer_first_token` and `answer_last_token`, the GPT-2 tokens of the prompt (from 0) at which the first and
        the last occurrence start, and `answer_first` and `answer_last`, the same as a fraction of the prompt's tokens.
        All are None if no answer stands there.
    """
    body = prompt[prompt.document_start : prompt.document_end]
    starts = [start + prompt.document_start for start, _ in spans(labels, body)]
    places: dict[str, int | float | None] = {}
    for name, start in (("first", min(starts, default=None)), ("last", max(starts, default=None))):
        token = None if start is None else token_span(str(prompt), start, start + 1)[0]
        places[f"answer_{name}_token"] = token
        places[f"answer_{name}"] = None if token is None else round(token / prompt.counters["prompt_tokens"], 4)
    return places


def summed(prompts: Iterable[Prompt]) -> dict[str, int]:
    """How many rows were asked, and on how many of them each counter stands."""
    rows: dict[str, int] = {"asked": 0, "document_cut": 0, "answer_outside": 0}
    for prompt in prompts:
        rows["asked"] += 1
        for name in COUNTED:
            if name in rows or prompt.counters.get(name):
                rows[name] = rows.get(name, 0) + bool(prompt.counters.get(name))
    return rows


def sentence(rows: Mapping[str, int]) -> str:
    """The counts of a task in words, what is zero left out."""
    words = {
        "dropped": "dropped (an answer or key of one character cannot place the window)",
        "no_counterfactual": "dropped (no other answer can be written into the document)",
        "blank_answer": "with a blank accepted answer, found in whatever is generated",
        "asked": "asked",
        "document_cut": "with the document cut",
        "answer_outside": "with no answer in what is read",
        "answer_displaced": "with the answer at another depth than asked for",
        "question_missing": "without a question, lost by the window",
        "over_budget": "over the budget",
        "levels_missing": "without a level, for which the budget has no room",
        "no_question_match": "in which no word of the question stands",
    }
    return ", ".join(f"{rows[name]} {text}" for name, text in words.items() if rows.get(name))


def absent(rows: Iterable[tuple[Sequence[str], str]]) -> dict[str, int]:
    """Why no accepted answer stands in the whole document, with the number of such rows, for (answers, document).

    An answer whose document the window cut is not meant: that is `answer_outside`.
    """
    causes: Counter[str] = Counter()
    for labels, document in rows:
        labels = readable(labels)
        if labels and not stands(labels, document):
            causes[_cause(labels, document)] += 1
    return dict(causes)


def _cause(labels: Sequence[str], document: str) -> str:
    def composed(text: str) -> str:
        return unicodedata.normalize("NFC", text)

    def spaced(text: str) -> str:
        return " ".join(composed(text).split())

    if stands(map(composed, labels), composed(document)):
        return "are written in another Unicode form (NFC, NFD); bring rows to one form"
    if stands(map(spaced, labels), spaced(document)):
        return "have other white space (line breaks, no-break spaces)"
    if contains_normalised(document, labels):
        return "have other quotes, dashes, accents or digit grouping, or another article"
    return "are computed, or stand in another document"


def position(document: str, labels: list[str]) -> float | None:
    """The place in the document at which the first answer starts, 0 to 1; None if no answer stands in it."""
    found = spans(labels, document)
    return found[0][0] / len(document) if found else None
