"""What waits for a GPU runs: every part at toy size on a CPU, and on CUDA where there is one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import checks, kernels, latency
from benchmarks.gpu.__main__ import PARTS, Part, apart, findings, main
from benchmarks.gpu.findings import Finding, Setting

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("part", PARTS)
def test_a_part_runs_and_finds_nothing_wrong(part: str, device: str) -> None:
    found = list(findings(part, Setting(device, tiny=True)))
    assert found and all(isinstance(one, Finding) for one in found)
    assert not [one for one in found if one.passed is False]
    assert len({one.what for one in found}) == len(found)


@pytest.mark.gpu
def test_answers_on_cuda_are_those_of_the_cpu() -> None:
    first, second = checks.answers(Setting("cuda"))
    assert first.what == "answers, float32" and first.passed and first.value == 0
    assert second.passed is None


def test_all_parts_end_within_nine_minutes() -> None:
    assert sum(part.seconds for part in PARTS.values()) <= 540


def test_one_json_and_one_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PARTS, "processes", Part(PARTS["processes"].target, 300))  # a busy machine is no failure
    assert main(["--device", "cpu", "--tiny", "--only", "processes", "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert [one["passed"] for one in record["parts"]["processes"]] == [True]
    assert record["machine"]["device"] == "cpu" and record["machine"]["tiny"] is True
    assert "gloo with one process" in (tmp_path / "gpu.md").read_text()
    assert "gloo with one process" in capsys.readouterr().out


def test_a_part_that_hangs_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARTS, "processes", Part("benchmarks.gpu.checks:processes", 0))
    (hung,) = apart("processes", Setting("cpu", tiny=True))
    assert hung.passed is False and "ended after its 0 s" in hung.seen


def test_a_part_that_fails_is_a_finding_and_keeps_what_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = '{"what": "first", "value": 1.0, "unit": "ms", "passed": null, "seen": ""}'

    def broken(command: list[str], **_: object) -> subprocess.CompletedProcess:
        Path(command[command.index("--part") + 2]).write_text(f"{kept}\n")
        return subprocess.CompletedProcess(command, 1, "", "CUDA error: an illegal memory access")

    monkeypatch.setattr(subprocess, "run", broken)
    first, failure = apart("prefill", Setting("cpu", tiny=True))
    assert first == Finding("first", 1.0, "ms", None)
    assert failure.passed is False and "illegal memory access" in failure.seen


def test_without_cuda_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([]) == 2
    assert "no CUDA device" in capsys.readouterr().err
    assert main(["--device", "cpu", "--only", "sweet"]) == 2
    assert "suite" in capsys.readouterr().err


def test_a_wrong_kernel_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = kernels.chunked

    def wrong(*given, **named):
        y, d, state = right(*given, **named)
        return 1.01 * y, d, state

    monkeypatch.setattr(kernels, "chunked", wrong)
    (found,) = kernels.linear_attention(Setting("cpu", tiny=True))
    assert found.passed is False and found.value == pytest.approx(0.01, rel=0.1)


def test_wrong_answers_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "answers_of", lambda device, dtype, asked: [dtype] * len(asked))
    same, other = checks.answers(Setting("cpu", tiny=True))
    assert (same.passed, same.value) == (True, 0) and (other.passed, other.value) == (None, checks.TINY_ROWS)


def test_goals_stand_at_the_longest_length_on_cuda_only() -> None:
    cuda = Setting("cuda")
    assert latency._goal(32768, 5.0, latency.GOAL_MS, cuda) is True
    assert latency._goal(32768, 6.0, latency.GOAL_MS, cuda) is False
    assert latency._goal(32768, latency.GOAL_RATIO, 19.0, cuda) is False
    assert latency._goal(2048, 6.0, latency.GOAL_MS, cuda) is None
    assert latency._goal(32768, 6.0, latency.GOAL_MS, Setting("cpu")) is None
    assert latency._goal(32768, None, latency.GOAL_MS, cuda) is None
