"""Recall by prompt layout, against its cost, and by where the answer stands."""

from __future__ import annotations

import math
import textwrap
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise
from statistics import mean
from typing import Any

import numpy as np
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, FuncFormatter

from jrt_lmeval.prompts.layouts import LAYOUTS
from jrt_lmeval.report.cells import Cell, Collection, condition, number_of, value_of
from jrt_lmeval.report.plots.picture import (
    CHARACTERS,
    COLOURS,
    FAINT,
    INK,
    MARKERS,
    SMALL,
    TITLE,
    Names,
    Picture,
    asked,
    bars_note,
    batched,
    canvas,
    file_name,
    legend,
    letter,
    line,
    listed,
    log_ticks,
    numbered,
    parts,
    place_of,
    reach,
    scaled,
    styled,
)
from jrt_lmeval.report.published import Published, published, state_bytes, timed
from jrt_lmeval.report.samples import Columns
from jrt_lmeval.report.standard import rule
from jrt_lmeval.report.tables import PERCENT, Number
from jrt_lmeval.stats import interval
from jrt_lmeval.task.rules import RULES

MOST_GROUPS = 8
BAR = 0.155
"""Inches for one bar, so that a 7 pt number fits beside it."""
CHARACTER = 0.018
"""Share of the width that a character of 7 pt takes, so that no word behind a bar is cut off."""
NO_CONTEXT = "no_context"
DRAWN_RULES = {"majority": "--"}
"""Rules of `task.rules.RULES` that are drawn as a line -> its dashes."""
_EQUAL = [one.label for one in LAYOUTS.values() if one.equal_length]
_READ = sorted((one for one in LAYOUTS.values() if not one.equal_length), key=lambda one: not one.ending)
COLOUR = dict(zip([one.label for one in _READ], cycle(COLOURS), strict=False))
"""Layout -> its colour, the same in all pictures; layouts with tasks of their own come first."""
HATCH = dict(zip(_EQUAL, cycle(("....", "xxxx")), strict=False))
"""Controls of equal length, which are grey as all controls -> their pattern; the other controls have stripes."""


@dataclass(frozen=True)
class BarGroup:
    """The bars of one model and setting.

    Attributes:
        heading: the model with the settings that differ, broken over lines.
        cells: one for each bar.
        control: the same model without the document, or None.
    """

    heading: str
    cells: tuple[Cell, ...]
    control: Cell | None

    @property
    def head(self) -> float:
        """Height of the heading, in bars."""
        return 1 + 0.8 * self.heading.count("\n")

    @property
    def rows(self) -> int:
        """Number of bars; a control without bars takes one row."""
        return max(len(self.cells), 1)


def by_layout(collection: Collection, metric: str) -> list[Picture] | str:
    """A bar for each result, a dotted line for the same model without the document, a dashed one for the majority."""
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in collection.cells:
        if cell.mean(metric) is not None:
            groups[value_of(cell, "benchmark")].append(cell)
    if not groups:
        return f"no run has {metric}"
    return [
        benchmark_bars(benchmark, part, metric, number)
        for benchmark, cells in groups.items()
        for number, part in enumerate(parts(cells, Names(cells).label, MOST_GROUPS), 1)
    ]


@styled
def benchmark_bars(benchmark: str, cells: Sequence[Cell], metric: str, number: int = 1) -> Picture:
    """The bars of one benchmark, in a group for each model and setting."""
    names = Names(cells)
    groups = _bar_groups(cells, names)
    figure, (axis,) = canvas(0.55 + BAR * sum(group.head + group.rows + 0.25 for group in groups))
    place, furthest = 0.0, 0.0
    shown = [cell for group in groups for cell in group.cells]
    rules = _rules(shown) if metric == "contains" else {}
    for group in groups:
        ends = {"va": "top", "transform": axis.get_yaxis_transform(), "in_layout": False}
        axis.text(0.01, place - 0.5, group.heading, **ends)
        place += group.head
        furthest = max(furthest, _draw(axis, place, group, names, metric))
        for name, value in rules.items():
            _upright(axis, value, place, group, color=FAINT, linestyle=DRAWN_RULES[name])
        place += group.rows + 0.25
    furthest = max([furthest, *(1.05 * value for value in rules.values())])
    share = number_of(cells[0], metric).scale == PERCENT
    axis.set(ylim=(place - 0.4, -0.8), xlim=(0, furthest or 1), xlabel=f"{metric}, %" if share else metric)
    axis.set_yticks([])
    axis.set_title(benchmark)
    legend(figure, _entries(groups, list(rules)), columns=2)
    caption = f"{metric} on {benchmark} by what was read, {asked(shown or cells, metric)}. {bars_note(shown, metric)}"
    title = f"{metric} on {benchmark} by prompt layout"
    return Picture(numbered(f"recall_{file_name(benchmark)}", number), title, caption.strip(), figure)


def _bar_groups(cells: Sequence[Cell], names: Names) -> list[BarGroup]:
    without = {names.label(cell): cell for cell in cells if cell.control == NO_CONTEXT}
    shown = sorted(
        (c for c in cells if c.control != NO_CONTEXT), key=lambda c: (place_of(condition(c)), names.detail(c))
    )
    groups = []
    for label in dict.fromkeys(names.label(cell) for cell in cells):
        members = tuple(cell for cell in shown if names.label(cell) == label)
        groups.append(BarGroup(textwrap.fill(label, CHARACTERS - 6), members, without.get(label)))
    return groups


def _draw(axis: Any, place: float, group: BarGroup, names: Names, metric: str) -> float:
    """Draw a group from a place downwards; returns how far to the right it reaches."""
    furthest = 0.0
    for at, cell in enumerate(group.cells):
        furthest = max(furthest, _bar(axis, place + at, cell, names.detail(cell), metric))
    if group.control is not None:
        value = scaled(number_of(group.control, metric))
        _upright(axis, value, place, group, color=INK, linestyle=":", lw=1.2)
        if not group.cells:
            axis.annotate(f"{value:.1f}", (value, place), (3, 0), textcoords="offset points", va="center")
        furthest = max(furthest, value / (1 - 5 * CHARACTER))
    return furthest


def _upright(axis: Any, value: float, place: float, group: BarGroup, **look: Any) -> None:
    """A line across the bars of a group."""
    axis.plot([value, value], [place - 0.45, place + group.rows - 0.55], **look)


def _bar(axis: Any, place: float, cell: Cell, detail: str, metric: str) -> float:
    """Draw a bar with its interval and number; returns how far to the right it reaches."""
    number, kind = number_of(cell, metric), condition(cell)
    value, (below, above) = scaled(number), reach(number)
    axis.barh(place, value, 0.86, **_look(kind))
    if below or above:
        axis.errorbar(value, place, xerr=[[below], [above]], color=INK, lw=0.8)
    told = f"{value:.{number.digits}f}  {detail}".strip()
    axis.annotate(told, (value + above, place), (3, 0), textcoords="offset points", va="center")
    return (value + above) / (1 - min(CHARACTER * len(told) + 0.02, 0.8))


def _entries(groups: Sequence[BarGroup], rules: Sequence[str]) -> list[tuple[str, Any]]:
    """The entries of the legend."""
    kinds = dict.fromkeys(condition(cell) for group in groups for cell in group.cells)
    entries: list[tuple[str, Any]] = [(kind, Patch(**_look(kind))) for kind in sorted(kinds, key=place_of)]
    if any(group.control is not None for group in groups):
        entries.append(("same model, no document", line(color=INK, linestyle=":", linewidth=1.2)))
    return entries + [(RULES[name].label, line(color=FAINT, linestyle=DRAWN_RULES[name])) for name in rules]


def _look(kind: str) -> dict[str, Any]:
    pattern = "" if kind in COLOUR else HATCH.get(kind, "////")
    return {"facecolor": COLOUR.get(kind, FAINT), "hatch": pattern, "edgecolor": "white", "linewidth": 0}


def _rules(cells: Sequence[Cell]) -> dict[str, float]:
    """What rules score that need no model, from the first run that logged them."""
    for cell in cells:
        columns = cell.columns
        if columns is not None and cell.control == "none" and any(name in columns.figures for name in DRAWN_RULES):
            found = {name: scaled(rule(columns, name)) for name in DRAWN_RULES}
            return {name: value for name, value in found.items() if not math.isnan(value)}
    return {}


LETTERS = {"Transformer++": "T", "Mamba": "M", "Mamba-2": "N", "Based": "B", "JRT-RNN": "J"}
"""A published family -> the letter for it, which is small if the document was read twice."""
PAPER = "P"
_AVERAGED = "jrt_table1"

Point = tuple[float, float, str]
"""Cost, recall in per cent, letter."""


def recall_and_cost(collection: Collection, metric: str) -> list[Picture] | str:
    """A picture for each benchmark: above, recall against bytes of state; below, against seconds per answer."""
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in collection.cells:
        known = not (math.isnan(size(cell)) and math.isnan(time(cell)))
        if known and cell.mean(metric) is not None and cell.control == "none":
            groups[value_of(cell, "benchmark")].append(cell)
    if not groups:
        return f"no run with {metric} logged the bytes of its state or the seconds of its answers"
    return [
        benchmark_cost(benchmark, part, metric, number)
        for benchmark, cells in groups.items()
        for number, part in enumerate(parts(cells, Names(cells).label, len(COLOURS)), 1)
    ]


def size(cell: Cell) -> float:
    """Bytes of a sequence's state after its prompt, mean over the answers; NaN if not logged."""
    return cell.figure("state_bytes")


def time(cell: Cell) -> float:
    """Seconds per answer: the median, or the mean if single answers were not logged; NaN if neither was."""
    median = cell.median("seconds")
    return cell.figure("seconds") if math.isnan(median) else median


@styled
def benchmark_cost(benchmark: str, cells: Sequence[Cell], metric: str, number: int = 1) -> Picture:
    """Recall on one benchmark against both costs, with a colour for each model and a marker for each layout."""
    points, source = published_points(benchmark) if metric == "contains" else ([], "")
    printed = [(row.milliseconds / 1000, row.recall, PAPER) for row in timed()] if metric == "contains" else []
    figure, axes = canvas(3.7, rows=2, sharey=True)
    names = Names(cells)
    models = list(dict.fromkeys(names.label(cell) for cell in cells))
    layouts = sorted({condition(cell) for cell in cells}, key=place_of)
    _panel(axes[0], cells, metric, size, names, points)
    axes[0].xaxis.set_major_formatter(EngFormatter(sep=""))
    axes[0].set_xlabel("state after the prompt, bytes")
    _panel(axes[1], cells, metric, time, names, printed)
    axes[1].xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes[1].set_xlabel("seconds an answer, median")
    axes[0].set_title(benchmark)
    for axis in axes:
        axis.set_ylabel(f"{metric}, %")
    entries: list[tuple[str, Any]] = [
        (kind, line(color=INK, marker=_marker(kind), linestyle="", markerfacecolor="none")) for kind in layouts
    ]
    drawn = {mark.upper() for _, _, mark in points}
    entries += [
        (f"{name}, published", letter(mark))
        for name, mark in [*LETTERS.items(), ("recall paper", PAPER)]
        if mark in drawn or (mark == PAPER and printed)
    ]
    legend(figure, [(name, line(color=COLOURS[at], linewidth=3)) for at, name in enumerate(models)], above=True)
    legend(figure, entries, columns=2)
    told = [
        f"{metric} on {benchmark} against the bytes of a sequence's state and the seconds of an answer, "
        f"{asked(cells, metric)}.",
        bars_note(cells, metric),
        _missing(cells),
    ]
    if points:
        told.append(f"Grey letters: {source}; small letters: read twice; state from configurations, 2 bytes a number.")
    if printed:
        told.append(f"{PAPER}: the recall paper's Tables 1 and 3, models of about 1B on a GPU, no task named.")
    if points or printed:
        told.append("Published figures are of other models, data and machines and have no errors.")
    name = numbered(f"cost_{file_name(benchmark)}", number)
    return Picture(name, f"{metric} on {benchmark} against state and time", " ".join(t for t in told if t), figure)


def published_points(benchmark: str) -> tuple[list[Point], str]:
    """What the papers print for a benchmark or, if they do not have it, the mean of their six tasks.

    Returns:
        Points of bytes and percent, and what they are in words.
    """
    found = [number for number in published() if number.task == benchmark and number.setting in ("once", "flat")]
    if found:
        points = [point for n in found if (point := _point(n, n.value))]
        return points, f"published {benchmark} of {listed(sorted({n.source for n in found}))}"
    rows: dict[tuple[str, str, str, str], list[Published]] = defaultdict(list)
    for number in published(_AVERAGED):
        rows[number.model, number.params, number.tokens, number.setting].append(number)
    points = [point for row in rows.values() if (point := _point(row[0], mean(n.value for n in row)))]
    return points, f"means over the six tasks of {next(iter(rows.values()))[0].source}"


def _point(number: Published, recall: float) -> Point | None:
    letter, cost = LETTERS.get(number.model), state_bytes(number)
    if letter is None or math.isnan(cost):
        return None
    return cost, recall, letter if number.setting == "once" else letter.lower()


def _panel(
    axis: Any,
    cells: Sequence[Cell],
    metric: str,
    cost: Callable[[Cell], float],
    names: Names,
    printed: Sequence[Point],
) -> None:
    axis.set_xscale("log")
    for x, y, mark in printed:
        axis.plot(x, y, marker="", linestyle="")  # so that the axes reach as far
        axis.text(x, y, mark, color=FAINT, ha="center", va="center", zorder=1)
    for at, model in enumerate(dict.fromkeys(names.label(cell) for cell in cells)):
        mine = sorted(
            (c for c in cells if names.label(c) == model and not math.isnan(cost(c))),
            key=lambda c: place_of(condition(c)),
        )
        values = [scaled(number_of(cell, metric)) for cell in mine]
        axis.plot([cost(cell) for cell in mine], values, color=COLOURS[at], lw=0.6, alpha=0.6)
        for cell, value in zip(mine, values, strict=True):
            below, above = reach(number_of(cell, metric))
            axis.errorbar(
                cost(cell), value, yerr=[[below], [above]], color=COLOURS[at], marker=_marker(condition(cell)), lw=0.8
            )
    axis.set_ylim(bottom=0)
    axis.margins(x=0.1)
    log_ticks(axis.xaxis)


def _marker(kind: str) -> str:
    return MARKERS[place_of(kind) % len(MARKERS)]


def _missing(cells: Sequence[Cell]) -> str:
    told = []
    for cost, words in ((size, "its state"), (time, "its time")):
        without = sorted({cell.model for cell in cells if math.isnan(cost(cell))})
        told += [f"{listed(without)} did not log {words}."] if without else []
    return " ".join(told)


DEPTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
ROW = 0.34
"""Inches for a row of cells with two lines of 7 pt."""
FEWEST = 5
MOST_MAPS = 6
_LENGTHS = (0, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, math.inf)


def depth_and_length(collection: Collection, metric: str) -> list[Picture] | str:
    """A map for each model, of the runs that read the document once, where an answer has one depth."""
    groups: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in collection.cells:
        columns = cell.columns
        if cell.layout == "once" and cell.control == "none" and columns is not None and metric in columns.scores:
            figures = columns.figures
            if (
                "answer_depth" in figures
                and "document_tokens" in figures
                and not np.isnan(figures["answer_depth"]).all()
            ):
                groups[value_of(cell, "benchmark"), cell.model].append(cell)
    if not groups:
        return (
            "no log of answers of a document read once says how deep the answer stands and how long the document is "
            "(answer_position and document_tokens)"
        )
    by_benchmark: dict[str, dict[str, list[Cell]]] = defaultdict(dict)
    for (benchmark, model), cells in groups.items():
        by_benchmark[benchmark][model] = cells
    return [
        heat_maps(benchmark, dict(part), metric, number)
        for benchmark, models in by_benchmark.items()
        for number, part in enumerate(batched(list(models.items()), MOST_MAPS), 1)
    ]


@styled
def heat_maps(benchmark: str, models: Mapping[str, Sequence[Cell]], metric: str, number: int = 1) -> Picture:
    """A map for each model, with a column for each fifth of the document and a row for each range of lengths."""
    rows = {model: _rows(cells) for model, cells in models.items()}
    heights = [len(found) for found in rows.values()]
    titles = sum(0.12 + 0.12 * math.ceil(len(model) / TITLE) for model in rows)
    height = 0.7 + ROW * sum(heights) + titles
    figure, axes = canvas(height, rows=len(rows), height_ratios=heights, sharex=True)
    share = all(number_of(cell, metric).scale == PERCENT for cells in models.values() for cell in cells)
    counts: list[int] = []
    for axis, (model, found) in zip(axes, rows.items(), strict=True):
        counts += _map(axis, found, metric, share)
        axis.set_title(textwrap.fill(model, TITLE))
    axes[-1].set_xticks(range(len(DEPTHS) - 1), [f"{100 * a:.0f}-{100 * b:.0f}" for a, b in pairwise(DEPTHS)])
    axes[-1].set_xlabel("depth of the answer in the document, %")
    figure.supylabel("document, GPT-2 tokens", fontsize=SMALL)
    caption = (
        f"{metric}{', %,' if share else ''} on {benchmark}, read once, by the depth of the answer's first copy in the "
        f"document as it was cut, and by the document's length; below each number half its 95 % interval, clustered by "
        f"document. n = {sum(counts):,} questions in all maps, {min(counts):,} to {max(counts):,} a cell; cells of "
        f"fewer than {FEWEST} hold n alone."
    )
    name = numbered(f"depth_{file_name(benchmark)}", number)
    return Picture(name, f"{metric} on {benchmark} by answer depth and context length", caption, figure)


def _map(axis: Any, rows: Sequence[tuple[str, list[Columns]]], metric: str, share: bool) -> list[int]:
    """Draw one map; returns the numbers of answers of its cells."""
    numbers = [[_number(parts, metric, at, share) for at in range(len(DEPTHS) - 1)] for _, parts in rows]
    values = np.array([[scaled(one) if n >= FEWEST else math.nan for one, n in line] for line in numbers])
    top = PERCENT if share or np.isnan(values).all() else float(np.nanmax(values))
    axis.imshow(values, cmap="cividis", vmin=0, vmax=top, aspect="auto")
    for y, row in enumerate(numbers):
        for x, (one, n) in enumerate(row):
            _write(axis, x, y, one, n, top)
    axis.set_yticks(range(len(rows)), [name for name, _ in rows])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return [n for line in numbers for _, n in line if n]


def _rows(cells: Sequence[Cell]) -> list[tuple[str, list[Columns]]]:
    """Ranges of lengths in which there are answers, the longest last, each with its answers by run."""
    found = []
    for low, high in pairwise(_LENGTHS):
        parts = []
        for cell in cells:
            columns = cell.columns
            assert columns is not None
            lengths = columns.figures["document_tokens"]
            mask = (lengths > low) & (lengths <= high)
            if mask.any():
                parts.append(columns.taken(mask))
        if parts:
            found.append((f"{low + 1}-{high}" if high < math.inf else f">{low}", parts))
    return found


def _number(parts: Sequence[Columns], metric: str, at: int, share: bool) -> tuple[Number, int]:
    """The metric in one range of depths with its interval, and the number of answers."""
    scores: list[float] = []
    clusters: list[int] = []
    last = at == len(DEPTHS) - 2
    for columns in parts:
        depth = columns.figures["answer_depth"]
        mask = (depth >= DEPTHS[at]) & ((depth <= DEPTHS[at + 1]) if last else (depth < DEPTHS[at + 1]))
        scores += columns.scores[metric][mask].tolist()
        clusters += columns.clusters[mask].tolist()
    found = interval(scores, clusters)
    return Number(found.mean, PERCENT if share else 1.0, interval=found), found.n


def _write(axis: Any, x: int, y: int, number: Number, n: int, top: float) -> None:
    """The number in a cell, white on the dark half of the colours."""
    if n < FEWEST:
        axis.text(x, y, f"n={n}" if n else "", ha="center", va="center", color=INK)
        return
    value, (below, above) = scaled(number), reach(number)
    spread = f"\n±{max(below, above):.0f}" if below or above else ""
    axis.text(x, y, f"{value:.0f}{spread}", ha="center", va="center", color="white" if value < 0.55 * top else "black")
