"""What each kind of picture shows: recall by layout, cost, depth, distance, entropy, one setting and training."""

from __future__ import annotations

import math
import textwrap
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import cycle, pairwise
from statistics import mean
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, FuncFormatter

from jrt_lmeval.prompts.layouts import LAYOUTS
from jrt_lmeval.report.cells import Cell, Training, condition, number_of, value_of
from jrt_lmeval.report.collect import FROM_STEPS, HELD_OUT, SMOOTHED, STEPS
from jrt_lmeval.report.plots.picture import (
    CHARACTERS,
    COLOURS,
    FAINT,
    INK,
    MARKERS,
    SMALL,
    TITLE,
    Names,
    asked,
    bars_note,
    canvas,
    errorbars,
    legend,
    line,
    listed,
    log_ticks,
    look,
    place_of,
)
from jrt_lmeval.report.published import Published, published, state_bytes, timed
from jrt_lmeval.report.samples import Columns
from jrt_lmeval.report.standard import EDGES, distances, rule, split, window_of
from jrt_lmeval.report.tables import PERCENT, Number, spread
from jrt_lmeval.stats import interval
from jrt_lmeval.task.rules import RULES

Drawn = tuple[str, Figure]
"""A caption and a figure."""

# -------------------------------------------------------------------- recall by layout

BAR = 0.155
"""Inches for one bar, so that a 7 pt number fits beside it."""
CHARACTER = 0.018
"""Share of the width that a character of 7 pt takes, so that no word behind a bar is cut off."""
NO_CONTEXT = "no_context"
MAJORITY = "majority"
_EQUAL = [one.label for one in LAYOUTS.values() if one.equal_length]
_READ = sorted((one for one in LAYOUTS.values() if not one.equal_length), key=lambda one: not one.ending)
COLOUR = dict(zip([one.label for one in _READ], cycle(COLOURS), strict=False))
"""Layout -> its colour, the same in all pictures; layouts with tasks of their own come first."""
HATCH = dict(zip(_EQUAL, cycle(("....", "xxxx")), strict=False))
"""Controls of equal length, which are grey as all controls -> their pattern; the other controls have stripes."""


def by_layout(cells: Sequence[Cell], metric: str) -> Drawn:
    """A bar for each result, a dotted line for the same model without the document, a dashed one for the majority."""
    names, groups = Names(cells), defaultdict[str, list[Cell]](list)
    for cell in sorted(cells, key=lambda cell: (place_of(condition(cell)), names.detail(cell))):
        groups[names.label(cell)].append(cell)
    # of each group: heading, bars, and the same model without the document
    shown = []
    for label in dict.fromkeys(names.label(cell) for cell in cells):
        control = [cell for cell in groups[label] if cell.control == NO_CONTEXT]
        bars = [cell for cell in groups[label] if cell.control != NO_CONTEXT]
        shown.append((textwrap.fill(label, CHARACTERS - 6), bars, control[-1:]))
    heights = [1 + 0.8 * heading.count("\n") for heading, _, _ in shown]
    rows = [max(len(bars), 1) for _, bars, _ in shown]
    figure, (axis,) = canvas(0.55 + BAR * (sum(heights) + sum(rows) + 0.25 * len(rows)))
    drawn = [cell for _, bars, _ in shown for cell in bars]
    majority = _majority(drawn) if metric == "contains" else math.nan
    place, furthest = 0.0, 0.0 if math.isnan(majority) else 1.05 * majority
    for (heading, bars, control), height, count in zip(shown, heights, rows, strict=True):
        axis.text(0.01, place - 0.5, heading, va="top", transform=axis.get_yaxis_transform(), in_layout=False)
        place += height
        for at, cell in enumerate(bars):
            furthest = max(furthest, _bar(axis, place + at, cell, names.detail(cell), metric))
        across = [place - 0.45, place + count - 0.55]
        for value in (number_of(cell, metric).scaled for cell in control):
            axis.plot([value, value], across, color=INK, linestyle=":", lw=1.2)
            if not bars:
                axis.annotate(f"{value:.1f}", (value, place), (3, 0), textcoords="offset points", va="center")
            furthest = max(furthest, value / (1 - 5 * CHARACTER))
        if not math.isnan(majority):
            axis.plot([majority, majority], across, color=FAINT, linestyle="--")
        place += count + 0.25
    share, benchmark = number_of(cells[0], metric).scale == PERCENT, value_of(cells[0], "benchmark")
    axis.set(ylim=(place - 0.4, -0.8), xlim=(0, furthest or 1), xlabel=f"{metric}, %" if share else metric)
    axis.set_yticks([])
    axis.set_title(benchmark)
    kinds = sorted(dict.fromkeys(map(condition, drawn)), key=place_of)
    entries: list[tuple[str, Any]] = [(kind, Patch(**_filled(kind))) for kind in kinds]
    if any(control for _, _, control in shown):
        entries.append(("same model, no document", line(color=INK, linestyle=":", linewidth=1.2)))
    if not math.isnan(majority):
        entries.append((RULES[MAJORITY].label, line(color=FAINT, linestyle="--")))
    legend(figure, entries, columns=2)
    caption = f"{metric} on {benchmark} by what was read, {asked(drawn or cells, metric)}. {bars_note(drawn, metric)}"
    return caption.strip(), figure


def _bar(axis: Any, place: float, cell: Cell, detail: str, metric: str) -> float:
    """Draw a bar with its interval and number; returns how far to the right it reaches."""
    number = number_of(cell, metric)
    (below, above), value = number.reach, number.scaled
    axis.barh(place, value, 0.86, **_filled(condition(cell)))
    if below or above:
        axis.errorbar(value, place, xerr=[[below], [above]], color=INK, lw=0.8)
    told = f"{value:.{number.digits}f}  {detail}".strip()
    axis.annotate(told, (value + above, place), (3, 0), textcoords="offset points", va="center")
    return (value + above) / (1 - min(CHARACTER * len(told) + 0.02, 0.8))


def _filled(kind: str) -> dict[str, Any]:
    pattern = "" if kind in COLOUR else HATCH.get(kind, "////")
    return {"facecolor": COLOUR.get(kind, FAINT), "hatch": pattern, "edgecolor": "white", "linewidth": 0}


def _majority(cells: Sequence[Cell]) -> float:
    """What the majority answer scores, from the first run that logged it; NaN if none did."""
    found = (rule(cell.columns, MAJORITY).scaled for cell in cells if cell.control == "none")
    return next((value for value in found if not math.isnan(value)), math.nan)


# -------------------------------------------------------------------- recall against cost

LETTERS = {"Transformer++": "T", "Mamba": "M", "Mamba-2": "N", "Based": "B", "JRT-RNN": "J"}
"""A published family -> the letter for it, which is small if the document was read twice."""
PAPER = "P"
_AVERAGED = "jrt_table1"

Point = tuple[float, float, str]
"""Cost, recall in per cent, letter."""


def size(cell: Cell) -> float:
    """Bytes of a sequence's state after its prompt, mean over the answers; NaN if not logged."""
    return cell.figure("state_bytes")


def time(cell: Cell) -> float:
    """Seconds per answer: the median, or the mean if single answers were not logged; NaN if neither was."""
    median = cell.median("seconds")
    return cell.figure("seconds") if math.isnan(median) else median


def has_cost(cell: Cell, metric: str) -> bool:
    known = not (math.isnan(size(cell)) and math.isnan(time(cell)))
    return known and cell.mean(metric) is not None and cell.control == "none"


def by_cost(cells: Sequence[Cell], metric: str) -> Drawn:
    """Above, recall against bytes of state; below, against seconds; a colour for each model, a marker for a layout."""
    benchmark, names = value_of(cells[0], "benchmark"), Names(cells)
    points, source = published_points(benchmark) if metric == "contains" else ([], "")
    printed = [(*row, PAPER) for row in timed()] if metric == "contains" else []
    figure, axes = canvas(3.7, rows=2, sharey=True)
    groups = defaultdict[str, list[Cell]](list)
    for cell in sorted(cells, key=lambda cell: place_of(condition(cell))):
        groups[names.label(cell)].append(cell)
    models = {label: groups[label] for label in dict.fromkeys(names.label(cell) for cell in cells)}
    _panel(axes[0], models, metric, size, points)
    _panel(axes[1], models, metric, time, printed)
    axes[0].xaxis.set_major_formatter(EngFormatter(sep=""))
    axes[1].xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes[0].set(xlabel="state after the prompt, bytes", ylabel=f"{metric}, %")
    axes[1].set(xlabel="seconds an answer, median", ylabel=f"{metric}, %")
    axes[0].set_title(benchmark)
    hollow = {"color": INK, "linestyle": "", "markerfacecolor": "none"}
    layouts = sorted({condition(cell) for cell in cells}, key=place_of)
    entries = [(kind, line(marker=_marker(kind), **hollow)) for kind in layouts]
    drawn = {mark.upper() for _, _, mark in (*points, *printed)}
    entries += [
        (f"{name}, published", line(color=FAINT, marker=rf"$\mathrm{{{mark}}}$", linestyle="", markersize=5, mew=0.2))
        for name, mark in [*LETTERS.items(), ("recall paper", PAPER)]
        if mark in drawn
    ]
    legend(figure, [(name, line(color=COLOURS[at], linewidth=3)) for at, name in enumerate(models)], above=True)
    legend(figure, entries, columns=2)
    told = [
        f"{metric} on {benchmark} against the bytes of a sequence's state and the seconds of an answer, "
        f"{asked(cells, metric)}.",
        bars_note(cells, metric),
    ]
    for cost, words in ((size, "its state"), (time, "its time")):
        without = sorted({cell.model for cell in cells if math.isnan(cost(cell))})
        told += [f"{listed(without)} did not log {words}."] if without else []
    if points:
        told.append(f"Grey letters: {source}; small letters: read twice; state from configurations, 2 bytes a number.")
    if printed:
        told.append(f"{PAPER}: the recall paper's Tables 1 and 3, models of about 1B on a GPU, no task named.")
    if points or printed:
        told.append("Published figures are of other models, data and machines and have no errors.")
    return " ".join(filter(None, told)), figure


def _panel(
    axis: Any,
    models: dict[str, list[Cell]],
    metric: str,
    cost: Callable[[Cell], float],
    printed: Sequence[Point],
) -> None:
    axis.set_xscale("log")
    for x, y, mark in printed:
        axis.plot(x, y, marker="", linestyle="")  # extends the axes, which a text does not
        axis.text(x, y, mark, color=FAINT, ha="center", va="center", zorder=1)
    for colour, cells in zip(COLOURS, models.values(), strict=False):
        mine = [cell for cell in cells if not math.isnan(cost(cell))]
        values = [number_of(cell, metric).scaled for cell in mine]
        axis.plot([cost(cell) for cell in mine], values, color=colour, lw=0.6, alpha=0.6)
        for cell in mine:
            marker = _marker(condition(cell))
            errorbars(axis, [cost(cell)], [number_of(cell, metric)], color=colour, marker=marker, lw=0.8)
    axis.set_ylim(bottom=0)
    axis.margins(x=0.1)
    log_ticks(axis.xaxis)


def _marker(kind: str) -> str:
    return MARKERS[place_of(kind) % len(MARKERS)]


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


# -------------------------------------------------------------------- depth of the answer

DEPTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
ROW = 0.34
"""Inches for a row of cells with two lines of 7 pt."""
FEWEST = 5
_LENGTHS = (0, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, math.inf)


def has_depth(cell: Cell, metric: str) -> bool:
    """Whether the document was read once, so that an answer has one depth, and the log says where it is."""
    if cell.layout != "once" or cell.control != "none" or not cell.by_document(metric) or cell.columns is None:
        return False
    figures = cell.columns.figures
    return "document_tokens" in figures and not np.isnan(figures.get("answer_depth", math.nan)).all()


def by_depth(cells: Sequence[Cell], metric: str) -> Drawn:
    """A map for each model, with a column for each fifth of the document and a row for each range of lengths."""
    models: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        models[cell.model].append(cell)
    rows = {model: _rows(members) for model, members in models.items()}
    heights = [len(found) for found in rows.values()]
    titles = sum(0.12 + 0.12 * math.ceil(len(model) / TITLE) for model in rows)
    figure, axes = canvas(0.7 + ROW * sum(heights) + titles, rows=len(rows), height_ratios=heights, sharex=True)
    share = all(number_of(cell, metric).scale == PERCENT for cell in cells)
    counts: list[int] = []
    for axis, (model, found) in zip(axes, rows.items(), strict=True):
        counts += _map(axis, found, metric, share)
        axis.set_title(textwrap.fill(model, TITLE))
    axes[-1].set_xticks(range(len(DEPTHS) - 1), [f"{100 * a:.0f}-{100 * b:.0f}" for a, b in pairwise(DEPTHS)])
    axes[-1].set_xlabel("depth of the answer in the document, %")
    figure.supylabel("document, GPT-2 tokens", fontsize=SMALL)
    caption = (
        f"{metric}{', %,' if share else ''} on {value_of(cells[0], 'benchmark')}, read once, by the depth of the "
        "answer's first copy in the document as it was cut, and by the document's length; below each number half its "
        f"95 % interval, clustered by document. n = {sum(counts):,} questions in all maps, {spread(counts)} a cell; "
        f"cells of fewer than {FEWEST} hold n alone."
    )
    return caption, figure


def _rows(cells: Sequence[Cell]) -> list[tuple[str, list[Columns]]]:
    """Ranges of lengths in which there are answers, the longest last, each with its answers by run."""
    found = []
    for low, high in pairwise(_LENGTHS):
        parts = []
        for columns in (cell.columns for cell in cells if cell.columns is not None):
            lengths = columns.figures["document_tokens"]
            mask = (lengths > low) & (lengths <= high)
            parts += [columns.taken(mask)] if mask.any() else []
        if parts:
            found.append((f"{low + 1}-{high}" if high < math.inf else f">{low}", parts))
    return found


def _map(axis: Any, rows: Sequence[tuple[str, list[Columns]]], metric: str, share: bool) -> list[int]:
    """Draw one map; returns the numbers of answers of its cells."""
    numbers = [[_at_depth(parts, metric, at, share) for at in range(len(DEPTHS) - 1)] for _, parts in rows]
    values = np.array([[one.scaled if n >= FEWEST else math.nan for one, n in row] for row in numbers])
    top = PERCENT if share or np.isnan(values).all() else float(np.nanmax(values))
    axis.imshow(values, cmap="cividis", vmin=0, vmax=top, aspect="auto")
    for y, row in enumerate(numbers):
        for x, (one, n) in enumerate(row):
            told, colour = f"n={n}" if n else "", INK
            if n >= FEWEST:
                half = max(one.reach)
                told = f"{one.scaled:.0f}" + (f"\n±{half:.0f}" if half else "")
                colour = "white" if one.scaled < 0.55 * top else "black"  # white on the dark half of the colours
            axis.text(x, y, told, ha="center", va="center", color=colour)
    axis.set_yticks(range(len(rows)), [name for name, _ in rows])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return [n for row in numbers for _, n in row if n]


def _at_depth(parts: Sequence[Columns], metric: str, at: int, share: bool) -> tuple[Number, int]:
    """The metric in one range of depths with its interval, and the number of answers."""
    scores: list[float] = []
    clusters: list[int] = []
    for columns in parts:
        # the last range includes its end, 1
        mask = np.digitize(columns.figures["answer_depth"], [*DEPTHS[:-1], np.nextafter(1, 2)]) == at + 1
        scores += columns.scores[metric][mask].tolist()
        clusters += columns.clusters[mask].tolist()
    found = interval(scores, clusters)
    return Number(found.mean, PERCENT if share else 1.0, interval=found), found.n


# -------------------------------------------------------------------- distance of the answer's last copy


def has_distance(cell: Cell, metric: str) -> bool:
    return cell.by_document(metric) and cell.control == "none" and not np.isnan(_far(cell)).all()


def _far(cell: Cell) -> np.ndarray:
    """`distances` of a cell; a single NaN if its log does not tell them."""
    far = None if cell.columns is None else distances(cell.columns)
    return np.array([math.nan]) if far is None else far


def by_distance(cells: Sequence[Cell], metric: str) -> Drawn:
    """A line for each model, with a point for each range of distance in which there are answers."""
    benchmark, layout, names = value_of(cells[0], "benchmark"), condition(cells[0]), Names(cells)
    figure, (axis,) = canvas(2.1)
    known = np.concatenate([_far(cell) for cell in cells])
    ranges = [(low, high) for low, high in pairwise(EDGES) if ((known > low) & (known <= high)).any()]
    handles: list[tuple[str, Any]] = []
    for at, cell in enumerate(cells):
        far, columns = _far(cell), cell.columns
        assert columns is not None
        masks = [(far > low) & (far <= high) for low, high in ranges]
        points = {place: split(columns, metric, mask) for place, mask in enumerate(masks) if mask.any()}
        shift = 0.5 * (at - (len(cells) - 1) / 2) / max(len(cells), 4)
        errorbars(axis, [place + shift for place in points], list(points.values()), **look(at))
        handles.append((names.full(cell), line(**look(at))))
    windows = {window for cell in cells if not math.isnan(window := window_of(cell))}
    for window in windows:
        axis.axvline(_position(window, ranges), color=FAINT, lw=0.8, zorder=0)
    if windows:
        handles.append(("sliding window, in the model's own tokens", line(color=FAINT, linewidth=0.8)))
    ticks = [f"≤{high:.0f}" if high < math.inf else f">{low:.0f}" for low, high in ranges]
    axis.set_xticks(range(len(ranges)), ticks)
    axis.set(ylim=(0, None), xlim=(-0.5, len(ranges) - 0.5), ylabel=f"{metric}, %")
    axis.set_xlabel("GPT-2 tokens from the last copy to the end")
    axis.set_title(f"{benchmark}, {layout}")
    legend(figure, handles)
    counts = [int(((known > low) & (known <= high)).sum()) for low, high in ranges]
    told = ", ".join(f"{name}: {count:,}" for name, count in zip(ticks, counts, strict=True))
    caption = (
        f"{metric} on {benchmark}, {layout}, by the distance of the answer's last copy from the end of the prompt, in "
        f"ranges that each reach from the one before; {asked(cells, metric)}, by range over all lines: {told}. "
        f"{int(np.isnan(known).sum()):,} answers that stand in no copy are left out. {bars_note(cells, metric)}"
    )
    return caption, figure


def _position(window: float, ranges: Sequence[tuple[float, float]]) -> float:
    """The position of a distance among ranges that are drawn equally wide, with points in their middle."""
    for at, (low, high) in enumerate(ranges):
        if window <= high:
            return at - 0.5 + (max(window - low, 0) / (high - low) if high < math.inf else 0.5)
    return len(ranges) - 0.5


# -------------------------------------------------------------------- prefix length by entropy

THRESHOLDS = ("entropy_low", "entropy_high")
MOST_POINTS = 100
"""A series of more points is drawn as an image inside the SVG, which would otherwise be large."""


def has_entropy(cell: Cell, metric: str) -> bool:
    return cell.first.run.settings.get("prefix") == "dynamic" and cell.control == "none" and len(_shares(cell)[0]) > 0


def _shares(cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    """Entropy and prefix length as a share of the prompt, float64 [N] each; empty if not logged."""
    figures = {} if cell.columns is None else cell.columns.figures
    if "entropy" in figures and "prefix_share" in figures:
        return figures["entropy"], figures["prefix_share"]
    if figures.keys() >= {"entropy", "prefix_tokens", "model_prompt_tokens"}:
        return figures["entropy"], figures["prefix_tokens"] / figures["model_prompt_tokens"]
    return np.empty(0), np.empty(0)


def by_entropy(cells: Sequence[Cell], metric: str) -> Drawn:
    """Above, a point for each answer; below, the metric under, between and over the thresholds, if they are known."""
    benchmark, model, names = value_of(cells[0], "benchmark"), cells[0].model, Names(cells)
    low, high = (float(cells[0].first.run.settings.get(name, math.nan)) for name in THRESHOLDS)
    known = not math.isnan(low + high)
    scored = known and any(cell.by_document(metric) for cell in cells)
    figure, axes = canvas(3.3 if scored else 1.9, rows=2 if scored else 1)
    handles: list[tuple[str, Any]] = []
    for at, cell in enumerate(cells):
        x, y = _shares(cell)
        dots = {"color": look(at)["color"], "markersize": 2, "alpha": 0.5, "rasterized": len(x) > MOST_POINTS}
        axes[0].plot(x, 100 * y, ".", **dots)
        handles.append((names.series(cell), line(**look(at), linestyle="")))
    for limit in (low, high):
        axes[0].axvline(limit, color=FAINT, linestyle="--", lw=0.8)
    handles.append(("thresholds", line(color=FAINT, linestyle="--", linewidth=0.8)))
    axes[0].set(xlabel="entropy of the context, H", ylabel="prefix M,\n% of the prompt")
    axes[0].set_title(textwrap.fill(f"{benchmark}: {model}", TITLE))
    told = f"{low:g} and {high:g}" if known else "not logged"
    caption = (
        f"Prefix length M as a share of the prompt against the entropy of the context, a point an answer of {model} on "
        f"{benchmark}; thresholds: {told}. {asked(cells, metric)}."
    )
    if scored:
        caption += f" {_bands(axes[1], cells, metric, low, high)} {bars_note(cells, metric)}"
    legend(figure, handles, columns=2)
    return caption.strip(), figure


def _bands(axis: Any, cells: Sequence[Cell], metric: str, low: float, high: float) -> str:
    """Draw the metric in the three bands of entropy; returns a sentence with the numbers of answers."""
    counts = np.zeros(3, dtype=int)
    for at, cell in enumerate(cells):
        if not cell.by_document(metric) or cell.columns is None:
            continue
        h = _shares(cell)[0]
        for band, mask in enumerate((h <= low, (h > low) & (h < high), h >= high)):
            if mask.any():
                counts[band] += int(mask.sum())
                x = band + 0.6 * (at - (len(cells) - 1) / 2) / max(len(cells), 3)
                errorbars(axis, [x], [split(cell.columns, metric, mask)], lw=0.8, **look(at))
    axis.set_xticks(range(3), (f"H ≤ {low:g}:\nshorter", "between", f"H ≥ {high:g}:\nlonger"))
    axis.set(xlim=(-0.5, 2.5), ylim=(0, None), ylabel=f"{metric}, %")
    return f"Below: {metric} by band, n = {', '.join(f'{count:,}' for count in counts)} over all layouts."


# -------------------------------------------------------------------- one setting

AXES = {"prefix_step": "step of the dynamic prefix, %", "overlap": "overlap of neighbouring segments, %"}
"""Settings with a picture, shares from 0 to 1 -> the label of the axis."""


def families(cells: Sequence[Cell], metric: str, name: str) -> list[list[Cell]]:
    """Groups of at least two runs that differ in one setting and in nothing else, sorted by its value."""
    found: dict[Any, dict[float, Cell]] = defaultdict(dict)
    for cell in cells:
        value, first = _setting(cell, name), cell.first
        if not math.isnan(value) and cell.mean(metric) is not None and cell.control == "none":
            others = frozenset((n, str(v)) for n, v in {**first.run.settings, **first.settings}.items() if n != name)
            place = (first.run.kind, first.run.weights, first.task, str(first.version), first.source, first.partly)
            family = (*place, first.layout, others)
            found[family].setdefault(value, cell)
    return [[cell for _, cell in sorted(members.items())] for members in found.values() if len(members) > 1]


def _setting(cell: Cell, name: str) -> float:
    """A number that was set for the model or the task; NaN if there is none."""
    try:
        return float({**cell.first.run.settings, **cell.first.settings}[name])
    except (KeyError, TypeError, ValueError):
        return math.nan


def by_setting(name: str, metric: str, groups: Sequence[list[Cell]]) -> Drawn:
    """The metric by a setting, with a line for each group of runs that differ in nothing else."""
    figure, (axis,) = canvas(2.0)
    values = sorted({100 * _setting(cell, name) for group in groups for cell in group})
    width = 0.25 * min((b - a for a, b in pairwise(values)), default=1.0)
    entries: list[tuple[str, Any]] = []
    for at, group in enumerate(groups):
        shift = width * (at - (len(groups) - 1) / 2) / max(len(groups), 2)
        x = [100 * _setting(cell, name) + shift for cell in group]
        errorbars(axis, x, [number_of(cell, metric) for cell in group], **look(at))
        words = f"{value_of(group[0], 'benchmark')}: {group[0].model} {group[0].setting}".split()
        label = " ".join(word for word in words if not word.startswith(f"{name}="))
        same = label in [known for known, _ in entries]
        entries.append((f"{label} ({group[0].task} {group[0].first.partly})" if same else label, line(**look(at))))
    axis.set_xticks(values, [f"{value:g}" for value in values])
    axis.set(xlabel=AXES[name], ylabel=f"{metric}, %", ylim=(0, None))
    legend(figure, entries)
    cells = [cell for group in groups for cell in group]
    caption = (
        f"{metric} by {name}, in runs that differ in nothing else; lines are shifted a little so that none hides "
        f"another. {asked(cells, metric)} a point. {bars_note(cells, metric)} The runs were asked the same questions: "
        "the paired differences are more precise than the bars suggest."
    )
    return caption, figure


# -------------------------------------------------------------------- training

MOST_MARKERS = 30
NO_TRAINING = f"no folder of a training is among those read (its {HELD_OUT} or {STEPS})"


def by_tokens(name: str, held_out: bool, members: Sequence[Training]) -> Drawn:
    """The curves of several trainings, on held-out rows or on the batches themselves."""
    figure, (axis,) = canvas(2.0)
    for at, training in enumerate(members):
        curve = training.curves[name]
        shown = look(at) | ({"marker": ""} if len(curve) > MOST_MARKERS else {})
        axis.plot([tokens / 1e6 for tokens, _ in curve], [100 * share for _, share in curve], **shown)
    axis.set_ylim(bottom=0)
    axis.set(xlabel="training tokens, millions", ylabel="answer tokens right, %")
    axis.set_title("training batches")
    what = (
        f"Share of answer tokens that were the likeliest ({FROM_STEPS}) in the batches themselves, means of "
        f"{SMOOTHED} steps: not held out"
    )
    if held_out:
        axis.set_ylabel("exact recall, held out, %")
        axis.set_title(f"held-out rows: {name}")
        what = f"Recall on the held-out rows '{name}' over the tokens read in training"
    legend(figure, [(training.name, line(**look(at))) for at, training in enumerate(members)], columns=2)
    ends = [(training.name, *training.curves[name][-1]) for training in members]
    told = listed(f"{name} {100 * share:.1f} % after {tokens:,.0f} tokens" for name, tokens, share in ends)
    return f"{what}: {told}. Without error bars: the logs of trainings keep means alone.", figure
