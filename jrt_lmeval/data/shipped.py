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


def factbook_questions_file(name: str) -> Path:
    """The file of further questions on the factbook's texts: `large` or `paraphrased`."""
    return samples_dir() / f"factbook_{name}.jsonl.gz"


def factbook_large_rows() -> list[dict[str, Any]]:
    """More questions on the texts of `factbook`, none of them a question of `factbook`; the same fields."""
    return _further_rows("large", FACTBOOK_FIELDS[2:4])


def factbook_paraphrased_rows() -> list[dict[str, Any]]:
    """Questions in words that the line asked for does not hold; `line_key` is the key as it stands in the text."""
    return _further_rows("paraphrased", (*FACTBOOK_FIELDS[2:4], "line_key"))


def _further_rows(name: str, fields: tuple[str, ...]) -> list[dict[str, Any]]:
    sheets = {sheet["doc_id"]: sheet for sheet in read_rows(factbook_file())}
    return [
        {
            "doc_id": document["doc_id"],
            "file_name": sheets[document["doc_id"]]["file_name"],
            **dict(zip(fields, question, strict=True)),
            "text": sheets[document["doc_id"]]["text"],
        }
        for document in read_rows(factbook_questions_file(name))
        for question in document["questions"]
    ]


def prose_file() -> Path:
    """The file of the running text."""
    return samples_dir() / "backgrounds.jsonl.gz"


def prose_rows() -> list[dict[str, Any]]:
    """The running text; fields `doc_id, title, text`."""
    return read_rows(prose_file())


PACKAGED: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "factbook": factbook_rows,
    "factbook_large": factbook_large_rows,
    "factbook_paraphrased": factbook_paraphrased_rows,
    "factbook_backgrounds": prose_rows,
}
"""Data sets of real rows that ship with the package: no samples, and not on the hub."""
