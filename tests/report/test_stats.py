"""Statistics of the report: what the intervals cover, simulated, and the tests that stand beside them."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from scipy import stats as scipy_stats

from jrt_lmeval import stats
from jrt_lmeval.stats import clustered_stderr, detectable, flipped_p, holm, interval, paired, t_quantile


def simulated(rng: np.random.Generator, mean: float, groups: int, size: int, spread: float) -> tuple[list, list]:
    """0/1 scores on documents of random size that differ in how hard they are (a beta distribution)."""
    sizes = rng.integers(1, 2 * size, groups)
    hard = rng.beta(mean * spread, (1 - mean) * spread, groups)
    scores = np.concatenate([rng.random(n) < p for n, p in zip(sizes, hard, strict=True)]).astype(float)
    return scores.tolist(), np.repeat(np.arange(groups), sizes).tolist()


@pytest.mark.parametrize("mean, groups", [(0.4, 8), (0.4, 12), (0.4, 60), (0.05, 30), (0.05, 124), (0.9, 12)])
def test_nominal_95_percent_is_covered(mean: float, groups: int) -> None:
    rng = np.random.default_rng(5)
    held = plain = 0
    for _ in range(600):
        scores, documents = simulated(rng, mean, groups, 6, 4.0)
        found = interval(scores, documents)
        held += found.low <= mean <= found.high
        plain += abs(sum(scores) / len(scores) - mean) <= 1.96 * np.std(scores, ddof=1) / math.sqrt(len(scores))
    assert 0.92 <= held / 600 <= 0.995
    assert plain / 600 < 0.92  # what taking questions as independent would cover: the check can fail


@pytest.mark.parametrize("groups", [8, 12, 40])
def test_paired_intervals_cover_by_bootstrap_and_with_few_documents_by_flipped_signs(groups: int) -> None:
    rng = np.random.default_rng(9)
    held = rejected = made = 0
    runs = 400
    for _ in range(runs):
        shift = rng.normal(0, 0.5, groups)
        sizes = rng.integers(2, 10, groups)
        documents = np.repeat(np.arange(groups), sizes)
        logits = rng.normal(0, 1, groups)[documents]
        first = rng.random(len(documents)) < 1 / (1 + np.exp(-logits))
        second = rng.random(len(documents)) < 1 / (1 + np.exp(-logits - shift[documents]))
        found = paired(first.astype(float), second.astype(float), documents.tolist(), draws=1000)
        made += not math.isnan(found.low)
        held += found.low <= 0 <= found.high  # the shift is symmetric, so the true difference is 0
        rejected += found.p < 0.05
    assert made / runs > (0.5 if groups == 8 else 0.95)
    assert 0.92 <= held / made <= 0.985
    assert 0.005 <= rejected / runs <= 0.08


def test_one_question_a_document_is_the_ordinary_t_interval() -> None:
    values = [0.3, 0.5, 0.1, 0.9, 0.4, 0.6, 0.7]
    found = interval(values, range(7))
    low, high = scipy_stats.t.interval(0.95, 6, np.mean(values), scipy_stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high)) and not found.exact
    assert (found.n, found.clusters, found.half) == (7, 7, pytest.approx((high - low) / 2))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_no_success_or_no_failure_is_never_plus_minus_zero(value: float) -> None:
    documents = [i // 6 for i in range(72)]
    found = interval([value] * 72, documents)
    expected = scipy_stats.binomtest(int(12 * value), 12).proportion_ci(0.95, "exact")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.exact and found.high - found.low > 0.25 and math.isnan(found.half)


def test_equal_documents_that_are_not_0_or_1_have_a_width_too() -> None:
    found = interval([1.0, 0.0] * 10, [i // 2 for i in range(20)])
    assert found.exact and found.low < 0.3 and found.high > 0.7


def test_an_interval_never_leaves_0_to_1() -> None:
    values = [1.0] + [0.0] * 59
    found = interval(values, [i // 5 for i in range(60)])
    assert found.exact and 0 < found.low < 1 / 60 < found.high < 0.2


def test_too_few_documents_say_nothing_but_the_mean() -> None:
    found = interval([1.0, 0.0, 1.0, 0.0], [0, 0, 1, 1])
    assert found.mean == 0.5 and math.isnan(found.low) and math.isnan(found.stderr)
    none = interval([0.0] * 8, [0, 0, 1, 1, 2, 2, 3, 3])
    assert (none.low, none.exact) == (0.0, True) and none.high > 0.6
    assert math.isnan(interval([], []).mean)


def test_t_quantiles_are_scipys() -> None:
    assert t_quantile(0.95, 4) == pytest.approx(scipy_stats.t.ppf(0.975, 4))


def test_wins_losses_and_mcnemar() -> None:
    first = [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    second = [1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]
    found = paired(first, second, range(8))
    assert (found.wins, found.losses, found.ties, found.n, found.clusters) == (4, 1, 3, 8, 8)
    assert found.difference == pytest.approx(3 / 8)
    assert found.mcnemar == pytest.approx(scipy_stats.binomtest(1, 5).pvalue)
    assert math.isnan(found.low) and found.p == 0.375, "five documents that differ say too little for an interval"
    assert found.detectable == pytest.approx(detectable(found.stderr, 8))
    assert paired([0.5, 0.1, 0.2, 0.3, 0.4], [0.5] * 5, range(5)).mcnemar is None
    assert paired(first, first, range(8)).mcnemar == 1.0 and paired(first, first, range(8)).p == 1.0


def test_flipped_signs_are_counted_exactly() -> None:
    sums = [1.0, 0.0, -2.0, 3.0, 1.0, 1.0, 2.0]
    observed = abs(sum(sums)) - 1e-9
    flips = product((-1, 1), repeat=7)
    every = [abs(sum(sign * size for sign, size in zip(signs, sums, strict=True))) for signs in flips]
    assert flipped_p(sums) == pytest.approx(np.mean(np.array(every) >= observed))
    wins = paired([0.0] * 6, [1.0] * 6, range(6))
    assert wins.p == pytest.approx(2 / 2**6) and 0 < wins.low < 1
    rng = np.random.default_rng(0)
    uneven = rng.normal(0.3, 1, 25).tolist()
    assert flipped_p(uneven) == pytest.approx(scipy_stats.ttest_1samp(uneven, 0).pvalue, abs=0.03)


def test_the_bootstrap_is_that_of_scipy_but_for_its_width() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.random(40), rng.random(40) + 0.1
    found = paired(first, second, range(40))
    tail = scipy_stats.norm.cdf(-math.sqrt(40 / 39) * t_quantile(0.95, 39))
    theirs = scipy_stats.bootstrap(
        (second - first,), np.mean, confidence_level=1 - 2 * tail, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)
    agrees = scipy_stats.ttest_rel(second, first).pvalue
    assert found.p == pytest.approx(agrees, rel=0.35)


@pytest.mark.parametrize("groups", [1, 7, 61])
def test_kept_draws_are_those_drawn_one_by_one(groups: int) -> None:
    rng = np.random.default_rng(groups)
    sums, counts = rng.normal(size=groups), rng.integers(1, 9, groups).astype(float)
    kept, plain = stats._resampled(sums, counts, 501, 3), stats._resampled(sums, counts, 501, 3, kept=1000)
    assert np.allclose(kept, plain, rtol=1e-12, atol=1e-12)
    halves = [plain, stats._resampled(sums, counts, 501, 4, kept=1000)]
    assert groups == 1 or not np.allclose(halves[0], halves[1])


def test_the_smallest_detectable_difference_is_detected_four_times_in_five() -> None:
    rng = np.random.default_rng(7)
    true = detectable(1 / math.sqrt(30), 30)
    found = [scipy_stats.ttest_1samp(rng.normal(true, 1, 30), 0).pvalue < 0.05 for _ in range(2000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.04)


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03, math.nan]) == pytest.approx([0.03, 0.06, 0.06, math.nan], nan_ok=True)
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_importing_the_statistics_is_light() -> None:
    code = "import sys, jrt_lmeval.stats; sys.exit(bool({'numpy', 'scipy', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_questions_that_fall_together_count_once() -> None:
    once = clustered_stderr([1.0, 0.0, 0.0, 1.0, 1.0, 0.0], range(6))
    tripled = [value for value in (1.0, 0.0, 0.0, 1.0, 1.0, 0.0) for _ in range(3)]
    assert clustered_stderr(tripled, [i // 3 for i in range(18)]) == pytest.approx(once)


def test_ties_alone_have_exact_bounds() -> None:
    found = paired([1.0] * 32, [1.0] * 32, range(32))
    bound = 1 - 0.025 ** (1 / 32)
    assert (found.low, found.high) == (pytest.approx(-bound), pytest.approx(bound)) and found.p == 1.0
    assert found.high == pytest.approx(interval([0.0] * 32, range(32)).high), "as for no hit among 32 documents"
    # six documents won and none lost are the fewest that a sign test finds at 5 %
    share = found.detectable
    from scipy.stats import binom

    assert binom.sf(5, 32, share) == pytest.approx(0.8)
    won = paired([0.0] * 32, [1.0] * 32, range(32))
    assert won.high == 1.0 and won.low == pytest.approx(1 - 2 * bound) and won.p == pytest.approx(2 * 0.5**32)
    few = paired([0.0] * 8, [0.0] * 8, [i // 4 for i in range(8)])
    assert few.high == pytest.approx(1 - 0.025**0.5) and math.isnan(few.detectable)
