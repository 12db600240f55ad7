"""Recall by answer depth and context length: a heat map a model."""

from __future__ import annotations

import math
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from jrt_lmeval.report.columns import Columns
from jrt_lmeval.report.pivot import number_of, value_of
from jrt_lmeval.report.plots.picture import Picture
from jrt_lmeval.report.plots.shared import batched, numbered, reach, scaled
from jrt_lmeval.report.plots.style import INK, SMALL, TITLE, canvas, file_name, styled
from jrt_lmeval.report.records import Cell, Collection
from jrt_lmeval.report.tables import PERCENT, Number
from jrt_lmeval.stats import interval

DEPTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
ROW = 0.34
"""Inches of a row of cells: two lines of 7 pt."""
FEWEST = 5
MOST_MAPS = 6
_LENGTHS = (0, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, math.inf)


def depth_and_length(collection: Collection, metric: str) -> list[Picture] | str:
    """A map a model, of the runs that read the document once: only there has an answer one depth."""
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
    """A map a model: recall in each fifth of the document, a row a length; runs on several lengths share the map."""
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
    """Draw one map; returns n of the cells that have any."""
    numbers = [[_number(parts, metric, at, share) for at in range(len(DEPTHS) - 1)] for _, parts in rows]
    values = np.array([[scaled(one) if n >= FEWEST else math.nan for one, n in line] for line in numbers])
    top = PERCENT if share or np.isnan(values).all() else float(np.nanmax(values))
    axis.imshow(values, cmap="cividis", vmin=0, vmax=top, aspect="auto")
    for y, line in enumerate(numbers):
        for x, (one, n) in enumerate(line):
            _write(axis, x, y, one, n, top)
    axis.set_yticks(range(len(rows)), [name for name, _ in rows])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return [n for line in numbers for _, n in line if n]


def _rows(cells: Sequence[Cell]) -> list[tuple[str, list[Columns]]]:
    """Ranges of lengths that hold answers, the longest last, each with the answers in it, by run."""
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
    """The metric in one range of depths with its interval, and how many answers are in it."""
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
