"""What a benchmark returns, and how two ways of doing the same are timed side by side.

A second on a busy machine says little; a ratio within one round says much more. Each round runs all ways one after the
other, in rotating order, so that other work disturbs them alike. What counts is the median, over the rounds, of the
ratio within a round. Time is the processor's, for one thread: what others run beside it costs no time, only caches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles


@dataclass(frozen=True)
class Options:
    """How much to measure.

    Attributes:
        quick: small sizes and few rounds, to see that it runs; no figure of it belongs into a table.
        rounds: how often each pair is timed; None for what the benchmark chooses.
    """

    quick: bool = False
    rounds: int | None = None

    def repeats(self, usual: int) -> int:
        """Rounds to run: what was asked for, else 3 with `quick`, else `usual`."""
        return self.rounds or (3 if self.quick else usual)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: what was done, sizes included; unique within its benchmark.
        ours: the fast way, in words.
        twin: what it is compared with, in words.
        ours_median, twin_median: of each, in `unit`.
        ratio: twin / ours, median over the rounds: above 1, ours is cheaper by that factor.
        low, high: quartiles of that ratio.
        repeats: rounds; 0 where something was counted and not timed.
        same: how the two results compare; a benchmark raises where they differ by more than it says.
        weights: `trained` (a shipped model), `geometry` (random weights of a size: good for times alone), or `none`.
        unit: of the medians.
        T: tokens, where the benchmark measures several lengths; the picture's axis.
    """

    what: str
    ours: str
    twin: str
    ours_median: float
    twin_median: float
    ratio: float
    low: float
    high: float
    repeats: int
    same: str
    weights: str = "none"
    unit: str = "ms"
    T: int | None = None


def seconds(work: Callable[[], object]) -> float:
    """Seconds of the processor, all threads of this process together, that `work` takes."""
    started = time.process_time()
    work()
    return time.process_time() - started


def side_by_side(ways: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each way returns in each round, its own measure of cost; the order rotates from round to round."""
    names = list(ways)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            found[name].append(ways[name]())
    return found


def ratios(twin: Sequence[float], ours: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile of twin / ours within the rounds."""
    found = [a / b for a, b in zip(twin, ours, strict=True)]
    if len(found) < 2:
        return found[0], found[0], found[0]
    low, middle, high = quantiles(found, n=4, method="inclusive")
    return low, middle, high


def row(
    what: str,
    costs: Mapping[str, Sequence[float]],
    ours: str,
    twin: str,
    same: str,
    *,
    weights: str = "none",
    unit: str = "ms",
    scale: float = 1000.0,
    T: int | None = None,
) -> Row:
    """A line from what `side_by_side` found; `scale` turns its figures into `unit`."""
    low, middle, high = ratios(costs[twin], costs[ours])
    return Row(
        what, ours, twin, scale * median(costs[ours]), scale * median(costs[twin]), middle, low, high,
        len(costs[ours]), same, weights, unit, T,
    )  # fmt: skip


def counted(what: str, ours: tuple[str, float], twin: tuple[str, float], same: str, unit: str, weights: str) -> Row:
    """A line about something that is counted and not timed: one value each, no spread."""
    ratio = twin[1] / ours[1]
    return Row(what, ours[0], twin[0], ours[1], twin[1], ratio, ratio, ratio, 0, same, weights, unit)
