"""One model on one task: its numbers, what it is called on an axis of a table, and two of them compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.report.fields import FIGURES
from jrt_lmeval.report.runs import Broken, Result, Training
from jrt_lmeval.report.samples import Columns
from jrt_lmeval.report.tables import PERCENT, Number
from jrt_lmeval.stats import DRAWS, LEVEL, Interval, Paired, interval, paired, t_quantile


@dataclass(frozen=True)
class Cell:
    """One model on one task: a result, or several that differ by their seeds alone.

    Attributes:
        results: at least one.
        model: label of the model: every setting that differs between the runs at hand is in it.
        setting: the settings of the task that differ between the runs at hand; often empty.
    """

    results: tuple[Result, ...]
    model: str
    setting: str

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
    def benchmark(self) -> str:
        """The task without its layout, with the settings that differ and the mark of generated rows."""
        sample = "[sample]" if self.first.source == "sample" else ""
        return " ".join(part for part in (self.first.benchmark, self.setting, sample) if part)

    @property
    def layout(self) -> str:
        return self.first.layout

    @property
    def control(self) -> str:
        return self.first.control

    def by_document(self, metric: str) -> bool:
        """Whether the answers were logged, so that the interval is by document."""
        return self.columns is not None and metric in self.columns.scores

    def interval(self, metric: str) -> Interval | None:
        """Mean and 95 % interval; by document where the answers were logged.

        Else from lm_eval's standard error, with `clusters` 0 since it does not say of how many documents; None where
        there is no error either.
        """
        if metric not in self._intervals:
            self._intervals[metric] = self._interval(metric)
        return self._intervals[metric]

    @cached_property
    def _intervals(self) -> dict[str, Interval | None]:
        return {}

    def _interval(self, metric: str) -> Interval | None:
        columns = self.columns
        if columns is not None and metric in columns.scores:
            return interval(columns.scores[metric].tolist(), columns.clusters.tolist())
        mean, error, n = self.mean(metric), self.first.errors.get(metric), self.first.asked
        if mean is None or not error or n < 2 or self.seeds > 1:
            return None
        reach = t_quantile(LEVEL, n - 1) * error
        return Interval(mean, error, mean - reach, mean + reach, n, 0)

    def figure(self, name: str) -> float:
        """Mean of a figure (`fields.FIGURES`) over the answers; NaN where it was not logged."""
        columns = self.columns
        if columns is not None and name in columns.figures:
            return float(np.nanmean(columns.figures[name]))
        known = [mean for alias in FIGURES[name] if (mean := self.mean(alias)) is not None]
        return known[0] if known else math.nan

    @property
    def seeds(self) -> int:
        """How many runs, differing by seed, are behind the numbers."""
        return len(self.results)

    def mean(self, metric: str) -> float | None:
        """The mean as lm_eval wrote it, over all seeds; None where a run has none."""
        found = [result.means.get(metric) for result in self.results]
        known = [value for value in found if value is not None]
        return sum(known) / len(known) if len(known) == len(found) else None

    def median(self, name: str) -> float:
        """Median of a figure (`fields.FIGURES`) over the answers; NaN where it was not logged of each."""
        columns = self.columns
        known = columns is not None and name in columns.figures
        return float(np.nanmedian(columns.figures[name])) if known and columns is not None else math.nan

    @cached_property
    def columns(self) -> Columns | None:
        """Scores and figures of all answers; with several seeds the means of each question over them."""
        read = [result.columns for result in self.results]
        if any(columns is None for columns in read):
            return None
        return Columns.averaged([columns for columns in read if columns is not None])


@dataclass(frozen=True)
class Collection:
    """Everything that was found.

    Attributes:
        cells: in the order of their labels' first appearance.
        broken: files that were skipped, each with the reason.
        copies: results that were found more than once, word for word the same, and counted once.
        common: settings that all runs share, so that no label needs to say them.
        files: results files read.
        trainings: logs of trainings found beside them.
    """

    cells: tuple[Cell, ...]
    broken: tuple[Broken, ...] = ()
    copies: int = 0
    common: Mapping[str, Any] = field(default_factory=dict)
    files: int = 0
    trainings: tuple[Training, ...] = ()

    @property
    def results(self) -> tuple[Result, ...]:
        return tuple(result for cell in self.cells for result in cell.results)


LAYOUT_NAMES = {
    "once": "once", "flat": "twice (JRT)", "hier": "hierarchical", "focus": "document and passages",
    "passages": "passages only", "repeat_random": "other text", "repeat_question": "question repeated",
}  # fmt: skip
CONTROL_NAMES = {"no_context": "no document", "wrong_context": "another document", "counterfactual": "counterfactual"}
ORDER = (*LAYOUT_NAMES.values(), *CONTROL_NAMES.values())
_WORDS = (
    "kind",
    "weights",
    "model",
    "task",
    "benchmark",
    "layout",
    "control",
    "condition",
    "source",
    "setting",
    "part",
)
LOWER_IS_BETTER = ("perplexity", "bits_per_byte")


def condition(cell: Cell) -> str:
    """Layout and control in words."""
    layout = LAYOUT_NAMES.get(cell.layout, cell.layout)
    if cell.control == "none":
        return layout
    control = CONTROL_NAMES.get(cell.control, cell.control)
    return control if cell.layout == "once" else f"{control}, {layout}"


def value_of(cell: Cell, name: str) -> str:
    """What a cell has on an axis: one of our words, or any setting of model or task; empty where it has none."""
    first = cell.first
    words = {
        "kind": first.run.kind,
        "weights": first.run.weights,
        "model": cell.model,
        "task": first.task,
        "benchmark": f"{first.benchmark} [sample]" if first.source == "sample" else first.benchmark,
        "layout": cell.layout,
        "control": cell.control,
        "condition": condition(cell),
        "source": first.source,
        "setting": cell.setting,
        "part": first.partly,
    }
    if name in words:
        return words[name]
    settings = {**first.run.machine, **first.run.settings, **first.settings}
    return str(settings.get(name, ""))


def axes(cells: Sequence[Cell]) -> list[str]:
    """All names that an axis can have."""
    names = {n for cell in cells for n in (*cell.first.run.machine, *cell.first.run.settings, *cell.first.settings)}
    return [*_WORDS, *sorted(names)]


def metrics(cells: Sequence[Cell]) -> list[str]:
    """All metrics of some cell."""
    return sorted({name for cell in cells for result in cell.results for name in result.means})


def chosen(cells: Sequence[Cell], conditions: Sequence[str]) -> tuple[Cell, ...]:
    """The cells that all conditions `NAME=VALUE` hold for.

    Raises:
        JRTError: no `=`, a name that no run has, or nothing left.
    """
    found = tuple(cells)
    for condition in conditions:
        name, equals, value = condition.partition("=")
        if not equals:
            raise JRTError(f"--where {condition}: write NAME=VALUE, such as --where layout=hier.")
        if name not in (known := axes(cells)):
            raise unknown("name in --where", name, known)
        values = sorted({value_of(cell, name) for cell in found})
        found = tuple(cell for cell in found if value_of(cell, name) == value)
        if not found:
            raise JRTError(f"--where {condition}: no such run; {name} is one of {', '.join(map(repr, values))}.")
    return found


def number_of(cell: Cell, metric: str) -> Number:
    """A metric of a cell with its interval; shares in per cent."""
    mean = cell.mean(metric)
    if mean is None:
        return Number(math.nan)
    found = cell.interval(metric)
    share = 0 <= mean <= 1 and not metric.startswith(LOWER_IS_BETTER) and not metric.endswith("perplexity")
    marks = ("*" if cell.first.partly else "") + ("" if cell.by_document(metric) or found is None else "†")
    marks += "‡" if cell.columns is not None and cell.columns.skipped else ""
    return Number(found.mean if found else mean, PERCENT if share else 1.0, 1 if share else 2, found, marks)


@dataclass(frozen=True)
class Difference:
    """The second cell less the first.

    Attributes:
        first, second: what was compared.
        paired: on the questions that both were asked.
        only_first, only_second: questions that the other was not asked.
    """

    first: Cell
    second: Cell
    paired: Paired
    only_first: int
    only_second: int


def difference(first: Cell, second: Cell, metric: str, draws: int = DRAWS) -> Difference | None:
    """Compare two cells on the questions that both were asked, paired by what the questions hold.

    None where the answers of one were not logged, the logs cannot be paired, or no question is common.
    """
    one, other = first.columns, second.columns
    if one is None or other is None or metric not in one.scores or metric not in other.scores:
        return None
    if one.by_content != other.by_content:
        return None
    at, place = common(one, other)
    if not len(at):
        return None
    found = paired(one.scores[metric][at], other.scores[metric][place], one.clusters[at].tolist(), draws=draws)
    return Difference(first, second, found, len(one) - len(at), len(other) - len(at))


def common(one: Columns, other: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Where the questions that both were asked stand in each."""
    _, here, there = np.intersect1d(one.rows, other.rows, return_indices=True)
    return here, there
