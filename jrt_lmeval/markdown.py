"""Markdown tables, and blocks between markers of a page; imports nothing heavy, since commands use it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from jrt_lmeval.errors import JRTError


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]], left: int = 1) -> str:
    """A Markdown table that ends in a line break.

    Args:
        header: names of the columns.
        rows: as many entries each; a `|` in them is escaped, a line break becomes a space.
        left: how many columns, from the first, are aligned left; the others are aligned right.
    """
    rule = ["---" if at < left else "---:" for at in range(len(header))]
    lines = [[_entry(name) for name in header], rule, *([_entry(value) for value in row] for row in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _entry(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def with_block(page: str, name: str, block: str) -> str:
    """The page with the lines between `<!-- name -->` and `<!-- /name -->` replaced.

    Raises:
        JRTError: the page has no such markers.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    pattern = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.S)
    if not pattern.search(page):
        raise JRTError(f"the page has no {begin} and {end} to write between.")
    lines = block.rstrip("\n")
    return pattern.sub(lambda _: f"{begin}\n{lines}\n{end}", page)
