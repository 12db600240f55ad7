"""`jrt-eval report --check`: every number of a written report, derived again from the logs."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jrt_lmeval.errors import JRTError
from jrt_lmeval.report.tables import WRITERS, Report, json_text

JSON = WRITERS["json"][0]
_RELATIVE = 1e-9


def relative(paths: Sequence[str], folder: Path) -> list[str]:
    """Paths as seen from a report's folder, so that a report says nothing of the machine."""
    return [Path(os.path.relpath(path, folder.resolve())).as_posix() for path in paths]


def check(report: Path, paths: Sequence[Path] = ()) -> int:
    """Make a report again from the logs that it names and compare every entry; print what differs.

    Args:
        report: its folder, or its JSON file. Other formats beside it are compared with what would be written now.
        paths: logs to derive it from; by default those that it was made from.

    Returns:
        0 if everything is the same, else 1.

    Raises:
        JRTError: no report there, or its logs are gone.
    """
    file = report / JSON if report.is_dir() else report
    written = _read(file)
    asked = dict(written["arguments"])
    asked["paths"] = [str(path) for path in paths] or [str(file.parent / path) for path in asked["paths"]]
    from jrt_lmeval.report.cli import build

    _, fresh = build(asked)
    made = Report(fresh.tables, fresh.about, fresh.problems, written["arguments"])
    wrong = list(compared(written["tables"], json.loads(json_text(made))["tables"]))
    wrong += _other_files(file.parent, made)
    for line in wrong:
        print(f"differs: {line}", file=sys.stderr)
    entries = sum(isinstance(entry, dict) for table in written["tables"] for row in table["rows"] for entry in row)
    tables = len(written["tables"])
    print(f"{file}: {entries} numbers in {tables} tables derived again, {len(wrong) or 'nothing'} different.")
    return int(bool(wrong))


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content["tables"], list) or not isinstance(content["arguments"]["paths"], list):
            raise ValueError("no tables")
        return content
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JRTError(f"{file}: no report of jrt-eval ({type(error).__name__}: {error}).") from None


def compared(written: Sequence[dict[str, Any]], made: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What differs between two reports' tables, a sentence each."""
    before, after = ({table["name"]: table for table in tables} for tables in (written, made))
    for name in dict.fromkeys([*before, *after]):
        if name not in before or name not in after:
            yield f"table {name} is only in {'the report' if name in before else 'what the logs give'}"
            continue
        old, new = before[name], after[name]
        if list(old["header"]) != list(new["header"]) or len(old["rows"]) != len(new["rows"]):
            yield f"table {name} has other columns or another number of rows"
            continue
        for one, other in zip(old["rows"], new["rows"], strict=True):
            for column, left, right in zip(old["header"], one, other, strict=True):
                if not _same(left, right):
                    words = ", ".join(str(word) for word in one[:2] if isinstance(word, str))
                    yield f"table {name}, {words}, {column}: written {_told(left)}, derived {_told(right)}"
        if old["notes"] != new["notes"] or old["title"] != new["title"]:
            yield f"table {name}: its title or notes"


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, float) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=_RELATIVE, abs_tol=_RELATIVE)
    return bool(one == other)


def _told(entry: Any) -> str:
    return str(entry.get("value")) if isinstance(entry, dict) else repr(entry)


def _other_files(folder: Path, made: Report) -> list[str]:
    """Files of other formats beside the report that are not what would be written now: the first line that differs."""
    wrong = []
    for kind, (name, writer) in WRITERS.items():
        file = folder / name
        if kind == "json" or not file.is_file():
            continue
        old, new = file.read_text(encoding="utf-8").splitlines(), writer(made).splitlines()
        if old != new:
            at = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
            wrong.append(f"{file}, line {at + 1}: {(old[at : at + 1] or ['nothing'])[0][:160]}")
    return wrong
