"""Freed memory stays with the process on glibc, and nothing happens anywhere else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny

from jrt_lmeval import cli, heap
from model_adapters.options import RunOptions

ON_GLIBC = heap._glibc() is not None
FAULTS = """
import resource, sys
from jrt_lmeval import heap
print(heap.keep_freed() if "keep" in sys.argv else False)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    return bytearray(64 << 20)
work()
before = faults()
for _ in range(4):
    work()
print(faults() - before)
if "keep" in sys.argv:
    heap.give_back()
    print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")))
"""


def run(*words: str, **env: str) -> list[str]:
    clean = {name: value for name, value in os.environ.items() if name not in (*heap.SETTINGS, "GLIBC_TUNABLES")}
    found = subprocess.run(
        [sys.executable, "-c", FAULTS, *words], env={**clean, **env}, capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    return found.stdout.split()


@pytest.mark.skipif(not ON_GLIBC, reason="another C library")
def test_kept_memory_is_not_asked_of_the_kernel_again() -> None:
    said, faults, resident = run("keep")
    assert said == "True" and int(faults) < 2000 and int(resident) < (64 << 10)
    said, faults = run()
    assert said == "False" and int(faults) > 4 * (64 << 20) // 65536  # at least one for every 64 kB


@pytest.mark.skipif(not ON_GLIBC, reason="another C library")
@pytest.mark.parametrize(
    "name, value", [("MALLOC_TRIM_THRESHOLD_", "131072"), ("GLIBC_TUNABLES", "glibc.malloc.perturb=0")]
)
def test_settings_of_the_user_stand(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(heap, "_glibc", lambda: pytest.fail("must not be asked"))
    assert heap.keep_freed() is False


@pytest.mark.parametrize("error", [ValueError, AttributeError])
def test_another_system_is_left_alone(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def confstr(name: str) -> str:
        raise error(name)

    monkeypatch.setattr(os, "confstr", confstr, raising=False)
    assert heap.keep_freed() is False
    heap.give_back()


def test_a_model_on_a_cpu_and_our_own_command_keep_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(heap, "keep_freed", lambda: calls.append("kept"))
    RunOptions(device="cpu").hardware()
    assert calls == ["kept"]
    monkeypatch.setitem(cli.COMMANDS, "doctor", cli.Command("test_heap:nothing", "does nothing"))
    assert cli.main(["doctor"]) == 0 and calls == ["kept", "kept"]


def nothing(rest: Any) -> int:
    return 0


def test_answers_do_not_depend_on_how_many_rows_a_batch_holds() -> None:
    asked = [tiny.ask(prompt) for prompt in tiny.prompts()]
    found = []
    for rows in (1, 2, len(asked)):
        lm = tiny.lm("jrt")
        lm.runtime.budget = type(lm.runtime.budget)(rows=rows)
        found.append([str(answer) for answer in lm.generate_until(asked, disable_tqdm=True)])
    assert found[0] == found[1] == found[2] and any(found[0])
