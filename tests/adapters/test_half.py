"""Half precision on a CPU: found by a probe, warned of where it is slower, never chosen unasked."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import tiny
import torch

from jrt_lmeval.errors import JRTError
from jrt_lmeval.training import cli
from model_adapters import options
from model_adapters.engines import half
from model_adapters.engines.jrt import JRTEngine
from model_adapters.hf_recall import HFRecall
from model_adapters.options import RunOptions
from model_adapters.processes import World
from model_adapters.running.hardware import pick_dtype

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
FLAGS = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu sse avx512_bf16 {}\nbugs\t\t: none\n"


def processor(monkeypatch: pytest.MonkeyPatch, folder: Path, flags: str = "", cost: float | None = None) -> None:
    """Stands in for the machine: its flags, and what the probe finds; None where it must not be asked."""
    (folder / "cpuinfo").write_text(FLAGS.format(flags), encoding="utf-8")
    monkeypatch.setattr(half, "CPUINFO", folder / "cpuinfo")

    def relative_cost(dtype: torch.dtype) -> float:
        assert cost is not None, "nothing was to be measured"
        return cost

    monkeypatch.setattr(half, "relative_cost", relative_cost)


def test_matrix_units_are_read_from_the_processors_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, tmp_path, "amx_tile amx_bf16 amx_int8")
    assert half.has_matrix_units(torch.bfloat16) and not half.has_matrix_units(torch.float16)
    processor(monkeypatch, tmp_path)
    assert not half.has_matrix_units(torch.bfloat16)
    monkeypatch.setattr(half, "CPUINFO", tmp_path / "nothing")
    assert not half.has_matrix_units(torch.bfloat16)


@pytest.mark.parametrize("cost, chosen", [(0.32, torch.bfloat16), (0.95, torch.float32), (80.0, torch.float32)])
def test_the_probe_decides_only_where_it_was_asked_for(
    cost: float, chosen: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lm_eval.jrt")
    processor(monkeypatch, tmp_path, cost=cost)
    assert pick_dtype("probe", CPU) == chosen
    assert f"bfloat16 takes {cost:.2f} of the time" in caplog.text and str(chosen).removeprefix("torch.") in caplog.text
    processor(monkeypatch, tmp_path, "amx_bf16")
    assert pick_dtype("auto", CPU) == pick_dtype(None, CPU) == torch.float32
    assert pick_dtype("probe", CUDA) == torch.bfloat16


@pytest.mark.parametrize("flags, cost, warns", [("", 60.0, True), ("", 0.5, False), ("amx_bf16", None, False)])
def test_half_precision_warns_where_it_is_slower(
    flags: str, cost: float | None, warns: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.WARNING, "lm_eval.jrt")
    processor(monkeypatch, tmp_path, flags, cost)
    lm = HFRecall(tiny.save(tiny.llama(), tmp_path / "llama"), dtype="bfloat16", device="cpu")
    assert ("60.0 times as long as float32" in caplog.text) == warns
    assert lm.get_model_info()["jrt"]["dtype"] == "bfloat16"
    assert pick_dtype("float32", CPU) == torch.float32


def test_processes_agree_on_what_the_probe_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Two(World):
        def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
            return torch.stack([tensor, torch.zeros_like(tensor)])  # the other one has found float32 faster

    processor(monkeypatch, tmp_path, cost=0.3)
    monkeypatch.setattr(options, "launched_world", lambda: Two(0, 2))
    monkeypatch.setattr(options, "connect", lambda world, device: None)
    assert RunOptions(device="cpu", dtype="probe").hardware().dtype == torch.float32
    assert RunOptions(device="cpu", dtype="bfloat16").hardware().dtype == torch.bfloat16
    monkeypatch.setattr(options, "launched_world", World)
    assert RunOptions(device="cpu", dtype="probe").hardware().dtype == torch.bfloat16


def test_a_mistyped_dtype_names_the_probe_too() -> None:
    with pytest.raises(JRTError, match="probe"):
        pick_dtype("prob", CPU)


def test_the_probe_measures_something() -> None:
    assert half.relative_cost(torch.float32) > 0


def test_our_models_read_and_decode_in_bfloat16() -> None:
    """Coarse, but the same model: most of what float32 finds likeliest stays so, and nothing turns into NaN."""
    engines = [JRTEngine(tiny.jrt().to(dtype)) for dtype in (torch.float32, torch.bfloat16)]
    (exact, mine), (coarse, theirs) = (one.prefill([list(range(3, 60))], [20]) for one in engines)
    for step in range(4):
        assert coarse.isfinite().all() and torch.corrcoef(torch.stack([exact[0], coarse[0].float()]))[0, 1] > 0.98
        (exact, mine), (coarse, theirs) = (
            one.step(torch.tensor([7 + step]), state) for one, state in zip(engines, (mine, theirs), strict=True)
        )


def test_a_training_of_several_processes_does_not_probe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    arguments = cli.parser().parse_args(["--out", str(tmp_path), "--dtype", "probe"])
    with pytest.raises(JRTError, match=r"--dtype probe asks one process .*bfloat16 or float32"):
        cli.chosen_recipe(arguments)
