"""What needs a GPU runs: every part at toy size on a CPU, and on CUDA where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu import PARTS, Finding, Setting, main
from jrt_lmeval.errors import JRTError

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("part", PARTS)
def test_a_part_runs_and_finds_nothing_wrong(part: str, device: str) -> None:
    found = list(PARTS[part](Setting(device, tiny=True)))
    assert found and not [one for one in found if one.passed is False]
    assert len({one.what for one in found}) == len(found)


@pytest.mark.gpu
def test_answers_on_cuda_are_those_of_the_cpu() -> None:
    first, second = gpu.answers(Setting("cuda"))
    assert first.what == "answers, float32" and first.passed and first.figure == "0 answers"
    assert second.passed is None


def test_one_table_and_a_part_that_fails_keeps_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Setting) -> Iterator[Finding]:
        yield Finding("first", "1 ms", None)
        raise RuntimeError("CUDA error: an illegal memory access")

    monkeypatch.setitem(PARTS, "prefill", broken)
    assert main(["--device", "cpu", "--tiny", "--only", "prefill", "answers", "--out", str(tmp_path)]) == 1
    table = (tmp_path / "gpu.md").read_text()
    assert "| prefill | first | 1 ms | - |" in table and "| **NO** | failed: CUDA error: an illegal" in table
    assert "| 0 answers | yes |" in table and table in capsys.readouterr().out
    assert main(["--device", "cpu", "--tiny", "--only", "answers"]) == 0


def test_without_cuda_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(JRTError, match="no CUDA device"):
        main([])
    with pytest.raises(JRTError, match=r"unknown part 'sweet'\. .*suite"):
        main(["--device", "cpu", "--only", "sweet"])


def test_wrong_answers_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "answers_of", lambda device, dtype, asked: [dtype] * len(asked))
    same, other = gpu.answers(Setting("cpu", tiny=True))
    assert (same.passed, same.figure) == (True, "0 answers") and (other.passed, other.figure) == (None, "4 answers")
