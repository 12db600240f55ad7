"""What was measured, whether a model recalls at all, and which claims of the papers hold: from a suite's logs alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jrt_lmeval.paper.plan import AT_EQUAL_MEMORY, NARROW, TEACHER, TableRow
from jrt_lmeval.report.cells import Cell, Difference, difference
from jrt_lmeval.report.collect import collect
from jrt_lmeval.report.published import printed
from jrt_lmeval.report.tables import PERCENT, Number, Table
from jrt_lmeval.report.tables import TableEntry as Shown
from jrt_lmeval.runner import EvalRun, stated_runs
from jrt_lmeval.stats import Interval, holm, interval
from jrt_lmeval.task.rules import RULES

METRIC = "contains"
ALPHA = 0.05


def measured(logs: Path, run: EvalRun) -> dict[str, Cell]:
    """Task -> what was measured of a run, found by what the folders in `logs` state; empty where it was not run."""
    folder = stated_runs(logs).get(run.key)
    return {} if folder is None else {cell.task: cell for cell in collect([folder]).cells}


def recall(cell: Cell | None) -> Interval | None:
    """Mean of the main metric with its interval by document, or None where it was not measured."""
    if cell is None or cell.columns is None or METRIC not in cell.columns.scores:
        return None
    return interval(cell.columns.scores[METRIC].tolist(), cell.columns.clusters.tolist())


def percent(found: Interval | None) -> str:
    """`25.0 ± 6.1`; a dash where nothing was measured."""
    return "-" if found is None else Number(found.mean, PERCENT, 1, found).text()


TIMES = 5
"""How much more a model must score with the document than without it."""

FLOOR_RULES = ("majority", "longest_match", "blind_middle")

NOTE = (
    f"Read once. `recalls`: at least {TIMES} times what the same model scores without the document, and the 95 % "
    "interval by document lies above the majority answer. Differences between models that do not recall say nothing of "
    "what tells them apart. `majority answer`: the most frequent answer to this question on other documents; `longest "
    "match`: what follows where the question's longest ending stands in the document; `blind middle`: 48 tokens from "
    "the document's middle."
)


def floor_table(entries: Sequence[TableRow], runs: Mapping[str, Mapping[str, Cell]]) -> Table:
    """Each model that has a control, on each benchmark: read once, without the document, the rules, and a verdict.

    Args:
        entries: of the plan; those of the table `control` are looked at.
        runs: `EvalRun.key` -> task -> what was measured.
    """
    rows: list[tuple[Shown, ...]] = []
    for entry in (entry for entry in entries if entry.table == "control"):
        measured, without = runs.get(entry.run.plain.key, {}), runs.get(entry.run.key, {})
        for task in entry.run.tasks:
            once = measured.get(task)
            found = None if once is None else recall(once)
            no_document = None if task not in without else without[task].mean(METRIC)
            rules = {name: None if once is None else rule(once, name) for name in FLOOR_RULES}
            mark = " [sample]" if once is not None and once.first.source == "sample" else ""
            rows.append(
                (
                    entry.label,
                    task + mark,
                    None if found is None else Number(found.mean, 100.0, 1, found),
                    *(None if value is None else Number(value, 100.0, 1) for value in (no_document, *rules.values())),
                    verdict(found, no_document, rules["majority"]),
                )
            )
    labels = [f"{RULES[name].label}, %" for name in FLOOR_RULES]
    header = ("model", "task", "once, %", "without the document, %", *labels, "recalls")
    return Table("control", "What each model recalls, beside what needs no recall", header, tuple(rows), 2, (NOTE,))


def verdict(once: Interval | None, without: float | None, majority: float | None) -> str:
    """`yes`, `no`, or a dash where something was not measured."""
    if once is None or without is None or majority is None:
        return "-"
    return "yes" if once.mean >= TIMES * without and once.low > majority else "no"


def rule(cell: Cell, name: str) -> float | None:
    """What a rule scores on the questions that were asked; None where it was not logged of each."""
    facts = [sample.facts for sample in cell.first.samples()]
    known = [float(found[name]) for found in facts if name in found]
    return sum(known) / len(known) if known and len(known) == len(facts) else None


@dataclass(frozen=True)
class Claim:
    """One row is said to recall more than another.

    Attributes:
        table: of `plan.TableRow`.
        better, worse: labels of rows.
        words: what the paper says, where it prints no numbers.
        none: the paper says that there is no gain, so that only a significant one speaks against it.
    """

    table: str
    better: str
    worse: str
    words: str = ""
    none: bool = False

    @property
    def family(self) -> tuple[str, str]:
        """Claims that ask the same: what p values are corrected over."""
        return self.table, self.words

    @property
    def published(self) -> float | None:
        """The printed difference in points, or None where the paper prints none."""
        if self.table not in ("prefix", "feature_map", "prompt"):
            return None
        values = [printed(self.table).value(row, "recall_percent") for row in (self.better, self.worse)]
        return None if None in values else float(values[0]) - float(values[1])  # type: ignore[arg-type]


MLP = "Learnable MLP"
JRT_SAYS = "JRT (arXiv 2407.05483): reading twice helps"
SECOND_COPY = "the second copy by itself"
LEAD = "the question before the first copy"
FAMILIES = ("Mamba-2", "Based", "JRT-RNN", "Llama", TEACHER)
CLAIMS = (
    Claim("prefix", "JRT-RNN dynamic prefix", "JRT-RNN fixed prefix"),
    *(Claim("feature_map", MLP, other) for other in ("Linear", "GELU", "ReLU", "Gaussian kernel")),
    Claim("prompt", "hierarchical JRT prompt", "flat JRT prompt"),
    Claim(
        "step", "step 0.2, default thresholds", "step 0.1, default thresholds",
        "larger increments did not yield significant gains", True,
    ),
    *(Claim("overlap", "20%", other, "around 20 % generally best") for other in ("0%", "10%", "30%")),
    *(
        Claim("comparison", f"{model}, flat", f"{model}, once", JRT_SAYS)
        for model in FAMILIES
    ),
    Claim("feature_map", NARROW, "Linear", "at equal state"),
    *(
        Claim("comparison", f"{model}, flat without the lead", f"{model}, once", SECOND_COPY)
        for model in FAMILIES
    ),
    *(
        Claim("comparison", f"{model}, flat", f"{model}, flat without the lead", LEAD)
        for model in FAMILIES
    ),
    Claim("comparison", "JRT-RNN, once", f"{AT_EQUAL_MEMORY}, once", "than a Transformer at equal memory"),
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """A claim on one benchmark.

    Attributes:
        claim, benchmark: what was compared, on what.
        found: the comparison.
        p: Holm's, over the claims of one family and their benchmarks.
    """

    claim: Claim
    benchmark: str
    found: Difference
    p: float

    @property
    def says(self) -> str:
        """`confirmed`, `refuted` or `undecided`: whether the sign is the paper's, at 5 % after Holm."""
        if math.isnan(self.p):
            return "undecided: too few documents"
        if self.p >= ALPHA:
            return "not refuted" if self.claim.none else "undecided"
        rises = self.found.paired.difference > 0
        return "confirmed" if rises != self.claim.none else "refuted"


def verdicts(
    cells: Mapping[tuple[str, str], Mapping[str, Cell]], claims: Iterable[Claim] = CLAIMS
) -> Sequence[Verdict]:
    """All claims whose two rows were measured, on every benchmark that both were asked.

    Args:
        cells: (table, row) -> benchmark -> what was measured.
        claims: to look at.
    """
    found = []
    for claim in claims:
        better, worse = (cells.get((claim.table, row), {}) for row in (claim.better, claim.worse))
        for benchmark in better:
            pair = difference(worse[benchmark], better[benchmark], METRIC) if benchmark in worse else None
            if pair is not None:
                found.append((claim, benchmark, pair))
    corrected: dict[int, float] = {}
    for family in {claim.family for claim, _, _ in found}:
        known = {
            at: pair.paired.p
            for at, (claim, _, pair) in enumerate(found)
            if claim.family == family and not math.isnan(pair.paired.p)
        }
        corrected |= dict(zip(known, holm(list(known.values())), strict=True))
    return [
        Verdict(claim, benchmark, pair, corrected.get(at, math.nan))
        for at, (claim, benchmark, pair) in enumerate(found)
    ]
