"""`--table recall-2026`: the tables that papers of 2026 print of recurrent models, made from logs.

Six recall tasks with their mean, then needles by length; figures that others printed or measured stand apart.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np

from jrt_lmeval.errors import JRTError
from jrt_lmeval.report.cells import Cell, condition, number_of
from jrt_lmeval.report.published import Published, published, third_party
from jrt_lmeval.report.tables import PERCENT, Number, Table, TableEntry
from jrt_lmeval.stats import Interval, effective_length, interval

TASKS = {"fda": "FDA", "swde": "SWDE", "squadv2": "SQuAD", "nq": "NQ", "triviaqa": "TriviaQA", "drop": "DROP"}
"""Benchmark -> its column."""
FORMS = {"2k": "2,048 tokens", "whole": "whole documents"}
"""Ending of the benchmark of a task of `recall_2k` or `recall_whole` -> how much of a document is read."""
NEEDLES, SCORE, LENGTH = "niah_", "string_match_all", "needle_length"


def recall_2026(cells: Sequence[Cell], threshold: float) -> list[Table]:
    """The tables of these runs.

    Args:
        cells: of any tasks; others than those of `recall_2k`, `recall_whole` and `needles` are left out.
        threshold: per cent of answers that a length must reach to count towards the effective length.

    Raises:
        JRTError: no run of these tasks.
    """
    recall, needles = _recall(cells), _needles(cells, threshold)
    if not recall and not needles:
        raise JRTError(
            "--table recall-2026: no run of its tasks is here; make one with "
            "lm_eval --tasks recall_2k,needles --output_path DIR --log_samples."
        )
    printed = "Printed figures of other models, not measured here; the papers give no errors."
    third = "Measured by a third party with its own code, neither by a paper nor here; its file says how."
    tables = [*recall, *needles]
    if recall:
        tables += _figures("published", "Published figures: contains, %", published(), FORMS["whole"], printed)
        tables += _figures("third_party", "Figures of a third party: contains, %", third_party(), "not said", third)
    return tables


def mean_of(numbers: Sequence[Number]) -> Number:
    """The unweighted mean of shares on different documents, with its interval.

    How far it reaches to either side is the root of the summed squares of how far theirs reach (Zou and Donner 2008),
    which keeps the exact intervals of shares near 0 or 1; no interval if a share has none.
    """
    mean, count = fmean(number.value for number in numbers), len(numbers)
    marks = "".join(dict.fromkeys(mark for number in numbers for mark in number.marks))
    known = [one for number in numbers if (one := number.interval) is not None and not math.isnan(one.low)]
    if len(known) < count:
        return Number(mean, PERCENT, marks=marks)
    low = mean - math.hypot(*(one.mean - one.low for one in known)) / count
    high = mean + math.hypot(*(one.high - one.mean for one in known)) / count
    error = math.hypot(*(one.stderr for one in known)) / count
    n, clusters = sum(one.n for one in known), sum(one.clusters for one in known)
    exact = any(one.exact for one in known)
    return Number(mean, PERCENT, interval=Interval(mean, error, low, high, n, clusters, exact), marks=marks)


# -------------------------------------------------------------------- the six tasks


def _recall(cells: Sequence[Cell]) -> list[Table]:
    rows: dict[tuple[str, ...], dict[str, Number]] = defaultdict(dict)
    for cell in cells:
        task, _, form = cell.first.benchmark.rpartition("_")
        if task not in TASKS or form not in FORMS or cell.mean("contains") is None:
            continue
        number = number_of(cell, "contains")
        if cell.first.source == "sample":
            number = replace(number, marks=number.marks + "§")
        rows[cell.model, FORMS[form], condition(cell), _part(cell)][task] = number
    lines = []
    for place, found in rows.items():
        mean = mean_of([found[task] for task in TASKS]) if len(found) == len(TASKS) else None
        lines.append((*place, *(found.get(task) for task in TASKS), mean))
    header = ("model", "documents", "read", "setting", *TASKS.values(), "mean")
    notes = (
        "±: 95 % intervals by document; of the mean, in which tasks count alike, from those of its tasks. A row "
        "that lacks a task has no mean.",
    )
    return [Table("recall_2026", "Recall: contains, %", header, tuple(lines), 4, notes)] if lines else []


def _part(cell: Cell) -> str:
    """What distinguishes runs of one model in one form: settings of the task, and how many questions were asked."""
    limit = cell.first.run.limit
    return " ".join(part for part in (cell.setting, f"limit {limit:g}" if limit else "") if part)


# -------------------------------------------------------------------- needles by length


def _needles(cells: Sequence[Cell], threshold: float) -> list[Table]:
    rows: dict[tuple[str, ...], dict[str, dict[int, Number]]] = defaultdict(dict)
    for cell in cells:
        if cell.first.benchmark.startswith(NEEDLES) and cell.mean(SCORE) is not None:
            rows[cell.model, condition(cell), _part(cell)][cell.first.benchmark] = _by_length(cell)
    lengths = sorted({length for found in rows.values() for by_length in found.values() for length in by_length})
    lines: list[tuple[TableEntry, ...]] = []
    for place, found in rows.items():
        single_first = sorted(found, key=lambda task: (not task.startswith(f"{NEEDLES}single"), task))
        shown = {task: found[task] for task in single_first}
        if len(found) > 1:
            common = [length for length in lengths if all(length in by_length for by_length in found.values())]
            shown[f"mean of {len(found)}"] = {at: mean_of([one[at] for one in found.values()]) for at in common}
        for task, by_length in shown.items():
            effective = _effective(by_length, threshold)
            lines.append((place[0], task, *place[1:], *(by_length.get(length) for length in lengths), effective))
    header = ("model", "needles", "read", "setting", *(f"{length:,}" for length in lengths), "effective length")
    notes = (
        "Columns: tokens of the prompt read once and of the answer, in the model's own tokens. ± and [ ]: 95 % "
        "intervals over documents.",
        f"Effective length: the longest tried up to which every length reaches {threshold:g} %; 0: none. In brackets "
        "the same of the lower and of the upper ends of the intervals: at the last column the true one may be longer.",
    )
    return [Table("needles_2026", "Needles: answers found, %", header, tuple(lines), 4, notes)] if lines else []


def _by_length(cell: Cell) -> dict[int, Number]:
    columns = cell.columns
    if columns is None or LENGTH not in columns.figures:
        return {int(name): number_of(cell, name) for name in cell.first.means if name.isdecimal()}
    found = {}
    for length in np.unique(columns.figures[LENGTH]):
        part = columns.taken(columns.figures[LENGTH] == length)
        one = interval(part.scores[SCORE].tolist(), part.clusters.tolist())
        found[int(length)] = Number(one.mean, PERCENT, interval=one, marks="*" if cell.first.partly else "")
    return found


def _effective(by_length: Mapping[int, Number], threshold: float) -> Number | None:
    nothing = {length: Interval(number.value, *(math.nan,) * 3, 0, 0) for length, number in by_length.items()}
    recall = {length: number.interval or nothing[length] for length, number in by_length.items()}
    if not recall:
        return None
    found = effective_length(recall, threshold / 100)
    n, documents = (sum(counts) for counts in zip(*((one.n, one.clusters) for one in recall.values()), strict=True))
    return Number(
        found.length,
        digits=0,
        interval=Interval(found.length, math.nan, found.low, found.high, n, documents, exact=True),
    )


# -------------------------------------------------------------------- figures of others


def _figures(name: str, title: str, numbers: Iterable[Published], unsaid: str, note: str) -> list[Table]:
    """Figures of models that have all six tasks, with their unweighted mean; `unsaid` stands where no length does."""
    rows: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
    for number in numbers:
        read = {"once": "once", "flat": "twice (JRT)"}.get(number.setting)
        task = "nq" if number.task.startswith("nq_") else number.task
        if read and task in TASKS:
            documents = f"{number.context_length:,} tokens" if number.context_length else unsaid
            size = f"{number.model}, {number.params}" + (f", {number.tokens} tokens" if number.tokens else "")
            rows[size, documents, read, number.source][task] = number.value
    lines: list[tuple[TableEntry, ...]] = [
        (*place, *(Number(found[task]) for task in TASKS), Number(fmean(found.values())))
        for place, found in rows.items()
        if len(found) == len(TASKS)
    ]
    header = ("model", "documents", "read", "source", *TASKS.values(), "mean")
    return [Table(name, title, header, tuple(lines), 4, (note,))] if lines else []


REPORTS = {"recall-2026": recall_2026}
"""Name behind `--table` -> the tables that it makes instead of the usual ones."""
