"""Commands timed from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spent:
    """Seconds: of the processor, the process's children included, and on the wall."""

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
