"""All pictures of a report: what each kind shows, why others are not drawn, and the folder with both."""

from __future__ import annotations

import math
import textwrap
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, FuncFormatter

from jrt_lmeval.prompts.layouts import LAYOUTS
from jrt_lmeval.report.cells import Cell, Collection, Training, condition, number_of, value_of
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
    NotDrawn,
    Picture,
    asked,
    bars_note,
    canvas,
    errorbars,
    file_name,
    legend,
    line,
    listed,
    log_ticks,
    look,
    place_of,
)
from jrt_lmeval.report.published import Published, published, state_bytes, timed
from jrt_lmeval.report.samples import Columns
from jrt_lmeval.report.standard import EDGES, distances, main_metric, rule, split, window_of
from jrt_lmeval.report.tables import PERCENT, Number, Report, save, spread
from jrt_lmeval.stats import interval
from jrt_lmeval.task.rules import RULES

Drawn = tuple[str, Figure]
"""A caption and a figure."""

# -------------------------------------------------------------------- recall by layout

BAR = 0.155
"""Inches for one bar, so that a 7 pt number fits beside it."""
CHARACTER = 0.018
"""Share of the width that a character of 7 pt takes, so that no word behind a bar is cut off."""
NO_CONTEXT, MAJORITY = "no_context", "majority"
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
    scored = (rule(cell.columns, MAJORITY).scaled for cell in drawn if cell.control == "none" and metric == "contains")
    majority = next((value for value in scored if not math.isnan(value)), math.nan)
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


# -------------------------------------------------------------------- recall against cost

LETTERS = {"Transformer++": "T", "Mamba": "M", "Mamba-2": "N", "Based": "B", "JRT-RNN": "J"}
"""A published family -> the letter for it, which is small if the document was read twice."""
PAPER = "P"

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
    models = {names.label(cell): list[Cell]() for cell in cells}
    for cell in sorted(cells, key=lambda cell: place_of(condition(cell))):
        models[names.label(cell)].append(cell)
    markers = {condition(cell): MARKERS[place_of(condition(cell)) % len(MARKERS)] for cell in cells}
    told = [
        f"{metric} on {benchmark} against the bytes of a sequence's state and the seconds of an answer, "
        f"{asked(cells, metric)}.",
        bars_note(cells, metric),
    ]
    for axis, cost, letters, words in ((axes[0], size, points, "its state"), (axes[1], time, printed, "its time")):
        axis.set_xscale("log")
        for x, y, mark in letters:
            axis.plot(x, y, marker="", linestyle="")  # extends the axes, which a text does not
            axis.text(x, y, mark, color=FAINT, ha="center", va="center", zorder=1)
        for colour, group in zip(COLOURS, models.values(), strict=False):
            mine = [cell for cell in group if not math.isnan(cost(cell))]
            numbers = [number_of(cell, metric) for cell in mine]
            axis.plot([cost(cell) for cell in mine], [n.scaled for n in numbers], color=colour, lw=0.6, alpha=0.6)
            for cell, number in zip(mine, numbers, strict=True):
                errorbars(axis, [cost(cell)], [number], color=colour, marker=markers[condition(cell)], lw=0.8)
        axis.set(ylim=(0, None), ylabel=f"{metric}, %")
        axis.margins(x=0.1)
        log_ticks(axis.xaxis)
        without = sorted({cell.model for cell in cells if math.isnan(cost(cell))})
        told += [f"{listed(without)} did not log {words}."] if without else []
    axes[0].xaxis.set_major_formatter(EngFormatter(sep=""))
    axes[1].xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes[0].set(xlabel="state after the prompt, bytes", title=benchmark)
    axes[1].set(xlabel="seconds an answer, median")
    hollow = {"color": INK, "linestyle": "", "markerfacecolor": "none"}
    entries = [(kind, line(marker=markers[kind], **hollow)) for kind in sorted(markers, key=place_of)]
    drawn = {mark.upper() for _, _, mark in (*points, *printed)}
    entries += [
        (f"{name}, published", line(color=FAINT, marker=rf"$\mathrm{{{mark}}}$", linestyle="", markersize=5, mew=0.2))
        for name, mark in [*LETTERS.items(), ("recall paper", PAPER)]
        if mark in drawn
    ]
    legend(figure, [(name, line(color=COLOURS[at], linewidth=3)) for at, name in enumerate(models)], above=True)
    legend(figure, entries, columns=2)
    if points:
        told.append(f"Grey letters: {source}; small letters: read twice; state from configurations, 2 bytes a number.")
    if printed:
        told.append(f"{PAPER}: the recall paper's Tables 1 and 3, models of about 1B on a GPU, no task named.")
    if points or printed:
        told.append("Published figures are of other models, data and machines and have no errors.")
    return " ".join(filter(None, told)), figure


def published_points(benchmark: str) -> tuple[list[Point], str]:
    """What the papers print for a benchmark or, if they do not have it, the mean of their six tasks.

    Returns:
        Points of bytes and percent, and what they are in words.
    """
    rows: dict[Any, list[Published]] = defaultdict(list)
    found = [number for number in published() if number.task == benchmark and number.setting in ("once", "flat")]
    for number in found or published("jrt_table1"):
        rows[number if found else (number.model, number.params, number.tokens, number.setting)].append(number)
    points = [
        (state_bytes(row[0]), mean(n.value for n in row), letter if row[0].setting == "once" else letter.lower())
        for row in rows.values()
        if (letter := LETTERS.get(row[0].model)) and not math.isnan(state_bytes(row[0]))
    ]
    sources = listed(sorted({n.source for row in rows.values() for n in row}))
    return points, f"published {benchmark} of {sources}" if found else f"means over the six tasks of {sources}"


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
    models: dict[str, list[Columns]] = defaultdict(list)
    for cell in cells:
        models[cell.model] += [] if cell.columns is None else [cell.columns]
    share = all(number_of(cell, metric).scale == PERCENT for cell in cells)
    maps = {model: _means_by_depth(logs, metric, share) for model, logs in models.items()}
    heights = [len(rows) for rows in maps.values()]
    titles = sum(0.12 + 0.12 * math.ceil(len(model) / TITLE) for model in maps)
    figure, axes = canvas(0.7 + ROW * sum(heights) + titles, rows=len(maps), height_ratios=heights, sharex=True)
    for axis, (model, rows) in zip(axes, maps.items(), strict=True):
        values = np.array([[one.scaled if n >= FEWEST else math.nan for one, n in row] for row in rows.values()])
        top = PERCENT if share or np.isnan(values).all() else float(np.nanmax(values))
        axis.imshow(values, cmap="cividis", vmin=0, vmax=top, aspect="auto")
        for y, row in enumerate(rows.values()):
            for x, (one, n) in enumerate(row):
                told, colour = f"n={n}" if n else "", INK
                if n >= FEWEST:
                    half = max(one.reach)
                    told = f"{one.scaled:.0f}" + (f"\n±{half:.0f}" if half else "")
                    colour = "white" if one.scaled < 0.55 * top else "black"  # white on the dark half of the colours
                axis.text(x, y, told, ha="center", va="center", color=colour)
        axis.set_yticks(range(len(rows)), list(rows))
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        axis.set_title(textwrap.fill(model, TITLE))
    axes[-1].set_xticks(range(len(DEPTHS) - 1), [f"{100 * a:.0f}-{100 * b:.0f}" for a, b in pairwise(DEPTHS)])
    axes[-1].set_xlabel("depth of the answer in the document, %")
    figure.supylabel("document, GPT-2 tokens", fontsize=SMALL)
    counts = [n for rows in maps.values() for row in rows.values() for _, n in row if n]
    caption = (
        f"{metric}{', %,' if share else ''} on {value_of(cells[0], 'benchmark')}, read once, by the depth of the "
        "answer's first copy in the document as it was cut, and by the document's length; below each number half its "
        f"95 % interval, clustered by document. n = {sum(counts):,} questions in all maps, {spread(counts)} a cell; "
        f"cells of fewer than {FEWEST} hold n alone."
    )
    return caption, figure


def _means_by_depth(logs: Sequence[Columns], metric: str, share: bool) -> dict[str, list[tuple[Number, int]]]:
    """Range of lengths in which there are answers -> the metric and the number of answers in each range of depths."""
    lengths, depths = (
        np.concatenate([log.figures[name] for log in logs]) for name in ("document_tokens", "answer_depth")
    )
    scores = np.concatenate([log.scores[metric] for log in logs])
    clusters = np.concatenate([log.clusters for log in logs])
    places = np.digitize(depths, [*DEPTHS[:-1], np.nextafter(1, 2)])  # the last range includes its end, 1
    rows: dict[str, list[tuple[Number, int]]] = {}
    for low, high in pairwise(_LENGTHS):
        within = (lengths > low) & (lengths <= high)
        if within.any():
            row = rows[f"{low + 1}-{high}" if high < math.inf else f">{low}"] = []
            for place in range(1, len(DEPTHS)):
                mask = within & (places == place)
                found = interval(scores[mask].tolist(), clusters[mask].tolist())
                row.append((Number(found.mean, PERCENT if share else 1.0, interval=found), found.n))
    return rows


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
    figures = {} if cell.columns is None else cell.columns.figures
    logged = figures.keys() >= {"entropy", "prefix_tokens", "model_prompt_tokens"}
    return logged and cell.first.run.settings.get("prefix") == "dynamic" and cell.control == "none"


def by_entropy(cells: Sequence[Cell], metric: str) -> Drawn:
    """Above, a point for each answer; below, the metric under, between and over the thresholds, if they are known."""
    benchmark, model, names = value_of(cells[0], "benchmark"), cells[0].model, Names(cells)
    low, high = (float(cells[0].first.run.settings.get(name, math.nan)) for name in THRESHOLDS)
    known = not math.isnan(low + high)
    scored = known and any(cell.by_document(metric) for cell in cells)
    figure, axes = canvas(3.3 if scored else 1.9, rows=2 if scored else 1)
    handles: list[tuple[str, Any]] = []
    counts = np.zeros(3, dtype=int)
    for at, (cell, columns) in enumerate((cell, cell.columns) for cell in cells if cell.columns is not None):
        h, M, read = (columns.figures[name] for name in ("entropy", "prefix_tokens", "model_prompt_tokens"))
        dots = {"color": look(at)["color"], "markersize": 2, "alpha": 0.5, "rasterized": len(h) > MOST_POINTS}
        axes[0].plot(h, 100 * M / read, ".", **dots)
        handles.append((names.series(cell), line(**look(at), linestyle="")))
        for band, mask in enumerate((h <= low, (h > low) & (h < high), h >= high)):
            if known and cell.by_document(metric) and mask.any():
                counts[band] += int(mask.sum())
                x = band + 0.6 * (at - (len(cells) - 1) / 2) / max(len(cells), 3)
                errorbars(axes[1], [x], [split(columns, metric, mask)], lw=0.8, **look(at))
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
        axes[1].set_xticks(range(3), (f"H ≤ {low:g}:\nshorter", "between", f"H ≥ {high:g}:\nlonger"))
        axes[1].set(xlim=(-0.5, 2.5), ylim=(0, None), ylabel=f"{metric}, %")
        told = ", ".join(f"{count:,}" for count in counts)
        caption += f" Below: {metric} by band, n = {told} over all layouts. {bars_note(cells, metric)}"
    legend(figure, handles, columns=2)
    return caption.strip(), figure


# -------------------------------------------------------------------- one setting

SETTINGS = {
    "step": ("prefix_step", "Recall by the step of the dynamic prefix", "step of the dynamic prefix, %"),
    "overlap": ("overlap", "Recall by the overlap of segments", "overlap of neighbouring segments, %"),
}
"""Kind of picture -> the one setting in which its runs differ, a share from 0 to 1; its title; the axis label."""


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


def by_setting(name: str, label: str, metric: str, groups: Sequence[list[Cell]]) -> Drawn:
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
        told = " ".join(word for word in words if not word.startswith(f"{name}="))
        same = told in [known for known, _ in entries]
        entries.append((f"{told} ({group[0].task} {group[0].first.partly})" if same else told, line(**look(at))))
    axis.set_xticks(values, [f"{value:g}" for value in values])
    axis.set(xlabel=label, ylabel=f"{metric}, %", ylim=(0, None))
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


# -------------------------------------------------------------------- the gallery


@dataclass(frozen=True)
class Kind:
    """A kind of picture of some runs.

    Attributes:
        about: its title in the list of what is not drawn.
        title: of a picture, in which `{metric}`, `{benchmark}`, `{layout}` and `{model}` are filled in.
        draw: from the runs of one picture and a metric to the caption and the figure.
        fits: whether a run can be in such a picture.
        why: what the logs lack if no run fits; `{metric}` is filled in.
        each: a picture is drawn for each combination of these.
        series: the name of a run, from the `Names` of a picture; runs with one name are drawn as one series.
        most: number of series in a picture; if there are more, they are drawn in several pictures.
    """

    about: str
    title: str
    draw: Callable[[Sequence[Cell], str], Drawn]
    fits: Callable[[Cell, str], bool]
    why: str
    each: tuple[str, ...] = ("benchmark",)
    series: Callable[[Names, Cell], str] = Names.label
    most: int = len(COLOURS)


KINDS: dict[str, Kind] = {
    "recall": Kind(
        "Recall by prompt layout", "{metric} on {benchmark} by prompt layout", by_layout,
        lambda cell, metric: cell.mean(metric) is not None, "no run has {metric}", most=8,
    ),
    "cost": Kind(
        "Recall against state and time", "{metric} on {benchmark} against state and time", by_cost,
        has_cost, "no run with {metric} logged the bytes of its state or the seconds of its answers",
    ),
    "depth": Kind(
        "Recall by answer depth and context length", "{metric} on {benchmark} by answer depth and context length",
        by_depth, has_depth,
        "no log of answers of a document read once says how deep the answer stands and how long the document is "
        "(answer_position and document_tokens)", series=lambda _, cell: cell.model, most=6,
    ),
    "distance": Kind(
        "Recall by distance of the last copy", "{metric} on {benchmark}, {layout}, by distance of the last copy",
        by_distance, has_distance,
        "no log of answers says where the answer's last copy stands (answer_last_token and prompt_tokens)",
        ("benchmark", "layout"), Names.full,
    ),
    "entropy": Kind(
        "Prefix length against entropy", "Prefix length against entropy on {benchmark}: {model}", by_entropy,
        has_entropy, "no run with prefix=dynamic logged jrt_entropy and jrt_prefix_tokens of its answers",
        ("benchmark", "model"), Names.series,
    ),
}  # fmt: skip
LEARNING = "learning"
PICTURES = (*KINDS, *SETTINGS, LEARNING)
"""All kinds, in the order in which they are shown."""


def gallery(collection: Collection, metric: str = "") -> tuple[list[Picture], list[NotDrawn]]:
    """Every picture of a metric that the logs allow, and every other one with the reason.

    The metric is by default that of `standard.main_metric`.
    """
    metric = metric or main_metric(collection.cells)
    found: list[Picture] = []
    missing: list[NotDrawn] = []
    for name, kind in KINDS.items():
        made = _pictures(name, kind, collection.cells, metric)
        found += made
        missing += [] if made else [NotDrawn(name, kind.about, kind.why.format(metric=metric))]
    for name, (setting, about, label) in SETTINGS.items():
        groups = families(collection.cells, metric, setting)
        why = f"no two runs with {metric} differ in {setting} and in nothing else"
        missing += [] if groups else [NotDrawn(name, about, why)]
        found += _in_parts(setting, f"{metric} by {setting}", groups, partial(by_setting, setting, label, metric))
    curves: dict[tuple[str, bool], list] = defaultdict(list)
    for training in collection.trainings:
        for rows in training.curves:
            curves[rows, training.held_out].append(training)
    for (rows, held_out), trained in curves.items():
        draw = partial(by_tokens, rows, held_out)
        found += _in_parts(f"{LEARNING}_{file_name(rows)}", f"Learning curves, {rows}", trained, draw)
    if not curves:
        missing.append(NotDrawn(LEARNING, "Learning curves", NO_TRAINING))
    return found, missing


def _pictures(name: str, kind: Kind, cells: Sequence[Cell], metric: str) -> list[Picture]:
    groups: dict[tuple[str, ...], list[Cell]] = defaultdict(list)
    for cell in cells:
        if kind.fits(cell, metric):
            words = {"layout": condition(cell), "benchmark": value_of(cell, "benchmark"), "model": cell.model}
            groups[tuple(words[axis] for axis in kind.each)].append(cell)
    made = []
    for place, members in groups.items():
        names = Names(members)
        series: dict[str, list[Cell]] = defaultdict(list)
        for cell in members:
            series[kind.series(names, cell)].append(cell)
        words = dict(zip(kind.each, place, strict=True))
        short = {**words, "layout": members[0].layout}
        file = "_".join([name, *(file_name(short[axis]) for axis in kind.each)])

        def draw(shown: list[list[Cell]]) -> Drawn:
            return kind.draw([cell for one in shown for cell in one], metric)

        made += _in_parts(file, kind.title.format(metric=metric, **words), list(series.values()), draw, kind.most)
    return made


def _in_parts(
    name: str, title: str, items: list, draw: Callable[[list], Drawn], most: int = len(COLOURS)
) -> list[Picture]:
    """Pictures of at most so many series each, numbered from the second on, so that none needs to leave any out."""
    return [
        Picture(name if at == 0 else f"{name}_{at // most + 1}", title, partial(draw, items[at : at + most]))
        for at in range(0, len(items), most)
    ]


FOLDER, INDEX = "pictures", "index.md"


def write_folder(folder: Path, collection: Collection, report: Report, metric: str, files: Sequence[Path]) -> None:
    """Write all pictures as PNG and SVG below a report's folder, and an index with their captions.

    The index also names what was read and skipped, the `files` written beside the pictures, and what is not drawn.

    Raises:
        JRTError: a file cannot be written.
    """
    drawn, missing = gallery(collection, metric)
    parts = ["# Report\n", *(f"{line}\n" for line in report.about)]
    parts.append("".join(f"- [{file.name}]({file.name})\n" for file in files))
    if report.problems:
        parts.append("Skipped:\n\n" + "".join(f"- {problem}\n" for problem in report.problems))
    for picture in drawn:
        for kind in ("png", "svg"):
            save(folder / FOLDER / f"{picture.name}.{kind}", picture.saved(kind))
        file = f"{FOLDER}/{picture.name}"
        parts.append(f"## {picture.title}\n\n![{picture.title}]({file}.png)\n")
        parts.append(f"{picture.caption} [SVG]({file}.svg)\n")
    if missing:
        parts.append("## Not drawn\n\n" + "".join(f"- {one.title}: {one.why}.\n" for one in missing))
    save(folder / INDEX, "\n".join(parts).encode("utf-8"))
