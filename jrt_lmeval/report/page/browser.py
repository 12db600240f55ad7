"""The browser of answers in the page: questions, what every run answered, and how both are packed."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


SIDE = ("cells", "question", "score", "answer", "kind", "prompt", "detail")
"""Columns of the answers of one model under one condition on all tasks; `cells` are the numbers of its cells."""
PROMPTS, DETAILS = 64, 256
"""Numbers of entries in a piece, which is unpacked when one of them is shown."""


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
    tasks, known, prompts = list(by_task), dict[Any, int](), PackedPrompts()
    questions: list[tuple[int, str, str, tuple[str, ...]]] = []  # task, document, what was asked, accepted answers
    details: list[list[Any]] = []
    sides: dict[tuple[str, ...], dict[str, list[Any]]] = {}
    for number, cell in logged:
        name = (cell.model, condition(cell), " ".join(part for part in (cell.setting, cell.first.partly) if part))
        side = sides.setdefault(name, {"name": list(name), **{column: [] for column in SIDE}})
        side["cells"].append(number)
        task = value_of(cell, "benchmark")
        wanted, scores = chosen[task], _scores(cell, metric)
        for sample in cell.first.samples():
            if wanted is None or sample.row in wanted:
                at = known.setdefault((task, sample.row, sample.gold), len(questions))
                if at == len(questions):
                    questions.append((tasks.index(task), sample.document, sample.question, sample.gold))
                side["question"].append(at)
                side["detail"].append(len(details))
                details.append(_keep(side, sample, scores.get(sample.row, {}), prompts))
    index = {
        "metric": metric,
        "tasks": tasks,
        "kinds": list(KINDS.items()),
        "figures": list(FIGURES.values()),
        "questions": list(zip(*questions, strict=True)) or [()] * 4,
        "sides": list(sides.values()),
        "sizes": [PROMPTS, DETAILS],
    }
    packs = in_pieces(prompts.entries, PROMPTS), in_pieces(details, DETAILS)
    return Browser(packed(index), *packs, len(questions), max(total, len(questions)))


def _scores(cell: Cell, metric: str) -> dict[int, dict[str, float]]:
    """Row -> its scores, after `--rescore` the present ones; a question that was not read has none."""
    columns = cell.first.columns
    assert columns is not None
    found: dict[int, dict[str, float]] = {row: {} for row in columns.rows.tolist()}
    for name, key in ((metric, "score"), ("contains", "contains")):
        for row, score in zip(columns.rows.tolist(), columns.scores.get(name, np.empty(0)).tolist(), strict=False):
            found[row][key] = score
    return found


def _keep(side: dict[str, list[Any]], sample: Sample, scores: Mapping[str, float], prompts: PackedPrompts) -> list[Any]:
    """Add an answer to its side; returns what is shown with it: the rest of it, the prefix's end, figures, a copy."""
    score, prompt = scores.get("score", math.nan), sample.prompt
    miss = explain(sample) if scores.get("contains") == 0 else None
    line = None if sample.answer is None else first_line(sample.answer)
    text = document_of(sample) if prompt is None else prompt
    side["score"].append(None if math.isnan(score) else score)
    side["answer"].append(line)
    side["kind"].append(list(KINDS).index(miss.kind) if miss else -1)
    side["prompt"].append(prompts.add(text, merged(spans(sample.gold, text)), prompt is not None) if text else -1)
    copied, end = None, sample.figures.get("prefix_characters")
    if miss and miss.place is not None and prompt:
        copied = [*utf16(prompt, [round(miss.place * len(document_of(sample)))]), miss.key]
    return [
        sample.answer if sample.answer != line else None,
        None if end is None or prompt is None else utf16(prompt, [int(end)])[0],
        [_short(sample.figures.get(name)) for name in FIGURES],
        copied,
    ]


def _short(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(f"{value:.4g}") if value % 1 else int(value)


def chosen_rows(
    by_task: Mapping[str, Sequence[Cell]], metric: str, most: int
) -> tuple[dict[str, frozenset[int] | None], int]:
    """The questions of each task that the page holds, None for all, and the number of questions of all tasks.

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


def in_pieces(entries: Sequence[Any], size: int) -> tuple[str, ...]:
    """The entries in packed pieces of so many."""
    return tuple(packed(entries[at : at + size]) for at in range(0, len(entries), size))


class PackedPrompts:
    """Prompts with the places of answers, each kept once and written as what differs from the one before.

    Attributes:
        entries: `[shared start, rest, places of answers, whether it is a prompt]` of each; the first of every `size`
            entries shares nothing.
    """

    def __init__(self, size: int = PROMPTS) -> None:
        self.entries: list[list[Any]] = []
        self._size, self._last, self._known = size, "", dict[bytes, int]()

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
        shared = shared_start(self._last, text) if len(self.entries) % self._size else 0
        places = utf16(text, [place for span in spans for place in span])
        self._known[key] = len(self.entries)
        self.entries.append([*utf16(text, [shared]), text[shared:], places, int(whole)])
        self._last = text
        return self._known[key]


def shared_start(one: str, other: str) -> int:
    """Number of characters that two texts share from their start."""
    same, most = 0, min(len(one), len(other))
    while same < most:  # by bisection, since comparing slices is far faster than comparing characters
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
