"""Recall by how far the last copy of the answer stands from the end of the prompt."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from jrt_lmeval.report.distance import EDGES, distances, split, window_of
from jrt_lmeval.report.pivot import condition, value_of
from jrt_lmeval.report.plots.picture import Picture
from jrt_lmeval.report.plots.shared import Names, asked, bars_note, numbered, parts, reach, scaled
from jrt_lmeval.report.plots.style import COLOURS, FAINT, canvas, file_name, legend, line, look, styled
from jrt_lmeval.report.records import Cell, Collection
from jrt_lmeval.report.tables import Number


def recall_by_distance(collection: Collection, metric: str) -> list[Picture] | str:
    """A picture a benchmark and layout, a line a model."""
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
        for number, part in enumerate(parts(cells, _line(cells), len(COLOURS)), 1)
    ]


@styled
def distance_lines(benchmark: str, layout: str, cells: Sequence[Cell], metric: str, number: int = 1) -> Picture:
    """Recall in ranges of distance that double; a range without answers has no point."""
    figure, (axis,) = canvas(2.1)
    known = np.concatenate([distances(cell.columns) for cell in cells])  # type: ignore[arg-type]
    ranges = [(low, high) for low, high in pairwise(EDGES) if ((known > low) & (known <= high)).any()]
    handles: list[tuple[str, Any]] = []
    for at, cell in enumerate(cells):
        points = [(place, found) for place, ends in enumerate(ranges) if (found := _within(cell, metric, ends))]
        shift = 0.5 * (at - (len(cells) - 1) / 2) / max(len(cells), 4)
        x, y = [place + shift for place, _ in points], [scaled(found) for _, found in points]
        below, above = zip(*(reach(found) for _, found in points), strict=True)
        axis.errorbar(x, y, yerr=[below, above], **look(at), elinewidth=0.8)
        handles.append((_line(cells)(cell), line(**look(at))))
    windows = {window for cell in cells if not math.isnan(window := window_of(cell))}
    for window in windows:
        axis.axvline(_position(window, ranges), color=FAINT, lw=0.8, zorder=0)
    if windows:
        handles.append(("sliding window, in the model's own tokens", line(color=FAINT, linewidth=0.8)))
    names = [f"≤{high:.0f}" if high < math.inf else f">{low:.0f}" for low, high in ranges]
    axis.set_xticks(range(len(ranges)), names)
    axis.set(ylim=(0, None), xlim=(-0.5, len(ranges) - 0.5), ylabel=f"{metric}, %")
    axis.set_xlabel("GPT-2 tokens from the last copy to the end")
    axis.set_title(f"{benchmark}, {layout}")
    legend(figure, handles)
    counts = [int(((known > low) & (known <= high)).sum()) for low, high in ranges]
    told = ", ".join(f"{name}: {count:,}" for name, count in zip(names, counts, strict=True))
    caption = (
        f"{metric} on {benchmark}, {layout}, by the distance of the answer's last copy from the end of the prompt, in "
        f"ranges that each reach from the one before; {asked(cells, metric)}, by range over all lines: {told}. "
        f"{int(np.isnan(known).sum()):,} answers that stand in no copy are left out. {bars_note(cells, metric)}"
    )
    name = numbered(f"distance_{file_name(benchmark)}_{file_name(layout)}", number)
    return Picture(name, f"{metric} on {benchmark}, {layout}, by distance of the last copy", caption, figure)


def _line(cells: Sequence[Cell]) -> Callable[[Cell], str]:
    """What the line of a cell is called among these."""
    names = Names(cells)
    return lambda cell: f"{names.label(cell)} {names.detail(cell)}".strip()


def _within(cell: Cell, metric: str, ends: tuple[float, float]) -> Number | None:
    """The metric over the answers whose last copy is so far away; None where there are none."""
    columns = cell.columns
    assert columns is not None
    far = distances(columns)
    assert far is not None
    mask = (far > ends[0]) & (far <= ends[1])
    return split(columns, metric, mask) if mask.any() else None


def _position(window: float, ranges: Sequence[tuple[float, float]]) -> float:
    """Where a distance stands among ranges that are drawn equally wide, each point in the middle of its range."""
    for at, (low, high) in enumerate(ranges):
        if window <= high:
            return at - 0.5 + (max(window - low, 0) / (high - low) if high < math.inf else 0.5)
    return len(ranges) - 0.5
