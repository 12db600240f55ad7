"""Reading files of rows, one JSON object a line, with errors that say where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jrt_lmeval.errors import JRTError


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a ``.jsonl`` file; empty lines are passed over.

    Raises:
        JRTError: no such file, no rows, a line that is not UTF-8, not JSON or not an object; names file and line.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise JRTError(
            f"{file}: cannot be read ({error.strerror}). Expected a file with one JSON object a line."
        ) from None
    rows = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError as error:
            raise JRTError(f"{where}: byte {error.start + 1} is not UTF-8; save the file as UTF-8.") from None
        except json.JSONDecodeError as error:
            raise JRTError(
                f"{where}: not JSON ({error.msg} at character {error.pos + 1}); one JSON object a line."
            ) from None
        if not isinstance(row, dict):
            raise JRTError(f"{where}: a {type(row).__name__}, not a JSON object; one {{...}} a line.")
        rows.append(row)
    if not rows:
        raise JRTError(f"{file}: no rows; expected one JSON object a line.")
    return rows
