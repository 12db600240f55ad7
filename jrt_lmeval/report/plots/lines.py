"""Recall over a quantity: distance, entropy, one setting, tokens of training."""

from __future__ import annotations

import math
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from jrt_lmeval.report.cells import Cell, Collection, Training, condition, number_of, value_of
from jrt_lmeval.report.collect import FROM_STEPS, HELD_OUT, SMOOTHED, STEPS
from jrt_lmeval.report.plots.picture import (
    COLOURS,
    FAINT,
    MARKERS,
    TITLE,
    Names,
    Picture,
    asked,
    bars_note,
    batched,
    canvas,
    file_name,
    legend,
    line,
    listed,
    look,
    numbered,
    parts,
    reach,
    scaled,
    styled,
)
from jrt_lmeval.report.runs import Result
from jrt_lmeval.report.standard import EDGES, distances, split, window_of


def recall_by_distance(collection: Collection, metric: str) -> list[Picture] | str:
    """A picture for each benchmark and layout, with a line for each model."""
    groups: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in collection.cells:
        columns = cell.columns
        if columns is not None and metric in columns.scores and cell.control == "none":
            far = distances(columns)
            if far is not None and not np.isnan(far).all():
                groups[value_of(cell, "benchmark"), condition(cell)].append(cell)
    if not groups:
        return "no log of answers says where the answer's last copy stands (answer_last_token and prompt_tokens)"
    return [
        distance_lines(*place, part, metric, number)
        for place, cells in groups.items()
        for number, part in enumerate(parts(cells, Names(cells).full, len(COLOURS)), 1)
    ]


@styled
def distance_lines(benchmark: str, layout: str, cells: Sequence[Cell], metric: str, number: int = 1) -> Picture:
    """Recall in ranges of distance that double; a range without answers has no point."""
    figure, (axis,) = canvas(2.1)
    known = np.concatenate([_far(cell) for cell in cells])
    ranges = [(low, high) for low, high in pairwise(EDGES) if ((known > low) & (known <= high)).any()]
    handles: list[tuple[str, Any]] = []
    names = Names(cells)
    for at, cell in enumerate(cells):
        columns, far = cell.columns, _far(cell)
        assert columns is not None
        masks = [(far > low) & (far <= high) for low, high in ranges]
        points = {place: split(columns, metric, mask) for place, mask in enumerate(masks) if mask.any()}
        shift = 0.5 * (at - (len(cells) - 1) / 2) / max(len(cells), 4)
        x, y = [place + shift for place in points], [scaled(found) for found in points.values()]
        below, above = zip(*map(reach, points.values()), strict=True)
        axis.errorbar(x, y, yerr=[below, above], **look(at), elinewidth=0.8)
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
    name = numbered(f"distance_{file_name(benchmark)}_{file_name(cells[0].layout)}", number)
    return Picture(name, f"{metric} on {benchmark}, {layout}, by distance of the last copy", caption, figure)


def _far(cell: Cell) -> np.ndarray:
    """`distances` of a cell whose log tells them."""
    far = None if cell.columns is None else distances(cell.columns)
    assert far is not None
    return far


def _position(window: float, ranges: Sequence[tuple[float, float]]) -> float:
    """The position of a distance among ranges that are drawn equally wide, with points in their middle."""
    for at, (low, high) in enumerate(ranges):
        if window <= high:
            return at - 0.5 + (max(window - low, 0) / (high - low) if high < math.inf else 0.5)
    return len(ranges) - 0.5


THRESHOLDS = ("entropy_low", "entropy_high")
MOST_POINTS = 100
"""A series of more points is drawn as an image inside the SVG, which would otherwise be large."""


def prefix_by_entropy(collection: Collection, metric: str) -> list[Picture] | str:
    """A picture for each model with a dynamic prefix and each benchmark, with a colour for each layout."""
    groups: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in collection.cells:
        if cell.first.run.settings.get("prefix") == "dynamic" and cell.control == "none" and _shares(cell) is not None:
            groups[value_of(cell, "benchmark"), cell.model].append(cell)
    if not groups:
        return "no run with prefix=dynamic logged jrt_entropy and jrt_prefix_tokens of its answers"
    return [
        entropy_points(*place, part, metric, number)
        for place, cells in groups.items()
        for number, part in enumerate(parts(cells, Names(cells).series, len(COLOURS)), 1)
    ]


def _shares(cell: Cell) -> tuple[np.ndarray, np.ndarray] | None:
    """Entropy and prefix length as a share of the prompt, float64 [N] each; None if not logged."""
    columns = cell.columns
    if columns is None or "entropy" not in columns.figures:
        return None
    figures = columns.figures
    if "prefix_share" in figures:
        return figures["entropy"], figures["prefix_share"]
    if "prefix_tokens" in figures and "model_prompt_tokens" in figures:
        return figures["entropy"], figures["prefix_tokens"] / figures["model_prompt_tokens"]
    return None


@styled
def entropy_points(benchmark: str, model: str, cells: Sequence[Cell], metric: str, number: int = 1) -> Picture:
    """Above, a point for each answer; below, the metric under, between and over the thresholds, if they are known."""
    low, high = (float(cells[0].first.run.settings.get(name, math.nan)) for name in THRESHOLDS)
    known = not math.isnan(low + high)
    scored = known and any(cell.by_document(metric) for cell in cells)
    figure, axes = canvas(3.3 if scored else 1.9, rows=2 if scored else 1)
    handles: list[tuple[str, Any]] = []
    names = Names(cells)
    for at, cell in enumerate(cells):
        x, y = _shares(cell) or (np.empty(0), np.empty(0))
        axes[0].plot(x, 100 * y, ".", color=COLOURS[at], markersize=2, alpha=0.5, rasterized=len(x) > MOST_POINTS)
        handles.append((names.series(cell), line(color=COLOURS[at], marker=MARKERS[at], linestyle="")))
    for limit in (low, high):
        if known:
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
    name = numbered(f"entropy_{file_name(benchmark)}_{file_name(model)}", number)
    return Picture(name, f"Prefix length against entropy on {benchmark}: {model}", caption.strip(), figure)


def _bands(axis: Any, cells: Sequence[Cell], metric: str, low: float, high: float) -> str:
    """Draw the metric in the three bands of entropy; returns a sentence with the numbers of answers."""
    names = (f"H ≤ {low:g}:\nshorter", "between", f"H ≥ {high:g}:\nlonger")
    counts = np.zeros(3, dtype=int)
    for at, cell in enumerate(cells):
        columns, found = cell.columns, _shares(cell)
        if columns is None or found is None or metric not in columns.scores:
            continue
        h = found[0]
        for band, mask in enumerate((h <= low, (h > low) & (h < high), h >= high)):
            if not mask.any():
                continue
            counts[band] += int(mask.sum())
            number = split(columns, metric, mask)
            below, above = reach(number)
            x = band + 0.6 * (at - (len(cells) - 1) / 2) / max(len(cells), 3)
            axis.errorbar(x, scaled(number), yerr=[[below], [above]], color=COLOURS[at], marker=MARKERS[at], lw=0.8)
    axis.set_xticks(range(3), names)
    axis.set(xlim=(-0.5, 2.5), ylim=(0, None), ylabel=f"{metric}, %")
    return f"Below: {metric} by band, n = {', '.join(f'{count:,}' for count in counts)} over all layouts."


SETTINGS = {"prefix_step": "step of the dynamic prefix, %", "overlap": "overlap of neighbouring segments, %"}
"""Settings with a picture, shares from 0 to 1 -> the label of its axis."""


def by_setting(collection: Collection, metric: str, name: str) -> list[Picture] | str:
    """Recall by one of `SETTINGS`, in pictures of as many groups of runs as there are colours."""
    groups = families(collection.cells, metric, name)
    if not groups:
        return f"no two runs with {metric} differ in {name} and in nothing else"
    chunks = batched(list(named_families(groups, name).items()), len(COLOURS))
    return [sensitivity(name, dict(chunk), metric, number) for number, chunk in enumerate(chunks, 1)]


def families(cells: Sequence[Cell], metric: str, name: str) -> list[list[Cell]]:
    """Groups of at least two runs that differ in one setting and in nothing else, sorted by its value."""
    found: dict[Any, dict[float, Cell]] = defaultdict(dict)
    for cell in cells:
        value = setting(cell.first, name)
        if value is not None and cell.mean(metric) is not None and cell.control == "none":
            found[_others(cell.first, name)].setdefault(value, cell)
    return [[cell for _, cell in sorted(members.items())] for members in found.values() if len(members) > 1]


def setting(result: Result, name: str) -> float | None:
    """A number that was set for the model or the task; None if there is none."""
    value = {**result.run.settings, **result.settings}.get(name)
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _others(result: Result, name: str) -> Any:
    """Everything that identifies a result except one setting."""
    run = {key: str(value) for key, value in result.run.settings.items() if key != name}
    task = {key: str(value) for key, value in result.settings.items() if key != name}
    place = (result.run.kind, result.run.weights, result.task, str(result.version), result.source, result.partly)
    return (*place, result.layout, tuple(sorted(run.items())), tuple(sorted(task.items())))


def named_families(groups: Sequence[list[Cell]], name: str) -> dict[str, list[Cell]]:
    """Groups by their name: benchmark, model and settings, except the setting itself."""

    def told(cell: Cell) -> str:
        words = f"{value_of(cell, 'benchmark')}: {cell.model} {cell.setting}".split()
        return " ".join(word for word in words if not word.startswith(f"{name}="))

    found: dict[str, list[Cell]] = {}
    for group in groups:
        label = told(group[0])
        found[label if label not in found else f"{label} ({group[0].task} {group[0].first.partly})"] = group
    return found


@styled
def sensitivity(name: str, groups: dict[str, list[Cell]], metric: str, number: int = 1) -> Picture:
    """The metric with its interval by the setting, with a line for each group."""
    figure, (axis,) = canvas(2.0)
    values = sorted({100 * (setting(cell.first, name) or 0.0) for group in groups.values() for cell in group})
    width = 0.25 * min((b - a for a, b in pairwise(values)), default=1.0)
    for at, group in enumerate(groups.values()):
        numbers = [number_of(cell, metric) for cell in group]
        shift = width * (at - (len(groups) - 1) / 2) / max(len(groups), 2)
        x = [100 * (setting(cell.first, name) or 0.0) + shift for cell in group]
        below, above = zip(*map(reach, numbers), strict=True)
        axis.errorbar(x, list(map(scaled, numbers)), yerr=[below, above], **look(at), elinewidth=0.8)
    axis.set_xticks(values, [f"{value:g}" for value in values])
    axis.set(xlabel=SETTINGS[name], ylabel=f"{metric}, %", ylim=(0, None))
    legend(figure, [(label, line(**look(at))) for at, label in enumerate(groups)])
    cells = [cell for group in groups.values() for cell in group]
    caption = (
        f"{metric} by {name}, in runs that differ in nothing else; lines are shifted a little so that none hides "
        "another. "
        f"{asked(cells, metric)} a point. {bars_note(cells, metric)} Runs on the same questions: "
        "differences are told better than the bars suggest, see the paired differences."
    )
    return Picture(numbered(name, number), f"{metric} by {name}", caption, figure)


MOST_MARKERS = 30


def learning_curves(collection: Collection, metric: str) -> list[Picture] | str:
    """A picture for each set of held-out rows and one for trainings without any, with a line for each training."""
    found: dict[tuple[str, bool], list[Training]] = {}
    for training in collection.trainings:
        for name in training.curves:
            found.setdefault((name, training.held_out), []).append(training)
    if not found:
        return f"no folder of a training is among those read (its {HELD_OUT} or {STEPS})"
    return [
        learning(name, part, held_out, number)
        for (name, held_out), members in found.items()
        for number, part in enumerate(batched(members, len(COLOURS)), 1)
    ]


@styled
def learning(name: str, members: Sequence[Training], held_out: bool, number: int = 1) -> Picture:
    """The curves of several trainings on one set."""
    figure, (axis,) = canvas(2.0)
    for at, training in enumerate(members):
        curve = training.curves[name]
        shown = look(at) | ({"marker": ""} if len(curve) > MOST_MARKERS else {})
        axis.plot([tokens / 1e6 for tokens, _ in curve], [100 * share for _, share in curve], **shown)
    axis.set_xlabel("training tokens, millions")
    axis.set_ylim(bottom=0)
    axis.set_ylabel("exact recall, held out, %" if held_out else "answer tokens right, %")
    axis.set_title(f"held-out rows: {name}" if held_out else "training batches")
    legend(figure, [(training.name, line(**look(at))) for at, training in enumerate(members)], columns=2)
    ends = listed(
        f"{t.name} {100 * t.curves[name][-1][1]:.1f} % after {t.curves[name][-1][0]:,.0f} tokens" for t in members
    )
    what = (
        f"Recall on the held-out rows '{name}' over the tokens read in training"
        if held_out
        else f"Share of answer tokens that were the likeliest ({FROM_STEPS}) in the batches themselves, means of "
        f"{SMOOTHED} steps: not held out"
    )
    caption = f"{what}: {ends}. Without error bars: the logs of trainings keep means alone."
    return Picture(numbered(f"learning_{file_name(name)}", number), f"Learning curves, {name}", caption, figure)
