"""Which rows of a split are asked, and how many are not."""

from __future__ import annotations

from typing import Any

from jrt_lmeval.answers import readable
from jrt_lmeval.data.sources import Loaded
from jrt_lmeval.errors import JRTError
from jrt_lmeval.task.block import Settings
from jrt_lmeval.task.controls import Rewriter
from jrt_lmeval.task.readers import Reader


def keep(loaded: Loaded, reader: Reader, jrt: Settings) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Check every row, and leave out what the window or the control drops.

    Returns:
        The rows, rewritten for the control `counterfactual`, and how many were read, dropped, without a counterfactual,
        and with a blank answer.

    Raises:
        JRTError: a row that lacks something (names file and line), or no row is left.
    """
    kept: list[dict[str, Any]] = []
    blank = 0
    for index, row in enumerate(loaded.rows):
        try:
            reader.check(row)
            if not reader.dropped(row, jrt.window):
                kept.append(row)
                blank += len(readable(reader.labels(row))) < len(reader.labels(row))
        except JRTError as error:
            raise JRTError(f"{loaded.place(index)}: {error}") from None
    counted = {"read": len(loaded.rows), "dropped": len(loaded.rows) - len(kept)}
    if not kept:
        raise JRTError(f"{loaded.origin}: the window drops every row: each answer or key has a single character.")
    if blank:
        counted["blank_answer"] = blank
    if jrt.control != "counterfactual":
        return kept, counted
    rewriter = Rewriter(kept, reader, jrt.window)
    made = [row for row in map(rewriter.counterfactual, kept) if row is not None]
    if not made:
        raise JRTError(
            f"{loaded.origin}: control 'counterfactual' drops every row: it needs rows whose document holds their "
            "answer, and other rows with an answer of the same kind."
        )
    return made, {**counted, "no_counterfactual": len(kept) - len(made)}
