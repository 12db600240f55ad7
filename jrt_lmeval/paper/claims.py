"""What was measured, whether a model recalls at all, and which of the papers' claims hold, from a suite's logs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from jrt_lmeval.paper.plan import AT_EQUAL_MEMORY, NARROW, TEACHER, TableRow
from jrt_lmeval.report.cells import SAMPLE, Cell, Difference, difference
from jrt_lmeval.report.collect import collect
from jrt_lmeval.report.published import printed
from jrt_lmeval.report.tables import PERCENT, Number, Table
from jrt_lmeval.report.tables import TableEntry as Shown
from jrt_lmeval.runner import EvalRun, stated_runs
from jrt_lmeval.stats import Interval, Paired, holm
from jrt_lmeval.task.rules import RULES

METRIC = "contains"
ALPHA = 0.05
PRINTED = ("prefix", "feature_map", "prompt")
"""Tables of which the paper prints figures."""


class Logs:
    """The folder of a suite's logs, in which runs are found by what their folders state; each run is read once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[str, dict[str, Cell]] = {}

    @cached_property
    def _stated(self) -> dict[str, Path]:
        return stated_runs(self.folder)

    def cells(self, run: EvalRun) -> dict[str, Cell]:
        """Task -> what was measured of a run; empty if it was not run."""
        if run.key not in self._read:
            folder = self._stated.get(run.key)
            self._read[run.key] = {} if folder is None else {cell.task: cell for cell in collect([folder]).cells}
        return self._read[run.key]


def recall(cell: Cell | None) -> Interval | None:
    """Mean of the main metric with its interval by document, or None if it was not measured."""
    return cell.interval(METRIC) if cell is not None and cell.by_document(METRIC) else None


def points(found: Paired) -> str:
    """`+1.5 [+0.2, +2.9]`, in points; without an interval where there is none."""
    ends = "" if math.isnan(found.low) else f" [{PERCENT * found.low:+.1f}, {PERCENT * found.high:+.1f}]"
    return f"{PERCENT * found.difference:+.1f}{ends}"


def percent(found: Interval | None) -> str:
    """`25.0 ± 6.1`; a dash if nothing was measured."""
    return "-" if found is None else Number(found.mean, PERCENT, 1, found).text()


TIMES = 5
"""How much more a model must score with the document than without it to count as recalling."""

FLOOR_RULES = ("majority", "longest_match", "blind_middle")

NOTE = (
    f"Read once. `recalls`: at least {TIMES} times what the same model scores without the document, and the 95 % "
    "interval by document lies above the majority answer. Differences between models that do not recall say nothing of "
    "what tells them apart. `majority answer`: the most frequent answer to this question on other documents; `longest "
    "match`: what follows where the question's longest ending stands in the document; `blind middle`: 48 tokens from "
    "the document's middle."
)


def floor_table(entries: Sequence[TableRow], logs: Logs) -> Table:
    """Each model that has a control, on each benchmark: read once, without the document, the rules, and a verdict.

    Args:
        entries: of the plan; those of the table `control` are looked at.
        logs: of the suite.
    """
    rows: list[tuple[Shown, ...]] = []
    for entry in (entry for entry in entries if entry.table == "control"):
        for task in entry.run.tasks:
            once, without = (logs.cells(run).get(task) for run in (entry.run.plain, entry.run))
            found, no_document = recall(once), None if without is None else without.mean(METRIC)
            rules = [rule(once, name) for name in FLOOR_RULES]
            sample = SAMPLE if once is not None and once.first.source == "sample" else ""
            shown = None if found is None else Number(found.mean, PERCENT, 1, found)
            others = [None if value is None else Number(value, PERCENT) for value in (no_document, *rules)]
            rows.append((entry.label, task + sample, shown, *others, verdict(found, no_document, rules[0])))
    labels = [f"{RULES[name].label}, %" for name in FLOOR_RULES]
    header = ("model", "task", "once, %", "without the document, %", *labels, "recalls")
    return Table("control", "What each model recalls, beside what needs no recall", header, tuple(rows), 2, (NOTE,))


def verdict(once: Interval | None, without: float | None, majority: float | None) -> str:
    """`yes`, `no`, or a dash if something was not measured."""
    if once is None or without is None or majority is None:
        return "-"
    return "yes" if once.mean >= TIMES * without and once.low > majority else "no"


def rule(cell: Cell | None, name: str) -> float | None:
    """What a rule of `task.rules.RULES` scores on the questions that were asked; None if not all logs have it."""
    figures = {} if cell is None or cell.columns is None else cell.columns.figures
    return None if name not in figures or np.isnan(figures[name]).any() else float(figures[name].mean())


@dataclass(frozen=True)
class Claim:
    """One row of a table is said to recall more than another.

    Attributes:
        table: of `plan.TableRow`.
        better, worse: labels of rows.
        words: what the paper says, if it prints no numbers.
        none: the paper says that there is no gain, so that only a significant one speaks against it.
    """

    table: str
    better: str
    worse: str
    words: str = ""
    none: bool = False

    @property
    def family(self) -> tuple[str, str]:
        """Claims that ask the same: p values are corrected over them."""
        return self.table, self.words

    @property
    def published(self) -> float | None:
        """The printed difference in points, or None if the paper prints none."""
        rows = printed(self.table) if self.table in PRINTED else {}
        if self.better not in rows or self.worse not in rows:
            return None
        return rows[self.better]["recall_percent"] - rows[self.worse]["recall_percent"]


MLP = "Learnable MLP"
JRT_SAYS = "JRT (arXiv 2407.05483): reading twice helps"
SECOND_COPY = "the second copy by itself"
HIER = "the hierarchical prompt in other families"
LEAD = "the question before the first copy"
FAMILIES = ("Mamba-2", "Based", "JRT-RNN", "Llama", TEACHER)
_NO_GAIN = "larger increments did not yield significant gains"
CLAIMS = (
    Claim("prefix", "JRT-RNN dynamic prefix", "JRT-RNN fixed prefix"),
    *(Claim("feature_map", MLP, other) for other in ("Linear", "GELU", "ReLU", "Gaussian kernel")),
    Claim("prompt", "hierarchical JRT prompt", "flat JRT prompt"),
    Claim("step", "step 0.2, default thresholds", "step 0.1, default thresholds", _NO_GAIN, none=True),
    *(Claim("overlap", "20%", other, "around 20 % generally best") for other in ("0%", "10%", "30%")),
    *(Claim("comparison", f"{model}, flat", f"{model}, once", JRT_SAYS) for model in FAMILIES),
    Claim("feature_map", NARROW, "Linear", "at equal state"),
    *(Claim("comparison", f"{model}, flat without the lead", f"{model}, once", SECOND_COPY) for model in FAMILIES),
    *(Claim("comparison", f"{model}, flat", f"{model}, flat without the lead", LEAD) for model in FAMILIES),
    *(Claim("comparison", f"{model}, hier", f"{model}, flat", HIER) for model in FAMILIES if model != "JRT-RNN"),
    Claim("prefix", "document", "none", "what a prefix is worth"),
    Claim("comparison", "JRT-RNN, once", f"{AT_EQUAL_MEMORY}, once", "than a Transformer at equal memory"),
)


SOFTMAX = ("Llama", TEACHER)
"""Rows of softmax attention, whose claims are no claims of the papers."""
MARGIN = 1.0
"""Points: where the papers say that there is no gain, a larger one is excluded before that counts as confirmed."""
VERDICTS = ("confirmed", "reversed", "paper's effect excluded", "not enough questions")


@dataclass(frozen=True)
class Verdict:
    """A claim on one benchmark.

    Attributes:
        claim, benchmark: what was compared, on what.
        found: the comparison.
        primary: the rows are real and both of recurrent models. What is not is exploratory: its p is not corrected, it
            takes no part in the correction of others, and nothing is concluded from it.
        p: of primary claims, corrected by Holm's method over those of one family.
    """

    claim: Claim
    benchmark: str
    found: Difference
    primary: bool
    p: float = math.nan

    @property
    def says(self) -> str:
        """One of `VERDICTS`, at 5 % after correction.

        A gain that the papers print is excluded where the whole interval lies below it. Where they say that there is
        none, `confirmed` means that the interval excludes more than `MARGIN`.
        """
        pair, said = self.found.paired, self.claim.published
        if self.p < ALPHA:
            return "confirmed" if (pair.difference > 0) != self.claim.none else "reversed"
        if self.claim.none:
            return "confirmed" if PERCENT * pair.high < MARGIN else "not enough questions"
        if said is not None and PERCENT * pair.high < said:
            return "paper's effect excluded"
        return "not enough questions"


def verdicts(
    cells: Mapping[tuple[str, str], Mapping[str, Cell]], claims: Iterable[Claim] = CLAIMS
) -> Sequence[Verdict]:
    """All claims of which both rows were measured, on every benchmark that both were asked.

    Args:
        cells: (table, row) -> benchmark -> what was measured.
        claims: to look at.
    """
    found = []
    for claim in claims:
        better, worse = (cells.get((claim.table, row), {}) for row in (claim.better, claim.worse))
        softmax = any(row.startswith(name) for row in (claim.better, claim.worse) for name in SOFTMAX)
        for benchmark in (name for name in better if name in worse):
            if (pair := difference(worse[benchmark], better[benchmark], METRIC)) is not None:
                primary = not softmax and better[benchmark].first.source != "sample"
                found.append(Verdict(claim, benchmark, pair, primary, pair.paired.p))
    for family in {one.claim.family for one in found}:
        members = [at for at, one in enumerate(found) if one.primary and one.claim.family == family]
        for at, p in zip(members, holm([found[at].found.paired.p for at in members]), strict=True):
            found[at] = replace(found[at], p=p)
    return found
