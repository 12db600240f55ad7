"""The browser of answers in the page: questions, what every run answered, and how both are packed."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np

from jrt_lmeval.answers import spans
from jrt_lmeval.report.cells import Cell, condition, value_of
from jrt_lmeval.report.misses import KINDS, document_of, explain, first_line
from jrt_lmeval.report.samples import Columns, Sample

MOST_QUESTIONS = 20_000
FIGURES = {
    "prompt_tokens": "prompt, GPT-2 tokens",
    "model_prompt_tokens": "read, model's tokens",
    "prefix_tokens": "prefix M, model's tokens",
    "entropy": "entropy H of the document",
    "new_tokens": "generated tokens",
    "state_bytes": "state, bytes",
    "seconds": "seconds",
}
"""Figures that are shown with an answer -> their names."""


@dataclass(frozen=True)
class Browser:
    """The content of the browser, packed.

    Attributes:
        index: what the list shows and searches.
        prompts: pieces of `[shared start, rest, places of answers, whether it is a prompt]`.
        details: pieces of what is shown with an answer.
        questions: number of questions in the page.
        of: number of questions in the logs.
    """

    index: str
    prompts: tuple[str, ...]
    details: tuple[str, ...]
    questions: int
    of: int

    @property
    def size(self) -> int:
        """Bytes in the page."""
        return len(self.index) + sum(map(len, self.prompts)) + sum(map(len, self.details))


@dataclass
class _Side:
    """The answers of one model under one condition on all tasks, as columns."""

    name: list[str]
    cells: list[int] = field(default_factory=list)
    question: list[int] = field(default_factory=list)
    score: list[float | None] = field(default_factory=list)
    answer: list[str | None] = field(default_factory=list)
    kind: list[int] = field(default_factory=list)
    prompt: list[int] = field(default_factory=list)
    detail: list[int] = field(default_factory=list)


@dataclass
class _Questions:
    """Questions as columns; `known` finds a question again."""

    known: dict[Any, int] = field(default_factory=dict)
    task: list[int] = field(default_factory=list)
    document: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    gold: list[tuple[str, ...]] = field(default_factory=list)

    def number(self, task: int, sample: Sample) -> int:
        key = (task, sample.row, sample.gold)
        if key not in self.known:
            self.known[key] = len(self.task)
            self.task.append(task)
            self.document.append(sample.document)
            self.asked.append(sample.question)
            self.gold.append(sample.gold)
        return self.known[key]


def browser(cells: Sequence[Cell], metric: str, most: int = MOST_QUESTIONS) -> Browser | None:
    """Read the logs of answers.

    Args:
        cells: of the report; of several seeds the first is read.
        metric: what decides whether an answer is right.
        most: number of questions; if there are more, each task gets its share, and those on which runs differ go first.

    Returns:
        None if no run has a log of answers or `most` is 0.
    """
    logged = [(number, cell) for number, cell in enumerate(cells) if cell.first.columns is not None]
    by_task: dict[str, list[Cell]] = defaultdict(list)
    for _, cell in logged:
        by_task[value_of(cell, "benchmark")].append(cell)
    if not logged or most < 1:
        return None
    chosen, total = chosen_rows(by_task, metric, most)
    tasks = list(by_task)
    questions, prompts, details = _Questions(), PackedPrompts(), Pieces(256)
    sides: dict[Any, _Side] = {}
    for number, cell in logged:
        name = [cell.model, condition(cell), " ".join(part for part in (cell.setting, cell.first.partly) if part)]
        side = sides.setdefault(tuple(name), _Side(name))
        side.cells.append(number)
        task = value_of(cell, "benchmark")
        wanted, scores = chosen[task], _scores(cell, metric)
        for sample in cell.first.samples():
            if wanted is None or sample.row in wanted:
                side.question.append(questions.number(tasks.index(task), sample))
                _keep(side, sample, scores.get(sample.row, {}), prompts, details)
    index = {
        "metric": metric,
        "tasks": tasks,
        "kinds": [[kind, told] for kind, told in KINDS.items()],
        "figures": list(FIGURES.values()),
        "questions": [questions.task, questions.document, questions.asked, questions.gold],
        "sides": [vars(side) for side in sides.values()],
        "sizes": [prompts.pieces.size, details.size],
    }
    pieces = tuple(prompts.pieces.close()), tuple(details.close())
    return Browser(packed(index), *pieces, len(questions.task), max(total, len(questions.task)))


def _scores(cell: Cell, metric: str) -> dict[int, dict[str, float]]:
    """Row -> its scores, after `--rescore` the present ones; a question that was not read has none."""
    columns = cell.first.columns
    assert columns is not None
    found: dict[int, dict[str, float]] = {row: {} for row in columns.rows.tolist()}
    for name, key in ((metric, "score"), ("contains", "contains")):
        for row, score in zip(columns.rows.tolist(), columns.scores.get(name, np.empty(0)).tolist(), strict=False):
            found[row][key] = score
    return found


def _keep(side: _Side, sample: Sample, scores: Mapping[str, float], prompts: PackedPrompts, details: Pieces) -> None:
    score = scores.get("score", math.nan)
    miss = explain(sample) if scores.get("contains") == 0 else None
    line = None if sample.answer is None else first_line(sample.answer)
    side.score.append(None if math.isnan(score) else score)
    side.answer.append(line)
    side.kind.append(list(KINDS).index(miss.kind) if miss else -1)
    text = sample.prompt if sample.prompt is not None else document_of(sample)
    side.prompt.append(prompts.add(text, merged(spans(sample.gold, text)), sample.prompt is not None) if text else -1)
    copied = None
    if miss and miss.place is not None and sample.prompt:
        start = round(miss.place * len(document_of(sample)))
        copied = [*utf16(sample.prompt, [start]), miss.key]
    end = sample.figures.get("prefix_characters")
    side.detail.append(
        details.add(
            [
                sample.answer if sample.answer != line else None,
                None if end is None or sample.prompt is None else utf16(sample.prompt, [int(end)])[0],
                [_short(sample.figures.get(name)) for name in FIGURES],
                copied,
            ]
        )
    )


def _short(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(f"{value:.4g}") if value % 1 else int(value)


def chosen_rows(
    by_task: Mapping[str, Sequence[Cell]], metric: str, most: int
) -> tuple[dict[str, frozenset[int] | None], int]:
    """The questions of each task that are in the page, None for all of them, and the number of questions of all tasks.

    Of a task with more than its share, questions on which runs differ are taken first, in the order of asking.
    """
    rows = {task: _ordered([cell.columns for cell in cells], metric) for task, cells in by_task.items()}
    total = sum(map(len, rows.values()))
    if total <= most:
        return dict.fromkeys(by_task), total
    return {
        task: frozenset(found[: math.ceil(most * len(found) / total)].tolist()) for task, found in rows.items()
    }, total


def _ordered(logs: Sequence[Columns | None], metric: str) -> np.ndarray:
    """All rows of some logs, each once: first those with different scores, then in the order of asking."""
    known = [log for log in logs if log is not None]
    rows = np.concatenate([log.rows for log in known])
    scores = np.concatenate([log.scores.get(metric, np.full(len(log), np.nan)) for log in known])
    found, first, place = np.unique(rows, return_index=True, return_inverse=True)
    low, high = np.full(len(found), np.inf), np.full(len(found), -np.inf)
    np.fmin.at(low, place, scores)
    np.fmax.at(high, place, scores)
    return found[np.lexsort((first, ~(high > low)))]


def packed(content: Any) -> str:
    """JSON, compressed with zlib, in base64, which has no character with a meaning in HTML."""
    text = json.dumps(content, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode("ascii"), 6)).decode("ascii")


class Pieces:
    """A list in pieces of `size` entries, each packed as soon as it is full."""

    def __init__(self, size: int) -> None:
        self.size, self.count = size, 0
        self._packed: list[str] = []
        self._open: list[Any] = []

    def add(self, entry: Any) -> int:
        """Add an entry; returns its number."""
        self._open.append(entry)
        self.count += 1
        if len(self._open) == self.size:
            self._close()
        return self.count - 1

    @property
    def starts(self) -> bool:
        """Whether the next entry is the first of its piece."""
        return not self._open

    def close(self) -> list[str]:
        """All pieces."""
        if self._open:
            self._close()
        return self._packed

    def _close(self) -> None:
        self._packed.append(packed(self._open))
        self._open = []


class PackedPrompts:
    """Prompts with the places of answers, each kept once and written as what differs from the one before."""

    def __init__(self, size: int = 64) -> None:
        self.pieces = Pieces(size)
        self._known: dict[bytes, int] = {}
        self._last = ""

    def add(self, text: str, spans: Sequence[tuple[int, int]], whole: bool) -> int:
        """Add a prompt unless it is there; returns its number.

        Args:
            text: the prompt.
            spans: places of accepted answers in it, in characters, without overlaps.
            whole: False for a document in place of a prompt that was not logged.
        """
        key = blake2b(f"{spans}{whole}{text}".encode(errors="surrogatepass"), digest_size=12).digest()
        if key in self._known:
            return self._known[key]
        shared = 0 if self.pieces.starts else shared_start(self._last, text)
        places = utf16(text, [place for span in spans for place in span])
        self._known[key] = number = self.pieces.add([*utf16(text, [shared]), text[shared:], places, int(whole)])
        self._last = text
        return number


def shared_start(one: str, other: str) -> int:
    """Number of characters that two texts share from their start."""
    same, most = 0, min(len(one), len(other))
    while same < most:  # by halves: comparing slices is far faster than comparing characters
        middle = (same + most + 1) // 2
        if one[same:middle] == other[same:middle]:
            same = middle
        else:
            most = middle - 1
    return same


def utf16(text: str, places: Sequence[int]) -> list[int]:
    """Ascending places in a text as JavaScript counts them, in UTF-16 units."""
    if text.isascii() or max(text, default="") <= "\uffff":
        return list(places)
    found, units, before = [], 0, 0
    for place in places:
        units += len(text[before:place].encode("utf-16-le", "surrogatepass")) // 2
        before = place
        found.append(units)
    return found


def merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted spans with those that overlap merged."""
    found: list[tuple[int, int]] = []
    for start, end in spans:
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found
