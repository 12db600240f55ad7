"""What ships with the package: real rows of the factbook and its running text, and where samples lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jrt_lmeval.data.rowfiles import read_rows
from jrt_lmeval.paths import samples_dir

FACTBOOK_FIELDS = ("doc_id", "file_name", "key", "value", "text")


def factbook_file() -> Path:
    """The file of the factbook's rows, each text once."""
    return samples_dir() / "factbook.jsonl.gz"


def factbook_rows() -> list[dict[str, Any]]:
    """The factbook's rows in their published order; fields `FACTBOOK_FIELDS`."""
    return [
        dict(zip(FACTBOOK_FIELDS, (sheet["doc_id"], sheet["file_name"], key, value, sheet["text"]), strict=True))
        for sheet in read_rows(factbook_file())
        for key, value in sheet["questions"]
    ]


def prose_file() -> Path:
    """The file of the running text."""
    return samples_dir() / "backgrounds.jsonl.gz"


def prose_rows() -> list[dict[str, Any]]:
    """The running text; fields `doc_id, title, text`."""
    return read_rows(prose_file())


PACKAGED: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "factbook": factbook_rows,
    "factbook_backgrounds": prose_rows,
}
"""Data sets of real rows that ship with the package: no samples, and not on the hub."""
