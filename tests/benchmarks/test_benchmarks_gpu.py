"""What needs a GPU runs: every part at toy size on a CPU, and on CUDA where there is one."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import parts
from benchmarks.gpu.__main__ import apart, main
from benchmarks.gpu.parts import PARTS, Finding, Setting, jrt_config

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("part", PARTS)
def test_a_part_runs_and_finds_nothing_wrong(part: str, device: str) -> None:
    found = list(PARTS[part].run(Setting(device, tiny=True)))
    assert found and all(isinstance(one, Finding) for one in found)
    assert not [one for one in found if one.passed is False]
    assert len({one.what for one in found}) == len(found)


@pytest.mark.gpu
def test_answers_on_cuda_are_those_of_the_cpu() -> None:
    first, second = parts.answers(Setting("cuda"))
    assert first.what == "answers, float32" and first.passed and first.value == 0
    assert second.passed is None


def test_all_parts_end_within_nine_minutes() -> None:
    assert sum(part.seconds for part in PARTS.values()) <= 540


def test_one_json_and_one_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PARTS, "processes", replace(PARTS["processes"], seconds=300))  # a busy machine is no failure
    assert main(["--device", "cpu", "--tiny", "--only", "processes", "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert [one["passed"] for one in record["parts"]["processes"]] == [True]
    assert record["machine"]["device"] == "cpu" and record["machine"]["tiny"] is True
    assert "gloo with one process" in (tmp_path / "gpu.md").read_text()
    assert "gloo with one process" in capsys.readouterr().out


def test_a_part_that_hangs_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARTS, "processes", replace(PARTS["processes"], seconds=0))
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
    right = parts.chunked

    def wrong(*given, **named):
        y, d, state = right(*given, **named)
        return 1.01 * y, d, state

    monkeypatch.setattr(parts, "chunked", wrong)
    (found,) = parts.linear_attention(Setting("cpu", tiny=True))
    assert found.passed is False and found.value == pytest.approx(0.01, rel=0.1)


def test_wrong_answers_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "answers_of", lambda device, dtype, asked: [dtype] * len(asked))
    same, other = parts.answers(Setting("cpu", tiny=True))
    assert (same.passed, same.value) == (True, 0) and (other.passed, other.value) == (None, 4)


def test_goals_stand_at_the_longest_length_on_cuda_only() -> None:
    cuda = Setting("cuda")
    assert parts._goal(32768, 5.0, parts.GOAL_MS, cuda) is True
    assert parts._goal(32768, 6.0, parts.GOAL_MS, cuda) is False
    assert parts._goal(32768, parts.GOAL_RATIO, 19.0, cuda) is False
    assert parts._goal(2048, 6.0, parts.GOAL_MS, cuda) is None
    assert parts._goal(32768, 6.0, parts.GOAL_MS, Setting("cpu")) is None
    assert parts._goal(32768, None, parts.GOAL_MS, cuda) is None


def test_geometry_is_that_of_the_released_models() -> None:
    small, large = (jrt_config(size).mixers for size in ("360M", "1.3B"))
    assert {kind: small.count(kind) for kind in set(small)} == {"conv": 16, "prefix_linear": 5, "swa": 5}
    assert {kind: large.count(kind) for kind in set(large)} == {"conv": 22, "prefix_linear": 7, "swa": 7}
    assert jrt_config("1.3B").hidden_size == 1792
