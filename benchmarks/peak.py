"""The most memory that a piece of work takes: measured in a process of its own, where nothing else came before it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path


def resident(field: str) -> int:
    """Bytes of this process in memory: `VmRSS` now, `VmHWM` at most so far (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def peak(prepare: Callable[..., Callable[[], object]], *arguments: object) -> int:
    """Bytes that the work which `prepare(*arguments)` returns takes beyond what was there when it began, on one thread.

    `prepare` is pickled.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measured, (prepare, arguments))


def _measured(prepare: Callable[..., Callable[[], object]], arguments: tuple[object, ...]) -> int:
    import torch

    torch.set_num_threads(1)
    work = prepare(*arguments)
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before
