"""The rows of a split as lm_eval is handed them, and which process asks which of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any


class SplitRow(dict):
    """A row that is asked.

    Attributes:
        split: the split that it belongs to.
        number: its place among the rows of the split that are asked, from 0.
        place: its place among all rows of the split as they were read, from 0: what `--samples` and the log name.
    """

    def __init__(self, row: Mapping[str, Any], split: str, number: int, place: int) -> None:
        super().__init__(row)
        self.split, self.number, self.place = split, number, place


class Rows(list[SplitRow]):
    """The rows of a split that are asked; lm_eval asks for their fields."""

    def __init__(self, rows: Iterable[tuple[int, Mapping[str, Any]]], split: str) -> None:
        super().__init__(SplitRow(row, split, number, place) for number, (place, row) in enumerate(rows))

    @property
    def features(self) -> dict[str, None]:
        return dict.fromkeys(self[0])


class LoggedRow(dict):
    """A row as the samples log shows it: with the field `jrt`, which the row itself does not have."""

    def __init__(self, row: SplitRow) -> None:
        super().__init__(row, jrt={})
        self.row = row


def source_row(doc: dict[str, Any]) -> dict[str, Any]:
    """The row that a sample shows, or the row itself."""
    return doc.row if isinstance(doc, LoggedRow) else doc


def ranks(documents: Sequence[Hashable], lengths: Sequence[int], processes: int) -> list[int]:
    """Split rows among processes by document, so that all have about as much to read.

    With fewer documents than processes, the questions on the longest are split too, so that none is without rows as
    long as there are enough.

    Args:
        documents: per row what tells its document from others.
        lengths: per row how long its document is, in any unit.
        processes: how many there are.

    Returns:
        The process of each row, from 0. The same in every process that asks.
    """
    by_document: dict[Hashable, list[int]] = {}
    for row, document in enumerate(documents):
        by_document.setdefault(document, []).append(row)
    groups = list(by_document.values())

    def weight(rows: Sequence[int]) -> int:
        return sum(lengths[row] for row in rows)

    while len(groups) < min(processes, len(documents)):
        largest = max((group for group in groups if len(group) > 1), key=weight)
        groups.remove(largest)
        groups += [largest[: len(largest) // 2], largest[len(largest) // 2 :]]
    loads = [(0, 0)] * processes
    chosen = [0] * len(documents)
    # the heaviest first, each to the process that has least
    for group in sorted(groups, key=lambda rows: (-weight(rows), rows[0])):
        process = min(range(processes), key=lambda number: (loads[number], number))
        for row in group:
            chosen[row] = process
        # a document of no length is still a document to ask about
        loads[process] = (loads[process][0] + weight(group), loads[process][1] + len(group))
    return chosen
