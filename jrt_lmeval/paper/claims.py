"""What was measured, whether a model recalls at all, and which of the papers' claims hold, from a suite's logs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from jrt_lmeval.paper.plan import (
    AT_EQUAL_MEMORY,
    BACKWARDS,
    COUNTERFACTUAL,
    FLAT_AS_LONG,
    IN_PAPER,
    LENGTHS,
    NARROW,
    NOTHING_DROPPED,
    OVERLAPS,
    PROMPTS,
    STEP,
    STEPS,
    TEACHER,
    TRAINED_SO,
    TWICE,
    WRONG_CONTEXT,
    TableRow,
    dynamic,
    fixed,
)
from jrt_lmeval.paper.times import Times, read_times
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
    def times(self) -> Times | None:
        """The times that were taken of the rows; None if none were."""
        return read_times(self.folder)

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
"""How much more a model must score with the document than with another one to count as recalling."""

FLOOR_RULES = ("majority", "longest_match", "blind_middle")

NOTE = (
    "Read once. `another document`: the same questions on a document that holds none of the answers. `answer "
    "replaced`: another answer of the same kind is written into the document, and that one counts (questions for which "
    "there is one). `recalls`: the 95 % interval by document lies above the majority answer, and the score is at least "
    f"{TIMES} times that on another document, where that was asked. Differences between models that do not recall say "
    "nothing of what tells them apart. `majority answer`: the most frequent answer to this question on other "
    "documents; `longest match`: what follows where the question's longest ending stands in the document; `blind "
    "middle`: 48 tokens from the document's middle."
)


def floor_table(entries: Sequence[TableRow], logs: Logs) -> Table:
    """Each model that has a control, on each benchmark: read once, its controls, the rules, and a verdict.

    Args:
        entries: of the plan; those of the table `control` are looked at.
        logs: of the suite.
    """
    rows: list[tuple[Shown, ...]] = []
    for entry in (one for one in entries if one.table == "control" and one.run.block == WRONG_CONTEXT):
        runs = (entry.run.plain, entry.run, replace(entry.run, block=COUNTERFACTUAL))
        for task in entry.run.tasks:
            cells = [logs.cells(run).get(task) for run in runs]
            once, another, replaced = map(recall, cells)
            rules = [rule(cells[0], name) for name in FLOOR_RULES]
            sample = SAMPLE if cells[0] is not None and cells[0].first.source == "sample" else ""
            scores = [None if one is None else Number(one.mean, PERCENT, 1, one) for one in (once, another, replaced)]
            others = [None if value is None else Number(value, PERCENT) for value in rules]
            says = verdict(once, None if another is None else another.mean, rules[0])
            rows.append((entry.label, task + sample, *scores, *others, says))
    labels = [f"{RULES[name].label}, %" for name in FLOOR_RULES]
    header = ("model", "task", "once, %", "another document, %", "answer replaced, %", *labels, "recalls")
    return Table("control", "What each model recalls, beside what needs no recall", header, tuple(rows), 2, (NOTE,))


def verdict(once: Interval | None, another: float | None, majority: float | None) -> str:
    """`yes`, `no`, or a dash if nothing was measured; the score on another document counts where there is one."""
    if once is None or majority is None:
        return "-"
    return "yes" if once.mean >= TIMES * (another or 0.0) and once.low > majority else "no"


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
        better, worse = (rows.get(IN_PAPER.get(row, row)) for row in (self.better, self.worse))
        # two rows of ours, such as two steps of the dynamic prefix, can stand for the same row of the paper
        if self.words or better is None or worse is None:
            return None
        return better["recall_percent"] - worse["recall_percent"]


MLP = "Learnable MLP"
JRT_SAYS = "JRT (arXiv 2407.05483): reading twice helps"
SECOND_COPY = "the second copy by itself"
HIER = "the hierarchical prompt in other families"
LEAD = "the question before the first copy"
FAMILIES = ("Mamba-2", "Based", "JRT-RNN", "Llama", TEACHER)
STRUCTURE = "where nothing is dropped, at equal length"
ORDERS = "what is repeated, and in which order, at equal length"
EQUAL_MEMORY = "than a Transformer at equal memory"
_NO_GAIN = "larger increments did not yield significant gains"
_EXPANDED = ("GELU, learned expansion", "ReLU, learned expansion")
_OTHER_OVERLAPS = [row for overlap, row in OVERLAPS.items() if overlap != 0.2]
CLAIMS = (
    *(Claim("prefix", dynamic(length, STEP), fixed(length)) for length in LENGTHS),
    *(Claim("feature_map", MLP, row) for row in ("Linear", *_EXPANDED, "Gaussian kernel")),
    Claim("prompt", PROMPTS["hier"], PROMPTS["flat"]),
    *(Claim("prefix", dynamic(length, STEPS[-1]), dynamic(length, STEP), _NO_GAIN, none=True) for length in LENGTHS),
    *(Claim("structure", OVERLAPS[0.2], row, "around 20 % generally best") for row in _OTHER_OVERLAPS),
    *(Claim("comparison", f"{model}, flat", f"{model}, once", JRT_SAYS) for model in FAMILIES),
    Claim("feature_map", NARROW, "Linear", "at equal state"),
    *(Claim("comparison", f"{model}, flat without the lead", f"{model}, once", SECOND_COPY) for model in FAMILIES),
    *(Claim("comparison", f"{model}, flat", f"{model}, flat without the lead", LEAD) for model in FAMILIES),
    *(Claim("comparison", f"{model}, hier", f"{model}, flat", HIER) for model in FAMILIES if model != "JRT-RNN"),
    Claim("structure", NOTHING_DROPPED, FLAT_AS_LONG, STRUCTURE),
    *(Claim("structure", row, NOTHING_DROPPED, ORDERS) for row in (TWICE, BACKWARDS)),
    Claim("prefix", "document", "none", "what a prefix is worth"),
    *(Claim("comparison", "JRT-RNN, once", f"{row}, once", EQUAL_MEMORY) for row in (AT_EQUAL_MEMORY, TRAINED_SO)),
)


LARGE = "_large"
"""Ending of a benchmark's name with more questions on the same documents, on which claims are decided."""
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
        primary: the rows are real, both of recurrent models, and there is no benchmark of more questions on which both
            were asked. What is not is exploratory: its p is not corrected, it takes no part in the correction of
            others, and nothing is concluded from it.
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
                larger = f"{benchmark}{LARGE}" in better and f"{benchmark}{LARGE}" in worse
                primary = not softmax and not larger and better[benchmark].first.source != "sample"
                found.append(Verdict(claim, benchmark, pair, primary, pair.paired.p))
    for family in {one.claim.family for one in found}:
        members = [at for at, one in enumerate(found) if one.primary and one.claim.family == family]
        for at, p in zip(members, holm([found[at].found.paired.p for at in members]), strict=True):
            found[at] = replace(found[at], p=p)
    return found
