"""How all pictures look: a column wide, nothing smaller than 7 pt, colours that the colour-blind tell apart."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

WIDTH = 3.3
"""Inches: a column of a two-column paper."""
INK = "#1b1b1d"
"""Words, axes and error bars; used for nothing else, so that a page can put its own colour in its place."""
FAINT = "#8a8a8f"
"""What is not measured here, and rules that need no model: reads on white and on black."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#7A5195")
"""Okabe and Ito's palette without its yellow and black, which vanish on white or on black, and a violet."""
MARKERS = "os^Dv<>"
DASHES = ("-", "--", ":", "-.")
SMALL = 7.0
TITLE = 44
"""Characters of a title that fit above axes."""
CHARACTERS = 62
"""That fit into the width beside the handle of a legend."""

STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"], "font.size": SMALL, "axes.labelsize": SMALL, "axes.titlesize": 7.5,
    "xtick.labelsize": SMALL, "ytick.labelsize": SMALL, "legend.fontsize": SMALL, "figure.titlesize": 8.0,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6, "xtick.major.width": 0.6,
    "ytick.major.width": 0.6, "lines.linewidth": 1.0, "lines.markersize": 3.5, "legend.frameon": False,
    "errorbar.capsize": 1.5, "axes.titlelocation": "left", "axes.axisbelow": True, "hatch.linewidth": 0.5,
}  # fmt: skip
SAVING = {"svg.fonttype": "none", "svg.hashsalt": "jrt_lmeval"}

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Run a function that draws in this style, whatever the user's own settings of matplotlib are."""

    @wraps(draw)
    def inner(*given: P.args, **named: P.kwargs) -> R:
        with matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE}):
            return draw(*given, **named)

    return inner


def canvas(height: float, rows: int = 1, columns: int = 1, **shared: Any) -> tuple[Figure, list[Any]]:
    """A figure a column wide, without any window system, and its axes row by row.

    Args:
        height: inches.
        rows, columns: of axes.
        **shared: for `Figure.subplots`, such as `sharey=True`.
    """
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, **shared).flat)


def look(at: int) -> dict[str, Any]:
    """Colour, marker and dashes of the series at a place: neighbours differ in colour and marker both."""
    lap = at // len(COLOURS)
    return {
        "color": COLOURS[at % len(COLOURS)],
        "marker": MARKERS[(at + lap) % len(MARKERS)],
        "linestyle": DASHES[lap % len(DASHES)],
    }


def legend(figure: Figure, entries: Sequence[tuple[str, Any]], columns: int = 1, above: bool = False) -> None:
    """A legend below or above the axes; the figure grows by its height.

    Args:
        figure: with its axes.
        entries: words and what stands before them; long words are broken over lines.
        columns: of the legend, at most: one where a name is too long to stand beside another.
        above: above the axes; one legend on each side at most.
    """
    if any(len(name) > CHARACTERS // columns - 4 for name, _ in entries):
        columns = 1
    names = [textwrap.fill(name, CHARACTERS) for name, _ in entries]
    lines = [name.count("\n") + 1 for name in names]
    in_column = math.ceil(len(lines) / columns)  # filled column by column
    tallest = max(sum(lines[at : at + in_column]) for at in range(0, len(lines), in_column)) + 0.35 * in_column
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.1 + tallest * SMALL * 1.2 / 72)
    figure.legend(
        [handle for _, handle in entries], names, loc=f"outside {'upper' if above else 'lower'} left", ncols=columns,
        handlelength=2.0, borderaxespad=0.1, columnspacing=1.0, labelspacing=0.35,
    )  # fmt: skip


def line(**look: Any) -> Line2D:
    """A line or marker for a legend."""
    return Line2D([], [], **look)


def letter(text: str) -> Line2D:
    """A faint letter for a legend; in axes it is a text."""
    return line(color=FAINT, marker=rf"$\mathrm{{{text}}}$", linestyle="", markersize=5, markeredgewidth=0.2)


def log_ticks(axis: Axis) -> None:
    """Round numbers along a logarithmic axis, however short it is."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 300 * low else (1.0,), numticks=6))
    axis.set_minor_formatter(NullFormatter())


def file_name(text: str) -> str:
    """Text as part of a file's name: letters, digits, points and hyphens, an underscore for all between."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", text).strip("_")


def listed(words: Iterable[str]) -> str:
    """`a, b and c`."""
    words = list(words)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
