"""The paper's tables and those of JRT from the logs of a suite; printed numbers have columns of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from jrt_lmeval.paper.claims import METRIC, PRINTED, Logs, Verdict, floor_table, points, recall, verdicts
from jrt_lmeval.paper.plan import PERPLEXITY, SINKS, WINDOWED, TableRow
from jrt_lmeval.prompts.tokens import encoded
from jrt_lmeval.report.cells import SAMPLE, Cell, number_of
from jrt_lmeval.report.fields import benchmark_of
from jrt_lmeval.report.published import printed, published, source
from jrt_lmeval.report.standard import by_window, distances, split
from jrt_lmeval.report.tables import PERCENT, Number, Report, Table
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
    "feature_map": (
        "GELU, ReLU, the MLP and the Gaussian kernel of the bundled suite have a learned or random expansion to as "
        "many features as the last column says (T2R, arXiv 2103.13076, for GELU and ReLU); element by element, as the "
        "paper writes them, GELU and ReLU would have no more than the 32 dimensions of a key.",
    ),
    "memory": (
        f"`{WINDOWED}` is the shipped Llama restricted to the first {SINKS} tokens and the last ones that fit into so "
        "many bytes, at every position of the text (`kv_bytes`, `kv_sinks`); it was trained without a window, and one "
        "that was trained with it may do better. `Softmax in its place` is the teacher.",
    ),
}
"""Table -> what must be read with it."""
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

Cells = Mapping[str, Cell]
"""Benchmark, or `PERPLEXITY`, -> what was measured of a row."""


def paper_report(entries: Sequence[TableRow], logs: Logs) -> Report:
    """Every table of a suite from its logs; rows that were not run have dashes.

    Args:
        entries: of the plan.
        logs: that `jrt-eval paper` wrote.
    """
    cells: dict[tuple[str, str], Cells] = {}
    for entry in entries:
        found = {task: cell for task, cell in logs.cells(entry.run).items() if task in entry.run.tasks}
        cells[entry.table, entry.label] = {cell.first.benchmark: cell for cell in found.values()}
    samples = {name for found in cells.values() for name, cell in found.items() if cell.first.source == "sample"}
    tables = []
    for name in TITLES:
        if of_table := [entry for entry in entries if entry.table == name]:
            tables.append(_table(name, of_table, cells, samples))
    if any(entry.table == "control" for entry in entries):
        tables.append(floor_table(entries, logs))
    tables += jrt_tables(entries, cells, samples)
    tables += [split_table(entries, cells), *_verdict_tables(verdicts(cells))]
    return Report(tuple(table for table in tables if table.rows), _about(cells))


def _table(
    name: str, entries: Sequence[TableRow], cells: Mapping[tuple[str, str], Cells], samples: Iterable[str]
) -> Table:
    benchmarks, perplexity = _benchmarks(entries), any(PERPLEXITY in entry.run.tasks for entry in entries)
    said = printed(name) if name in PRINTED else {}
    columns = list(next(iter(said.values()), {}))
    measures = {"perplexity a token": _perplexity, **MEASURES} if perplexity else MEASURES
    shown = [f"{_marked(one, samples)}: {METRIC}, %" for one in benchmarks]
    header = (name.replace("_", " "), *(PRINTED_COLUMNS[column] for column in columns), *shown, *measures)
    rows: list[tuple[Shown, ...]] = []
    for entry in entries:
        found, figures = cells[entry.table, entry.label], said.get(entry.label, {})
        paper = [Number(figures[column]) if column in figures else None for column in columns]
        recalled = [_recall(found.get(benchmark)) for benchmark in benchmarks]
        rows.append((entry.label, *paper, *recalled, *(measure(found) for measure in measures.values())))
    note = (
        f"Columns `paper` are printed in {source()}: other models, other data; beside ours, not comparable with them."
    )
    return Table(name, TITLES[name], header, tuple(rows), notes=((note,) if said else ()) + NOTES.get(name, ()))


def _benchmarks(entries: Sequence[TableRow]) -> list[str]:
    tasks = [task for entry in entries for task in entry.run.tasks if task != PERPLEXITY]
    return list(dict.fromkeys(map(benchmark_of, tasks)))


def _marked(benchmark: str, samples: Iterable[str]) -> str:
    return benchmark + (SAMPLE if benchmark in samples else "")


def _recall(cell: Cell | None) -> Shown:
    return None if cell is None or recall(cell) is None else number_of(cell, METRIC)


# -------------------------------------------------------------------- what a row cost


def figure(cells: Cells, name: str, scale: float, digits: int) -> Shown:
    """The median over all answers of a row's cells, or None if it was not measured."""
    values = _values(cells, name)
    return Number(float(np.median(values)), scale, digits) if len(values) else None


def _values(cells: Cells, name: str) -> np.ndarray:
    """A figure of all answers of a row's cells, as far as it was logged."""
    columns = [cell.columns for benchmark, cell in cells.items() if benchmark != PERPLEXITY]
    logged = [one.figures[name] for one in columns if one is not None and name in one.figures]
    values = np.concatenate([np.array([]), *logged])
    return values[~np.isnan(values)]


def _throughput(cells: Cells) -> Shown:
    """Answers by the model's seconds for them, including what is saved when questions share a document."""
    seconds = _values(cells, "seconds")
    return Number(len(seconds) / float(seconds.sum())) if seconds.sum() > 0 else None


def _load(cells: Cells) -> Shown:
    """The machine's load at the end of the runs, the highest of them; None where one of them does not say."""
    known = [cell.first.run.facts.get("load_average") for cell in cells.values()]
    loads = [load for load in known if isinstance(load, (int, float))]
    return Number(max(loads), 1, 1) if loads and len(loads) == len(known) else None


def _parameters(cells: Cells) -> Shown:
    known = [cell.first.run.parameters for cell in cells.values() if cell.first.run.parameters]
    return Number(known[0], 1, 0) if known else None


def _features(cells: Cells) -> Shown:
    known = [cell.first.run.facts.get("features_per_head") for cell in cells.values()]
    return next((Number(found, 1, 0) for found in known if isinstance(found, int)), None)


def _perplexity(cells: Cells) -> Shown:
    value = cells[PERPLEXITY].mean("token_perplexity") if PERPLEXITY in cells else None
    return None if value is None else Number(value)


MEASURES: dict[str, Callable[[Cells], Shown]] = {
    "model time, ms an answer (median)": lambda cells: figure(cells, "seconds", 1000, 0),
    "load meanwhile": _load,
    "prefix, share of the prompt (median)": lambda cells: figure(cells, "prefix_share", 1, 2),
    "answers a second": _throughput,
    "state, KB (median)": lambda cells: figure(cells, "state_bytes", 0.001, 0),
    "of it recurrent, KB (median)": lambda cells: figure(cells, "recurrent_bytes", 0.001, 0),
    "parameters": _parameters,
    "features a head": _features,
}
"""Column -> what makes it from a row's cells."""


# -------------------------------------------------------------------- the tables of JRT, and the claims


def jrt_tables(
    entries: Sequence[TableRow], cells: Mapping[tuple[str, str], Cells], samples: Iterable[str]
) -> list[Table]:
    """Our models in the form of JRT's Table 1, and what JRT printed; nothing if the plan compares no models."""
    compared = [entry for entry in entries if entry.table == "comparison" and entry.label.endswith(JRT_SETTINGS)]
    if not compared:
        return []
    benchmarks, rows = _benchmarks(compared), []
    for entry in compared:
        model, _, setting = entry.label.rpartition(", ")
        found = cells[entry.table, entry.label]
        rows.append((model, setting, *(_recall(found.get(name)) for name in benchmarks)))
    header = ("model", "read", *(_marked(name, samples) for name in benchmarks))
    ours = Table("jrt_form", "In the form of JRT's Table 1: our models", header, tuple(rows))
    return [ours, *map(_as_printed, JRT_PRINTED)]


LENGTHS = {"1-4": (1, 4), "5-14": (5, 14), "15 and more": (15, math.inf)}
"""GPT-2 tokens of an answer."""
SPLIT_NOTE = (
    "An answer lies in the window where its last copy is among the last tokens that the model's attention sees, as far "
    "as the log names a window; the recurrent state has to hold all others. Lengths are in GPT-2 tokens."
)


def split_table(entries: Sequence[TableRow], cells: Mapping[tuple[str, str], Cells]) -> Table:
    """Every model's recall, read once, of answers inside and outside its window, and by the length of the answer."""
    rows: list[tuple[Shown, ...]] = []
    for entry in (one for one in entries if one.table == "comparison" and one.label.endswith(", once")):
        for benchmark, cell in cells[entry.table, entry.label].items():
            if benchmark == PERPLEXITY or cell.columns is None or (far := distances(cell.columns)) is None:
                continue
            tokens = np.array([_shortest(sample.gold) for sample in cell.first.samples()])
            lengths = [(tokens >= low) & (tokens <= high) for low, high in LENGTHS.values()]
            inside = by_window(cell, cell.columns, far, METRIC)[:2]
            by_length = [split(cell.columns, METRIC, mask) if mask.any() else None for mask in lengths]
            name = _marked(benchmark, [benchmark] if cell.first.source == "sample" else [])
            rows.append((entry.label.removesuffix(", once"), name, *inside, *by_length))
    header = ("model", "benchmark", "in the window", "before it", *(f"{name} tokens" for name in LENGTHS))
    title = f"{METRIC}, %, read once: answers in the window and before it, and by their length"
    return Table("splits", title, header, tuple(rows), 2, (SPLIT_NOTE,))


def _shortest(labels: Iterable[str]) -> int:
    return min(len(encoded(f" {label}").ids) for label in labels)


def _as_printed(name: str) -> Table:
    numbers = published(name)
    columns = list(dict.fromkeys((one.task, one.context_length) for one in numbers))
    rows: dict[tuple[str, ...], dict[tuple[str, int | None], Number]] = {}
    for one in numbers:
        key = (one.model, one.params, one.tokens, one.setting)
        rows.setdefault(key, {})[one.task, one.context_length] = Number(one.value)
    header = [task if length is None else f"{task}, {length:,}" for task, length in columns]
    body = tuple((*key, *(found.get(column) for column in columns)) for key, found in rows.items())
    return Table(name, JRT_PRINTED[name], ("model", "parameters", "tokens", "read", *header), body, 4, (JRT_NOTE,))


CLAIM_COLUMNS = (
    "claim", "benchmark", "paper, points", "ours, points [95 %]", "smallest effect seen, points", "p", "questions",
    "documents", "verdict",
)  # fmt: skip
CLAIMS_NOTE = (
    "Paired by question; intervals by a bootstrap of documents, p corrected over the rows that ask the same (Holm). "
    "Smallest effect: what a test at 5 % finds with a probability of 80 % at this number of questions and this spread. "
    "`paper's effect excluded`: the whole interval lies below what the paper prints. `not enough questions`: neither "
    "the sign nor the paper's effect can be told. Maps are compared as each is used, at unequal state (Table 2); `at "
    "equal state` says what is left of it there."
)
EXPLORED_NOTE = (
    "Rows of generated samples, and comparisons with softmax attention: p is not corrected, and nothing is concluded. "
    "Fewer than 30 documents are compared by flipping signs by document, without an interval where fewer than six of "
    "them differ."
)


def _verdict_tables(judged: Sequence[Verdict]) -> list[Table]:
    """What holds of the papers' claims, and what was compared besides."""
    primary = tuple(_judged(one) for one in judged if one.primary)
    others = tuple(_judged(one)[:-1] for one in judged if not one.primary)
    tables = [Table("claims", "What holds of the claims", CLAIM_COLUMNS, primary, 2, (CLAIMS_NOTE,))]
    tables += [Table("explored", "Explored besides", CLAIM_COLUMNS[:-1], others, 2, (EXPLORED_NOTE,))]
    return [table for table in tables if table.rows]


def _judged(one: Verdict) -> tuple[Shown, ...]:
    pair, said = one.found.paired, one.claim.published
    words = f"{one.claim.better} > {one.claim.worse}" + (f" ({one.claim.words})" if one.claim.words else "")
    smallest = None if math.isnan(pair.detectable) else Number(pair.detectable, PERCENT)
    numbers = (smallest, Number(one.p, 1, 3), Number(pair.n, 1, 0), Number(pair.clusters, 1, 0))
    paper = "-" if said is None else f"{said:+.1f}"
    return (words, one.benchmark, paper, points(pair), *numbers, one.says)


def _about(cells: Mapping[tuple[str, str], Cells]) -> tuple[str, ...]:
    sizes = {}
    for found in cells.values():
        for name, cell in found.items():
            columns = cell.columns
            if columns is not None and name != PERPLEXITY:
                mark = SAMPLE if cell.first.source == "sample" else ""
                sizes[name] = f"`{name}{mark}`: {len(columns):,} questions on {columns.documents} documents"
    told = "; ".join(sizes.values())
    return (
        f"{told}. `{METRIC}`: the answer stands in what was generated, with 95 % intervals by document. `[sample]`: "
        "generated rows that come with the package, not the benchmark. Times are of one machine and compare rows "
        "of one table that were measured under the same load: seconds of a busy machine are longer.",
    )
