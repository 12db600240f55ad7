"""The papers' numbers from `results/published`, each with its paper and table, apart from measured ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.paths import published_dir

PAPER = "recall_paper.yaml"
BYTES_PER_NUMBER = 2


@dataclass(frozen=True)
class Published:
    """One number of a paper.

    Attributes:
        model: name as printed.
        params: parameters, such as `1.3B`.
        tokens: training tokens, such as `10B`.
        task: our name of the task, such as `nq_1024`.
        context_length: number of tokens to which a copy of the document was cut; None for whole documents.
        setting: `once`, `flat` (JRT-Prompt), `two_shot`, or how JRT-RNN's prefix was filled on short documents:
            `left_pad`, `read_twice`, `iterate`.
        value: `contains` in percent.
        source: paper and table.
    """

    model: str
    params: str
    tokens: str
    task: str
    context_length: int | None
    setting: str
    value: float
    source: str


def published(table: str | None = None) -> tuple[Published, ...]:
    """The numbers of one table (`jrt_table1`, ...) or of all, in the order in which they are printed.

    Raises:
        JRTError: no such table, or a row with a wrong number of values; names the file and the row.
    """
    files = {file.stem: file for file in sorted(published_dir().glob("jrt_*.yaml"))}
    if table is not None and table not in files:
        raise unknown("published table", table, files)
    wanted = files.values() if table is None else [files[table]]
    return tuple(number for file in wanted for number in _numbers(file))


def _numbers(file: Path) -> Iterator[Published]:
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    for row in content["rows"]:
        model, params, tokens = (str(row[key]) for key in ("model", "params", "tokens"))
        for setting, values in row["values"].items():
            if len(values) != len(content["columns"]):
                raise JRTError(
                    f"{file}: {model} {params}/{tokens}, {setting}: {len(values)} values for "
                    f"{len(content['columns'])} columns; write null where the table has none."
                )
            for column, value in zip(content["columns"], values, strict=True):
                if value is not None:
                    place = (column["task"], column["context_length"], setting)
                    yield Published(model, params, tokens, *place, _percent(value, file), content["source"])


def _percent(value: Any, file: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 100:
        raise JRTError(f"{file}: {value!r} is not a percentage; it must be a number from 0 to 100.")
    return float(value)


def state_bytes(number: Published, tokens_per_copy: int = 1024) -> float:
    """Bytes of the state that the model of a published number kept of one prompt; NaN if it is not known.

    They are counted from configurations (`state_elements.yaml`), at two bytes a number as these models were run. The
    state of attention grows with what was read: `context_length` tokens, or else `tokens_per_copy`, once or twice.
    """
    elements = _elements().get(f"{number.model} {number.params}")
    if elements is None:
        return math.nan
    tokens = (number.context_length or tokens_per_copy) * (2 if number.setting in ("flat", "read_twice") else 1)
    return BYTES_PER_NUMBER * float(elements.get("fixed", 0) + elements.get("per_token", 0) * tokens)


@lru_cache(maxsize=1)
def _elements() -> dict[str, dict[str, int]]:
    file = published_dir() / "state_elements.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8"))["models"]


@dataclass(frozen=True)
class PrintedTable:
    """One printed table of the paper (`recall_paper.yaml`).

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
    tables = _paper()["tables"]
    if table not in tables:
        raise unknown("printed table", table, tables)
    content = tables[table]
    rows = {name: tuple(float(value) for value in values) for name, values in content["rows"].items()}
    for name, values in rows.items():
        if len(values) != len(content["columns"]):
            raise JRTError(f"{PAPER}, {table}: {name} has {len(values)} figures for {len(content['columns'])} columns.")
    return PrintedTable(content["title"], tuple(content["columns"]), rows)


def source() -> str:
    """The paper of the printed tables, as it is cited."""
    return str(_paper()["source"])


@lru_cache(maxsize=1)
def _paper() -> dict[str, Any]:
    return yaml.safe_load((published_dir() / PAPER).read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Timed:
    """A row of the paper's tables that has a time: recall in percent and milliseconds, no task named."""

    row: str
    recall: float
    milliseconds: float


def timed() -> tuple[Timed, ...]:
    """The rows of the paper's tables that print recall beside a time."""
    tables = [printed(table) for table in _paper()["tables"]]
    found = [table for table in tables if table.columns == ("recall_percent", "inference_ms")]
    return tuple(Timed(row, *values) for table in found for row, values in table.rows.items())
