"""Recall against what it costs: bytes of state and seconds an answer, with published figures drawn in grey."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import mean
from typing import Any

from matplotlib.ticker import EngFormatter, FuncFormatter

from jrt_lmeval.report.pivot import condition, number_of, value_of
from jrt_lmeval.report.plots.picture import Picture
from jrt_lmeval.report.plots.shared import Names, asked, bars_note, numbered, parts, place_of, reach, scaled
from jrt_lmeval.report.plots.style import (
    COLOURS,
    FAINT,
    INK,
    MARKERS,
    canvas,
    file_name,
    legend,
    letter,
    line,
    listed,
    log_ticks,
    styled,
)
from jrt_lmeval.report.published import Published, published, state_bytes, timed
from jrt_lmeval.report.records import Cell, Collection

LETTERS = {"Transformer++": "T", "Mamba": "M", "Mamba-2": "N", "Based": "B", "JRT-RNN": "J"}
"""A published family -> the letter it is drawn as; small where the document was read twice."""
PAPER = "P"
_AVERAGED = "jrt_table1"

Point = tuple[float, float, str]
"""Cost, recall in percent, letter."""


def recall_and_cost(collection: Collection, metric: str) -> list[Picture] | str:
    """A picture a benchmark: recall against the state's bytes above, against seconds an answer below."""
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in collection.cells:
        if (
            cell.mean(metric) is not None
            and cell.control == "none"
            and not (math.isnan(size(cell)) and math.isnan(time(cell)))
        ):
            groups[value_of(cell, "benchmark")].append(cell)
    if not groups:
        return f"no run with {metric} logged the bytes of its state or the seconds of its answers"
    return [
        benchmark_cost(benchmark, part, metric, number)
        for benchmark, cells in groups.items()
        for number, part in enumerate(parts(cells, Names(cells).label, len(COLOURS)), 1)
    ]


def size(cell: Cell) -> float:
    """Bytes of the state of one sequence after its prompt, mean over the answers; NaN where it was not logged."""
    return cell.figure("state_bytes")


def time(cell: Cell) -> float:
    """Seconds an answer: the median, or the mean where single answers were not logged; NaN where neither was."""
    median = cell.median("seconds")
    return cell.figure("seconds") if math.isnan(median) else median


@styled
def benchmark_cost(benchmark: str, cells: Sequence[Cell], metric: str, number: int = 1) -> Picture:
    """Recall on one benchmark against both costs; colours are models, markers are layouts."""
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
        f"{asked(cells, metric)}."
    ]
    told += [bars_note(cells, metric), _missing(cells)]
    told += (
        [f"Grey letters: {source}; small letters: read twice; state counted from configurations at 2 bytes a number."]
        if points
        else []
    )
    told += (
        [f"{PAPER}: the recall paper's Tables 1 and 3, models of about 1B on a GPU, no task named."] if printed else []
    )
    told += (
        ["Published figures are of other models, data and machines and have no errors."] if points or printed else []
    )
    name = numbered(f"cost_{file_name(benchmark)}", number)
    return Picture(name, f"{metric} on {benchmark} against state and time", " ".join(t for t in told if t), figure)


def published_points(benchmark: str) -> tuple[list[Point], str]:
    """What the papers print of a benchmark, or, of one that they do not have, of the mean of their six tasks.

    Returns:
        Points of bytes and percent, and what they are in words.
    """
    found = [number for number in published() if number.task == benchmark and number.setting in ("once", "flat")]
    if found:
        return [
            point for n in found if (point := _point(n, n.value))
        ], f"published {benchmark} of {listed(sorted({n.source for n in found}))}"
    rows: dict[tuple[str, str, str, str], list[Published]] = defaultdict(list)
    for number in published(_AVERAGED):
        rows[number.model, number.params, number.tokens, number.setting].append(number)
    points = [point for row in rows.values() if (point := _point(row[0], mean(n.value for n in row)))]
    source = f"means over the six tasks of {found_source(rows)}"
    return points, source


def found_source(rows: dict[tuple[str, str, str, str], list[Published]]) -> str:
    """The paper and table that rows are of."""
    return next(iter(rows.values()))[0].source


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
