"""From the rows of a task to their prompts: which rows are asked, and controls.

A control asks without the document, on another document, or on one that says something else.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from jrt_lmeval.answers import readable, replaced, stands
from jrt_lmeval.data.sources import Loaded
from jrt_lmeval.errors import JRTError
from jrt_lmeval.prompts.layouts import LAYOUTS, build
from jrt_lmeval.prompts.prompt import LayoutSpec, Parts, Prompt, without_document
from jrt_lmeval.prompts.segments import segments
from jrt_lmeval.prompts.tokens import count_tokens
from jrt_lmeval.prompts.window import Window
from jrt_lmeval.task.base import Rows, SplitRow
from jrt_lmeval.task.reader import DOCUMENT_ID, Reader
from jrt_lmeval.task.rules import asked
from jrt_lmeval.task.settings import Settings

TRUE_ANSWERS = "jrt_true_answers"
"""Field of a counterfactual row with the answers that its document used to hold."""

_MONTHS = re.compile(
    r"\b(january|february|march|april|may|june|july|august|september|october|november|december)\b", re.IGNORECASE
)


def keep(loaded: Loaded, reader: Reader, jrt: Settings) -> tuple[list[tuple[int, dict[str, Any]]], dict[str, int]]:
    """Check every row, and leave out those that the window or the control drops.

    Returns:
        The rows with their places among those that were read, rewritten for the control `counterfactual`, and the
        numbers of rows that were read, were dropped, have no counterfactual and have a blank answer.

    Raises:
        JRTError: a row lacks something, with its file and line, or no row is left.
    """
    kept: list[tuple[int, dict[str, Any]]] = []
    blank = 0
    for index, row in enumerate(loaded.rows):
        try:
            reader.check(row)
            if not reader.dropped(row, jrt.window):
                kept.append((index, row))
                blank += len(readable(reader.labels(row))) < len(reader.labels(row))
        except JRTError as error:
            raise JRTError(f"{loaded.place(index)}: {error}") from None
    counted = {"read": len(loaded.rows), "dropped": len(loaded.rows) - len(kept)}
    if not kept:
        raise JRTError(f"{loaded.origin}: the window drops every row: each answer or key has a single character.")
    if blank:
        counted["blank_answer"] = blank
    if jrt.control != "counterfactual":
        return kept, counted
    rewriter = Rewriter([row for _, row in kept], reader, jrt.window)
    rewritten = [(place, rewriter.counterfactual(row)) for place, row in kept]
    made = [(place, row) for place, row in rewritten if row is not None]
    if not made:
        raise JRTError(
            f"{loaded.origin}: control 'counterfactual' drops every row: it needs rows whose document holds their "
            "answer, and other rows with an answer of the same kind."
        )
    return made, {**counted, "no_counterfactual": len(kept) - len(made)}


class Prompter:
    """Makes the prompt of each row once; `rows` are those that are asked, by split."""

    def __init__(self, rows: Mapping[str, Rows], reader: Reader, jrt: Settings) -> None:
        self._rows, self._reader, self._jrt = rows, reader, jrt
        self._made: dict[tuple[str, int], Prompt] = {}

    def prompt(self, row: SplitRow) -> Prompt:
        """The prompt of a row; errors as those of `layouts.build` and of the controls."""
        key = row.split, row.number
        if key not in self._made:
            self._made[key] = self._make(row)
        return self._made[key]

    def _make(self, row: SplitRow) -> Prompt:
        spec, window, rows = self._jrt.layout, self._jrt.window, self._rows[row.split]
        parts, counters = self._reader.read(row, spec, window)
        if self._jrt.control == "no_context":
            return without_document(parts, spec.lead)
        if self._jrt.control == "wrong_context":
            other = other_document(rows, row.number, self._reader, spec, window)
            parts = replace(parts, document=other.document, first_document=other.first_document)
            counters = {"answer_outside": 1}
        if LAYOUTS[spec.layout].needs_filler:
            parts = replace(parts, filler=other_sentences(rows, row.number, self._reader, spec, window))
        prompt = build(parts, spec)
        prompt.counters.update(counters)
        return prompt


class Rewriter:
    """Writes another answer into the documents of a split.

    The new answer is the first accepted answer of another row that asks for the same; where no row does, of one whose
    answer is of the same form (`form`). It does not occur in the document, and neither it nor any true answer holds
    the other, letter case aside. Which one is taken depends only on the row (`doc_id`, question, answers) and on the
    answers of the split. A row that the window would drop is not made.
    """

    def __init__(self, rows: Sequence[dict[str, Any]], reader: Reader, window: Window) -> None:
        self._reader, self._window = reader, window
        self._asking, self._formed = defaultdict(set), defaultdict(set)
        for row in rows:
            answer = reader.labels(row)[0].strip()
            if answer:
                self._asking[asked(reader, row)].add(answer)
                self._formed[form(answer)].add(answer)

    @cached_property
    def _sorted(self) -> dict[tuple[str, str], list[str]]:
        pools = (("asking", self._asking), ("formed", self._formed))
        return {(name, key): sorted(answers) for name, pool in pools for key, answers in pool.items()}

    def counterfactual(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """A copy of the row in which another answer stands wherever an accepted answer stood in the document.

        All accepted answers are replaced, letter case aside, also inside longer words, and the new one is the only one
        accepted. None if no answer stands in the document or there is none to put there.
        """
        reader = self._reader
        true = readable(reader.names(row))
        document = reader.document(row)
        if not stands(true, document):
            return None
        rng = random.Random(f"{row.get('doc_id')}|{reader.question(row)}|{true}")
        for pool in (("asking", asked(reader, row)), ("formed", form(reader.labels(row)[0]))):
            answers = self._sorted.get(pool, [])
            first = rng.randrange(len(answers)) if answers else 0
            for answer in (*answers[first:], *answers[:first]):
                if _related(answer, true) or answer.lower() in document.lower():
                    continue
                copy = reader.rewritten(row, partial(replaced, true, new=answer), answer)
                if not stands(true, reader.document(copy)) and not reader.dropped(copy, self._window):
                    return {**copy, DOCUMENT_ID: reader.document_id(row), TRUE_ANSWERS: reader.labels(row)}
        return None


def form(answer: str) -> str:
    """What kind of thing an answer looks like: a year, number, date, name or words, and of about how many words."""
    text = answer.strip()
    words = text.split()
    length = "1" if len(words) < 2 else "2-3" if len(words) < 4 else "4+"
    if re.fullmatch(r"(1[0-9]|20)\d\d", text):
        return "year"
    if re.fullmatch(r"[-+]?\d[\d.,]*", text):
        return "number"
    if _MONTHS.search(text) and any(character.isdigit() for character in text):
        return "date"
    if any(character.isdigit() for character in text):
        return f"with a number, {length}"
    return f"{'name' if words and words[0][0].isupper() and words[-1][0].isupper() else 'words'}, {length}"


def other_document(rows: Sequence[dict[str, Any]], at: int, reader: Reader, spec: LayoutSpec, window: Window) -> Parts:
    """The parts of a row on another document, of which what is read holds none of the answers of `rows[at]`.

    It is the first such row after `rows[at]`, and then from the start. Another window of the same document would be no
    wrong document: a model could answer from what it says elsewhere.

    Raises:
        JRTError: there is no such row.
    """
    own = reader.document_id(rows[at])
    for other in (*rows[at + 1 :], *rows[:at]):
        if reader.document_id(other) == own:
            continue
        parts, _ = reader.read(other, spec, window)
        if not stands(reader.labels(rows[at]), parts.document + (parts.first_document or "")):
            return parts
    raise JRTError("control 'wrong_context' needs a row on another document that holds none of this row's answers.")


def other_sentences(rows: Sequence[dict[str, Any]], at: int, reader: Reader, spec: LayoutSpec, window: Window) -> str:
    """Sentences of other documents in which no answer of `rows[at]` stands, shuffled, as long as all its copies.

    Documents and order are drawn by a random number generator seeded with the name of the row's document.

    Raises:
        JRTError: there are no such sentences.
    """
    row, labels = rows[at], reader.labels(rows[at])
    own, name = reader.document(row), reader.document_id(row)
    rng = random.Random(name)
    first = rng.randrange(len(rows))
    wanted = max(spec.repeats, spec.budget) * count_tokens(reader.read(row, spec, window)[0].document)
    found: dict[str, int] = {}
    for other in (*rows[first:], *rows[:first]):
        if reader.document_id(other) == name:
            continue
        for sentence in segments(reader.read(other, spec, window)[0].document, "sentence"):
            if sentence.text not in own and not stands(labels, sentence.text):
                found[sentence.text] = sentence.tokens
        if sum(found.values()) > wanted:
            break
    if not found:
        raise JRTError("layout 'repeat_random' needs other documents with sentences that hold none of the answers.")
    sentences = list(found)
    rng.shuffle(sentences)
    return " ".join(sentences)


def _related(answer: str, true: Sequence[str]) -> bool:
    new = answer.lower()
    return any(new in label.lower() or label.strip().lower() in new for label in true)
