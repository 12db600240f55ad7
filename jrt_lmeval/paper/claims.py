"""What the paper claims, as comparisons of two rows of our tables on the same questions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from jrt_lmeval.paper.measured import METRIC
from jrt_lmeval.paper.plan import AT_EQUAL_MEMORY, NARROW
from jrt_lmeval.paper.published import printed
from jrt_lmeval.report.cells import Cell, Difference, difference
from jrt_lmeval.stats import holm

ALPHA = 0.05


@dataclass(frozen=True)
class Claim:
    """One row is said to recall more than another.

    Attributes:
        table: of `plan.Entry`.
        better, worse: labels of rows.
        words: what the paper says, where it prints no numbers.
        none: the paper says that there is no gain, so that only a significant one speaks against it.
    """

    table: str
    better: str
    worse: str
    words: str = ""
    none: bool = False

    @property
    def family(self) -> tuple[str, str]:
        """Claims that ask the same: what p values are corrected over."""
        return self.table, self.words

    @property
    def published(self) -> float | None:
        """The printed difference in points, or None where the paper prints none."""
        if self.table not in ("prefix", "feature_map", "prompt"):
            return None
        values = [printed(self.table).value(row, "recall_percent") for row in (self.better, self.worse)]
        return None if None in values else float(values[0]) - float(values[1])  # type: ignore[arg-type]


MLP = "Learnable MLP"
JRT_SAYS = "JRT (arXiv 2407.05483): reading twice helps"
SECOND_COPY = "the second copy by itself"
LEAD = "the question before the first copy"
FAMILIES = ("Mamba-2", "Based", "JRT-RNN", "Llama", "Softmax in its place")
CLAIMS = (
    Claim("prefix", "JRT-RNN dynamic prefix", "JRT-RNN fixed prefix"),
    *(Claim("feature_map", MLP, other) for other in ("Linear", "GELU", "ReLU", "Gaussian kernel")),
    Claim("prompt", "hierarchical JRT prompt", "flat JRT prompt"),
    Claim(
        "step", "step 0.2, default thresholds", "step 0.1, default thresholds",
        "larger increments did not yield significant gains", True,
    ),
    *(Claim("overlap", "20%", other, "around 20 % generally best") for other in ("0%", "10%", "30%")),
    *(
        Claim("comparison", f"{model}, flat", f"{model}, once", JRT_SAYS)
        for model in FAMILIES
    ),
    Claim("feature_map", NARROW, "Linear", "at equal state"),
    *(
        Claim("comparison", f"{model}, flat without the lead", f"{model}, once", SECOND_COPY)
        for model in FAMILIES
    ),
    *(
        Claim("comparison", f"{model}, flat", f"{model}, flat without the lead", LEAD)
        for model in FAMILIES
    ),
    Claim("comparison", "JRT-RNN, once", f"{AT_EQUAL_MEMORY}, once", "than a Transformer at equal memory"),
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """A claim on one benchmark.

    Attributes:
        claim, benchmark: what was compared, on what.
        found: the comparison.
        p: Holm's, over the claims of one family and their benchmarks.
    """

    claim: Claim
    benchmark: str
    found: Difference
    p: float

    @property
    def says(self) -> str:
        """`confirmed`, `refuted` or `undecided`: whether the sign is the paper's, at 5 % after Holm."""
        if math.isnan(self.p):
            return "undecided: too few documents"
        if self.p >= ALPHA:
            return "not refuted" if self.claim.none else "undecided"
        rises = self.found.paired.difference > 0
        return "confirmed" if rises != self.claim.none else "refuted"


def verdicts(
    cells: Mapping[tuple[str, str], Mapping[str, Cell]], claims: Iterable[Claim] = CLAIMS
) -> Sequence[Verdict]:
    """All claims whose two rows were measured, on every benchmark that both were asked.

    Args:
        cells: (table, row) -> benchmark -> what was measured.
        claims: to look at.
    """
    found = []
    for claim in claims:
        better, worse = (cells.get((claim.table, row), {}) for row in (claim.better, claim.worse))
        for benchmark in better:
            pair = difference(worse[benchmark], better[benchmark], METRIC) if benchmark in worse else None
            if pair is not None:
                found.append((claim, benchmark, pair))
    corrected: dict[int, float] = {}
    for family in {claim.family for claim, _, _ in found}:
        known = {
            at: pair.paired.p
            for at, (claim, _, pair) in enumerate(found)
            if claim.family == family and not math.isnan(pair.paired.p)
        }
        corrected |= dict(zip(known, holm(list(known.values())), strict=True))
    return [
        Verdict(claim, benchmark, pair, corrected.get(at, math.nan))
        for at, (claim, benchmark, pair) in enumerate(found)
    ]
