"""The tables of a report, made from everything that was collected."""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np

from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.report.cells import (
    LOWER_IS_BETTER,
    ORDER,
    Cell,
    Collection,
    Difference,
    axes,
    difference,
    metrics,
    number_of,
    value_of,
)
from jrt_lmeval.report.fields import BASELINES
from jrt_lmeval.report.misses import MOST_SAMPLES, miss_table
from jrt_lmeval.report.published import published
from jrt_lmeval.report.samples import Columns
from jrt_lmeval.report.tables import PERCENT, Number, Report, Table, TableEntry
from jrt_lmeval.stats import Interval, holm, interval, tied_groups

_SPLIT = ("model", "benchmark", "condition", "setting", "part", "source")
"""What tells cells apart that fall into one place, in the order in which it is asked."""
ALPHA = 0.05
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
    rows: list[tuple[TableEntry, ...]] = []
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
    rows: dict[tuple[str, str], tuple[TableEntry, ...]] = {}
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


def _difference_row(pair: Difference, corrected: float) -> tuple[TableEntry, ...]:
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
    rows: list[tuple[TableEntry, ...]] = []
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


def pivot(
    cells: Sequence[Cell],
    rows: Sequence[str],
    columns: Sequence[str],
    metric: str,
    name: str = "pivot",
    title: str = "",
) -> Table:
    """One metric by any settings.

    Where several cells would fall into one place, what tells them apart is added to the rows: nothing is averaged over
    and nothing is left out. Within a row, or within a column if the tasks are the columns, the best is marked, and what
    is not told from it.

    Raises:
        JRTError: an axis or a metric that no run has; names the nearest.
    """
    known = axes(cells)
    for axis in (*rows, *columns):
        if axis not in known:
            raise unknown("axis", axis, known)
    chosen = [cell for cell in cells if cell.mean(metric) is not None]
    if not chosen:
        raise unknown("metric", metric, metrics(cells))
    rows = _enough(chosen, list(rows), list(columns))
    placed = {(_place(cell, rows), _place(cell, columns)): cell for cell in chosen}
    if len(placed) != len(chosen):
        raise JRTError(f"rows {', '.join(rows)} and columns {', '.join(columns)} do not tell all runs apart.")
    down = list(dict.fromkeys(place for place, _ in placed))
    across = sorted(dict.fromkeys(place for _, place in placed), key=_order)
    numbers = {place: number_of(cell, metric) for place, cell in placed.items()}
    within = 1 if {"task", "benchmark"} & set(columns) else 0
    for group in _groups(placed, within):
        numbers |= _ranked({place: placed[place] for place in group}, numbers, metric)
    rows_out = tuple((*place, *_row(numbers, place, across)) for place in down)
    header = (*rows, *(" ".join(part for part in place if part) or metric for place in across))
    unit = ", %" if any(number.scale == PERCENT for number in numbers.values()) else ""
    counts = sorted({(number.interval.n, number.interval.clusters) for number in numbers.values() if number.interval})
    told = "; ".join(f"{n:,} questions" + (f" on {d:,} documents" if d else "") for n, d in counts)
    notes = (f"± and [ ]: 95 % intervals by document (t quantiles), {told}.",) if told else ()
    return Table(name, f"{title or metric}{unit}", header, rows_out, len(rows), notes)


def _row(numbers: dict[tuple, Number], row: tuple, across: Sequence[tuple]) -> tuple[TableEntry, ...]:
    return tuple(numbers.get((row, column)) for column in across)


def _place(cell: Cell, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(value_of(cell, name) for name in names)


def _order(place: tuple[str, ...]) -> tuple:
    """Layouts and controls in the order in which they are read; numbers by size, words as they come in the alphabet."""
    keys = []
    for word in place:
        at = ORDER.index(word) if word in ORDER else len(ORDER)
        try:
            keys.append((at, float(word), word))
        except ValueError:
            keys.append((at, math.inf, word))
    return tuple(keys)


def _enough(cells: Sequence[Cell], rows: list[str], columns: list[str]) -> list[str]:
    """The rows, with what is needed so that no two cells fall into one place."""
    for more in (None, *_SPLIT):
        if more is not None and more not in (*rows, *columns):
            groups = _collisions(cells, rows, columns)
            if any(len({value_of(cell, more) for cell in group}) > 1 for group in groups):
                rows = [*rows, more]
    return rows


def _collisions(cells: Sequence[Cell], rows: Sequence[str], columns: Sequence[str]) -> list[list[Cell]]:
    groups: dict[tuple, list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[_place(cell, rows), _place(cell, columns)].append(cell)
    return [group for group in groups.values() if len(group) > 1]


def _groups(placed: dict[tuple, Cell], within: int) -> list[list[tuple]]:
    """Places that compete: those of a row, or of a column, on the same questions and with the document shown."""
    groups: dict[tuple, list[tuple]] = defaultdict(list)
    for place, cell in placed.items():
        if cell.control == "none":
            groups[place[within], value_of(cell, "benchmark"), cell.first.partly].append(place)
    return [group for group in groups.values() if len(group) > 1]


def _ranked(cells: dict[tuple, Cell], numbers: dict[tuple, Number], metric: str) -> dict[tuple, Number]:
    """The numbers of one group with the best marked, and those that the paired comparison does not tell from it."""
    sign = -1 if metric.startswith(LOWER_IS_BETTER) or metric.endswith("perplexity") else 1
    best = max(cells, key=lambda place: sign * numbers[place].value)
    others = [place for place in cells if place != best]
    found = [difference(cells[place], cells[best], metric) for place in others]
    corrected = holm([math.nan if pair is None else pair.paired.p for pair in found])
    marked = {best: replace(numbers[best], best=True)}
    for place, p in zip(others, corrected, strict=True):
        if p >= ALPHA:
            marked[place] = replace(numbers[place], marks=numbers[place].marks + "~")
    return marked


EDGES = (0, 64, 128, 256, 512, 1024, 2048, math.inf)
WINDOW_FACTS = ("sliding_window", "window", "window_tokens")


def distances(columns: Columns) -> np.ndarray | None:
    """From the start of the answer's last copy to the end of the prompt, in GPT-2 tokens: float64 [N].

    NaN where the answer stands nowhere in the prompt; None where the log does not say.
    """
    figures = columns.figures
    if "answer_last_token" not in figures or "prompt_tokens" not in figures:
        return None
    return figures["prompt_tokens"] - figures["answer_last_token"]


def window_of(cell: Cell) -> float:
    """The model's sliding window in its tokens; NaN where it has none or does not say."""
    facts = cell.first.run.facts
    return next((float(facts[name]) for name in WINDOW_FACTS if isinstance(facts.get(name), (int, float))), math.nan)


def inside_window(cell: Cell) -> np.ndarray | None:
    """Whether the last copy is still in the sliding window when the answer begins: 1, 0 or NaN, float64 [N].

    The log counts the prompt in GPT-2 tokens and the window is in the model's: the distance is converted by the ratio
    of the prompt's two lengths.
    """
    columns, window = cell.columns, window_of(cell)
    if columns is None or math.isnan(window) or "model_prompt_tokens" not in columns.figures:
        return None
    far = distances(columns)
    if far is None:
        return None
    own = far * columns.figures["model_prompt_tokens"] / columns.figures["prompt_tokens"]
    return np.where(np.isnan(own), np.nan, (own <= window).astype(float))


def split(columns: Columns, metric: str, mask: np.ndarray) -> Number:
    """A metric over some of the answers, with its interval."""
    part = columns.taken(mask)
    found = interval(part.scores[metric].tolist(), part.clusters.tolist())
    return Number(found.mean, PERCENT, interval=found)


def by_distance(cells: Sequence[Cell], metric: str) -> list[Table]:
    """A line a run, a column a range of distances; then inside and outside the window, where a model states one."""
    shown = [cell for cell in cells if cell.by_document(metric) and cell.control == "none"]
    found = [(cell, far) for cell in shown if cell.columns is not None and (far := distances(cell.columns)) is not None]
    if not found:
        return []
    ranges = [(low, high) for low, high in pairwise(EDGES) if any(((f > low) & (f <= high)).any() for _, f in found)]
    windowed = any(not math.isnan(window_of(cell)) for cell, _ in found)
    rows: list[tuple[TableEntry, ...]] = []
    for cell, far in found:
        assert cell.columns is not None
        masks = [*((far > low) & (far <= high) for low, high in ranges), np.isnan(far)]
        numbers: list[TableEntry] = [split(cell.columns, metric, mask) for mask in masks]
        rows.append((cell.model, cell.label, *numbers, *(_window(cell, metric) if windowed else ())))
    names = [f"{low + 1}-{high}" if high < math.inf else f"above {low}" for low, high in ranges]
    window = ("in the window", "before it", "window, KB", "other state, KB") if windowed else ()
    header = ("model", "task", *names, "in no copy", *window)
    title = f"{metric}, %, by GPT-2 tokens from the answer's last copy to the end of the prompt"
    return [Table("distance", title, header, tuple(rows), 2, (WINDOW_NOTE,) if windowed else ())]


WINDOW_NOTE = (
    "In the window: the last copy is still in the model's sliding window when its answer begins (distances converted "
    "to the model's tokens by the ratio of the prompt's two lengths)."
)


def _window(cell: Cell, metric: str) -> tuple[TableEntry, ...]:
    inside, columns = inside_window(cell), cell.columns
    sizes = tuple(Number(cell.figure(name) / 1000, digits=0) for name in ("window_bytes", "recurrent_bytes"))
    if inside is None or columns is None:
        return (None, None, *sizes)
    return (split(columns, metric, inside == 1), split(columns, metric, inside == 0), *sizes)


MEGA, KILO = 1e-6, 1e-3
MEASURES: dict[str, tuple[str, float, int]] = {
    "features F / head": ("features_per_head", 1, 0),
    "weights, MB": ("model_bytes", MEGA, 1),
    "states and activations at most, MB": ("work_peak_bytes", MEGA, 0),
    "process at most, MB": ("process_peak_memory_bytes", MEGA, 0),
    "read and written, tokens/s": ("tokens_per_second", 1, 0),
    "threads": ("threads", 1, 0),
    "load": ("load_average", 1, 1),
}
"""Column -> what a model reports of a run, scale, digits; the median over the runs of a line."""

COST_NOTE = (
    "State: of a row after its prompt. Window: keys and values of sliding windows, which hold the last tokens as they "
    "are; what remembers more is the rest. Process: with Python, lm_eval and data. Load: of the machine over the "
    "last minute of the run; seconds and tokens/s under another load or on another machine are others."
)


def cost_table(cells: Sequence[Cell]) -> list[Table]:
    """A line a model; none where no run reports what it took."""
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        if "threads" in cell.first.run.facts or "model_bytes" in cell.first.run.facts:
            groups[cell.model].append(cell)
    if not groups:
        return []
    header = (
        "model", "processor", "device", "parameters", "state, KB", "of it window, KB", *MEASURES,
    )  # fmt: skip
    rows = tuple(_cost_line(model, group) for model, group in groups.items())
    return [Table("cost", "What the models are and what they took", header, rows, 3, (COST_NOTE,))]


def _cost_line(model: str, group: Sequence[Cell]) -> tuple[TableEntry, ...]:
    facts = [run.facts for run in {cell.first.run.file: cell.first.run for cell in group}.values()]
    words = [", ".join(sorted({str(f[name]) for f in facts if f.get(name)})) for name in ("processor", "device")]
    states = [
        Number(_middle([cell.figure(name) for cell in group]), KILO, 0) for name in ("state_bytes", "window_bytes")
    ]
    measured = [
        Number(_middle([f.get(name) for f in facts]), scale, digits) for name, scale, digits in MEASURES.values()
    ]
    return (model, *words, Number(_middle([cell.first.run.parameters for cell in group]), 1, 0), *states, *measured)


def _middle(values: Sequence[Any]) -> float:
    known = [float(value) for value in values if isinstance(value, (int, float)) and not math.isnan(value)]
    return median(known) if known else math.nan
