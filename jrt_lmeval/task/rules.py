"""Rules that need no model: how often the answer is found by a guess that reads little or nothing.

Each rule makes a guess, which is scored as a model's answer is (`scoring.contains`). A model that scores no more than
`echo`, `majority` or `blind_middle` has not been shown to recall. `longest_match` reads the document: it shows how far
copying alone goes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

from jrt_lmeval import scoring
from jrt_lmeval.answers import spans
from jrt_lmeval.prompts.prompt import Prompt
from jrt_lmeval.prompts.tokens import encoded, gpt2_tokenizer
from jrt_lmeval.task.reader import Reader


class Rule(NamedTuple):
    """What tables call a rule, whether it reads the document, and what it guesses."""

    label: str
    reads_document: bool
    guess: str


RULES = {
    "echo": Rule(
        "echo of the question", False,
        "a copy of the question as the prompt has it, the lead included",
    ),
    "majority": Rule(
        "majority answer", False,
        "the most frequent answer to this question on the other documents, or to any question where no other document "
        "is asked this one",
    ),
    "longest_match": Rule(
        "longest match", True,
        "what follows where the longest ending of the question stands in the document",
    ),
    "blind_middle": Rule(
        "blind middle", True,
        "48 tokens from the middle of the document as it is shown; the question is not read",
    ),
}  # fmt: skip
TOKENS = 48
"""GPT-2 tokens of a guess, as many as a model may generate."""


class Rules:
    """The rules for the rows of a split, including rows that are not asked."""

    def __init__(self, rows: Sequence[dict[str, Any]], reader: Reader) -> None:
        self._rows, self._reader = rows, reader

    def scores(self, row: dict[str, Any], prompt: Prompt) -> dict[str, int]:
        """Whether the guess of each rule holds an answer, 0 or 1, for a row and the prompt made of it."""
        stem = str(prompt)[prompt.document_end :]
        guesses = {
            "echo": str(prompt)[: prompt.document_start] + stem,
            "majority": self.majority(row),
            "longest_match": longest_match(stem, prompt.document),
            "blind_middle": middle(prompt.document),
        }
        labels = self._reader.labels(row)
        return {name: int(scoring.contains(guess, labels)) for name, guess in guesses.items()}

    def majority(self, row: dict[str, Any]) -> str:
        """The most frequent answer of other documents to what the row asks, else to anything.

        The first in the alphabet of several; empty where there is no other document.
        """
        name = self._reader.document_id(row)
        for question in (asked(self._reader, row), None):
            others = Counter(self._answers[question])
            others.subtract(self._by_document[question, name])
            if others := +others:
                return min(others, key=lambda answer: (-others[answer], answer))
        return ""

    @cached_property
    def _by_document(self) -> dict[tuple[str | None, str], Counter[str]]:
        """How often each answer is given to (question, document); the question None stands for all questions."""
        counted: dict[tuple[str | None, str], Counter[str]] = defaultdict(Counter)
        for row in self._rows:
            for question in (asked(self._reader, row), None):
                counted[question, self._reader.document_id(row)][self._reader.labels(row)[0]] += 1
        return counted

    @cached_property
    def _answers(self) -> dict[str | None, Counter[str]]:
        counted: dict[str | None, Counter[str]] = defaultdict(Counter)
        for (question, _), answers in self._by_document.items():
            counted[question].update(answers)
        return counted


def asked(reader: Reader, row: dict[str, Any]) -> str:
    """What a row asks for, letter case and white space aside: the same for all rows that ask for the same."""
    return " ".join(reader.question(row).lower().split())


def longest_match(stem: str, document: str, tokens: int = TOKENS) -> str:
    """What follows the longest ending of a stem that occurs in a document, to the end of the line.

    An ending starts with a word, letter case is ignored, and the first occurrence is taken. An induction head, which
    copies what followed the words just read, would give this. It is empty if not even the last word occurs.
    """
    words, text = stem.split(), " " + document
    for start in range(len(words)):
        # "age:" is not an ending that starts with a word in "Page:".
        ends = [end for first, end in spans([" ".join(words[start:])], text) if not text[first - 1].isalnum()]
        if ends:
            line = text[ends[0] :].lstrip().partition("\n")[0]
            return gpt2_tokenizer().decode(encoded(line).ids[:tokens])
    return ""


def middle(document: str, tokens: int = TOKENS) -> str:
    """So many GPT-2 tokens from the middle of a document; all of it where it has no more."""
    ids = encoded(document).ids
    first = max(0, (len(ids) - tokens) // 2)
    return gpt2_tokenizer().decode(ids[first : first + tokens])
