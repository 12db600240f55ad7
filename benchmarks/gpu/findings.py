"""What a part of the GPU benchmark finds, and how a stretch of work is timed on a device."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch


@dataclass(frozen=True)
class Setting:
    """Where and how much.

    Attributes:
        device: `cuda`, or `cpu` to see that a part runs.
        tiny: sizes at which every part takes seconds on a CPU; such figures say nothing of a speed.
    """

    device: str = "cuda"
    tiny: bool = False

    @property
    def on_cuda(self) -> bool:
        """Whether this is about a GPU."""
        return torch.device(self.device).type == "cuda"

    @property
    def dtype(self) -> torch.dtype:
        """bfloat16 on CUDA, float32 elsewhere."""
        return torch.bfloat16 if self.on_cuda else torch.float32

    @property
    def dtypes(self) -> dict[str, torch.dtype]:
        """The number formats that are compared; on a CPU bfloat16 as well, to see that the part runs."""
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        what: was done.
        value, unit: the figure, None where there is none.
        passed: whether it is as it must be; None for a figure that has no right or wrong, or where nothing could be
            done, which `seen` then says.
        seen: in words.
    """

    what: str
    value: float | None
    unit: str
    passed: bool | None
    seen: str = ""


def wait(setting: Setting) -> None:
    """Until the device has done all that it was given."""
    if setting.on_cuda:
        torch.cuda.synchronize()


def milliseconds(setting: Setting, work: Callable[[], object], repeats: int = 10) -> float:
    """Median milliseconds of `work`, after two runs that do not count (kernels are compiled and chosen in them)."""
    for _ in range(2):
        work()
    found = []
    for _ in range(1 if setting.tiny else repeats):
        wait(setting)
        started = time.perf_counter()
        work()
        wait(setting)
        found.append(1000 * (time.perf_counter() - started))
    return median(found)


def peak_gigabytes(setting: Setting) -> float:
    """Most that tensors held on the GPU since the last `forget_peak`; 0 on a CPU."""
    return torch.cuda.max_memory_allocated() / 1e9 if setting.on_cuda else 0.0


def forget_peak(setting: Setting) -> None:
    """Count memory afresh."""
    if setting.on_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def relative_error(mine: torch.Tensor, truth: torch.Tensor) -> float:
    """Largest difference over the largest value, in float64 on the CPU."""
    mine, truth = mine.detach().double().cpu(), truth.detach().double().cpu()
    return float((mine - truth).abs().max() / truth.abs().max())
