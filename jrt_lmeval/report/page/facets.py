"""What the page's filters choose by, and which runs stand behind a row or column of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jrt_lmeval.report.pivot import axes, condition, value_of
from jrt_lmeval.report.records import Cell
from jrt_lmeval.report.tables import Table

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
