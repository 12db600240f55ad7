"""The papers' numbers from `results/published`, each with its paper and table, apart from measured ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.paths import published_dir

PAPER, ELEMENTS = "recall_paper.yaml", "state_elements.yaml"
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
        JRTError: no such table, a row with a wrong number of values, or a value that is no percentage; names the file.
    """
    files = {file.stem: file for file in sorted(published_dir().glob("jrt_*.yaml"))}
    if table is not None and table not in files:
        raise unknown("published table", table, files)
    return tuple(number for name, file in files.items() if table in (None, name) for number in _numbers(file))


def third_party() -> tuple[Published, ...]:
    """Numbers that neither a paper printed nor we measured; they are never shown among either."""
    return tuple(number for file in sorted(published_dir().glob("third_party_*.yaml")) for number in _numbers(file))


def _numbers(file: Path) -> Iterator[Published]:
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    columns = content["columns"]
    for row in content["rows"]:
        model, params, tokens = (str(row[key]) for key in ("model", "params", "tokens"))
        for setting, values in row["values"].items():
            if len(values) != len(columns):
                raise JRTError(
                    f"{file}: {model} {params}/{tokens}, {setting}: {len(values)} values for {len(columns)} columns; "
                    "write null where the table has none."
                )
            for column, value in zip(columns, values, strict=True):
                if value is None:
                    continue
                if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 100:
                    raise JRTError(f"{file}: {value!r} is not a percentage; it must be a number from 0 to 100.")
                place = (column["task"], column["context_length"], setting)
                yield Published(model, params, tokens, *place, float(value), content["source"])


def state_bytes(number: Published, tokens_per_copy: int = 1024) -> float:
    """Bytes of the state that the model of a published number kept of one prompt; NaN if it is not known.

    They are counted from configurations (`state_elements.yaml`), at two bytes a number as these models were run. The
    state of attention grows with what was read: `context_length` tokens, or else `tokens_per_copy`, once or twice.
    """
    elements = _content(ELEMENTS)["models"].get(f"{number.model} {number.params}")
    if elements is None:
        return math.nan
    tokens = (number.context_length or tokens_per_copy) * (2 if number.setting in ("flat", "read_twice") else 1)
    return BYTES_PER_NUMBER * float(elements.get("fixed", 0) + elements.get("per_token", 0) * tokens)


def printed(table: str) -> dict[str, dict[str, float]]:
    """A table of the paper (`prefix`, `feature_map` or `prompt` in `recall_paper.yaml`).

    Returns:
        Label of a row as printed -> column, such as `recall_percent`, `inference_ms` or `perplexity` -> figure.

    Raises:
        JRTError: no such table, or a row with more or fewer figures than columns; names the file and the row.
    """
    tables = _content(PAPER)["tables"]
    if table not in tables:
        raise unknown("printed table", table, tables)
    columns, rows = tables[table]["columns"], tables[table]["rows"]
    for name, values in rows.items():
        if len(values) != len(columns):
            raise JRTError(f"{PAPER}, {table}: {name} has {len(values)} figures for {len(columns)} columns.")
    return {name: dict(zip(columns, map(float, values), strict=True)) for name, values in rows.items()}


def timed() -> list[tuple[float, float]]:
    """Seconds and recall in per cent of the rows of the paper's tables that print both; they name no task."""
    rows = [row for table in _content(PAPER)["tables"] for row in printed(table).values()]
    return [(row["inference_ms"] / 1000, row["recall_percent"]) for row in rows if "inference_ms" in row]


def source() -> str:
    """The paper of the printed tables, as it is cited."""
    return str(_content(PAPER)["source"])


@lru_cache
def _content(name: str) -> dict[str, Any]:
    return yaml.safe_load((published_dir() / name).read_text(encoding="utf-8"))
