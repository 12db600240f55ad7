"""The printed tables of the paper, from `results/published/recall_paper.yaml`; never mixed with measured numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml

from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.paths import published_dir

FILE = "recall_paper.yaml"


@dataclass(frozen=True)
class PrintedTable:
    """One printed table.

    Attributes:
        title: as printed, with its number.
        columns: what the figures are, such as `recall_percent`, `inference_ms` or `perplexity`.
        rows: row label as printed -> its figures, in the order of the columns.
    """

    title: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[float, ...]]

    def value(self, row: str, column: str) -> float | None:
        """A figure, or None where the paper prints none."""
        if row not in self.rows or column not in self.columns:
            return None
        return self.rows[row][self.columns.index(column)]


def printed(table: str) -> PrintedTable:
    """The printed table called `prefix`, `feature_map` or `prompt`.

    Raises:
        JRTError: no such table, or a row with more or fewer figures than columns; names the file and the row.
    """
    tables = _content()["tables"]
    if table not in tables:
        raise unknown("printed table", table, tables)
    content = tables[table]
    rows = {name: tuple(float(value) for value in values) for name, values in content["rows"].items()}
    for name, values in rows.items():
        if len(values) != len(content["columns"]):
            raise JRTError(f"{FILE}, {table}: {name} has {len(values)} figures for {len(content['columns'])} columns.")
    return PrintedTable(content["title"], tuple(content["columns"]), rows)


def source() -> str:
    """The paper, as it is cited."""
    return str(_content()["source"])


@lru_cache(maxsize=1)
def _content() -> dict[str, Any]:
    return yaml.safe_load((published_dir() / FILE).read_text(encoding="utf-8"))
