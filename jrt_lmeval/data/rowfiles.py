"""Files of rows, one JSON object a line, plain or packed with gzip; errors say where."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from jrt_lmeval.errors import JRTError


def numbered_rows(file: Path) -> list[tuple[int, dict[str, Any]]]:
    """The rows of a `.jsonl` or `.jsonl.gz` file with their line numbers, from 1; empty lines are passed over.

    Raises:
        JRTError: no such file, no rows, a line that is not UTF-8, not JSON or not an object; names file and line.
    """
    try:
        content = file.read_bytes()
        if file.suffix == ".gz":
            content = gzip.decompress(content)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise JRTError(f"{file}: not a whole gzip file ({error}).") from None
    except OSError as error:
        reason = error.strerror or error
        raise JRTError(f"{file}: cannot be read ({reason}). Expected a file with one JSON object a line.") from None
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    rows = [(number, _row(line, f"{file}, line {number}")) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise JRTError(f"{file}: no rows; expected one JSON object a line.")
    return rows


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a `.jsonl` file; raises as `numbered_rows`."""
    return [row for _, row in numbered_rows(file)]


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows to a `.jsonl` or `.jsonl.gz` file; same rows, same content, with no time stamp in it."""
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if file.suffix != ".gz":
        file.write_bytes(content)
        return
    # Not gzip.compress, whose header differs between versions of Python.
    with file.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write(content)


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"), object_pairs_hook=lambda pairs: _unique(pairs, where))
    except UnicodeDecodeError as error:
        raise JRTError(f"{where}: byte {error.start + 1} is not UTF-8; save the file as UTF-8.") from None
    except json.JSONDecodeError as error:
        raise JRTError(
            f"{where}: not JSON ({error.msg} at character {error.pos + 1}); expected one JSON object a line."
        ) from None
    except RecursionError:
        raise JRTError(f"{where}: lists or objects inside each other, too deep to be read.") from None
    if not isinstance(row, dict):
        raise JRTError(f"{where}: a {type(row).__name__} and not a JSON object; expected one {{...}} a line.")
    return row


def _unique(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise JRTError(f"{where}: the key {twice!r} stands twice in an object; which value is meant cannot be told.")
    return row
