"""One model on one task: its numbers, its words on the axes of a table, and the difference of two of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.prompts.layouts import LAYOUTS
from jrt_lmeval.report.fields import FIGURES
from jrt_lmeval.report.runs import Result
from jrt_lmeval.report.samples import Columns
from jrt_lmeval.report.tables import PERCENT, Number
from jrt_lmeval.stats import DRAWS, LEVEL, Interval, Paired, interval, paired, t_quantile

SAMPLE = " [sample]"
"""Mark after the name of a task or benchmark whose rows are the shipped sample."""


@dataclass(frozen=True)
class Cell:
    """One model on one task: a result, or several that differ by their seeds alone.

    Attributes:
        results: at least one.
        model: label of the model, with every setting that differs between the runs that were read.
        setting: the settings of the task that differ between the runs that were read; often empty.
    """

    results: tuple[Result, ...]
    model: str
    setting: str
    _intervals: dict[str, Interval | None] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def first(self) -> Result:
        return self.results[0]

    @property
    def task(self) -> str:
        return self.first.task

    @property
    def label(self) -> str:
        """Task, settings and marks in one line."""
        marks = " ".join(f"[{mark}]" for mark in self.first.marks)
        return " ".join(part for part in (self.task, self.setting, marks) if part)

    @property
    def layout(self) -> str:
        return self.first.layout

    @property
    def control(self) -> str:
        return self.first.control

    @property
    def seeds(self) -> int:
        """Number of runs, differing by seed, behind the numbers."""
        return len(self.results)

    @cached_property
    def columns(self) -> Columns | None:
        """Scores and figures of all answers; with several seeds, the mean of each question over them."""
        read = [result.columns for result in self.results]
        if any(columns is None for columns in read):
            return None
        return Columns.averaged([columns for columns in read if columns is not None])

    def by_document(self, metric: str) -> bool:
        """Whether the answers were logged, so that the interval is by document."""
        return self.columns is not None and metric in self.columns.scores

    def interval(self, metric: str) -> Interval | None:
        """Mean and 95 % interval, by document if the answers were logged.

        Otherwise it comes from lm_eval's standard error, and `clusters` is 0 since the number of documents is not
        known; None if there is no error either.
        """
        if metric not in self._intervals:
            self._intervals[metric] = self._interval(metric)
        return self._intervals[metric]

    def _interval(self, metric: str) -> Interval | None:
        columns = self.columns
        if columns is not None and metric in columns.scores:
            return interval(columns.scores[metric].tolist(), columns.clusters.tolist())
        mean, error, n = self.mean(metric), self.first.errors.get(metric), self.first.asked
        if mean is None or not error or n < 2 or self.seeds > 1:
            return None
        reach = t_quantile(LEVEL, n - 1) * error
        return Interval(mean, error, mean - reach, mean + reach, n, 0)

    def mean(self, metric: str) -> float | None:
        """The mean as lm_eval wrote it, over all seeds; None if a run has none."""
        found = [result.means.get(metric) for result in self.results]
        known = [value for value in found if value is not None]
        return sum(known) / len(known) if len(known) == len(found) else None

    def figure(self, name: str) -> float:
        """Mean of a figure (`fields.FIGURES`) over the answers; NaN if it was not logged."""
        columns = self.columns
        if columns is not None and name in columns.figures:
            return float(np.nanmean(columns.figures[name]))
        mean = self.mean(FIGURES[name])
        return math.nan if mean is None else mean

    def median(self, name: str) -> float:
        """Median of a figure (`fields.FIGURES`) over the answers; NaN if it was not logged of each answer."""
        columns = self.columns
        known = columns is not None and name in columns.figures
        return float(np.nanmedian(columns.figures[name])) if known and columns is not None else math.nan


@dataclass(frozen=True)
class Training:
    """The log of one training.

    Attributes:
        name: of its folder.
        curves: what was measured -> (tokens read so far, share from 0 to 1) in the order of training.
        held_out: whether the values are of rows kept from training; else they are means over the batches themselves.
    """

    name: str
    curves: dict[str, tuple[tuple[float, float], ...]]
    held_out: bool


@dataclass(frozen=True)
class Collection:
    """Everything that was found.

    Attributes:
        cells: in the order in which they were found.
        broken: a sentence for each file that was skipped, which names it and says why.
        copies: number of results that were found more than once; each is counted once.
        common: settings that are the same in all runs, so that no label needs them.
        files: number of results files.
        trainings: logs of trainings among them.
    """

    cells: tuple[Cell, ...]
    broken: tuple[str, ...] = ()
    copies: int = 0
    common: Mapping[str, Any] = field(default_factory=dict)
    files: int = 0
    trainings: tuple[Training, ...] = ()


# -------------------------------------------------------------------- words and numbers of a cell

LAYOUT_NAMES = {layout.name: layout.label for layout in LAYOUTS.values()}
CONTROL_NAMES = {"no_context": "no document", "wrong_context": "another document", "counterfactual": "counterfactual"}
ORDER = (*LAYOUT_NAMES.values(), *CONTROL_NAMES.values())
LOWER_IS_BETTER = ("perplexity", "bits_per_byte")


def condition(cell: Cell) -> str:
    """Layout and control in words."""
    layout = LAYOUT_NAMES.get(cell.layout, cell.layout)
    if cell.control == "none":
        return layout
    control = CONTROL_NAMES.get(cell.control, cell.control)
    return control if cell.layout == "once" else f"{control}, {layout}"


def _words(cell: Cell) -> dict[str, str]:
    first = cell.first
    mark = SAMPLE if first.source == "sample" else ""
    return {
        "kind": first.run.kind,
        "weights": first.run.weights,
        "model": cell.model,
        "task": first.task + mark,
        "benchmark": first.benchmark + mark,
        "layout": cell.layout,
        "control": cell.control,
        "condition": condition(cell),
        "source": first.source,
        "setting": cell.setting,
        "part": first.partly,
    }


def _settings(cell: Cell) -> dict[str, Any]:
    return {**cell.first.run.machine, **cell.first.run.settings, **cell.first.settings}


def value_of(cell: Cell, name: str) -> str:
    """The value of a cell on an axis, which is one of our words or any setting; empty if it has none."""
    words = _words(cell)
    return words[name] if name in words else str(_settings(cell).get(name, ""))


def axes(cells: Sequence[Cell]) -> list[str]:
    """The names of all axes: our words, then the settings."""
    names = {name for cell in cells for name in _settings(cell)}
    words = dict.fromkeys(name for cell in cells for name in _words(cell))
    return [*words, *sorted(names)]


def metrics(cells: Sequence[Cell]) -> list[str]:
    """All metrics that some cell has."""
    return sorted({name for cell in cells for result in cell.results for name in result.means})


def chosen(cells: Sequence[Cell], conditions: Sequence[str], option: str = "--where") -> tuple[Cell, ...]:
    """The cells for which all conditions `NAME=VALUE` hold.

    Raises:
        JRTError: no `=`, a name that no run has, or nothing left.
    """
    found = tuple(cells)
    for condition in conditions:
        name, equals, value = condition.partition("=")
        if not equals:
            raise JRTError(f"{option} {condition}: write NAME=VALUE, such as {option} layout=hier.")
        if name not in (known := axes(cells)):
            raise unknown(f"name in {option}", name, known)
        values = sorted({value_of(cell, name) for cell in found} - {""})
        # the mark of a sample need not be typed, since no other rows have the name without it
        found = tuple(cell for cell in found if value in (shown := value_of(cell, name), shown.removesuffix(SAMPLE)))
        if not found:
            has = f"{name} is one of {', '.join(map(repr, values))}" if values else f"none of them has a {name}"
            raise JRTError(f"{option} {condition}: no such run; {has}.")
    return found


def number_of(cell: Cell, metric: str) -> Number:
    """A metric of a cell with its interval and marks; shares in per cent."""
    mean = cell.mean(metric)
    if mean is None:
        return Number(math.nan)
    found = cell.interval(metric)
    share = 0 <= mean <= 1 and not metric.startswith(LOWER_IS_BETTER) and not metric.endswith("perplexity")
    marks = ("*" if cell.first.partly else "") + ("" if cell.by_document(metric) or found is None else "†")
    marks += "‡" if cell.columns is not None and cell.columns.skipped else ""
    return Number(found.mean if found else mean, PERCENT if share else 1.0, 1 if share else 2, found, marks)


# -------------------------------------------------------------------- two cells


@dataclass(frozen=True)
class Difference:
    """The second cell less the first, on the questions that both were asked.

    Attributes:
        means: of the first and of the second on these questions.
        only_first, only_second: number of questions that only one of them was asked.
    """

    first: Cell
    second: Cell
    paired: Paired
    means: tuple[float, float]
    only_first: int
    only_second: int


def difference(first: Cell, second: Cell, metric: str, draws: int = DRAWS) -> Difference | None:
    """Compare two cells on the questions that both were asked, paired by the content of the questions.

    Returns:
        None if the answers of one were not logged, the logs cannot be paired, or no question is common.
    """
    one, other = first.columns, second.columns
    if one is None or other is None or metric not in one.scores or metric not in other.scores:
        return None
    _, at, place = np.intersect1d(one.rows, other.rows, return_indices=True)
    if not len(at):
        return None
    left, right = one.scores[metric][at], other.scores[metric][place]
    found = paired(left.tolist(), right.tolist(), one.clusters[at].tolist(), draws=draws)
    means = float(np.mean(left)), float(np.mean(right))
    return Difference(first, second, found, means, len(one) - len(at), len(other) - len(at))
