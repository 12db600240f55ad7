"""Half precision on a CPU: only by name, and with a warning."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import tiny
import torch

from jrt_lmeval.errors import JRTError
from model_adapters.engines.jrt import JRTEngine
from model_adapters.models import HFRecall
from model_adapters.options import pick_dtype

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_float32_is_the_default_on_a_cpu_and_bfloat16_on_cuda() -> None:
    assert pick_dtype("auto", CPU) == pick_dtype(None, CPU) == torch.float32
    assert pick_dtype("auto", CUDA) == torch.bfloat16 and pick_dtype(torch.float16, CUDA) == torch.float16
    with pytest.raises(JRTError, match=r"unknown dtype 'bf16'.*bfloat16"):
        pick_dtype("bf16", CPU)


@pytest.mark.parametrize("dtype, warns", [("bfloat16", True), ("float32", False)])
def test_half_precision_by_name_warns(
    dtype: str, warns: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "lm_eval.jrt")
    lm = HFRecall(tiny.save(tiny.llama(), tmp_path / "llama"), dtype=dtype, device="cpu")
    assert ("answers can differ from float32's" in caplog.text) == warns
    assert lm.get_model_info()["jrt"]["dtype"] == dtype


def test_our_models_read_and_decode_in_bfloat16() -> None:
    """Coarse, but the same model: most of what float32 finds likeliest stays so, and nothing turns into NaN."""
    engines = [JRTEngine(tiny.jrt().to(dtype)) for dtype in (torch.float32, torch.bfloat16)]
    (exact, mine), (coarse, theirs) = (one.prefill([list(range(3, 60))], [20]) for one in engines)
    for step in range(4):
        assert coarse.isfinite().all() and torch.corrcoef(torch.stack([exact[0], coarse[0].float()]))[0, 1] > 0.98
        (exact, mine), (coarse, theirs) = (
            one.step(torch.tensor([7 + step]), state) for one, state in zip(engines, (mine, theirs), strict=True)
        )
