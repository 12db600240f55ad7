"""What a report works on: a run, its result on a task, and single answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jrt_lmeval.report.columns import Columns, read_columns
from jrt_lmeval.report.fields import FIGURES, benchmark_of, layout_of
from jrt_lmeval.report.samples import Sample, read_samples
from jrt_lmeval.report.trainings import Broken, Training
from jrt_lmeval.stats import LEVEL, Interval, interval, t_quantile


@dataclass(frozen=True)
class Run:
    """One call of lm_eval: a results file.

    Attributes:
        file: what it was read from; never part of what a result is known by.
        kind: lm_eval's `--model`.
        weights: the last part of the weights' name or folder; for a server, the model that it serves.
        settings: what was set for the model, dotted names; defaults that a model reports included.
        machine: settings that should not change an answer.
        seeds: random seeds.
        facts: everything that the model reports of itself and of the run (`config.jrt`).
        parameters: number of the model's parameters, or None.
        date: seconds since 1970, or None.
        limit: lm_eval's `--limit`, or None.
    """

    file: Path
    kind: str
    weights: str
    settings: Mapping[str, Any]
    machine: Mapping[str, Any]
    seeds: Mapping[str, Any]
    facts: Mapping[str, Any]
    parameters: int | None
    date: float | None
    limit: float | None


@dataclass(frozen=True)
class Result:
    """One run on one task.

    Attributes:
        run: the run.
        task: name of the task, such as `swde_jrt_hier`.
        version: of the task.
        block: the task's `jrt:` block as logged; empty for tasks of others.
        settings: what was set for the task, dotted names: block, shots, how long and until what is generated.
        means: metric -> mean as lm_eval wrote it; a filter other than `none` stands behind a comma.
        errors: metric -> lm_eval's standard error, which takes questions as independent.
        asked: questions answered.
        total: questions that the task has.
        samples_file: the log of its answers, or None.
        columns_read: the scores and figures of all answers, or None without such a log.
    """

    run: Run
    task: str
    version: Any
    block: Mapping[str, Any]
    settings: Mapping[str, Any]
    means: Mapping[str, float]
    errors: Mapping[str, float]
    asked: int
    total: int
    samples_file: Path | None

    @property
    def layout(self) -> str:
        """`once`, `flat`, `hier`, ...; `-` for a task that has none."""
        return layout_of(self.task, self.block)

    @property
    def benchmark(self) -> str:
        """The task without its layout."""
        return benchmark_of(self.task)

    @property
    def source(self) -> str:
        """Where the rows come from; `sample` marks rows that are not the benchmark's."""
        return str(self.block.get("source", "-"))

    @property
    def control(self) -> str:
        """`none`, or what was done to the document."""
        return str(self.block.get("control", "none"))

    @property
    def partly(self) -> str:
        """Empty, or what part of the task's questions was asked."""
        if self.run.limit is None and self.asked >= self.total:
            return ""
        return f"first {self.asked}" if self.run.limit is not None else f"{self.asked} chosen"

    @property
    def marks(self) -> tuple[str, ...]:
        """What a reader must not miss: generated rows, part of the rows, a control, an untrained model."""
        marks = ["sample"] if self.source == "sample" else []
        marks += [f"{self.partly} of {self.total}"] if self.partly else []
        marks += [self.control] if self.control != "none" else []
        return (*marks, *(["untrained"] if self.run.facts.get("init") == "random" else []))

    @cached_property
    def columns(self) -> Columns | None:
        """Scores and figures of all answers, read once; None without a log of answers."""
        return None if self.samples_file is None else read_columns(self.samples_file)

    def samples(self) -> Iterator[Sample]:
        """The answers one by one, in the order of the log; nothing is kept in memory."""
        return iter(()) if self.samples_file is None else read_samples(self.samples_file)

    @property
    def task_key(self) -> tuple[Any, ...]:
        """What makes the questions what they are: runs with the same one must have been asked the same."""
        settings = tuple(sorted((name, str(value)) for name, value in self.settings.items()))
        return (self.task, str(self.version), self.layout, self.source, self.control, self.partly, settings)

    @property
    def key(self) -> tuple[Any, ...]:
        """Everything but the seeds and where the files lie."""
        model = tuple(sorted((name, str(value)) for name, value in self.run.settings.items()))
        machine = tuple(sorted((name, str(value)) for name, value in self.run.machine.items()))
        return (self.run.kind, self.run.weights, model, machine, *self.task_key)


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
