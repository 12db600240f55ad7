"""Uncertainty of means over questions that share documents; numpy and scipy are imported only when they are used."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

FEWEST = 5
LEVEL = 0.95
POWER = 0.8
EFFECTIVE = 0.856
"""Recall up to which a length is effective, unless another is asked for: what Llama-2 7B scores at 4K in RULER."""
DRAWS = 10_000
FEW_DOCUMENTS = 30
"""With fewer documents a comparison is decided by flipping signs, since a bootstrap of so few covers too little."""
FEWEST_UNLIKE = 6
"""Documents that must differ for an interval from flipped signs: five of one sign have p = 2 / 32, above 5 %."""
_MOST_KEPT = 4_000_000
"""Numbers of one bootstrap that are held in memory."""


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval.

    Attributes:
        stderr: by document; NaN with fewer than `FEWEST` documents.
        low, high: ends of the interval; NaN if there is none.
        n, clusters: number of questions and of documents.
        exact: the interval is a binomial one over an effective number of documents and not symmetric, because the mean
            is 0 or 1 or the t interval would go beyond them.
    """

    mean: float
    stderr: float
    low: float
    high: float
    n: int
    clusters: int
    exact: bool = False

    @property
    def half(self) -> float:
        """Half the width of a symmetric interval; NaN for one that is not symmetric."""
        return math.nan if self.exact else (self.high - self.low) / 2


def clustered_stderr(values: Sequence[float], clusters: Sequence[Hashable]) -> float:
    """Standard error of the mean of scores that are correlated within a document.

    The sum over clusters of the squared sum of residuals, with the usual correction for few clusters (Liang and
    Zeger 1986; Miller, arXiv 2411.00640, eq. 4). With one question a cluster it is the ordinary standard error.

    Args:
        values: one score per question.
        clusters: the document of each question.

    Returns:
        The error; NaN with fewer than `FEWEST` clusters, which say too little about how documents differ.
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


def t_quantile(level: float, degrees: float) -> float:
    """How many standard errors a two-sided interval of this level reaches to either side.

    `degrees` of freedom: documents less one.
    """
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + level) / 2))


def interval(values: Sequence[float], clusters: Sequence[Hashable]) -> Interval:
    """Mean and 95 % confidence interval of scores from 0 to 1, by document.

    Mean ± t standard errors with one degree of freedom fewer than documents (Miller, arXiv 2411.00640). Where that
    would leave [0, 1], or all scores are the same, the binomial interval of Clopper and Pearson over the effective
    number of questions instead (Korn and Graubard 1998): the number that would give this standard error, corrected for
    the degrees of freedom, and the number of documents where the error is 0. So 0 of 12 documents is [0, 26] %.

    Args:
        values: one score per question; if one is not from 0 to 1, the interval is always the t interval.
        clusters: the document of each question.
    """
    n, groups = len(values), len(set(clusters))
    if not n:
        return Interval(math.nan, math.nan, math.nan, math.nan, 0, 0)
    mean, stderr = sum(values) / n, clustered_stderr(values, clusters)
    share = all(0 <= value <= 1 for value in values)
    if math.isnan(stderr):
        if share and groups and (mean in (0.0, 1.0)):
            return Interval(mean, stderr, *_binomial(mean, groups), n, groups, True)
        return Interval(mean, stderr, math.nan, math.nan, n, groups)
    reach = t_quantile(LEVEL, groups - 1) * stderr
    if not share or (stderr > 1e-12 and mean - reach >= 0 and mean + reach <= 1):
        return Interval(mean, stderr, mean - reach, mean + reach, n, groups)
    if stderr <= 1e-12:
        effective = float(groups)
    else:
        effective = mean * (1 - mean) / stderr**2
        effective *= (t_quantile(LEVEL, n - 1) / t_quantile(LEVEL, groups - 1)) ** 2
    return Interval(mean, stderr, *_binomial(mean, min(effective, n)), n, groups, True)


def _binomial(mean: float, n: float) -> tuple[float, float]:
    """Ends of the interval of Clopper and Pearson for a share of n, which need not be whole."""
    from scipy.special import betaincinv

    tail, hits = (1 - LEVEL) / 2, mean * n
    low = 0.0 if hits <= 0 else float(betaincinv(hits, n - hits + 1, tail))
    high = 1.0 if hits >= n else float(betaincinv(hits + 1, n - hits, 1 - tail))
    return low, high


@dataclass(frozen=True)
class EffectiveLength:
    """The longest length up to which recall stays at or above a threshold at every length tried; 0 for none.

    Attributes:
        low, high: the same of the lower and of the upper ends of the recall's intervals: lengths that are surely
            effective, and lengths that may be. Without an interval, 0 and the longest tried.
    """

    length: int
    low: int
    high: int


def effective_length(recall: Mapping[int, Interval], threshold: float) -> EffectiveLength:
    """RULER's effective length (arXiv 2404.06654), with its interval.

    Args:
        recall: length -> share recalled, 0 to 1.
        threshold: share that a length must reach.
    """

    def longest(ends: Callable[[Interval], float], unknown: float) -> int:
        reached = 0
        for length in sorted(recall):
            end = ends(recall[length])
            if (unknown if math.isnan(end) else end) < threshold:
                break
            reached = length
        return reached

    return EffectiveLength(
        longest(lambda found: found.mean, 0.0),
        longest(lambda found: found.low, 0.0),
        longest(lambda found: found.high, 1.0),
    )


@dataclass(frozen=True)
class Paired:
    """Two models on the same questions, the second less the first.

    Attributes:
        difference: of the means.
        low, high: bootstrap interval by document. If all documents differ by the same, such as 0 where every question
            is a tie, the exact binomial bounds of `_unanimous`. With fewer than `FEW_DOCUMENTS` documents the
            differences that flipping signs by document does not reject (`_flipped_interval`), and NaN where fewer than
            `FEWEST_UNLIKE` of them differ at all.
        p: two-sided, from the same bootstrap: how far the interval must be widened to include 0. With fewer than
            `FEW_DOCUMENTS` documents the exact p of `flipped_p`; NaN with fewer than `FEWEST`.
        stderr: of the difference, by document.
        wins, losses, ties: questions on which the second scored more, less, the same.
        mcnemar: exact two-sided p of McNemar's test, which takes questions as independent; None for scores that are not
            0 or 1.
        n, clusters: questions and documents.
        detectable: the smallest difference that a test at 5 % finds with probability 0.8 at this n and this spread;
            where all documents differ by the same, that of the sign test over documents.
    """

    difference: float
    low: float
    high: float
    p: float
    stderr: float
    wins: int
    losses: int
    ties: int
    mcnemar: float | None
    n: int
    clusters: int
    detectable: float


def paired(first: Sequence[float], second: Sequence[float], clusters: Sequence[Hashable], draws: int = DRAWS) -> Paired:
    """Compare two models on the same questions.

    Whole documents are drawn with replacement. The percentiles are those of the expanded percentile interval
    (Hesterberg 2015, section 4.2), which reaches as far as a t interval: plain ones are too narrow with few documents.

    Args:
        first, second: scores of each question.
        clusters: the document of each question.
    """
    import numpy as np
    from scipy.stats import binomtest

    delta = np.asarray(second, float) - np.asarray(first, float)
    n, wins, losses = len(delta), int((delta > 0).sum()), int((delta < 0).sum())
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums, counts = np.bincount(index, weights=delta), np.bincount(index).astype(float)
    groups, stderr = len(sums), clustered_stderr(delta.tolist(), index.tolist())
    mcnemar = None
    if {*np.unique(first), *np.unique(second)} <= {0.0, 1.0}:
        mcnemar = float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    mean = float(delta.mean()) if n else math.nan
    low = high = p = smallest = math.nan
    if FEWEST <= groups < FEW_DOCUMENTS:
        p = flipped_p(sums.tolist())
        if int((np.abs(sums) > 1e-12).sum()) >= FEWEST_UNLIKE:
            low, high = _flipped_interval(sums, counts, draws)
        smallest = detectable(stderr, groups) if stderr > 0 else _detectable_by_signs(groups)
    elif n and np.ptp(sums / counts) < 1e-12 and float(np.abs(delta).max()) <= 1:
        low, high = _unanimous(mean, groups)
        p = float(binomtest(groups, groups).pvalue) if mean else 1.0
        smallest = _detectable_by_signs(groups)
    elif not math.isnan(stderr):
        means = _resampled(sums, counts, draws)
        low, high = (float(end) for end in np.quantile(means, _expanded(groups)))
        p, smallest = _p_value(means, groups), detectable(stderr, groups)
    return Paired(mean, low, high, p, stderr, wins, losses, n - wins - losses, mcnemar, n, groups, smallest)


def flipped_p(sums: Sequence[float], draws: int = DRAWS) -> float:
    """The two-sided p of a sum of differences if each document could as well have had the other sign.

    Exact over all 2^k signs, whose sums are built up document by document: sums of whole numbers take few values.
    Where they take more than `draws`, by that many random signs and the observed ones. `sums`: of the differences of
    each document.
    """
    reached, observed = {0.0: 1.0}, abs(sum(sums)) - 1e-9
    for size in (abs(value) for value in sums if abs(value) > 1e-12):
        spread: dict[float, float] = defaultdict(float)
        for total, share in reached.items():
            spread[round(total + size, 9)] += share / 2
            spread[round(total - size, 9)] += share / 2
        reached = spread
        if len(reached) > draws:
            drawn = abs(_signs(len(sums), draws) @ list(sums)) >= observed
            return float((drawn.sum() + 1) / (draws + 1))
    return min(1.0, math.fsum(share for total, share in reached.items() if abs(total) >= observed))


def _signs(groups: int, draws: int) -> Any:
    """Signs of the documents, float64 [draws, groups]: all there are if these are not more than `draws`."""
    import numpy as np

    if 2**groups <= draws:
        return 1.0 - 2.0 * ((np.arange(2**groups)[:, None] >> np.arange(groups)) & 1)
    return np.random.default_rng(0).choice((-1.0, 1.0), size=(draws, groups))


def _flipped_interval(sums: Any, counts: Any, draws: int) -> tuple[float, float]:
    """The mean differences that flipping the signs of the documents' residuals does not reject."""
    signs, mean = _signs(len(sums), draws), float(sums.sum() / counts.sum())
    of_sums, of_counts = signs @ sums, signs @ counts

    def kept(shift: float) -> bool:
        observed = abs(sums.sum() - shift * counts.sum()) - 1e-9
        return bool((abs(of_sums - shift * of_counts) >= observed).mean() > 1 - LEVEL)

    def end(outside: float) -> float:
        inside = mean
        for _ in range(40):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if kept(middle) else (inside, middle)
        return inside

    reach = 2 * float(abs(sums / counts - mean).max()) + 1e-9
    return end(mean - reach), end(mean + reach)


def _unanimous(mean: float, groups: int) -> tuple[float, float]:
    """Bounds of a mean difference, at most 1 in size, if all documents seen differ by the same.

    A bootstrap gives an interval of no width. The exact one-sided binomial bound of each tail says how large a share
    of all documents can differ from those seen, by at most 1 or -1: with none of k, 1 - tail^(1/k).
    """
    share = _binomial(0.0, groups)[1]
    return mean - share * (1 + mean), mean + share * (1 - mean)


def _detectable_by_signs(groups: int) -> float:
    """The smallest share of documents won, none lost, that a two-sided sign test finds with this probability."""
    from scipy.special import betaincinv

    needed = math.ceil(1 - math.log2(1 - LEVEL))  # so many wins and no loss have p <= 1 - LEVEL
    return float(betaincinv(needed, groups - needed + 1, POWER)) if groups >= needed else math.nan


def _resampled(sums: Any, counts: Any, draws: int, seed: int = 0, kept: int = _MOST_KEPT) -> Any:
    """Means over documents drawn with replacement, float64 [draws], made from at most `kept` numbers at a time."""
    import numpy as np

    groups = len(sums)
    if groups * draws <= kept:
        times = _times_drawn(groups, draws, seed)
        return (times @ sums) / (times @ counts)
    generator, means = np.random.default_rng(seed), []
    part = max(1, kept // groups)
    for start in range(0, draws, part):
        drawn = generator.integers(groups, size=(min(part, draws - start), groups))
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    return np.concatenate(means)


@lru_cache(maxsize=4)
def _times_drawn(groups: int, draws: int, seed: int) -> Any:
    """How often each document is drawn, float64 [draws, groups]; a report compares many pairs on the same documents."""
    import numpy as np

    drawn = np.random.default_rng(seed).integers(groups, size=(draws, groups))
    flat = (drawn + groups * np.arange(draws)[:, None]).ravel()
    return np.bincount(flat, minlength=draws * groups).reshape(draws, groups).astype(float)


def _expanded(groups: int) -> tuple[float, float]:
    """The percentiles, as shares, that reach as far as a t interval."""
    from scipy.special import ndtr

    tail = float(ndtr(-math.sqrt(groups / (groups - 1)) * t_quantile(LEVEL, groups - 1)))
    return tail, 1 - tail


def _p_value(means: Any, groups: int) -> float:
    """One less the level of the expanded interval that just reaches 0; at least what this many draws can show."""
    from scipy.special import ndtri, stdtr

    beyond = min((means <= 0).sum(), (means >= 0).sum())
    tail = min(0.5, (beyond + 1) / (len(means) + 1))
    return float(2 * stdtr(groups - 1, ndtri(tail) * math.sqrt((groups - 1) / groups)))


def detectable(stderr: float, clusters: int) -> float:
    """The smallest true difference that a two-sided test finds with this probability, given the difference's error."""
    from scipy.special import stdtrit

    return (t_quantile(LEVEL, clusters - 1) + float(stdtrit(clusters - 1, POWER))) * stderr


def holm(values: Sequence[float]) -> list[float]:
    """p values corrected for their number by Holm's method, in the order given; NaN stays and does not count."""
    order = sorted((i for i, p in enumerate(values) if not math.isnan(p)), key=lambda i: values[i])
    corrected, largest = [math.nan] * len(values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * values[i]))
        corrected[i] = largest
    return corrected
