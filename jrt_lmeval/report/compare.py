"""Two models on the same questions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jrt_lmeval.report.columns import Columns
from jrt_lmeval.report.records import Cell
from jrt_lmeval.stats import DRAWS, Paired, paired


@dataclass(frozen=True)
class Difference:
    """The second cell less the first.

    Attributes:
        first, second: what was compared.
        paired: on the questions that both were asked.
        only_first, only_second: questions that the other was not asked.
    """

    first: Cell
    second: Cell
    paired: Paired
    only_first: int
    only_second: int


def difference(first: Cell, second: Cell, metric: str, draws: int = DRAWS) -> Difference | None:
    """Compare two cells on the questions that both were asked, paired by what the questions hold.

    None where the answers of one were not logged, the logs cannot be paired, or no question is common.
    """
    one, other = first.columns, second.columns
    if one is None or other is None or metric not in one.scores or metric not in other.scores:
        return None
    if one.by_content != other.by_content:
        return None
    at, place = common(one, other)
    if not len(at):
        return None
    found = paired(one.scores[metric][at], other.scores[metric][place], one.clusters[at].tolist(), draws=draws)
    return Difference(first, second, found, len(one) - len(at), len(other) - len(at))


def common(one: Columns, other: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Where the questions that both were asked stand in each."""
    _, here, there = np.intersect1d(one.rows, other.rows, return_indices=True)
    return here, there
