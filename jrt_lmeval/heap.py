"""Freed memory stays with the process, where glibc manages it.

By default glibc hands large freed blocks back to the kernel, and the next batch waits while the kernel clears the same
pages again. Held back, they are used as they are. A process never holds more than it needed at its peak.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

MMAP_MAX, TRIM_THRESHOLD = -4, -1  # of <malloc.h>: blocks mapped one by one, and free bytes at which the rest goes back
SETTINGS = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")


def keep_freed() -> bool:
    """Keep freed memory for the next use. Returns whether that is so now: not without glibc, and not where the user has
    settings of their own for it in the environment."""
    if any(name in os.environ for name in SETTINGS) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    libc = _glibc()
    return libc is not None and bool(libc.mallopt(MMAP_MAX, 0)) and bool(libc.mallopt(TRIM_THRESHOLD, 2**31 - 1))


def give_back() -> None:
    """Let go of all that is free at this moment, so that a measure of memory starts from what is in use."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> Any:
    """The C library; None where it is another one."""
    try:
        known = (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
        return ctypes.CDLL(None) if known else None
    except (AttributeError, ValueError, OSError):  # Windows, macOS, musl
        return None
