"""What a benchmark returns, and how two ways of doing the same thing are timed side by side.

A second on a busy machine says little; a ratio within one round says much more. Each round runs all ways one after the
other, in rotating order, so that other work disturbs them alike. What counts is the median, over the rounds, of the
ratio within a round. Time is processor time on one thread: what others run beside it costs no time, only caches.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles


@dataclass(frozen=True)
class Options:
    """How much to measure.

    Attributes:
        quick: small sizes and few rounds, to see that it runs; no figure of such a run belongs into a table.
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
        ours_median, twin_median: cost of each, in `unit`.
        ratio: twin / ours, median over the rounds: above 1, ours is cheaper by that factor.
        low, high: quartiles of that ratio.
        repeats: rounds; 0 where something was counted and not timed.
        same: how the two results compare; a benchmark raises where they differ by more than it says.
        weights: `trained` (a shipped model), `geometry` (random weights of a size: good for times alone), or `none`.
        unit: of the medians.
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
) -> Row:
    """A line from what `side_by_side` found; `scale` turns its figures into `unit`."""
    low, middle, high = ratios(costs[twin], costs[ours])
    ours_median, twin_median = scale * median(costs[ours]), scale * median(costs[twin])
    return Row(
        what, ours, twin, ours_median, twin_median, middle, low, high, len(costs[ours]), same, weights, unit
    )  # fmt: skip


def compared(
    what: str, work: Mapping[str, Callable[[], object]], tolerance: float, rounds: int, weights: str = "none"
) -> Row:
    """A line about two ways to the same tensors, the fast one first.

    Raises:
        AssertionError: the results differ by more than `tolerance`, relative or absolute; nothing is timed then.
    """
    import torch

    fast, plain = work
    torch.testing.assert_close(work[fast](), work[plain](), rtol=tolerance, atol=tolerance)
    costs = side_by_side({way: (lambda call=call: seconds(call)) for way, call in work.items()}, rounds)
    return row(what, costs, fast, plain, f"within {tolerance:g}", weights=weights)


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds, all threads of this process together, that `work` takes."""
    started = time.process_time()
    work()
    return time.process_time() - started


@dataclass(frozen=True)
class Spent:
    """Seconds of a command: of the processor, its children included, and on the wall."""

    cpu: float
    wall: float


def spent(command: Sequence[str | os.PathLike[str]], env: Mapping[str, str] | None = None) -> Spent:
    """Run a command to its end; RuntimeError with what it printed where it fails."""
    started = time.perf_counter()
    child = subprocess.Popen(
        command, env={**os.environ, **(env or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    said = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: status {child.returncode}\n{said[-3000:]}")
    return Spent(usage.ru_utime + usage.ru_stime, time.perf_counter() - started)


def python(*arguments: str) -> list[str]:
    """A command of this interpreter."""
    return [sys.executable, *arguments]


def peak(prepare: Callable[..., Callable[[], object]], *arguments: object) -> int:
    """Bytes that the work which `prepare(*arguments)` returns takes beyond what was there when it began (Linux).

    It runs on one thread of a process of its own, where nothing else came before it. `prepare` is pickled.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak_here, (prepare, arguments))


def _peak_here(prepare: Callable[..., Callable[[], object]], arguments: tuple[object, ...]) -> int:
    import torch

    torch.set_num_threads(1)
    work = prepare(*arguments)
    before = _memory("VmRSS")
    work()
    return _memory("VmHWM") - before


def _memory(field: str) -> int:
    """Bytes of this process in memory: `VmRSS` now, `VmHWM` at most so far."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
