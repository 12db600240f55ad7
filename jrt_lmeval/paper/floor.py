"""Whether a model recalls at all: beside what it scores without the document, and what rules score that read little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jrt_lmeval.paper.measured import METRIC, recall
from jrt_lmeval.paper.plan import Entry
from jrt_lmeval.report.cells import Cell
from jrt_lmeval.report.tables import Number, Table
from jrt_lmeval.report.tables import TableEntry as Shown
from jrt_lmeval.stats import Interval

TIMES = 5
"""How much more a model must score with the document than without it."""

RULES = {
    "majority": "majority answer, %",
    "longest_match": "longest match, %",
    "blind_middle": "blind middle, %",
}
"""`jrt_lmeval.task.baselines.BASELINES`, as columns."""

NOTE = (
    f"Read once. `recalls`: at least {TIMES} times what the same model scores without the document, and the 95 % "
    "interval by document lies above the majority answer. Differences between models that do not recall say nothing of "
    "what tells them apart. `majority answer`: the most frequent answer to this question on other documents; `longest "
    "match`: what follows where the question's longest ending stands in the document; `blind middle`: 48 tokens from "
    "the document's middle."
)


def floor_table(entries: Sequence[Entry], runs: Mapping[str, Mapping[str, Cell]]) -> Table:
    """Each model that has a control, on each benchmark: read once, without the document, the rules, and a verdict.

    Args:
        entries: of the plan; those of the table `control` are looked at.
        runs: name of a run -> task -> what was measured.
    """
    rows: list[tuple[Shown, ...]] = []
    for entry in (entry for entry in entries if entry.table == "control"):
        measured, without = runs.get(entry.run.plain.name, {}), runs.get(entry.run.name, {})
        for task in entry.run.tasks:
            once = measured.get(task)
            found = None if once is None else recall(once)
            no_document = None if task not in without else without[task].mean(METRIC)
            rules = {name: None if once is None else rule(once, name) for name in RULES}
            mark = " [sample]" if once is not None and once.first.source == "sample" else ""
            rows.append(
                (
                    entry.row,
                    task + mark,
                    None if found is None else Number(found.mean, 100.0, 1, found),
                    *(None if value is None else Number(value, 100.0, 1) for value in (no_document, *rules.values())),
                    verdict(found, no_document, rules["majority"]),
                )
            )
    header = ("model", "task", "once, %", "without the document, %", *RULES.values(), "recalls")
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
