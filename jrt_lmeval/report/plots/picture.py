"""A picture: its style, its size, the names of its runs and how it is saved."""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import matplotlib
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from jrt_lmeval.report.cells import ORDER, Cell, condition
from jrt_lmeval.report.tables import Number, spread

WIDTH = 3.3
"""Inches: a column of a two-column paper."""
INK = "#1b1b1d"
"""Colour of words, axes and error bars and of nothing else, so that a page can replace it by its own."""
FAINT = "#8a8a8f"
"""Colour of what was not measured here, legible on white and on black."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#7A5195")
"""Okabe and Ito's palette, with a violet instead of yellow and black, which vanish on white or on black."""
MARKERS = "os^Dv<>"
SMALL = 7.0
TITLE = 44
"""Number of characters of a title that fit above the axes."""
CHARACTERS = 62
"""Number of characters that fit beside the handle of a legend."""

STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"], "font.size": SMALL, "axes.labelsize": SMALL, "axes.titlesize": 7.5,
    "xtick.labelsize": SMALL, "ytick.labelsize": SMALL, "legend.fontsize": SMALL, "figure.titlesize": 8.0,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6, "xtick.major.width": 0.6,
    "ytick.major.width": 0.6, "lines.linewidth": 1.0, "lines.markersize": 3.5, "legend.frameon": False,
    "errorbar.capsize": 1.5, "axes.titlelocation": "left", "axes.axisbelow": True, "hatch.linewidth": 0.5,
    "svg.fonttype": "none", "svg.hashsalt": "jrt_lmeval", "savefig.dpi": 300,
}  # fmt: skip
SAVING: dict[str, dict[str, Any]] = {
    "png": {"facecolor": "white"},
    "svg": {"transparent": True, "metadata": {"Date": None}},
    "pdf": {"metadata": {"CreationDate": None}},
}
"""Format -> options of matplotlib's `savefig` with which the same logs give the same file."""


@contextmanager
def styled() -> Iterator[None]:
    """Draw in this style, whatever the user's own settings of matplotlib are; also a decorator."""
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE}):
        yield


@dataclass(frozen=True)
class Picture:
    """A picture, which is drawn when its caption or its figure is first asked for.

    Attributes:
        name: short name for files, such as `recall_factbook`, of which there is one in a report.
        title: what it shows.
        draw: returns the caption, with everything that must be read with the picture (metric, unit, n, documents, what
            the error bars are), and a `matplotlib.figure.Figure` a column wide.
    """

    name: str
    title: str
    draw: Callable[[], tuple[str, Figure]]

    @cached_property
    def _drawn(self) -> tuple[str, Figure]:
        with styled():
            caption, figure = self.draw()
            # Laid out once: each further layout moves everything by a millionth, so that two files would differ.
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        return caption, figure

    @property
    def caption(self) -> str:
        return self._drawn[0]

    @property
    def figure(self) -> Figure:
        return self._drawn[1]

    def saved(self, kind: str) -> bytes:
        """The picture as `png` on white, or as `svg` or `pdf`; the same logs give the same bytes.

        In the SVG words are words, and what has the colour `INK` may be given `currentColor` instead.
        """
        out = io.BytesIO()
        with styled():
            self.figure.savefig(out, format=kind, **SAVING[kind])
        return out.getvalue()


@dataclass(frozen=True)
class NotDrawn:
    """A picture that these logs do not allow, and what they lack for it."""

    name: str
    title: str
    why: str


# -------------------------------------------------------------------- parts of a figure


def canvas(height: float, rows: int = 1, columns: int = 1, **shared: Any) -> tuple[Figure, list[Any]]:
    """A figure a column wide and `height` inches high, without any window system, and its axes row by row.

    `shared` is for `Figure.subplots`, such as `sharey=True`.
    """
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, **shared).flat)


def look(at: int) -> dict[str, Any]:
    """Colour and marker of a series; neighbours differ in both."""
    return {"color": COLOURS[at % len(COLOURS)], "marker": MARKERS[(at + at // len(COLOURS)) % len(MARKERS)]}


def errorbars(axis: Any, x: Sequence[float], numbers: Sequence[Number], **how: Any) -> None:
    """Draw numbers, as tables show them, with their 95 % intervals."""
    below, above = zip(*(number.reach for number in numbers), strict=True)
    axis.errorbar(x, [number.scaled for number in numbers], yerr=[below, above], elinewidth=0.8, **how)


def legend(figure: Figure, entries: Sequence[tuple[str, Any]], columns: int = 1, above: bool = False) -> None:
    """A legend below or above the axes, one on each side at most; the figure grows by its height.

    Args:
        entries: words and what stands before them; long words are broken over lines.
        columns: of the legend, at most: one where a name is too long to stand beside another.
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


def log_ticks(axis: Axis) -> None:
    """Put round numbers along a logarithmic axis, however short it is."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 300 * low else (1.0,), numticks=6))
    axis.set_minor_formatter(NullFormatter())


# -------------------------------------------------------------------- names and captions


def file_name(text: str) -> str:
    """Text as part of a file's name: letters, digits, points and hyphens, with an underscore for anything else."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", text).strip("_")


def listed(words: Iterable[str]) -> str:
    """`a, b and c`."""
    words = list(words)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def place_of(kind: str) -> int:
    """Position of a layout or control (`cells.condition`) in `cells.ORDER`."""
    return ORDER.index(kind) if kind in ORDER else len(ORDER)


class Names:
    """Names of the runs of one picture.

    A setting of the task is part of a name if two runs of one layout differ in it. One that all runs have, such as the
    window, is in `label`; one that only some layouts have, such as the overlap, is in `detail`, so that the layouts of
    one model keep one label.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        values: dict[tuple[str, str], set[str]] = defaultdict(set)
        for cell in cells:
            for name, value in _settings(cell).items():
                values[name, condition(cell)].add(value)
        differ = dict.fromkeys(name for (name, _), found in values.items() if len(found) > 1)
        self._shared = [name for name in differ if all(name in _settings(cell) for cell in cells)]
        self._details = [name for name in differ if name not in self._shared]

    def label(self, cell: Cell) -> str:
        """Model and the settings that differ, with a mark if only part of the task was asked."""
        part = f"[{cell.first.partly} of {cell.first.total}]" if cell.first.partly else ""
        return " ".join(word for word in (cell.model, *_told(cell, self._shared), part) if word)

    def detail(self, cell: Cell) -> str:
        """The settings of its layout that differ; often empty."""
        return " ".join(_told(cell, self._details))

    def full(self, cell: Cell) -> str:
        """Label and detail."""
        return f"{self.label(cell)} {self.detail(cell)}".strip()

    def series(self, cell: Cell) -> str:
        """Layout and all settings of the task that differ, without the model."""
        return " ".join([condition(cell), *_told(cell, [*self._shared, *self._details])])


def _settings(cell: Cell) -> dict[str, str]:
    return {name: str(value) for name, value in {**cell.first.settings, "version": cell.first.version}.items()}


def _told(cell: Cell, names: Sequence[str]) -> list[str]:
    settings = _settings(cell)
    return [f"{name.rpartition('.')[2]}={settings[name]}" for name in names if name in settings]


def asked(cells: Sequence[Cell], metric: str) -> str:
    """`n = 985 questions on 124 documents`, or ranges if runs were asked different numbers."""
    found = [interval for cell in cells if (interval := cell.interval(metric)) is not None]
    questions = spread([interval.n for interval in found] or [cell.first.asked for cell in cells])
    documents = [interval.clusters for interval in found if interval.clusters]
    return f"n = {questions} questions" + (f" on {spread(documents)} documents" if documents else "")


def bars_note(cells: Sequence[Cell], metric: str) -> str:
    """What error bars are in a picture of these runs."""
    clustered = [cell.by_document(metric) for cell in cells]
    if not clustered:
        return ""
    if all(clustered):
        return "Error bars: 95 % intervals, clustered by document."
    some = ", clustered by document where answers were logged, else" if any(clustered) else ""
    return f"Error bars: 95 % intervals{some} by question, which is too narrow where questions share documents."
