"""The rows of a split as lm_eval is handed them: each knows where it stands, and may bear a log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class SplitRow(dict):
    """A row that is asked.

    Attributes:
        split: the split it is of.
        number: its place among the rows of the split that are asked, from 0.
    """

    def __init__(self, row: Mapping[str, Any], split: str, number: int) -> None:
        super().__init__(row)
        self.split, self.number = split, number


class Rows(list[SplitRow]):
    """The rows of a split that are asked; lm_eval asks for their fields."""

    def __init__(self, rows: Iterable[Mapping[str, Any]], split: str) -> None:
        super().__init__(SplitRow(row, split, number) for number, row in enumerate(rows))

    @property
    def features(self) -> dict[str, None]:
        return dict.fromkeys(self[0])


class Sample(dict):
    """A row as the samples log shows it: with the field `jrt`, which the row itself does not have."""

    def __init__(self, row: SplitRow) -> None:
        super().__init__(row, jrt={})
        self.row = row


def source_row(doc: dict[str, Any]) -> dict[str, Any]:
    """The row that a sample shows, or the row itself."""
    return doc.row if isinstance(doc, Sample) else doc
