"""The paper's tables and those of JRT from the logs of a suite; printed numbers have columns of their own."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, islice

import numpy as np

from jrt_lmeval.checkpoints.found import find
from jrt_lmeval.data.making.factbook import trained_values
from jrt_lmeval.data.making.pages import generate_pages
from jrt_lmeval.data.shipped import prose_rows
from jrt_lmeval.errors import JRTError
from jrt_lmeval.paper.claims import METRIC, PRINTED, Logs, Verdict, floor_table, points, recall, verdicts
from jrt_lmeval.paper.plan import IN_PAPER, JRT_BYTES, PERPLEXITY, SINKS, TRAINED_SO, WINDOWED, TableRow
from jrt_lmeval.paper.times import Times
from jrt_lmeval.paths import tokenizer_dir
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
    "structure": "Table 3 on documents of 300 tokens, of which a prompt can hold all segments",
    "comparison": "Recurrent models and a Transformer",
    "memory": "Recall and memory",
}
EQUAL_SHARES = (
    "`dynamic, 0.5 ± 10 %`: the prefix of `fixed at 0.5` is longer by a tenth where the document's entropy is in the "
    "upper quartile of development documents of its kind, and shorter where it is in the lower one; the length that is "
    "changed is chosen such that the mean share is that of the fixed prefix. `dynamic, by default` begins at the whole "
    "document and cannot lengthen."
)
QUESTION_FREE = "Perplexity is of running text, which is read without a prefix: here the JRT-RNNs are causal."
NOTES = {
    "prefix": (EQUAL_SHARES,),
    "feature_map": (
        "GELU and ReLU with a `learned expansion` have a learned linear map to 512 features before the function (T2R, "
        "arXiv 2103.13076); element by element, as the paper writes them, they have no more than the 32 dimensions of "
        "a key. Rows of equal state stand together.",
        QUESTION_FREE,
    ),
    "structure": (
        "No prompt has a lead. `all segments`: the document, its paragraphs once and its sentences twice, which with "
        "no overlap are as long as 4 copies of the document. `paragraphs twice`: they instead of the sentences. "
        "Budgets are multiples of the document's length, and overlap is 20 % where none is named.",
    ),
    "comparison": (QUESTION_FREE,),
    "memory": (
        f"`{WINDOWED}` is the shipped Llama restricted to the first {SINKS} tokens and the last ones that fit into so "
        "many bytes, at every position of the text (`kv_bytes`, `kv_sinks`); it was trained without a window. "
        f"`{TRAINED_SO}` was trained with that of {JRT_BYTES / 1000:,.0f} KB, where its weights are there. `Softmax in "
        "its place` is the teacher.",
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
    cells: dict[tuple[str, str], dict[str, Cell]] = {}
    for entry in entries:
        found = {task: cell for task, cell in logs.cells(entry.run).items() if task in entry.run.tasks}
        row = cells.setdefault((entry.table, entry.label), {})
        row.update({cell.first.benchmark: cell for cell in found.values()})
    samples = {name for found in cells.values() for name, cell in found.items() if cell.first.source == "sample"}
    tables = []
    for name in TITLES:
        if of_table := [entry for entry in entries if entry.table == name]:
            tables.append(_table(name, of_table, cells, samples, logs.times))
    if any(entry.table == "control" for entry in entries):
        tables.append(floor_table(entries, logs))
    tables += jrt_tables(entries, cells, samples)
    tables += [split_table(entries, cells), again_table(entries, cells), *_verdict_tables(verdicts(cells))]
    return Report(tuple(table for table in tables if table.rows), _about(cells))


def _table(
    name: str,
    entries: Sequence[TableRow],
    cells: Mapping[tuple[str, str], Cells],
    samples: Iterable[str],
    times: Times | None,
) -> Table:
    benchmarks = _benchmarks(entries, cells)
    said = printed(name) if name in PRINTED else {}
    columns = list(next(iter(said.values()), {}))
    measures = {**(OF_PROMPTS if name in LONGER else {}), **MEASURES}
    if any(PERPLEXITY in entry.run.tasks for entry in entries):
        measures = {PERPLEXITY_COLUMN: _perplexity, **measures}
    timed = {} if times is None else _timed(times, entries)
    header = (
        name.replace("_", " "),
        *(PRINTED_COLUMNS[column] for column in columns),
        *(f"{_marked(one, samples)}: {METRIC}, %" for one in benchmarks),
        *(TIMED if timed else ()),
        *measures,
    )
    rows: list[tuple[Shown, ...]] = []
    for label in dict.fromkeys(entry.label for entry in entries):
        found, figures = cells[name, label], said.get(IN_PAPER.get(label, label), {})
        paper = [Number(figures[column]) if column in figures else None for column in columns]
        recalled = [_recall(found.get(benchmark)) for benchmark in benchmarks]
        rows.append(
            (label, *paper, *recalled, *timed.get(label, ()), *(measure(found) for measure in measures.values()))
        )
    if any(PERPLEXITY in cells[name, entry.label] for entry in entries):
        rows.append((UNIGRAM, *(unigram() if column == PERPLEXITY_COLUMN else None for column in header[1:])))
    note = (
        f"Columns `paper` are printed in {source()}: other models, other data; beside ours, not comparable with them."
    )
    notes = ((note,) if said else ()) + NOTES.get(name, ()) + ((_of_times(times),) if timed and times else ())
    return Table(name, TITLES[name], header, tuple(rows), notes=notes)


TIMED = ("time, ms an answer (median)", "tokens read a second")


def _timed(times: Times, entries: Sequence[TableRow]) -> dict[str, tuple[Shown, ...]]:
    """Row -> the columns `TIMED`; nothing if no row was timed."""
    found: dict[str, tuple[Shown, ...]] = {}
    for entry in entries:
        values = times.milliseconds(entry.run), times.tokens_per_second(entry.run)
        shown = tuple(None if value is None else Number(value, 1, 0) for value in values)
        found.setdefault(entry.label, shown)
    return found if any(shown != (None, None) for shown in found.values()) else {}


def _of_times(times: Times) -> str:
    low, high = times.load
    return (
        f"Times: {times.questions} questions of each row, the rows of all tables in turn in one process, the median of "
        f"{times.rounds} rounds; the machine's load was {low} to {high}. Tokens are the model's own, and the time to "
        "write the answer is in it. A row that was not timed so shows none."
    )


UNIGRAM = "unigram of the text itself"


def unigram() -> Number:
    """The perplexity a token of the perplexity task's texts under the frequencies of their own tokens.

    It needs no context, and no fixed distribution over the tokens of the shipped models has a lower one.
    """
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer_dir(find("softmax-teacher").folder) / "tokenizer.json"))
    counts = np.array([*Counter(chain(*(tokenizer.encode(row["text"]).ids for row in prose_rows()))).values()])
    shares = counts / counts.sum()
    return Number(float(np.exp(-(shares * np.log(shares)).sum())))


def _benchmarks(entries: Sequence[TableRow], cells: Mapping[tuple[str, str], Cells]) -> list[str]:
    """Benchmarks of the rows; the first has a column always, another where a row was asked it."""
    tasks = [task for entry in entries for task in entry.run.tasks if task != PERPLEXITY]
    measured = {name for entry in entries for name in cells[entry.table, entry.label]}
    first, *others = dict.fromkeys(map(benchmark_of, tasks))
    return [first, *(name for name in others if name in measured)]


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


def _mean(cells: Cells, name: str, digits: int) -> Shown:
    """The mean over all answers of a row's cells, or None if it was not measured."""
    values = _values(cells, name)
    return Number(float(values.mean()), 1, digits) if len(values) else None


def _parameters(cells: Cells) -> Shown:
    known = [cell.first.run.parameters for cell in cells.values() if cell.first.run.parameters]
    return Number(known[0], 1, 0) if known else None


def _features(cells: Cells) -> Shown:
    known = [cell.first.run.facts.get("features_per_head") for cell in cells.values()]
    return next((Number(found, 1, 0) for found in known if isinstance(found, int)), None)


def _perplexity(cells: Cells) -> Shown:
    value = cells[PERPLEXITY].mean("token_perplexity") if PERPLEXITY in cells else None
    return None if value is None else Number(value)


PERPLEXITY_COLUMN = "perplexity a token"
MEASURES: dict[str, Callable[[Cells], Shown]] = {
    "prefix, share of the prompt (mean)": lambda cells: _mean(cells, "prefix_share", 3),
    "state, KB (median)": lambda cells: figure(cells, "state_bytes", 0.001, 0),
    "of it recurrent, KB (median)": lambda cells: figure(cells, "recurrent_bytes", 0.001, 0),
    "parameters": _parameters,
    "features a head": _features,
}
LONGER = ("prompt", "structure")
OF_PROMPTS: dict[str, Callable[[Cells], Shown]] = {
    "prompt, GPT-2 tokens (mean)": lambda cells: _mean(cells, "prompt_tokens", 0),
    "segments dropped (mean)": lambda cells: _mean(cells, "segments_dropped", 1),
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
    benchmarks, rows = _benchmarks(compared, cells), []
    for entry in compared:
        model, _, setting = entry.label.rpartition(", ")
        found = cells[entry.table, entry.label]
        rows.append((model, setting, *(_recall(found.get(name)) for name in benchmarks)))
    header = ("model", "read", *(_marked(name, samples) for name in benchmarks))
    ours = Table("jrt_form", "In the form of JRT's Table 1: our models", header, tuple(rows))
    return [ours, *map(_as_printed, JRT_PRINTED)]


LENGTHS = {"1-4": (1, 4), "5-14": (5, 14), "15 and more": (15, math.inf)}
"""GPT-2 tokens of an answer."""
TRAINING_PAGES = 2000
"""Generated training pages whose values count as seen, about as many as a model of the suite is trained on."""
SPLIT_NOTE = (
    "An answer lies in the window where its last copy is among the last tokens that the model's attention sees, as far "
    "as the log names a window; the recurrent state has to hold all others. Lengths are in GPT-2 tokens. Seen: the "
    "answer is a value of the sheets that the suite trains on (factbook; the countries are others) or of "
    f"{TRAINING_PAGES:,} generated training pages (others)."
)
AGAIN_NOTE = (
    "The hierarchical prompt repeats only what fits into its budget. Written again: the last copy of an answer stands "
    "behind the document. Both prompts were asked the same questions."
)


def split_table(entries: Sequence[TableRow], cells: Mapping[tuple[str, str], Cells]) -> Table:
    """Every model's recall, read once, by window, by the length of the answer, and by whether training showed it."""
    rows: list[tuple[Shown, ...]] = []
    for entry, benchmark, cell in _compared(entries, cells, ", once"):
        assert cell.columns is not None
        if (far := distances(cell.columns)) is None:
            continue
        gold = [sample.gold for sample in cell.first.samples()]
        tokens, known = np.array([_shortest(labels) for labels in gold]), _trained(benchmark)
        seen = np.array([any(label.lower() in known for label in labels) for labels in gold])
        masks = [(tokens >= low) & (tokens <= high) for low, high in LENGTHS.values()]
        masks += [seen, ~seen] if known else [~seen & False] * 2
        inside = by_window(cell, cell.columns, far, METRIC)[:2]
        by_mask = [split(cell.columns, METRIC, mask) if mask.any() else None for mask in masks]
        rows.append((entry, _named(benchmark, cell), *inside, *by_mask))
    words = ("in the window", "before it", *(f"{name} tokens" for name in LENGTHS), "seen in training", "not seen")
    title = f"{METRIC}, %, read once: answers in the window and before it, by their length, and by what training showed"
    return Table("splits", title, ("model", "benchmark", *words), tuple(rows), 2, (SPLIT_NOTE,))


def again_table(entries: Sequence[TableRow], cells: Mapping[tuple[str, str], Cells]) -> Table:
    """What the hierarchical and the flat prompt recall of answers that the first writes again, and of the others."""
    rows: list[tuple[Shown, ...]] = []
    for model, benchmark, cell in _compared(entries, cells, ", hier"):
        other = cells["comparison", f"{model}, flat"].get(benchmark)
        if other is None or (flat := other.columns) is None or (hier := cell.columns) is None:
            continue
        _, at, place = np.intersect1d(hier.rows, flat.rows, return_indices=True)
        hier, flat = hier.taken(at), flat.taken(place)
        if "answer_last_token" not in hier.figures:
            continue
        again = hier.figures["answer_last_token"] >= hier.figures["document_tokens"]
        scores = [split(one, METRIC, mask) for mask in (again, ~again) for one in (hier, flat) if mask.any()]
        if len(scores) == 4:
            rows.append((model, _named(benchmark, cell), Number(float(again.mean()), PERCENT, 0), *scores))
    words = [f"{what}: {prompt}" for what in ("written again", "not") for prompt in ("hierarchical", "flat")]
    header = ("model", "benchmark", "written again, % of the questions", *words)
    title = f"{METRIC}, %: what the passes of the hierarchical prompt write again, and what they leave out"
    return Table("again", title, header, tuple(rows), 2, (AGAIN_NOTE,))


def _compared(
    entries: Sequence[TableRow], cells: Mapping[tuple[str, str], Cells], ending: str
) -> Iterator[tuple[str, str, Cell]]:
    """Model, benchmark and answers of the rows of the comparison that end so."""
    for entry in (one for one in entries if one.table == "comparison" and one.label.endswith(ending)):
        for benchmark, cell in cells[entry.table, entry.label].items():
            if benchmark != PERPLEXITY and cell.columns is not None:
                yield entry.label.removesuffix(ending), benchmark, cell


def _named(benchmark: str, cell: Cell) -> str:
    return _marked(benchmark, [benchmark] if cell.first.source == "sample" else [])


@cache
def _trained(benchmark: str) -> frozenset[str]:
    """Values of the suite's training texts; none where the package of the sheets is not installed."""
    if not benchmark.startswith("factbook"):
        pages = islice(generate_pages("train", 0), TRAINING_PAGES)
        return frozenset(value.lower() for page in pages for _, value in page.facts)
    try:
        return trained_values()
    except JRTError:
        return frozenset()


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
        "generated rows that come with the package, not the benchmark.",
    )
