"""The one writer of Markdown tables in this package. Imports nothing heavy: commands use it too."""

from __future__ import annotations

from collections.abc import Sequence


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
