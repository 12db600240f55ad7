"""The tables of a report, made from everything that was collected."""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from jrt_lmeval.report.columns import Columns
from jrt_lmeval.report.compare import Difference, difference
from jrt_lmeval.report.cost import cost_table
from jrt_lmeval.report.distance import by_distance
from jrt_lmeval.report.fields import BASELINES
from jrt_lmeval.report.misses import MOST_SAMPLES, miss_table
from jrt_lmeval.report.pivot import ALPHA, metrics, number_of, pivot, value_of
from jrt_lmeval.report.published import published
from jrt_lmeval.report.records import Cell, Collection
from jrt_lmeval.report.tables import PERCENT, Entry, Number, Report, Table
from jrt_lmeval.stats import Interval, holm, interval, tied_groups

PREFERRED = ("contains", "exact_match", "acc", "f1")
MOST_PAIRS = 200
_TIE_LIMIT = 30


def main_metric(cells: Sequence[Cell]) -> str:
    """`contains` where any run has it, else the next best known."""
    found = metrics(cells)
    return next((name for name in PREFERRED if name in found), found[0])


def standard_tables(collection: Collection, metric: str, everything: bool = False) -> list[Table]:
    """Everything that can be said of these runs: by layout, without a model, every run, differences, ties, misses.

    Args:
        collection: the runs.
        metric: what is compared.
        everything: read the misses however many there are.
    """
    cells = [cell for cell in collection.cells if cell.mean(metric) is not None]
    tables = [pivot(cells, ["model", "benchmark"], ["condition"], metric, "recall", f"{metric} by layout")]
    tables += without_a_model(cells)
    tables += published_table(cells) if metric == "contains" else []
    tables += [every_run(cells, metric)]
    tables += cost_table(cells)
    tables += other_metrics(collection.cells, metric)
    tables += differences(cells, metric)
    tables += ties(cells, metric)
    tables += by_distance(cells, metric)
    tables += miss_table(cells, sys.maxsize if everything else MOST_SAMPLES)
    return tables


def about(collection: Collection) -> tuple[str, ...]:
    """What was read, what all runs share, and what was counted once."""
    lines = [f"Results files: {collection.files:,}. Results of a model on a task: {len(collection.cells):,}."]
    if collection.common:
        shared = ", ".join(f"{name}={value}" for name, value in sorted(collection.common.items()))
        lines.append(f"The same in all runs that have it: {shared}.")
    if collection.copies:
        lines.append(f"{collection.copies} results were found more than once and are counted once.")
    if seeds := [cell for cell in collection.cells if cell.seeds > 1]:
        lines.append(f"{len(seeds)} results are means over runs that differ by seed.")
    return tuple(lines)


def make_report(collection: Collection, tables: Sequence[Table], arguments: dict) -> Report:
    """Tables with what is to be known of all of them."""
    return Report(tuple(tables), about(collection), tuple(broken.why for broken in collection.broken), arguments)


# -------------------------------------------------------------------- each table


def every_run(cells: Sequence[Cell], metric: str) -> Table:
    """A line a run: accuracy, cost, and the unit of each number."""
    header = (
        "model", "task", f"{metric}, %", "f1, %", "questions", "documents", "prompt, GPT-2 tokens",
        "read, model's tokens", "prefix M / read", "state, KB", "of it window, KB", "median s / answer",
    )  # fmt: skip
    rows: list[tuple[Entry, ...]] = []
    for cell in cells:
        f1, found = cell.mean("f1"), cell.interval(metric)
        columns = cell.columns
        rows.append(
            (
                cell.model,
                cell.label + (f" [{cell.seeds} seeds]" if cell.seeds > 1 else ""),
                number_of(cell, metric),
                Number(math.nan if f1 is None else f1, PERCENT),
                Number(found.n if found else cell.first.asked, digits=0),
                Number(columns.documents if columns is not None and columns.by_document else math.nan, digits=0),
                Number(cell.figure("prompt_tokens"), digits=0),
                Number(cell.figure("model_prompt_tokens"), digits=0),
                Number(_prefix_share(cell), digits=2),
                Number(cell.figure("state_bytes") / 1000, digits=0),
                Number(cell.figure("window_bytes") / 1000, digits=0),
                Number(cell.median("seconds"), digits=3),
            )
        )
    notes = ("Seconds are of the machine and the load of each run (below); a dash: not logged.",)
    return Table("runs", "Every run", header, tuple(rows), 2, notes)


def _prefix_share(cell: Cell) -> float:
    share = cell.figure("prefix_share")
    if math.isnan(share):
        share = cell.figure("prefix_tokens") / (cell.figure("model_prompt_tokens") or math.nan)
    return share


def other_metrics(cells: Sequence[Cell], metric: str) -> list[Table]:
    """Runs that have not the report's metric: none is left out without a word."""
    others = [cell for cell in cells if cell.mean(metric) is None]
    rows = [
        (cell.model, cell.label, name, number_of(cell, name))
        for cell in others
        for name in sorted(cell.first.means)
        if cell.mean(name) is not None
    ]
    header = ("model", "task", "metric", "value")
    return [Table("others", f"Tasks without {metric}", header, tuple(rows), 3)] if rows else []


def without_a_model(cells: Sequence[Cell]) -> list[Table]:
    """What rules score that need no model, on the same questions; the first run of each benchmark that logged it."""
    rows: dict[tuple[str, str], tuple[Entry, ...]] = {}
    for cell in cells:
        columns = cell.columns
        if columns is None or cell.control != "none" or not any(name in columns.figures for name in BASELINES):
            continue
        values = [rule(columns, name) for name in BASELINES]
        rows.setdefault(
            (value_of(cell, "benchmark"), cell.first.partly), (value_of(cell, "benchmark"), cell.setting, *values)
        )
    if not rows:
        return []
    header = ("benchmark", "setting", *(f"{name}, %" for name in BASELINES.values()))
    notes = ("A model that scores no more than a rule has not been shown to recall.",)
    return [Table("rules", "Without a model: contains of simple rules", header, tuple(rows.values()), 2, notes)]


def rule(columns: Columns, name: str) -> Number:
    """What a rule that needs no model scores (`fields.BASELINES`), with its interval; NaN where it was not logged."""
    values = columns.figures.get(name)
    if values is None:
        return Number(math.nan)
    known = ~np.isnan(values)
    found = interval(values[known].tolist(), columns.clusters[known].tolist())
    return Number(found.mean, PERCENT, interval=found)


def published_table(cells: Sequence[Cell]) -> list[Table]:
    """The papers' numbers on the benchmarks at hand, in a table of their own: other models, data and machines."""
    at_hand = {cell.first.benchmark for cell in cells if cell.first.source != "sample"}
    numbers = [number for number in published() if number.task in at_hand]
    if not numbers:
        return []
    columns = list(dict.fromkeys((number.task, number.setting) for number in numbers))
    rows: dict[tuple[str, ...], dict[tuple[str, str], Number]] = defaultdict(dict)
    for number in numbers:
        size = f"{number.params}, {number.tokens} tokens"
        rows[number.model, size, number.source][number.task, number.setting] = Number(number.value)
    header = ("model", "size", "source", *(f"{task} {setting}" for task, setting in columns))
    lines = tuple((*place, *(values.get(column) for column in columns)) for place, values in rows.items())
    notes = ("Printed figures of other models, not measured here; the papers give no errors.",)
    return [Table("published", "Published figures: contains, %", header, lines, 3, notes)]


def pairs(cells: Sequence[Cell], metric: str) -> list[Difference]:
    """Comparisons that a reader asks for: every layout with reading once, every model with the best on its task."""
    found: list[Difference | None] = []
    shown = [cell for cell in cells if cell.control == "none"]
    by_model: dict[tuple, list[Cell]] = defaultdict(list)
    by_task: dict[tuple, list[Cell]] = defaultdict(list)
    for cell in shown:
        by_model[cell.model, value_of(cell, "benchmark"), cell.first.partly].append(cell)
        by_task[cell.task, cell.setting, cell.first.partly].append(cell)
    for group in by_model.values():
        once = [cell for cell in group if cell.layout == "once"]
        found += [difference(base, cell, metric) for base in once[:1] for cell in group if cell is not base]
    for group in by_task.values():
        best = max(group, key=lambda cell: cell.mean(metric) or 0.0)
        found += [difference(cell, best, metric) for cell in group if cell is not best]
    return [pair for pair in found if pair is not None]


def differences(cells: Sequence[Cell], metric: str) -> list[Table]:
    """Paired comparisons, p values corrected for their number."""
    every = pairs(cells, metric)
    shown = every[:MOST_PAIRS]
    if not shown:
        return []
    corrected = holm([pair.paired.p for pair in shown])
    rows = tuple(_difference_row(pair, p) for pair, p in zip(shown, corrected, strict=True))
    header = (
        "first", "second", "second less first, points", "p, Holm", "McNemar p", "wins", "losses", "ties", "questions",
        "documents", "smallest detectable, points",
    )  # fmt: skip
    notes = [
        f"{metric}; 95 % bootstrap interval over documents (whole documents drawn, expanded percentiles); p of the "
        f"same bootstrap, Holm over the {len(shown)} lines; McNemar's exact p takes questions as independent; "
        "detectable with probability 0.8 at 5 %, given these questions."
    ]
    if len(every) > len(shown):
        notes.append(f"The first {len(shown)} of {len(every)} comparisons; `jrt-eval compare A B` makes any other.")
    return [Table("differences", "Paired differences", header, rows, 2, tuple(notes))]


def _difference_row(pair: Difference, corrected: float) -> tuple[Entry, ...]:
    found = pair.paired
    ends = Interval(found.difference, found.stderr, found.low, found.high, found.n, found.clusters, exact=True)
    same = pair.first.model == pair.second.model
    names = [cell.label if same else f"{cell.model}, {cell.label}" for cell in (pair.first, pair.second)]
    if same:
        names[0] = f"{pair.first.model}, {names[0]}"
    return (
        *names,
        Number(found.difference, PERCENT, interval=ends),
        Number(corrected, digits=4),
        Number(math.nan if found.mcnemar is None else found.mcnemar, digits=4),
        *(Number(count, digits=0) for count in (found.wins, found.losses, found.ties, found.n, found.clusters)),
        Number(found.detectable, PERCENT),
    )


def ties(cells: Sequence[Cell], metric: str) -> list[Table]:
    """Groups of models on a task of which no two are told apart."""
    by_task: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.control == "none" and cell.by_document(metric):
            by_task[cell.label].append(cell)
    rows: list[tuple[Entry, ...]] = []
    for task, group in by_task.items():
        if 1 < len(group) <= _TIE_LIMIT:
            rows += [(task, str(number), ", ".join(names)) for number, names in enumerate(_tied(group, metric), 1)]
    notes = (
        f"No two of a group are told apart at {ALPHA:.0%}, Holm over all pairs of the task; a model can be in two.",
    )
    header = ("task", "group", "models, best first")
    return [Table("ties", "Groups of tied models", header, tuple(rows), 3, notes)] if rows else []


def _tied(group: Sequence[Cell], metric: str) -> list[tuple[str, ...]]:
    ordered = sorted(group, key=lambda cell: -(cell.mean(metric) or 0.0))
    couples = [(a, b) for at, a in enumerate(ordered) for b in ordered[at + 1 :]]
    found = [difference(a, b, metric) for a, b in couples]
    corrected = holm([math.nan if pair is None else pair.paired.p for pair in found])
    differ = {frozenset((a.model, b.model)): p < ALPHA for (a, b), p in zip(couples, corrected, strict=True)}
    return tied_groups([cell.model for cell in ordered], differ)
