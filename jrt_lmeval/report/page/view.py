"""Tables as the page shows them: which runs stand behind each row and column, and bars where numbers have intervals."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from jrt_lmeval.report.misses import KINDS
from jrt_lmeval.report.page.facets import Behind
from jrt_lmeval.report.records import Cell
from jrt_lmeval.report.tables import NOTES, PERCENT, Entry, Number, Table

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
class Shown:
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
class Line:
    """A row: its entries, and the numbers of the cells behind it; `parts` are shares for a stacked bar."""

    entries: tuple[Shown, ...]
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
    lines: tuple[Line, ...]
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
        lines.append(Line(entries, numbers, _parts(row) if table.name == "misses" else ()))
    columns = [tuple(behind.column(name) if table.name == "recall" else ()) for name in table.header]
    at = table.header.index("benchmark") if table.name == "recall" and "benchmark" in table.header else -1
    return View(table, tuple(lines), tuple(columns), _groups(table, lines, cells, at), at)


def _shown(entry: Entry, name: str, reach: float) -> Shown:
    if not isinstance(entry, Number):
        return Shown(entry or "–")
    text, _, rest = entry.text().replace("-", "−" if entry.value < 0 else "–").partition(" ")
    marks = tuple((mark, NOTES[mark]) for mark in entry.marks)
    value = "" if math.isnan(entry.value) else f"{entry.value:.8g}"
    centred = name == "differences"
    return Shown(text, rest, value, entry.best, marks, _bar(entry, name, centred, reach), centred)


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


def _parts(row: Sequence[Entry]) -> tuple[tuple[str, float], ...]:
    shares = [entry for entry in row if isinstance(entry, Number) and entry.scale == PERCENT]
    return tuple((kind, 100 * share.value) for kind, share in zip(KINDS, shares, strict=False) if share.value > 0)


def _groups(
    table: Table, lines: Sequence[Line], cells: Sequence[Cell], at: int
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
