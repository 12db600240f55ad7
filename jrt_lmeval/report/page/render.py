"""A report as one HTML page: everything in it, nothing fetched."""

from __future__ import annotations

import base64
import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jrt_lmeval import __version__
from jrt_lmeval.report.cells import Cell, Collection, axes, condition, value_of
from jrt_lmeval.report.misses import KINDS
from jrt_lmeval.report.page.browser import MOST_QUESTIONS, Browser, browser
from jrt_lmeval.report.tables import NOTES, PERCENT, Number, Report, Table, TableEntry

if TYPE_CHECKING:
    from jrt_lmeval.report.plots.picture import NotDrawn, Picture

    Inlined = tuple[Picture, str, str]

FOLDER = Path(__file__).parent
ROOM = 980_000
"""Bytes of a page without samples: pictures have what the tables leave of it."""
SCRIPTS = ("page.js", "list.js", "prompt.js")


def page(report: Report, collection: Collection, metric: str, most: int = MOST_QUESTIONS) -> str:
    """The page.

    Args:
        report: the tables.
        collection: the runs behind them.
        metric: what is drawn, and what decides whether an answer is right.
        most: questions in the browser of answers; 0 leaves it out.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from jrt_lmeval.report.plots.gallery import gallery
    from jrt_lmeval.report.plots.picture import svg

    cells = collection.cells
    drawn, missing = gallery(collection, metric)
    inlined = [(picture, own(picture.name), inline(svg(picture), picture.name)) for picture in drawn]
    script = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    render = partial(
        environment.get_template("page.html").render,
        version=__version__,
        report=report,
        sections=sections([view(table, cells) for table in report.tables]),
        metric=metric,
        facet_names=NAMES,
        choices=choices(collection),
        facets=embedded([facets(cell) for cell in cells]),
        kinds=[kind.replace(" ", "-") for kind in KINDS],
        css=(FOLDER / "page.css").read_text(encoding="utf-8"),
        script=script,
        # the only script that runs: one that a log smuggled in would not
        script_hash=base64.b64encode(sha256(script.encode()).digest()).decode(),
    )
    bare = render(pictures=[], missing=missing, samples=None, samples_size="")
    shown, left = within(inlined, ROOM - len(bare.encode()))
    found = browser(cells, metric, most)
    return render(pictures=shown, missing=[*missing, *left], samples=found, samples_size=_size(found))


def within(pictures: Sequence[Inlined], budget: int) -> tuple[list[Inlined], list[NotDrawn]]:
    """The pictures that a page has room for, in their order, and the others: the first of each kind come first."""
    from jrt_lmeval.report.plots.picture import NotDrawn

    rank: dict[str, int] = {}
    kinds = [picture.name.partition("_")[0] for picture, _, _ in pictures]
    turns = []
    for at, kind in enumerate(kinds):
        rank[kind] = rank.get(kind, -1) + 1
        turns.append((rank[kind], at))
    taken: set[int] = set()
    for _, at in sorted(turns):
        if len(pictures[at][2]) <= budget:
            budget -= len(pictures[at][2])
            taken.add(at)
    why = "left out to keep the page small; `jrt-eval report --out FOLDER` writes every picture"
    left = [NotDrawn(one.name, one.title, why) for at, (one, _, _) in enumerate(pictures) if at not in taken]
    return [pictures[at] for at in sorted(taken)], left


def sections(views: Sequence[View]) -> list[tuple[str, str, list[View]]]:
    """Section, title and tables, in the order of the page; empty sections left out."""
    placed = {name: section for section, (_, names) in SECTIONS.items() for name in names}
    last = list(SECTIONS)[-1]
    found = [
        (section, title, [one for one in views if placed.get(one.table.name, last) == section])
        for section, (title, _) in SECTIONS.items()
    ]
    return [(section, title, inside) for section, title, inside in found if inside]


def choices(collection: Collection) -> dict[str, list[str]]:
    """What each filter can be set to."""
    rows = [facets(cell) for cell in collection.cells]
    return {name: list(dict.fromkeys(row[at] for row in rows)) for at, name in enumerate(NAMES)}


def embedded(content: Any) -> str:
    """JSON for a script element: nothing in it can end the element."""
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")


def own(name: str) -> str:
    """A picture's name as the start of its ids."""
    return "picture-" + re.sub(r"\W", "_", name)


def inline(svg: str, name: str) -> str:
    """A picture for the page: its ids are its own, its ink is the page's, its words are read out as one picture."""
    from jrt_lmeval.report.plots.picture import FAINT, INK

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", svg)
    mark = own(name)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{mark}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{mark}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{mark}-\1)", svg)
    svg = svg.replace(INK, "currentColor").replace(FAINT, "var(--dim)")
    svg = re.sub(r'\s(?:d|x|y|points)="[^"]*"', lambda match: re.sub(r"(\.\d\d)\d+", r"\1", match[0]), svg)
    return svg.replace("<svg", f'<svg role="img" aria-labelledby="{mark}-title"', 1)


def _size(found: Browser | None) -> str:
    if found is None:
        return ""
    return f"{found.size / 1e6:.1f} MB" if found.size > 1e6 else f"{found.size / 1e3:.0f} KB"


SECTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "summary": ("Summary", ("recall", "pivot", "rules", "published", "others")),
    "comparisons": ("Paired comparisons", ("differences", "ties")),
    "misses": ("Misses", ("misses", "distance")),
    "runs": ("Runs", ("runs",)),
}
"""Section -> its title and the names of its tables. Tables named nowhere here stand in the last section."""

_BARS = frozenset(("recall", "pivot", "rules"))
_ROWS = {
    "dropped": "dropped", "document_cut": "with the document cut",
    "answer_outside": "without the answer in what is read",
    "no_counterfactual": "without a counterfactual", "question_missing": "without a question",
    "over_budget": "over the budget", "levels_missing": "without a level",
    "answer_displaced": "with the answer displaced", "no_question_match": "without a word of the question",
    "blank_answer": "with a blank accepted answer", "skipped": "not read by the model",
}  # fmt: skip
"""Counts of rows, as tasks log them -> their words."""


@dataclass(frozen=True)
class ShownEntry:
    """An entry of a table.

    Attributes:
        text: what stands there; of a number, without what follows its first space.
        rest: of a number, its interval.
        value: what it sorts by; empty for words.
        best: as `Number.best`.
        marks: (mark, what it means).
        bar: `left, right, middle` of its interval in per cent of the bar's length, or None.
        centred: whether the bar's middle is 0.
    """

    text: str
    rest: str = ""
    value: str = ""
    best: bool = False
    marks: tuple[tuple[str, str], ...] = ()
    bar: tuple[float, float, float] | None = None
    centred: bool = False


@dataclass(frozen=True)
class ShownRow:
    """A row: its entries, and the numbers of the cells behind it; `parts` are shares for a stacked bar."""

    entries: tuple[ShownEntry, ...]
    cells: tuple[int, ...]
    parts: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class View:
    """A table of the page.

    Attributes:
        table: what it shows.
        lines: its rows.
        columns: of each column the cells that it is about; empty for a column about all.
        groups: rows under a common heading: heading, note, numbers of rows. One without heading for most tables.
        left_out: the column that the headings say, or -1.
    """

    table: Table
    lines: tuple[ShownRow, ...]
    columns: tuple[tuple[int, ...], ...]
    groups: tuple[tuple[str, str, tuple[int, ...]], ...]
    left_out: int = -1


def view(table: Table, cells: Sequence[Cell]) -> View:
    """A table with what the page needs to filter it and to draw its bars."""
    behind = Behind(cells)
    reach = _reach(table)
    lines = []
    for row in table.rows:
        numbers = tuple(behind.row(table, row))
        entries = tuple(_shown(entry, table.name, reach) for entry in row)
        lines.append(ShownRow(entries, numbers, _parts(row) if table.name == "misses" else ()))
    columns = [tuple(behind.column(name) if table.name == "recall" else ()) for name in table.header]
    at = table.header.index("benchmark") if table.name == "recall" and "benchmark" in table.header else -1
    return View(table, tuple(lines), tuple(columns), _groups(table, lines, cells, at), at)


def _shown(entry: TableEntry, name: str, reach: float) -> ShownEntry:
    if not isinstance(entry, Number):
        return ShownEntry(entry or "–")
    text, _, rest = entry.text().replace("-", "−" if entry.value < 0 else "–").partition(" ")
    marks = tuple((mark, NOTES[mark]) for mark in entry.marks)
    value = "" if math.isnan(entry.value) else f"{entry.value:.8g}"
    centred = name == "differences"
    return ShownEntry(text, rest, value, entry.best, marks, _bar(entry, name, centred, reach), centred)


def _bar(entry: Number, name: str, centred: bool, reach: float) -> tuple[float, float, float] | None:
    found = entry.interval
    if found is None or entry.scale != PERCENT or not (name in _BARS or centred) or math.isnan(found.low):
        return None
    ends = (found.low, found.high, entry.value)
    low, high, middle = (50 + 50 * end / reach if centred else 100 * end for end in ends)
    return tuple(round(min(100.0, max(0.0, place)), 1) for place in (low, high, middle))  # type: ignore[return-value]


def _reach(table: Table) -> float:
    """The largest distance from 0 of any interval of a table of differences."""
    found = [e.interval for row in table.rows for e in row if isinstance(e, Number) and e.interval is not None]
    return max((abs(end) for one in found for end in (one.low, one.high) if not math.isnan(end)), default=1.0) or 1.0


def _parts(row: Sequence[TableEntry]) -> tuple[tuple[str, float], ...]:
    shares = [entry for entry in row if isinstance(entry, Number) and entry.scale == PERCENT]
    return tuple((kind, 100 * share.value) for kind, share in zip(KINDS, shares, strict=False) if share.value > 0)


def _groups(
    table: Table, lines: Sequence[ShownRow], cells: Sequence[Cell], at: int
) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    """The main table's rows by benchmark, with what was asked and what is not in the numbers."""
    if at < 0:
        return (("", "", tuple(range(len(lines)))),)
    groups: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(table.rows):
        groups[str(row[at])].append(number)
    return tuple(
        (name, asked([cells[cell] for row in rows for cell in lines[row].cells]), tuple(rows))
        for name, rows in groups.items()
    )


def asked(cells: Sequence[Cell]) -> str:
    """How much was asked, of what part, and what was cut or dropped, over the runs of a benchmark."""
    cells = [cell for cell in cells if cell.control == "none"] or cells  # a control drops the answer on purpose
    parts = [f"n = {_range({cell.first.asked for cell in cells})} questions"]
    documents = {cell.columns.documents for cell in cells if cell.columns is not None and cell.columns.by_document}
    parts += [f"{_range(documents)} documents"] if documents else []
    parted = [cell.first for cell in cells if cell.first.partly]
    parts += sorted({f"only part asked: {first.partly} of {first.total:,}" for first in parted})
    counts: dict[str, set[int]] = defaultdict(set)
    for cell in cells:
        rows = cell.first.block.get("rows")
        skipped = {} if cell.columns is None else {"skipped": cell.columns.skipped}
        for name, count in ({**rows, **skipped} if isinstance(rows, dict) else skipped).items():
            counts[name].add(count)
    parts += [f"{_range(counts[name])} {words}" for name, words in _ROWS.items() if any(counts[name])]
    return "; ".join(parts)


def _range(counts: set[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


NAMES = ("model", "task", "layout", "prefix")
"""The filters, in the order in which they are shown; `text` is one more, for answers alone."""


def facets(cell: Cell) -> tuple[str, ...]:
    """What a cell has for each of `NAMES`; `-` for a model without a prefix policy."""
    return cell.model, value_of(cell, "benchmark"), condition(cell), value_of(cell, "prefix") or "-"


class Behind:
    """Finds the cells behind a row or column of a table by the words that stand there.

    Args:
        cells: the report's; what is found are numbers in their order.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = cells
        self._axes = frozenset(axes(cells))
        self._full: dict[str, list[int]] = {}
        for number, cell in enumerate(cells):
            self._full.setdefault(f"{cell.model}, {cell.label}", []).append(number)

    def row(self, table: Table, row: Sequence[object]) -> list[int]:
        """Cells behind a row; none where its words name no run, as with published figures."""
        words = dict(zip(table.header[: table.left], map(str, row), strict=False))
        if "first" in words and "second" in words:
            return self._pair(words["first"], words["second"])
        known = {name: word for name, word in words.items() if name in self._axes}
        return [number for number, cell in enumerate(self.cells) if known and _all_hold(cell, known)]

    def column(self, name: str) -> list[int]:
        """Cells of a condition that heads a column."""
        return [number for number, cell in enumerate(self.cells) if condition(cell) == name]

    def _pair(self, first: str, second: str) -> list[int]:
        one = self._full.get(first, [])
        other = self._full.get(second, [])
        if one and not other:  # of one model: its name stands only once
            other = self._full.get(f"{self.cells[one[0]].model}, {second}", [])
        return [*one, *other]


def _all_hold(cell: Cell, words: Mapping[str, str]) -> bool:
    return all(
        word in (cell.task, cell.label) or word.startswith(f"{cell.label} [") if name == "task" else
        value_of(cell, name) == word
        for name, word in words.items()
    )  # fmt: skip
