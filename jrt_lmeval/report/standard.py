"""The tables of a report: a pivot by any settings, and the standard ones, from everything that was collected."""

from __future__ import annotations

import math
import re
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
    axes,
    difference,
    metrics,
    number_of,
    value_of,
)
from jrt_lmeval.report.misses import MOST_SAMPLES, miss_table
from jrt_lmeval.report.published import published
from jrt_lmeval.report.samples import Columns
from jrt_lmeval.report.tables import PERCENT, Number, Table, TableEntry
from jrt_lmeval.stats import Interval, holm, interval
from jrt_lmeval.task.rules import RULES

ALPHA = 0.05
PREFERRED = ("contains", "exact_match", "acc", "f1", "string_match_all")
MOST_PAIRS = 200
FEW = 0.05
"""Empty answers, and answers cut by `max_gen_toks`, have a column if they are more than this share in some run."""
_SPLIT = ("model", "benchmark", "condition", "setting", "part", "source")
"""Axes that are added to a pivot's rows, in this order, if several cells fall into one place."""


def main_metric(cells: Sequence[Cell]) -> str:
    """`contains` if any run has it, else the next of `PREFERRED`, else any."""
    found = metrics(cells)
    return next((name for name in PREFERRED if name in found), found[0])


def standard_tables(collection: Collection, metric: str, everything: bool = False) -> list[Table]:
    """All tables of these runs on one metric; `everything` reads the misses however many answers there are."""
    cells = [cell for cell in collection.cells if cell.mean(metric) is not None]
    return [
        pivot(cells, ["model", "benchmark"], ["condition"], metric, "recall", f"{metric} by layout"),
        *without_a_model(cells),
        *(published_table(cells) if metric == "contains" else []),
        every_run(cells, metric),
        *cost_table(cells),
        *other_metrics(collection.cells, metric),
        *differences(cells, metric),
        *by_distance(cells, metric),
        *miss_table(cells, sys.maxsize if everything else MOST_SAMPLES),
    ]


# -------------------------------------------------------------------- a pivot


def pivot(
    cells: Sequence[Cell],
    rows: Sequence[str],
    columns: Sequence[str],
    metric: str,
    name: str = "pivot",
    title: str = "",
) -> Table:
    """One metric by any settings.

    If several cells fall into one place, the axes that distinguish them are added to the rows: nothing is averaged and
    nothing is left out. Within a row, or within a column if the tasks are the columns, the best is marked, and so are
    those that do not differ significantly from it.

    Raises:
        JRTError: an axis or a metric that no run has; names the nearest.
    """
    known = axes(cells)
    for axis in (*rows, *columns):
        if axis not in known:
            raise unknown("axis", axis, known)
    shown = [cell for cell in cells if cell.mean(metric) is not None]
    if not shown:
        raise unknown("metric", metric, metrics(cells))
    rows = _enough(shown, list(rows), columns)
    placed = {(_place(cell, rows), _place(cell, columns)): cell for cell in shown}
    if len(placed) != len(shown):
        raise JRTError(f"rows {', '.join(rows)} and columns {', '.join(columns)} do not distinguish all runs.")
    down = list(dict.fromkeys(place for place, _ in placed))
    across = sorted(dict.fromkeys(place for _, place in placed), key=_order)
    numbers = {place: number_of(cell, metric) for place, cell in placed.items()}
    if not {"task", "benchmark", "source"} & {*rows, *columns}:  # no axis says which rows are the sample's
        for place, cell in placed.items():
            if cell.first.source == "sample":
                numbers[place] = replace(numbers[place], marks=numbers[place].marks + "§")
    within = 1 if {"task", "benchmark"} & set(columns) else 0
    groups: dict[tuple, list[tuple]] = defaultdict(list)
    for place, cell in placed.items():  # compared: the same questions with the document shown
        if cell.control == "none":
            groups[place[within], value_of(cell, "benchmark"), cell.first.partly].append(place)
    for group in groups.values():
        if len(group) > 1:
            numbers |= _ranked({place: placed[place] for place in group}, numbers, metric)
    lines = tuple((*place, *(numbers.get((place, column)) for column in across)) for place in down)
    header = (*rows, *(" ".join(part for part in place if part) or metric for place in across))
    unit = ", %" if any(number.scale == PERCENT for number in numbers.values()) else ""
    counts = sorted({(number.interval.n, number.interval.clusters) for number in numbers.values() if number.interval})
    told = "; ".join(f"{n:,} questions" + (f" on {d:,} documents" if d else "") for n, d in counts)
    notes = (f"± and [ ]: 95 % intervals by document (t quantiles), {told}.",) if told else ()
    return Table(name, f"{title or metric}{unit}", header, lines, len(rows), notes)


def _place(cell: Cell, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(value_of(cell, name) for name in names)


def _order(place: tuple[str, ...]) -> tuple:
    """Layouts and controls in the order of `ORDER`, numbers by size, other words by the alphabet."""
    keys = []
    for word in place:
        number = float(word) if re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", word) else math.inf
        keys.append((ORDER.index(word) if word in ORDER else len(ORDER), number, word))
    return tuple(keys)


def _enough(cells: Sequence[Cell], rows: list[str], columns: Sequence[str]) -> list[str]:
    """The rows and as many of `_SPLIT` as are needed so that no two cells fall into one place."""
    for more in _SPLIT:
        groups: dict[tuple, set[str]] = defaultdict(set)
        for cell in cells:
            groups[_place(cell, rows), _place(cell, columns)].add(value_of(cell, more))
        if more not in (*rows, *columns) and any(len(values) > 1 for values in groups.values()):
            rows = [*rows, more]
    return rows


def _ranked(cells: dict[tuple, Cell], numbers: dict[tuple, Number], metric: str) -> dict[tuple, Number]:
    """The numbers of one group that are marked: the best, and those that do not differ significantly from it."""
    sign = -1 if metric.startswith(LOWER_IS_BETTER) or metric.endswith("perplexity") else 1
    known = [place for place in cells if not math.isnan(numbers[place].value)]
    if not known:
        return {}
    best = max(known, key=lambda place: sign * numbers[place].value)
    marked = {
        place: replace(numbers[place], best=True) for place in known if numbers[place].value == numbers[best].value
    }
    others = [place for place in known if place not in marked]
    found = [difference(cells[place], cells[best], metric) for place in others]
    corrected = holm([math.nan if pair is None else pair.paired.p for pair in found])
    for place, p in zip(others, corrected, strict=True):
        if p >= ALPHA:
            marked[place] = replace(numbers[place], marks=numbers[place].marks + "~")
    return marked


# -------------------------------------------------------------------- the standard tables


def every_run(cells: Sequence[Cell], metric: str) -> Table:
    """A line for each run: its scores, those of rules that do not read the document, sizes and cost."""
    normalised = any(cell.mean("contains_normalised") is not None for cell in cells)
    scores = ["f1", "contains_normalised"] if normalised else ["f1"]
    blind = [name for name, rule in RULES.items() if not rule.reads_document]
    rules = [name for name in blind if any(_logged(cell, name) for cell in cells)]
    endings = {"empty_answer": "empty answers, %", "cut_by_length": "cut by length, %"}
    shown = [name for name in endings if any(_logged(cell, name) and cell.figure(name) > FEW for cell in cells)]
    header = (
        "model", "task", f"{metric}, %", *(f"{name}, %" for name in scores),
        *(f"{RULES[name].label}, %" for name in rules),
        "questions", "documents", "prompt, GPT-2 tokens", "read, model's tokens", "prefix M / read", "state, KB",
        "of it window, KB", "median s / answer", *(endings[name] for name in shown),
    )  # fmt: skip
    rows: list[tuple[TableEntry, ...]] = []
    for cell in cells:
        found, columns = cell.interval(metric), cell.columns
        share = cell.figure("prefix_share")
        if math.isnan(share):
            share = cell.figure("prefix_tokens") / (cell.figure("model_prompt_tokens") or math.nan)
        means = [cell.mean(name) for name in scores]
        rows.append(
            (
                cell.model,
                cell.label + (f" [{cell.seeds} seeds]" if cell.seeds > 1 else ""),
                number_of(cell, metric),
                *(Number(math.nan if mean is None else mean, PERCENT) for mean in means),
                *(replace(rule(columns, name), interval=None) for name in rules),
                Number(found.n if found else cell.first.asked, digits=0),
                Number(columns.documents if columns is not None and columns.by_document else math.nan, digits=0),
                Number(cell.figure("prompt_tokens"), digits=0),
                Number(cell.figure("model_prompt_tokens"), digits=0),
                Number(share, digits=2),
                Number(cell.figure("state_bytes") / 1000, digits=0),
                Number(cell.figure("window_bytes") / 1000, digits=0),
                Number(cell.median("seconds"), digits=3),
                *(Number(cell.figure(name) if _logged(cell, name) else math.nan, PERCENT) for name in shown),
            )
        )
    notes = [
        "Tokens, prefix and state are means over the answers. Seconds are of the machine and the load of each run "
        "(below). A dash: not logged."
    ]
    notes += ["Rules do not read the document: echo answers with the question's words, majority with the commonest "
              "value on other documents."] if rules else []  # fmt: skip
    if "empty_answer" in shown:
        notes.append("Empty: nothing but spaces before the end; an instruct model then needs --apply_chat_template.")
    if "cut_by_length" in shown:
        notes.append("Cut by length: neither stop string nor end token came before `max_gen_toks`.")
    return Table("runs", "Every run", header, tuple(rows), 2, tuple(notes))


def _logged(cell: Cell, name: str) -> bool:
    return cell.columns is not None and name in cell.columns.figures


def other_metrics(cells: Sequence[Cell], metric: str) -> list[Table]:
    """All metrics of the runs that do not have the report's metric, so that no run is left out."""
    rows = [
        (cell.model, cell.label, name, number_of(cell, name))
        for cell in cells
        if cell.mean(metric) is None
        for name in sorted(cell.first.means)
        if cell.mean(name) is not None
    ]
    header = ("model", "task", "metric", "value")
    return [Table("others", f"Tasks without {metric}", header, tuple(rows), 3)] if rows else []


def without_a_model(cells: Sequence[Cell]) -> list[Table]:
    """What rules without a model score on each benchmark, from the first run that logged it."""
    logged = [cell for cell in cells if cell.control == "none" and any(_logged(cell, name) for name in RULES)]
    names = [name for name in RULES if any(_logged(cell, name) for cell in logged)]
    rows: dict[tuple[str, str], tuple[TableEntry, ...]] = {}
    for cell in logged:
        benchmark = value_of(cell, "benchmark")
        line: tuple[TableEntry, ...] = (benchmark, cell.setting, *(rule(cell.columns, name) for name in names))
        rows.setdefault((benchmark, cell.first.partly), line)
    if not rows:
        return []
    header = ("benchmark", "setting", *(f"{RULES[name].label}, %" for name in names))
    blind = ", ".join(RULES[name].label for name in names if not RULES[name].reads_document)
    reading = [RULES[name].label for name in names if RULES[name].reads_document]
    shown = f"A model that scores no more than a rule that reads no document ({blind}) has not been shown to recall."
    notes = [shown] if blind else []
    if reading:
        read = "read" if len(reading) > 1 else "reads"
        notes.append(f"{' and '.join(reading).capitalize()} {read} the document: a model can recall and score less.")
    return [Table("rules", "Without a model: contains of simple rules", header, tuple(rows.values()), 2, tuple(notes))]


def rule(columns: Columns | None, name: str) -> Number:
    """What a rule of `task.rules.RULES` scores, with its interval; NaN if it was not logged."""
    values = None if columns is None else columns.figures.get(name)
    return Number(math.nan, PERCENT) if columns is None or values is None else _share(values, columns.clusters)


def _share(values: np.ndarray, clusters: np.ndarray) -> Number:
    known = ~np.isnan(values)
    found = interval(values[known].tolist(), clusters[known].tolist())
    return Number(found.mean, PERCENT, interval=found)


def published_table(cells: Sequence[Cell]) -> list[Table]:
    """The papers' numbers on the benchmarks of this report, in a table of their own, since they are of other models."""
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


def differences(cells: Sequence[Cell], metric: str) -> list[Table]:
    """Every layout compared with reading once, and every model with the best on its task, p values corrected."""
    by_model: dict[tuple, list[Cell]] = defaultdict(list)
    by_task: dict[tuple, list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.control == "none":
            by_model[cell.model, value_of(cell, "benchmark"), cell.first.partly].append(cell)
            by_task[cell.task, cell.setting, cell.first.partly].append(cell)
    couples: list[tuple[Cell, Cell]] = []
    for group in by_model.values():
        once = [cell for cell in group if cell.layout == "once"]
        couples += [(base, cell) for base in once[:1] for cell in group if cell is not base]
    for group in by_task.values():
        best = max(group, key=lambda cell: cell.mean(metric) or 0.0)
        couples += [(cell, best) for cell in group if cell is not best]
    every = [pair for first, second in couples if (pair := difference(first, second, metric)) is not None]
    shown = every[:MOST_PAIRS]
    if not shown:
        return []
    rows: list[tuple[TableEntry, ...]] = []
    for pair, p in zip(shown, holm([pair.paired.p for pair in shown]), strict=True):
        found, first, second = pair.paired, pair.first, pair.second
        ends = Interval(found.difference, found.stderr, found.low, found.high, found.n, found.clusters, exact=True)
        rows.append(
            (
                f"{first.model}, {first.label}",
                second.label if first.model == second.model else f"{second.model}, {second.label}",
                Number(found.difference, PERCENT, interval=ends),
                Number(p, digits=4),
                Number(math.nan if found.mcnemar is None else found.mcnemar, digits=4),
                *(Number(count, digits=0) for count in (found.wins, found.losses, found.ties, found.n, found.clusters)),
                Number(found.detectable, PERCENT),
            )
        )
    header = (
        "first", "second", "second less first, points", "p, Holm", "McNemar p", "wins", "losses", "ties", "questions",
        "documents", "smallest detectable, points",
    )  # fmt: skip
    notes = [
        f"{metric}; 95 % bootstrap interval over documents (whole documents drawn, expanded percentiles); p of the "
        f"same bootstrap, Holm over the {len(shown)} lines; McNemar's exact p takes questions as independent; "
        "detectable with probability 0.8 at 5 %, given these questions. If all documents differ by the same, as with "
        "ties alone, the bounds are exact binomial ones and p is that of the sign test over documents."
    ]
    if len(every) > len(shown):
        notes.append(f"The first {len(shown)} of {len(every)} comparisons; `jrt-eval compare A B` makes any other.")
    return [Table("differences", "Paired differences", header, tuple(rows), 2, tuple(notes))]


# -------------------------------------------------------------------- by distance of the answer

EDGES = (0, 64, 128, 256, 512, 1024, 2048, math.inf)
WINDOW_FACTS = ("sliding_window", "window", "window_tokens")
WINDOW_NOTE = (
    "In the window: the last copy is still in the model's sliding window when its answer begins (distances converted "
    "to the model's tokens by the ratio of the prompt's two lengths)."
)


def distances(columns: Columns) -> np.ndarray | None:
    """From the start of the answer's last copy to the end of the prompt, in GPT-2 tokens: float64 [N].

    NaN where the answer is not in the prompt; None if the log does not say.
    """
    figures = columns.figures
    if "answer_last_token" not in figures or "prompt_tokens" not in figures:
        return None
    return figures["prompt_tokens"] - figures["answer_last_token"]


def window_of(cell: Cell) -> float:
    """The model's sliding window in its own tokens; NaN if it has none or does not say."""
    facts = cell.first.run.facts
    return next((float(facts[name]) for name in WINDOW_FACTS if isinstance(facts.get(name), (int, float))), math.nan)


def split(columns: Columns, metric: str, mask: np.ndarray) -> Number:
    """A metric over some of the answers, with its interval."""
    return _share(columns.scores[metric][mask], columns.clusters[mask])


def by_distance(cells: Sequence[Cell], metric: str) -> list[Table]:
    """A line for each run, a column for each range of distances; then inside and outside the model's window."""
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
        numbers = (split(cell.columns, metric, mask) for mask in masks)
        sides = by_window(cell, cell.columns, far, metric) if windowed else ()
        rows.append((cell.model, cell.label, *numbers, *sides))
    names = [f"{low + 1}-{high}" if high < math.inf else f"above {low}" for low, high in ranges]
    window = ("in the window", "before it", "window, KB", "other state, KB") if windowed else ()
    header = ("model", "task", *names, "in no copy", *window)
    title = f"{metric}, %, by GPT-2 tokens from the answer's last copy to the end of the prompt"
    return [Table("distance", title, header, tuple(rows), 2, (WINDOW_NOTE,) if windowed else ())]


def by_window(cell: Cell, columns: Columns, far: np.ndarray, metric: str) -> tuple[TableEntry, ...]:
    """The metric where the last copy is still in the window and where it is not, and the bytes of both states."""
    sizes = tuple(Number(cell.figure(name) / 1000, digits=0) for name in ("window_bytes", "recurrent_bytes"))
    window, figures = window_of(cell), columns.figures
    if math.isnan(window) or "model_prompt_tokens" not in figures:
        return (None, None, *sizes)
    # distances were logged in GPT-2 tokens, and the window is in the model's own
    own = far * figures["model_prompt_tokens"] / figures["prompt_tokens"]
    return (split(columns, metric, own <= window), split(columns, metric, own > window), *sizes)


# -------------------------------------------------------------------- cost

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
"""Column -> what a model reports of a run, scale, digits."""
COST_NOTE = (
    "All numbers are medians over the runs of a line. State: of a row after its prompt, the mean over the answers of a "
    "run. Window: keys and values of sliding windows, which hold the last tokens as they are; the rest of the state "
    "remembers what came before. Process: with Python, lm_eval and data. Load: of the machine over the last minute of "
    "the run; seconds and tokens/s are others under another load or on another machine."
)


def cost_table(cells: Sequence[Cell]) -> list[Table]:
    """What each model is and what its runs took; no table if no run reports it."""
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        if "threads" in cell.first.run.facts or "model_bytes" in cell.first.run.facts:
            groups[cell.model].append(cell)
    rows: list[tuple[TableEntry, ...]] = []
    for model, group in groups.items():
        facts = [run.facts for run in {cell.first.run.file: cell.first.run for cell in group}.values()]
        words = [", ".join(sorted({str(f[name]) for f in facts if f.get(name)})) for name in ("processor", "device")]
        parameters = Number(_median([cell.first.run.parameters for cell in group]), 1, 0)
        states = [Number(_median([c.figure(name) for c in group]), KILO, 0) for name in ("state_bytes", "window_bytes")]
        measured = [Number(_median([f.get(name) for f in facts]), x, digits) for name, x, digits in MEASURES.values()]
        rows.append((model, *words, parameters, *states, *measured))
    header = ("model", "processor", "device", "parameters", "state, KB", "of it window, KB", *MEASURES)
    return [Table("cost", "What the models are and what they took", header, tuple(rows), 3, (COST_NOTE,))] * bool(rows)


def _median(values: Sequence[Any]) -> float:
    known = [float(value) for value in values if isinstance(value, (int, float)) and not math.isnan(value)]
    return median(known) if known else math.nan
