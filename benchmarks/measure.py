"""What a benchmark returns, and how two ways of doing the same thing are timed side by side.

A second on a busy machine says little; a ratio within one round says much more. Each round runs all ways one after the
other, in rotating order, so that other work disturbs them alike. What counts is the median, over the rounds, of the
ratio within a round. Time is processor time on one thread: what others run beside it costs no time, only caches.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: what was done, sizes included; unique within its benchmark. `(geometry)` stands for random weights of a
            released model's size, which are good for times alone.
        ours: the fast way, in words.
        twin: what it is compared with, in words.
        ours_median, twin_median: cost of each, in `unit`.
        ratio: twin / ours, median over the rounds: above 1, ours is cheaper by that factor.
        low, high: quartiles of that ratio; equal where there was one round, or where something was counted.
        same: how the two results compare; a benchmark raises where they differ by more than it says.
    """

    what: str
    ours: str
    twin: str
    ours_median: float
    twin_median: float
    ratio: float
    low: float
    high: float
    same: str
    unit: str = "ms"


def rounds(quick: bool) -> int:
    """How often each pair is timed."""
    return 2 if quick else 3


def side_by_side(ways: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each way returns in each round, its own measure of cost; the order rotates from round to round."""
    names = list(ways)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            found[name].append(ways[name]())
    return found


def row(what: str, costs: Mapping[str, Sequence[float]], same: str, unit: str = "ms", scale: float = 1000.0) -> Row:
    """A line from what `side_by_side` found of two ways, ours first; `scale` turns its figures into `unit`."""
    ours, twin = costs
    ratios = [a / b for a, b in zip(costs[twin], costs[ours], strict=True)]
    low, middle, high = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    medians = scale * median(costs[ours]), scale * median(costs[twin])
    return Row(what, ours, twin, *medians, middle, low, high, same, unit)


def compared(what: str, work: Mapping[str, Callable[[], object]], tolerance: float, quick: bool) -> Row:
    """A line about two ways to the same tensors, ours first.

    Raises:
        AssertionError: the results differ by more than `tolerance`, relative or absolute; nothing is timed then.
    """
    import torch

    fast, plain = work.values()
    torch.testing.assert_close(fast(), plain(), rtol=tolerance, atol=tolerance)
    costs = side_by_side({way: (lambda call=call: seconds(call)) for way, call in work.items()}, rounds(quick))
    return row(what, costs, f"within {tolerance:g}")


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds, all threads of this process together, that `work` takes."""
    started = time.process_time()
    work()
    return time.process_time() - started


class Spent(NamedTuple):
    """Seconds of a command: of the processor, its children included, and on the wall."""

    cpu: float
    wall: float


def spent(command: Sequence[str | os.PathLike[str]], env: Mapping[str, str] | None = None) -> Spent:
    """Run a command to its end; RuntimeError with what it printed where it fails."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, env={**os.environ, **(env or {})}, capture_output=True, text=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stderr[-3000:]}")
    return Spent(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall)


def peak(prepare: Callable[..., Callable[[], object]], *arguments: object) -> int:
    """Bytes that the work which `prepare(*arguments)` returns takes beyond what was there when it began (Linux).

    It runs on one thread of a process of its own, where nothing else came before it. `prepare` is pickled.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
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
