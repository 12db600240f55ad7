"""Bars of a metric by prompt layout, a picture a benchmark, with what can be had without reading the document."""

from __future__ import annotations

import math
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.patches import Patch

from jrt_lmeval.report.fields import BASELINES
from jrt_lmeval.report.pivot import LAYOUT_NAMES, condition, number_of, value_of
from jrt_lmeval.report.plots.picture import Picture
from jrt_lmeval.report.plots.shared import Names, asked, bars_note, numbered, parts, place_of, reach, scaled
from jrt_lmeval.report.plots.style import CHARACTERS, COLOURS, FAINT, INK, canvas, file_name, legend, line, styled
from jrt_lmeval.report.records import Cell, Collection
from jrt_lmeval.report.standard import rule
from jrt_lmeval.report.tables import PERCENT

MOST_BLOCKS = 8
BAR = 0.155
"""Inches that one bar takes: room for a 7 pt number beside it."""
CHARACTER = 0.018
"""Of the width, that a character of 7 pt takes: what stands behind the longest bar must not be cut off."""
NO_CONTEXT = "no_context"
RULES = {"majority": "--"}
"""Rules that need no model and have a line, and its dashes."""
LAYOUTS = tuple(LAYOUT_NAMES.values())


@dataclass(frozen=True)
class Block:
    """The bars of one model and setting.

    Attributes:
        name: of the model, with the settings that differ.
        cells: a bar each.
        control: the same model without the document, or None.
    """

    name: str
    cells: tuple[Cell, ...]
    control: Cell | None

    @property
    def heading(self) -> str:
        """Its name, broken over lines."""
        return textwrap.fill(self.name, CHARACTERS - 6)

    @property
    def head(self) -> float:
        """Bars that its heading takes the place of."""
        return 1 + 0.8 * self.heading.count("\n")

    @property
    def rows(self) -> int:
        """Bars, or the one row that a control has for itself."""
        return max(len(self.cells), 1)


def by_layout(collection: Collection, metric: str) -> list[Picture] | str:
    """A bar for each result; dotted: the same model without the document; dashed: the commonest answer."""
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in collection.cells:
        if cell.mean(metric) is not None:
            groups[value_of(cell, "benchmark")].append(cell)
    if not groups:
        return f"no run has {metric}"
    return [
        benchmark_bars(benchmark, part, metric, number)
        for benchmark, cells in groups.items()
        for number, part in enumerate(parts(cells, Names(cells).label, MOST_BLOCKS), 1)
    ]


@styled
def benchmark_bars(benchmark: str, cells: Sequence[Cell], metric: str, number: int = 1) -> Picture:
    """The bars of one benchmark, a block a model and setting."""
    names = Names(cells)
    blocks = _blocks(cells, names)
    figure, (axis,) = canvas(0.55 + BAR * sum(block.head + block.rows + 0.25 for block in blocks))
    place, furthest = 0.0, 0.0
    shown = [cell for block in blocks for cell in block.cells]
    rules = _rules(shown) if metric == "contains" else {}
    for block in blocks:
        ends = {"va": "top", "transform": axis.get_yaxis_transform(), "in_layout": False}
        axis.text(0.01, place - 0.5, block.heading, **ends)
        place += block.head
        furthest = max(furthest, _draw(axis, place, block, names, metric))
        for name, value in rules.items():
            _upright(axis, value, place, block, color=FAINT, linestyle=RULES[name])
        place += block.rows + 0.25
    furthest = max([furthest, *(1.05 * value for value in rules.values())])
    share = number_of(cells[0], metric).scale == PERCENT
    axis.set(ylim=(place - 0.4, -0.8), xlim=(0, furthest or 1), xlabel=f"{metric}, %" if share else metric)
    axis.set_yticks([])
    axis.set_title(benchmark)
    legend(figure, _entries(blocks, list(rules)), columns=2)
    caption = f"{metric} on {benchmark} by what was read, {asked(shown or cells, metric)}. {bars_note(shown, metric)}"
    title = f"{metric} on {benchmark} by prompt layout"
    return Picture(numbered(f"recall_{file_name(benchmark)}", number), title, caption.strip(), figure)


def _blocks(cells: Sequence[Cell], names: Names) -> list[Block]:
    labels = list(dict.fromkeys(names.label(cell) for cell in cells))
    without = {names.label(cell): cell for cell in cells if cell.control == NO_CONTEXT}
    shown = sorted(
        (c for c in cells if c.control != NO_CONTEXT), key=lambda c: (place_of(condition(c)), names.detail(c))
    )
    return [
        Block(label, tuple(cell for cell in shown if names.label(cell) == label), without.get(label))
        for label in labels
    ]


def _draw(axis: Any, place: float, block: Block, names: Names, metric: str) -> float:
    """Draw a block from a place downwards; returns how far it reaches."""
    furthest = 0.0
    for at, cell in enumerate(block.cells):
        furthest = max(furthest, _bar(axis, place + at, cell, names.detail(cell), metric))
    if block.control is not None:
        value = scaled(number_of(block.control, metric))
        _upright(axis, value, place, block, color=INK, linestyle=":", lw=1.2)
        if not block.cells:
            axis.annotate(f"{value:.1f}", (value, place), (3, 0), textcoords="offset points", va="center")
        furthest = max(furthest, value / (1 - 5 * CHARACTER))
    return furthest


def _upright(axis: Any, value: float, place: float, block: Block, **look: Any) -> None:
    """A line across the bars of a block."""
    axis.plot([value, value], [place - 0.45, place + block.rows - 0.55], **look)


def _bar(axis: Any, place: float, cell: Cell, detail: str, metric: str) -> float:
    """Draw a bar with its interval and number; returns how far it reaches."""
    number, kind = number_of(cell, metric), condition(cell)
    value, (below, above) = scaled(number), reach(number)
    look = {"hatch": "" if kind in LAYOUTS else "////", "edgecolor": "white", "linewidth": 0}
    axis.barh(place, value, 0.86, color=colour_of(kind), **look)
    if below or above:
        axis.errorbar(value, place, xerr=[[below], [above]], color=INK, lw=0.8)
    told = f"{value:.{number.digits}f}  {detail}".strip()
    axis.annotate(told, (value + above, place), (3, 0), textcoords="offset points", va="center")
    return (value + above) / (1 - min(CHARACTER * len(told) + 0.02, 0.8))


def _entries(blocks: Sequence[Block], rules: Sequence[str]) -> list[tuple[str, Any]]:
    """What the legend says."""
    kinds = dict.fromkeys(condition(cell) for block in blocks for cell in block.cells)
    entries: list[tuple[str, Any]] = []
    for kind in sorted(kinds, key=place_of):
        hatch = "" if kind in LAYOUTS else "////"
        entries.append((kind, Patch(facecolor=colour_of(kind), hatch=hatch, edgecolor="white", linewidth=0)))
    if any(block.control is not None for block in blocks):
        entries.append(("same model, no document", line(color=INK, linestyle=":", linewidth=1.2)))
    return entries + [(BASELINES[name], line(color=FAINT, linestyle=RULES[name])) for name in rules]


def colour_of(kind: str) -> str:
    """The colour of a layout, the same in all pictures; controls are grey."""
    return COLOURS[LAYOUTS.index(kind)] if kind in LAYOUTS else FAINT


def _rules(cells: Sequence[Cell]) -> dict[str, float]:
    """What rules score that need no model, by the first run that logged them."""
    for cell in cells:
        if cell.columns is not None and cell.control == "none" and any(name in cell.columns.figures for name in RULES):
            found = {name: scaled(rule(cell.columns, name)) for name in RULES}
            return {name: value for name, value in found.items() if not math.isnan(value)}
    return {}
