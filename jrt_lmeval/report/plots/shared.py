"""What several pictures need: numbers as they are drawn, names of runs, and what captions say of n."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jrt_lmeval.report.records import Cell
from jrt_lmeval.report.tables import Number


def scaled(number: Number) -> float:
    """A number as tables show it."""
    return number.value * number.scale


def reach(number: Number) -> tuple[float, float]:
    """How far the 95 % interval reaches below and above a number, as tables show it; 0 where there is none."""
    found = number.interval
    if found is None or math.isnan(found.low):
        return 0.0, 0.0
    return number.scale * (found.mean - found.low), number.scale * (found.high - found.mean)


def label_of(cell: Cell) -> str:
    """Model and the task's settings that differ; generated rows and parts of a task marked."""
    part = f"[{cell.first.partly} of {cell.first.total}]" if cell.first.partly else ""
    return " ".join(word for word in (cell.model, cell.setting, part) if word)


def asked(cells: Sequence[Cell], metric: str) -> str:
    """`n = 985 questions on 124 documents`, or the range where runs were asked different numbers."""
    found = [interval for cell in cells if (interval := cell.interval(metric)) is not None]
    questions = _range([interval.n for interval in found] or [cell.first.asked for cell in cells])
    documents = [interval.clusters for interval in found if interval.clusters]
    return f"n = {questions} questions" + (f" on {_range(documents)} documents" if documents else "")


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def bars_note(cells: Sequence[Cell], metric: str) -> str:
    """What error bars are in a picture of these runs."""
    clustered = [cell.by_document(metric) for cell in cells]
    if not clustered:
        return ""
    if all(clustered):
        return "Error bars: 95 % intervals, clustered by document."
    some = "Error bars: 95 % intervals" + (
        ", clustered by document where answers were logged, else" if any(clustered) else ""
    )
    return f"{some} by question, which is too narrow where questions share documents."
