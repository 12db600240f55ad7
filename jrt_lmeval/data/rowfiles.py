"""Files of rows: JSON lines or CSV, plain or packed with gzip; errors name file and line."""

from __future__ import annotations

import csv
import gzip
import io
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
    lines = _content(file, "one JSON object a line").split(b"\n")
    rows = [(number, _row(line, f"{file}, line {number}")) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise JRTError(f"{file}: no rows; expected one JSON object a line.")
    return rows


def numbered_csv_rows(file: Path, delimiter: str = ",") -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with a header, with the line numbers on which they end; every value is the text it is.

    Raises:
        JRTError: no such file, no rows, bytes that are not UTF-8, a header with a blank or doubled name, or a row with
            more or fewer values than the header has names; names file and line.
    """
    try:
        text = _content(file, "a header and a row a line").decode("utf-8")
    except UnicodeDecodeError as error:
        raise JRTError(f"{file}: byte {error.start + 1} is not UTF-8; save the file as UTF-8.") from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        if not all(name.strip() for name in header) or len(set(header)) < len(header):
            raise JRTError(f"{file}: the header is {header!r}; every column needs a name of its own.")
        rows = []
        for values in reader:
            if values and len(values) != len(header):
                raise JRTError(f"{file}, line {reader.line_num}: {len(values)} values for {len(header)} columns.")
            if values:
                rows.append((reader.line_num, dict(zip(header, values, strict=True))))
    except csv.Error as error:
        raise JRTError(f"{file}, line {reader.line_num}: not CSV ({error}).") from None
    if not rows:
        raise JRTError(f"{file}: no rows; expected a header and a row a line.")
    return rows


def _content(file: Path, expected: str) -> bytes:
    """The bytes of a file, unpacked, without a byte order mark."""
    try:
        content = file.read_bytes()
        if file.suffix == ".gz":
            content = gzip.decompress(content)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise JRTError(f"{file}: not a whole gzip file ({error}).") from None
    except OSError as error:
        reason = error.strerror or error
        raise JRTError(f"{file}: cannot be read ({reason}). Expected a file with {expected}.") from None
    return content.removeprefix(b"\xef\xbb\xbf")


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
