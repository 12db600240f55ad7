"""Reading files of rows, one JSON object a line, with errors that say where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jrt_lmeval.errors import JRTError


def numbered_rows(file: Path) -> list[tuple[int, dict[str, Any]]]:
    """The rows of a ``.jsonl`` file with their line numbers, counted from 1; empty lines are passed over.

    Raises:
        JRTError: no such file, no rows, a line that is not UTF-8, not JSON or not an object; names file and line.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise JRTError(f"{file}: cannot be read ({reason}). Expected a file with one JSON object a line.") from None
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    rows = [(number, _row(line, f"{file}, line {number}")) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise JRTError(f"{file}: no rows; expected one JSON object a line.")
    return rows


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a ``.jsonl`` file; raises as ``numbered_rows``."""
    return [row for _, row in numbered_rows(file)]


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise JRTError(f"{where}: byte {error.start + 1} is not UTF-8; save the file as UTF-8.") from None
    except json.JSONDecodeError as error:
        raise JRTError(
            f"{where}: not JSON ({error.msg} at character {error.pos + 1}); expected one JSON object a line."
        ) from None
    if not isinstance(row, dict):
        raise JRTError(f"{where}: a {type(row).__name__} and not a JSON object; expected one {{...}} a line.")
    return row
