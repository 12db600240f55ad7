"""The paper's tables, and JRT's, from the logs of a suite: the printed numbers beside ours, never in one column."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from jrt_lmeval.paper.claims import METRIC, Verdict, floor_table, measured, recall, verdicts
from jrt_lmeval.paper.plan import PERPLEXITY, SINKS, WINDOWED, TableRow
from jrt_lmeval.report.cells import Cell
from jrt_lmeval.report.fields import benchmark_of
from jrt_lmeval.report.published import printed, published, source
from jrt_lmeval.report.tables import Number, Report, Table
from jrt_lmeval.report.tables import TableEntry as Shown

TITLES = {
    "prefix": "Table 1: prefix length",
    "feature_map": "Table 2: feature map",
    "prompt": "Table 3: prompt",
    "step": "Appendix: step of the dynamic prefix",
    "overlap": "Appendix: overlap of neighbouring segments",
    "comparison": "Recurrent models and a Transformer",
    "memory": "Recall and memory",
}
NOTES = {
    "memory": (
        f"`{WINDOWED}` is the shipped Llama restricted to the first {SINKS} tokens and the last ones that fit into so "
        "many bytes, at every position of the text (`kv_bytes`, `kv_sinks`); it was trained without a window, and one "
        "that was trained with it may do better. `Softmax in its place` is the teacher.",
    )
}
"""Table -> what must be read with it."""
PRINTED = ("prefix", "feature_map", "prompt")
PRINTED_COLUMNS = {
    "recall_percent": "paper: recall, %",
    "inference_ms": "paper: inference, ms",
    "perplexity": "paper: perplexity",
}

JRT_SETTINGS = ("once", "flat")
JRT_PRINTED = {
    "jrt_table1": "JRT, Table 1, as printed: read once and twice (flat)",
    "jrt_table2": "JRT, Table 2, as printed",
}
JRT_NOTE = "Printed in arXiv 2407.05483: models of 130 M to 2.8 B parameters, full data sets; single runs, no errors."

Cells = Mapping[tuple[str, str], Mapping[str, Cell]]


def paper_report(entries: Sequence[TableRow], folder: Path) -> Report:
    """Every table of a suite from the logs below `folder`; rows that were not run have dashes.

    Args:
        entries: of the plan.
        folder: that `jrt-eval paper` wrote.
    """
    runs = {run.key: measured(folder, run) for run in {e.run.key: e.run for e in entries}.values()}
    cells = {(e.table, e.label): {t: c for t, c in runs[e.run.key].items() if t in e.run.tasks} for e in entries}
    tables = [_table(name, [e for e in entries if e.table == name], cells) for name in TITLES]
    if any(e.table == "control" for e in entries):
        tables.append(floor_table(entries, runs))
    by_benchmark = {key: {cell.first.benchmark: cell for cell in found.values()} for key, found in cells.items()}
    judged = verdicts(by_benchmark)
    shown = [table for table in tables if table is not None] + jrt_tables(entries, cells)
    return Report(tuple([*shown, _verdict_table(judged)] if judged else shown), _about(cells))


def _table(name: str, entries: Sequence[TableRow], cells: Cells) -> Table | None:
    if not entries:
        return None
    tasks = list(dict.fromkeys(task for entry in entries for task in entry.run.tasks))
    benchmarks = list(dict.fromkeys(_benchmark(task) for task in tasks if task != PERPLEXITY))
    said = printed(name) if name in PRINTED else None
    columns = said.columns if said else ()
    samples = {
        cell.first.benchmark for found in cells.values() for cell in found.values() if cell.first.source == "sample"
    }
    columns_of = [f"{one}{' [sample]' if one in samples else ''}: {METRIC}, %" for one in benchmarks]
    measures = _measures(PERPLEXITY in tasks)
    header = (name.replace("_", " "), *(PRINTED_COLUMNS[c] for c in columns), *columns_of, *measures)
    rows: list[tuple[Shown, ...]] = []
    for entry in entries:
        found = {_benchmark(task): cell for task, cell in cells[entry.table, entry.label].items()}
        published = [said.value(entry.label, column) if said else None for column in columns]
        printed_cells: list[Shown] = [None if v is None else Number(v) for v in published]
        recalled = [_recall(found.get(benchmark)) for benchmark in benchmarks]
        costs = [measure(found) for measure in measures.values()]
        rows.append((entry.label, *printed_cells, *recalled, *costs))
    note = (
        f"Columns `paper` are printed in {source()}: other models, other data; beside ours, not comparable with them."
    )
    return Table(name, TITLES[name], header, tuple(rows), notes=(note,) if said else NOTES.get(name, ()))


def _benchmark(task: str) -> str:
    return task if task == PERPLEXITY else benchmark_of(task)


def _recall(cell: Cell | None) -> Shown:
    found = recall(cell)
    if cell is None or found is None:
        return None
    return Number(found.mean, 100.0, 1, found, "*" if cell.first.partly else "")


def _measures(perplexity: bool) -> dict[str, Callable[[Mapping[str, Cell]], Shown]]:
    """Column -> what makes it of a row's cells by benchmark."""
    found: dict[str, Callable[[Mapping[str, Cell]], Shown]] = {
        "model time, ms an answer (median)": lambda cells: figure(cells, "seconds", 1000, 1),
        "prefix, share of the prompt (median)": lambda cells: figure(cells, "prefix_share", 1, 2),
        "answers a second": _throughput,
        "state, KB (median)": lambda cells: figure(cells, "state_bytes", 0.001, 0),
        "of it recurrent, KB (median)": lambda cells: figure(cells, "recurrent_bytes", 0.001, 0),
        "parameters": _parameters,
        "features a head": _features,
    }
    return {"perplexity a token": _perplexity, **found} if perplexity else found


def figure(cells: Mapping[str, Cell], name: str, scale: float, digits: int) -> Shown:
    """The median over all answers of a row's cells, or None where it was not measured."""
    values = _values(cells, name)
    return Number(float(np.median(values)), scale, digits) if len(values) else None


def _values(cells: Mapping[str, Cell], name: str) -> np.ndarray:
    """A figure of all answers of a row's cells, as far as it was logged."""
    columns = [cell.columns for benchmark, cell in cells.items() if benchmark != PERPLEXITY]
    logged = [one.figures[name] for one in columns if one is not None and name in one.figures]
    values = np.concatenate([np.array([]), *logged])
    return values[~np.isnan(values)]


def _throughput(cells: Mapping[str, Cell]) -> Shown:
    """Answers by the model's seconds for them, what shared documents save included."""
    seconds = _values(cells, "seconds")
    return Number(len(seconds) / float(seconds.sum()), 1, 1) if seconds.sum() > 0 else None


def _parameters(cells: Mapping[str, Cell]) -> Shown:
    known = [cell.first.run.parameters for cell in cells.values() if cell.first.run.parameters]
    return Number(known[0], 1, 0) if known else None


def _features(cells: Mapping[str, Cell]) -> Shown:
    known = [cell.first.run.facts.get("features_per_head") for cell in cells.values()]
    return next((Number(found, 1, 0) for found in known if isinstance(found, int)), None)


def _perplexity(cells: Mapping[str, Cell]) -> Shown:
    value = cells[PERPLEXITY].mean("token_perplexity") if PERPLEXITY in cells else None
    return None if value is None else Number(value, 1, 1)


def jrt_tables(entries: Sequence[TableRow], cells: Mapping[tuple[str, str], Mapping[str, Cell]]) -> list[Table]:
    """Ours in the form of JRT's Table 1, and below it what JRT printed; nothing where the plan compares no models.

    Args:
        entries: of the plan; those of the table `comparison` are looked at.
        cells: (table, row) -> task -> what was measured.
    """
    compared = [entry for entry in entries if entry.table == "comparison" and entry.label.endswith(JRT_SETTINGS)]
    if not compared:
        return []
    tasks = [task for entry in compared for task in entry.run.tasks if task != PERPLEXITY]
    benchmarks = list(dict.fromkeys(map(benchmark_of, tasks)))
    samples, rows = set(), []
    for entry in compared:
        model, _, setting = entry.label.rpartition(", ")
        found = {
            benchmark_of(task): cell for task, cell in cells[entry.table, entry.label].items() if task != PERPLEXITY
        }
        samples |= {name for name, cell in found.items() if cell.first.source == "sample"}
        rows.append((model, setting, *(_recall(found.get(name)) for name in benchmarks)))
    shown = [f"{name} [sample]" if name in samples else name for name in benchmarks]
    ours = Table("jrt_form", "In the form of JRT's Table 1: our models", ("model", "read", *shown), tuple(rows))
    return [ours, *(_printed(name) for name in JRT_PRINTED)]


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
    return Table(name, JRT_PRINTED[name], ("model", "parameters", "tokens", "read", *header), body, 4, (JRT_NOTE,))


def _verdict_table(judged: Iterable[Verdict]) -> Table:
    columns = "claim; benchmark; paper, points; ours, points [95 %]; p (Holm); questions; documents; sign"
    header = tuple(columns.split("; "))
    rows: list[tuple[Shown, ...]] = []
    for one in judged:
        pair, said = one.found.paired, one.claim.published
        ends = "" if math.isnan(pair.low) else f" [{100 * pair.low:+.1f}, {100 * pair.high:+.1f}]"
        ours = f"{100 * pair.difference:+.1f}{ends}"
        words = f"{one.claim.better} > {one.claim.worse}" + (f" ({one.claim.words})" if one.claim.words else "")
        numbers = (Number(one.p, 1, 3), Number(pair.n, 1, 0), Number(pair.clusters, 1, 0))
        rows.append((words, one.benchmark, "-" if said is None else f"{said:+.1f}", ours, *numbers, one.says))
    note = (
        "Paired by question, intervals by a bootstrap of documents, p corrected over the rows that ask the "
        "same (Holm). `undecided`: at this number of questions the sign cannot be told. Maps are compared as each is "
        "used, at unequal state (Table 2); `at equal state` says what is left of it there."
    )
    return Table("claims", "What holds of the claims", header, tuple(rows), 2, (note,))


def _about(cells: Cells) -> tuple[str, ...]:
    sizes = {}
    for found in cells.values():
        for task, cell in found.items():
            columns = cell.columns
            if columns is not None and task != PERPLEXITY:
                mark = " [sample]" if cell.first.source == "sample" else ""
                count = f"{len(columns):,} questions on {columns.documents} documents"
                sizes[_benchmark(task)] = f"`{_benchmark(task)}{mark}`: {count}"
    told = "; ".join(sizes.values())
    return (
        f"{told}. `{METRIC}`: the answer stands in what was generated, with 95 % intervals by document. `[sample]`: "
        "generated rows that come with the package, not the benchmark. Times are of one machine and compare rows "
        "of one table only.",
    )
