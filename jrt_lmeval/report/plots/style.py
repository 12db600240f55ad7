"""How all pictures look: a column wide, nothing smaller than 7 pt, colours that the colour-blind tell apart."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

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


def legend_below(figure: Figure, entries: Sequence[tuple[str, Any]], columns: int = 1, characters: int = 62) -> None:
    """A legend under the axes; the figure grows by its height.

    Args:
        figure: with its axes.
        entries: words and what stands before them; long words are broken over lines.
        columns: of the legend.
        characters: that one column is wide.
    """
    names = [textwrap.fill(name, characters // columns) for name, _ in entries]
    lines = [name.count("\n") + 1 for name in names]
    tallest = sum(max(lines[at : at + columns]) for at in range(0, len(lines), columns)) + len(lines) / columns * 0.35
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.09 + tallest * SMALL * 1.2 / 72)
    figure.legend(
        [handle for _, handle in entries], names, loc="outside lower left", ncols=columns, handlelength=2.0,
        borderaxespad=0.1, columnspacing=1.0, labelspacing=0.35,
    )  # fmt: skip


def line(**look: Any) -> Line2D:
    """A line or marker for a legend."""
    return Line2D([], [], **look)


def file_name(text: str) -> str:
    """Text as part of a file's name: letters, digits, points, hyphens and underscores."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "_" for letter in text)


def listed(words: Iterable[str]) -> str:
    """`a, b and c`."""
    words = list(words)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
