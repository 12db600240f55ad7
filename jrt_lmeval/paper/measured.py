"""What a suite's logs say of a run."""

from __future__ import annotations

from pathlib import Path

from jrt_lmeval.paper.plan import Run
from jrt_lmeval.report.cells import Cell
from jrt_lmeval.report.collect import collect
from jrt_lmeval.report.tables import PERCENT, Number
from jrt_lmeval.stats import Interval, interval

METRIC = "contains"


def measured(logs: Path, run: Run) -> dict[str, Cell]:
    """Task -> what was measured in a run's folder; empty where it was not run."""
    place = logs / run.name
    if not any(place.glob("results_*.json")):
        return {}
    return {cell.task: cell for cell in collect([place]).cells}


def recall(cell: Cell | None) -> Interval | None:
    """Mean of the main metric with its interval by document, or None where it was not measured."""
    if cell is None or cell.columns is None or METRIC not in cell.columns.scores:
        return None
    return interval(cell.columns.scores[METRIC].tolist(), cell.columns.clusters.tolist())


def percent(found: Interval | None) -> str:
    """`25.0 ± 6.1`; a dash where nothing was measured."""
    return "-" if found is None else Number(found.mean, PERCENT, 1, found).text()
