"""What the start-up hook costs a Python that does nothing: two bare environments, with and without it, side by side.

    python benchmarks/startup.py [PAIRS]

Each pair starts both interpreters, in alternating order, and counts the CPU time of the child process, so that other
work on the machine disturbs both alike. Prints the medians, the median of the paired differences with its quartiles,
and the ratio.
"""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).resolve().parent.parent
FILES = ("_jrt_lmeval_hook.py", "jrt_lmeval_start.pth", "jrt_lmeval_start.start")


def environment(folder: Path, with_hook: bool) -> Path:
    """Make an empty virtual environment and return its interpreter."""
    venv.create(folder, symlinks=os.name != "nt")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if with_hook:
        show = "import sysconfig; print(sysconfig.get_path('purelib'))"
        site = subprocess.run([python, "-c", show], capture_output=True, text=True, check=True).stdout.strip()
        for name in FILES:
            shutil.copy(ROOT / name, site)
        compileall.compile_dir(site, quiet=1)  # as pip does
    return python


def cpu_ms(python: Path) -> float:
    """CPU milliseconds, user and system, of one start."""
    # -E: with a PYTHONPATH that holds a checkout, the hook would be read from there and not from site-packages
    child = subprocess.Popen([python, "-E", "-c", "pass"])
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return 1000 * (usage.ru_utime + usage.ru_stime)


def main(pairs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plain = environment(Path(folder) / "plain", with_hook=False)
        hooked = environment(Path(folder) / "hooked", with_hook=True)
        times: dict[Path, list[float]] = {plain: [], hooked: []}
        for pair in range(-5, pairs):  # the first starts fill the disk's cache
            for python in (plain, hooked) if pair % 2 else (hooked, plain):
                spent = cpu_ms(python)
                if pair >= 0:
                    times[python].append(spent)
    without, with_hook = times[plain], times[hooked]
    low, middle, high = quantiles((b - a for a, b in zip(without, with_hook, strict=True)), n=4)
    print(f"{pairs} pairs, CPU ms a start")
    print(f"without the hook   median {median(without):.2f}")
    print(f"with the hook      median {median(with_hook):.2f}   x{median(with_hook) / median(without):.3f}")
    print(f"paired difference  median {middle:+.2f}   quartiles {low:+.2f} .. {high:+.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
