"""What the dynamic policy chose: prefix length against the context's entropy, and recall between its thresholds."""

from __future__ import annotations

import math
import textwrap
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jrt_lmeval.report.distance import split
from jrt_lmeval.report.pivot import condition, value_of
from jrt_lmeval.report.plots.picture import Picture
from jrt_lmeval.report.plots.shared import Names, asked, bars_note, numbered, parts, reach, scaled
from jrt_lmeval.report.plots.style import COLOURS, FAINT, MARKERS, TITLE, canvas, file_name, legend, line, styled
from jrt_lmeval.report.records import Cell, Collection

THRESHOLDS = ("entropy_low", "entropy_high")
MOST_POINTS = 100
"""Above so many points a series is drawn as an image inside an SVG, which would else be large."""


def prefix_by_entropy(collection: Collection, metric: str) -> list[Picture] | str:
    """A picture a model and benchmark whose prefix is dynamic, a colour a layout."""
    groups: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in collection.cells:
        if cell.first.run.settings.get("prefix") == "dynamic" and cell.control == "none" and _shares(cell) is not None:
            groups[value_of(cell, "benchmark"), cell.model].append(cell)
    if not groups:
        return (
            "no run with prefix=dynamic logged the entropy and the prefix of its answers "
            "(jrt_entropy, jrt_prefix_tokens)"
        )
    return [
        entropy_points(*place, part, metric, number)
        for place, cells in groups.items()
        for number, part in enumerate(parts(cells, _series(cells), len(COLOURS)), 1)
    ]


def _series(cells: Sequence[Cell]) -> Callable[[Cell], str]:
    """What the points of a cell are called among these: its layout, and what differs."""
    names = Names(cells)
    return lambda cell: f"{condition(cell)} {names.settings(cell)}".strip()


def _shares(cell: Cell) -> tuple[np.ndarray, np.ndarray] | None:
    """Entropy and prefix length as a share of the prompt, float64 [N] each; None where they were not logged."""
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
    """Above: a point an answer. Below: the metric under, between and over the thresholds, where they are known."""
    low, high = (float(cells[0].first.run.settings.get(name, math.nan)) for name in THRESHOLDS)
    known = not math.isnan(low + high)
    scored = known and any(cell.by_document(metric) for cell in cells)
    figure, axes = canvas(3.3 if scored else 1.9, rows=2 if scored else 1)
    handles: list[tuple[str, Any]] = []
    for at, cell in enumerate(cells):
        x, y = _shares(cell) or (np.empty(0), np.empty(0))
        axes[0].plot(x, 100 * y, ".", color=COLOURS[at], markersize=2, alpha=0.5, rasterized=len(x) > MOST_POINTS)
        handles.append((_series(cells)(cell), line(color=COLOURS[at], marker=MARKERS[at], linestyle="")))
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
    """Draw the metric in the three bands of entropy; returns a sentence with n of each band."""
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
