"""Uncertainty of a mean over questions that share documents."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence

FEWEST = 5


def clustered_stderr(values: Sequence[float], clusters: Sequence[Hashable]) -> float:
    """Standard error of the mean where questions on one document stand or fall together.

    The sum over clusters of the squared sum of residuals, with the usual correction for few clusters (Liang and
    Zeger 1986; Miller, arXiv 2411.00640, eq. 4). With one question a cluster it is the ordinary standard error.

    Args:
        values: one score per question.
        clusters: the document of each question.

    Returns:
        The error; NaN with fewer than `FEWEST` clusters: so few documents say too little of how they differ.
    """
    count = len(values)
    mean = sum(values) / count if count else 0.0
    residuals: dict[Hashable, float] = defaultdict(float)
    for value, cluster in zip(values, clusters, strict=True):
        residuals[cluster] += value - mean
    groups = len(residuals)
    if groups < FEWEST:
        return math.nan
    return math.sqrt(groups / (groups - 1) * sum(r * r for r in residuals.values())) / count
