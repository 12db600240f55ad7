"""JRT's tables (arXiv 2407.05483) in their form: models by task, read once and twice; ours, and then those printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jrt_lmeval.paper.measured import recall
from jrt_lmeval.paper.plan import PERPLEXITY, Entry
from jrt_lmeval.report.cells import Cell
from jrt_lmeval.report.fields import benchmark_of
from jrt_lmeval.report.published import published
from jrt_lmeval.report.tables import Number, Table
from jrt_lmeval.report.tables import TableEntry as Shown

SETTINGS = ("once", "flat")
PRINTED = {
    "jrt_table1": "JRT, Table 1, as printed: read once and twice (flat)",
    "jrt_table2": "JRT, Table 2, as printed",
}
NOTE = "Printed in arXiv 2407.05483: models of 130 M to 2.8 B parameters, full data sets; single runs, no errors."


def jrt_tables(entries: Sequence[Entry], cells: Mapping[tuple[str, str], Mapping[str, Cell]]) -> list[Table]:
    """Ours in the form of JRT's Table 1, and below it what JRT printed; nothing where the plan compares no models.

    Args:
        entries: of the plan; those of the table `comparison` are looked at.
        cells: (table, row) -> task -> what was measured.
    """
    compared = [entry for entry in entries if entry.table == "comparison" and entry.row.endswith(SETTINGS)]
    if not compared:
        return []
    tasks = [task for entry in compared for task in entry.run.tasks if task != PERPLEXITY]
    benchmarks = list(dict.fromkeys(map(benchmark_of, tasks)))
    samples, rows = set(), []
    for entry in compared:
        model, _, setting = entry.row.rpartition(", ")
        found = {benchmark_of(task): cell for task, cell in cells[entry.table, entry.row].items() if task != PERPLEXITY}
        samples |= {name for name, cell in found.items() if cell.first.source == "sample"}
        rows.append((model, setting, *(_percent(found.get(name)) for name in benchmarks)))
    shown = [f"{name} [sample]" if name in samples else name for name in benchmarks]
    ours = Table("jrt_form", "In the form of JRT's Table 1: our models", ("model", "read", *shown), tuple(rows))
    return [ours, *(_printed(name) for name in PRINTED)]


def _percent(cell: Cell | None) -> Shown:
    found = recall(cell)
    return None if found is None else Number(found.mean, 100.0, 1, found)


def _printed(name: str) -> Table:
    numbers = published(name)
    columns = list(dict.fromkeys((one.task, one.context_length) for one in numbers))
    rows: dict[tuple[str, ...], dict[tuple[str, int | None], float]] = {}
    for one in numbers:
        key = (one.model, one.params, one.tokens, one.setting)
        rows.setdefault(key, {})[one.task, one.context_length] = one.value
    header = [task if length is None else f"{task}, {length:,}" for task, length in columns]
    body = tuple(
        (*key, *(None if found.get(column) is None else Number(found[column], 1, 1) for column in columns))
        for key, found in rows.items()
    )
    return Table(name, PRINTED[name], ("model", "parameters", "tokens", "read", *header), body, 4, (NOTE,))
