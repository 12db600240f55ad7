"""Why an answer was missed: what the model wrote instead, and where in the prompt that is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from jrt_lmeval.report.cells import Cell
from jrt_lmeval.report.samples import Sample
from jrt_lmeval.report.tables import PERCENT, Number, Table, TableEntry
from jrt_lmeval.scoring import contains

KINDS = {
    "outside": "no accepted answer is in what was read",
    "nothing": "nothing was written",
    "format": "right but for how it is written: case, punctuation, separators, spaces",
    "other key": "the value of another key was copied, whole or its beginning",
    "partly": "the right answer in part, or with a slip",
    "invented": "is not in the document",
    "unknown": "the log keeps no answer, or nothing of the document",
}
MOST_SAMPLES = 50_000
NEAR_DIGITS = 5
_NUMBER = re.compile(r"^[^\w\s]?(\d[\d.,]*\d|\d)")
_STOP = frozenset("a an the of in to and or by for is as at on with from".split())
_AT_VALUE = re.compile(r"[:\-–]\s*$")
_STATEMENT_END = re.compile(r"\n|\.\s|\)\s|;\s")


@dataclass(frozen=True)
class Miss:
    """Why one question was missed.

    Attributes:
        kind: a key of `KINDS`.
        key: for `other key`, the words before what was copied.
        place: for `other key`, where it was copied from, as a share of the prompt's characters from 0 to 1; else None.
    """

    kind: str
    key: str = ""
    place: float | None = None


def explain(sample: Sample) -> Miss:
    """Why an answer that contains no accepted answer missed it.

    The kinds are tried in the order outside, nothing, format, other key (whole), partly, other key (beginning),
    invented, and the first that fits is taken.
    """
    if sample.answer is None or not sample.gold:
        return Miss("unknown")
    text = document_of(sample)
    if sample.figures.get("answer_outside", bool(sample.prompt) and not contains(text, sample.gold)):
        return Miss("outside")
    answer = first_line(sample.answer)
    if not re.search(r"\w", answer):
        return Miss("nothing")
    written, asked = _plain(answer).replace(" ", ""), _plain(sample.question)
    for wanted in (_plain(gold).replace(" ", "") for gold in sample.gold):
        if wanted and (wanted == written or (len(wanted) > 3 and wanted in written)):
            return Miss("format")
    if found := text and _copied(answer, text, asked):
        return Miss("other key", *found)
    if any(_partly(answer, gold) for gold in sample.gold):
        return Miss("partly")
    if found := text and _beginning(answer, text, asked):
        return Miss("other key", *found)
    return Miss("invented" if text else "unknown")


def document_of(sample: Sample) -> str:
    """What was read before the question: the prompt up to it or, without a logged prompt, the row's document."""
    if sample.prompt:
        stem = sample.question and sample.prompt.rfind(sample.question)
        return sample.prompt[:stem] if stem and stem > 0 else sample.prompt
    return sample.text


def first_line(answer: str) -> str:
    """The first line of an answer that is not blank."""
    return answer.strip().partition("\n")[0].strip()


def _plain(text: str) -> str:
    """Letters and digits alone, without separators of thousands."""
    text = re.sub(r"(?<=\d)[.,](?=\d{3}\b)", "", text.lower())
    return " ".join(re.findall(r"\w+", text))


def _copied(part: str, text: str, asked: str, value_only: bool = False) -> tuple[str, float] | None:
    """The first occurrence of a text after other words than those asked for: those words, and the place."""
    if len(part) < 2:
        return None
    for match in re.finditer(rf"(?<!\w)(?<!\d[.,]){re.escape(part)}(?!\w)(?![.,]\d)", text):
        start = match.start()
        if value_only and not _AT_VALUE.search(text[max(0, start - 3) : start]):
            continue
        # at most eight words, from the start of the line or statement
        before = _STATEMENT_END.split(text[max(0, start - 200) : start].rstrip(" :-–\"'($"))[-1]
        key = " ".join(before.split()[-8:])
        if _plain(key) != asked:
            return key, start / len(text)
    return None


def _beginning(answer: str, text: str, asked: str) -> tuple[str, float] | None:
    """As `_copied`, for the answer's number, allowing one wrong digit in a long one, or for its first words."""
    number = _number(answer)
    if number:
        digits = sum(map(str.isdigit, number))
        near = dict.fromkeys(re.findall(r"\d[\d.,]*\d", text)) if digits >= NEAR_DIGITS else ()
        candidates = [number] * (digits >= 3) + [other for other in near if _one_digit_off(number, other)]
        return next((found for other in candidates if (found := _copied(other, text, asked))), None)
    words = answer.split()
    for count in range(len(words) - 1, 1, -1):
        part = " ".join(words[:count]).rstrip(".,;:")
        if any(word.lower() not in _STOP for word in part.split()) and (found := _copied(part, text, asked, True)):
            return found
    return None


def _number(text: str) -> str:
    match = _NUMBER.match(text)
    return match[1] if match else ""


def _one_digit_off(one: str, other: str) -> bool:
    return len(one) == len(other) and sum(a != b for a, b in zip(one, other, strict=True)) == 1


def _partly(answer: str, gold: str) -> bool:
    """Whether an answer has the gold's number, to one digit or the unit, its first digits, or a third of its words."""
    wanted, found = _number(gold), _number(answer)
    if wanted and found:
        digits = re.sub(r"\D", "", wanted)
        if wanted == found or (len(digits) >= 3 and _one_digit_off(wanted, found)):
            return True
        return len(digits) >= NEAR_DIGITS and len(wanted) == len(found) and digits[:2] == re.sub(r"\D", "", found)[:2]
    words = [word for word in _plain(gold).split() if word not in _STOP]
    shared = Counter(words) & Counter(_plain(answer).split())
    return bool(words) and 3 * sum(shared.values()) >= len(words)


def miss_table(cells: Sequence[Cell], most: int = MOST_SAMPLES) -> list[Table]:
    """The kinds of misses of each model on each task; only a note if there are more than `most` answers."""
    logged = [c for c in cells if c.control == "none" and c.columns is not None and c.columns.has_answers]
    total = sum(0 if cell.columns is None else len(cell.columns) for cell in logged)
    if not logged:
        return []
    notes = tuple(f"{kind}: {text}." for kind, text in KINDS.items())
    header = ("model", "task", "misses", *(f"{kind}, %" for kind in KINDS), "most copied keys")
    if total > most:
        told = f"{total:,} answers were not read for this: `--misses` reads them."
        return [Table("misses", "Misses", header, (), 2, (told,))]
    rows: list[tuple[TableEntry, ...]] = []
    for cell in logged:
        kinds, keys = Counter[str](), Counter[str]()
        for sample in (sample for result in cell.results for sample in result.samples()):
            if sample.scores.get("contains") == 0 and not sample.figures.get("skipped"):
                miss = explain(sample)
                kinds[miss.kind] += 1
                keys[miss.key] += bool(miss.key)
        count = sum(kinds.values())
        shares = [Number(kinds[kind] / count if count else float("nan"), PERCENT, 0) for kind in KINDS]
        copied = "; ".join(f"{key} ({n})" for key, n in keys.most_common(2) if n)
        rows.append((cell.model, cell.label, Number(count, digits=0), *shares, copied))
    return [Table("misses", "Misses: what was written instead, % of misses", header, tuple(rows), 2, notes)]
