"""How much memory a model's work takes, apart from its weights and from everything else in the process."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Memory:
    """Highest use of memory for states and activations: what `started()` finds in memory already is not counted.

    On CUDA what PyTorch's allocator gave out; on Linux what the process held, also what others in it took meanwhile; 0
    elsewhere.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.work_bytes = 0
        self._before: int | None = None

    def started(self) -> None:
        """The model is about to work."""
        self.read()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
            return
        _release_freed()  # or what was freed earlier and is used again would not be counted
        try:
            _RESET.write_text("5")  # the highest use so far is the present one
        except OSError:
            self._before = _status("VmHWM")  # not allowed here: growth beyond an earlier peak still shows
            return
        self._before = _status("VmRSS")

    def read(self) -> int:
        """Bytes beyond what `started()` found, the most of all times."""
        if self._before is not None:
            cuda = self.device.type == "cuda"
            now = torch.cuda.max_memory_allocated(self.device) if cuda else _status("VmHWM") or 0
            self.work_bytes = max(self.work_bytes, now - self._before)
        return self.work_bytes


def process_peak() -> int:
    """Bytes that the whole process held at most, Python, lm_eval and data included; 0 where it cannot be told."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _release_freed() -> None:
    """Hand memory that is free back to the system, where the C library is glibc."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # musl, macOS and Windows have no such function
        return


def _status(name: str) -> int | None:
    """A line of /proc/self/status in bytes; None where there is none."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)
