"""What several pictures need: numbers as they are drawn, names of runs, and what captions say of n."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TypeVar

from jrt_lmeval.report.pivot import ORDER, condition
from jrt_lmeval.report.records import Cell
from jrt_lmeval.report.tables import Number

T = TypeVar("T")


def scaled(number: Number) -> float:
    """A number as tables show it."""
    return number.value * number.scale


def reach(number: Number) -> tuple[float, float]:
    """How far the 95 % interval reaches below and above a number, as tables show it; 0 where there is none."""
    found = number.interval
    if found is None or math.isnan(found.low):
        return 0.0, 0.0
    return number.scale * (found.mean - found.low), number.scale * (found.high - found.mean)


class Names:
    """What the runs of one picture are called.

    A setting of the task is told where two runs of one layout differ in it: layouts differ in some by nature. One that
    all runs have, such as the window, is part of a run's name; one that only some layouts have, such as the overlap, is
    a detail: it does not part the layouts of one model.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        settings = [_settings(cell) for cell in cells]
        values: dict[tuple[str, str], set[str]] = defaultdict(set)
        for cell, found in zip(cells, settings, strict=True):
            for name, value in found.items():
                values[name, condition(cell)].add(value)
        differ = list(dict.fromkeys(name for (name, _), found in values.items() if len(found) > 1))
        self._shared = [name for name in differ if all(name in found for found in settings)]
        self._details = [name for name in differ if name not in self._shared]

    def label(self, cell: Cell) -> str:
        """Model, and the settings that differ; parts of a task marked."""
        part = f"[{cell.first.partly} of {cell.first.total}]" if cell.first.partly else ""
        return " ".join(word for word in (cell.model, *_told(cell, self._shared), part) if word)

    def detail(self, cell: Cell) -> str:
        """The settings of its layout that differ; often empty."""
        return " ".join(_told(cell, self._details))

    def settings(self, cell: Cell) -> str:
        """All settings of the task that differ, the model aside; often empty."""
        return " ".join(_told(cell, [*self._shared, *self._details]))


def _settings(cell: Cell) -> dict[str, str]:
    return {name: str(value) for name, value in {**cell.first.settings, "version": cell.first.version}.items()}


def _told(cell: Cell, names: Sequence[str]) -> list[str]:
    settings = _settings(cell)
    return [f"{name.rpartition('.')[2]}={settings[name]}" for name in names if name in settings]


def asked(cells: Sequence[Cell], metric: str) -> str:
    """`n = 985 questions on 124 documents`, or the range where runs were asked different numbers."""
    found = [interval for cell in cells if (interval := cell.interval(metric)) is not None]
    questions = _range([interval.n for interval in found] or [cell.first.asked for cell in cells])
    documents = [interval.clusters for interval in found if interval.clusters]
    return f"n = {questions} questions" + (f" on {_range(documents)} documents" if documents else "")


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def bars_note(cells: Sequence[Cell], metric: str) -> str:
    """What error bars are in a picture of these runs."""
    clustered = [cell.by_document(metric) for cell in cells]
    if not clustered:
        return ""
    if all(clustered):
        return "Error bars: 95 % intervals, clustered by document."
    some = "Error bars: 95 % intervals" + (
        ", clustered by document where answers were logged, else" if any(clustered) else ""
    )
    return f"{some} by question, which is too narrow where questions share documents."


def parts(cells: Sequence[Cell], name: Callable[[Cell], str], most: int) -> list[list[Cell]]:
    """Cells in as many parts as it takes so that none holds more than `most` names: nothing is left out of pictures."""
    names = list(dict.fromkeys(name(cell) for cell in cells))
    return [[cell for cell in cells if name(cell) in group] for group in batched(names, most)]


def batched(items: Sequence[T], most: int) -> list[Sequence[T]]:
    """The items in runs of so many, the last one shorter."""
    return [items[at : at + most] for at in range(0, len(items), most)]


def numbered(name: str, number: int) -> str:
    """A picture's name; from the second part on with its number."""
    return name if number == 1 else f"{name}_{number}"


def place_of(kind: str) -> int:
    """Where a layout or control (`pivot.condition`) stands among all, in the order in which they are read."""
    return ORDER.index(kind) if kind in ORDER else len(ORDER)
