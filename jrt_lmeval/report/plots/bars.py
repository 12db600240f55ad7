"""Bars of a metric by prompt layout, a picture a benchmark, with what can be had without reading the document."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from matplotlib.patches import Patch

from jrt_lmeval.report.fields import BASELINES
from jrt_lmeval.report.pivot import ORDER, condition, number_of, value_of
from jrt_lmeval.report.plots.picture import Picture
from jrt_lmeval.report.plots.shared import asked, bars_note, label_of, reach, scaled
from jrt_lmeval.report.plots.style import COLOURS, FAINT, INK, canvas, file_name, legend_below, line, styled
from jrt_lmeval.report.records import Cell, Collection
from jrt_lmeval.report.standard import rule

MOST_BARS = 40
BAR = 0.155
"""Inches that one bar takes: room for a 7 pt number beside it."""
NO_CONTEXT = "no_context"
_RULES = {"majority": "--"}


def by_layout(collection: Collection, metric: str) -> list[Picture] | str:
    """A bar for each result; dotted: the same model without the document; dashed: the commonest answer."""
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in collection.cells:
        if cell.mean(metric) is not None:
            groups[value_of(cell, "benchmark")].append(cell)
    if not groups:
        return f"no run has {metric}"
    return [benchmark_bars(benchmark, cells, metric) for benchmark, cells in groups.items()]


@styled
def benchmark_bars(benchmark: str, cells: Sequence[Cell], metric: str) -> Picture:
    """The bars of one benchmark, a block a model and setting."""
    shown = [cell for cell in cells if cell.control != NO_CONTEXT][:MOST_BARS]
    without = {cell.model: cell for cell in cells if cell.control == NO_CONTEXT}
    blocks: dict[str, list[Cell]] = defaultdict(list)
    for cell in shown:
        blocks[label_of(cell)].append(cell)
    alone = {cell.model: cell for cell in without.values() if not any(cell.model == c.model for c in shown)}
    for cell in alone.values():
        blocks[label_of(cell)] = []
    figure, (axis,) = canvas(0.55 + BAR * (len(shown) + 1.25 * len(blocks)))
    place, furthest, kinds = 0.0, 0.0, []
    for name, members in blocks.items():
        axis.text(0, place, f" {name}", va="center", transform=axis.get_yaxis_transform())
        start = place = place + 1
        for cell in sorted(members, key=lambda c: _place(condition(c))):
            kinds.append(condition(cell))
            furthest = max(furthest, _bar(axis, place, cell, metric))
            place += 1
        control = without.get((members or [alone[m] for m in alone if label_of(alone[m]) == name])[0].model)
        if control is not None:
            value = scaled(number_of(control, metric))
            axis.plot([value, value], [start - 0.6, max(place, start + 1) - 0.4], color=INK, linestyle=":", lw=1.2)
            furthest = max(furthest, value)
            place = max(place, start + 1)
        place += 0.25
    rules = _rules(axis, shown) if metric == "contains" else []
    furthest = max([furthest, *(value for _, value in rules)])
    unit = number_of(cells[0], metric).scale == 100
    axis.set(ylim=(place - 0.25, -0.8), xlim=(0, max(furthest * 1.14, 1e-9)), xlabel=f"{metric}, %" if unit else metric)
    axis.set_yticks([])
    axis.set_title(benchmark)
    entries: list[tuple[str, Any]] = [
        (kind, Patch(color=colour_of(kind))) for kind in sorted(dict.fromkeys(kinds), key=_place)
    ]
    if without:
        entries.append(("same model, no document", line(color=INK, linestyle=":", linewidth=1.2)))
    entries += [
        (name, line(color=FAINT, linestyle=_RULES[key])) for key, name in BASELINES.items() if key in dict(rules)
    ]
    legend_below(figure, entries, columns=2)
    left = len([cell for cell in cells if cell.control != NO_CONTEXT]) - len(shown)
    more = f" {left} further results are in the tables alone." if left else ""
    caption = (
        f"{metric} on {benchmark} by what was read, {asked(shown or cells, metric)}. {bars_note(shown, metric)}{more}"
    )
    return Picture(
        f"recall_{file_name(benchmark)}", f"{metric} on {benchmark} by prompt layout", caption.strip(), figure
    )


def colour_of(kind: str) -> str:
    """The colour of a layout or control, the same in all pictures."""
    return COLOURS[ORDER.index(kind) % len(COLOURS)] if kind in ORDER else FAINT


def _place(kind: str) -> int:
    return ORDER.index(kind) if kind in ORDER else len(ORDER)


def _bar(axis: Any, place: float, cell: Cell, metric: str) -> float:
    """Draw a bar with its interval and number; returns how far it reaches."""
    number = number_of(cell, metric)
    value, (below, above) = scaled(number), reach(number)
    kind = condition(cell)
    axis.barh(
        place,
        value,
        0.86,
        color=colour_of(kind),
        hatch="" if cell.control == "none" else "////",
        edgecolor="white",
        lw=0,
    )
    if below or above:
        axis.errorbar(value, place, xerr=[[below], [above]], color=INK, lw=0.8)
    axis.annotate(f"{value:.{number.digits}f}", (value + above, place), (3, 0), textcoords="offset points", va="center")
    return value + above


def _rules(axis: Any, cells: Sequence[Cell]) -> list[tuple[str, float]]:
    """Lines of what rules score that need no model, by the first run that logged them."""
    for cell in cells:
        if cell.columns is not None and cell.control == "none" and any(name in cell.columns.figures for name in _RULES):
            found = [(name, scaled(rule(cell.columns, name))) for name in _RULES]
            found = [(name, value) for name, value in found if not math.isnan(value)]
            for name, value in found:
                axis.axvline(value, color=FAINT, linestyle=_RULES[name], zorder=0)
            return found
    return []
