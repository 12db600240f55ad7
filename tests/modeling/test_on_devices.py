"""What runs on a device gives what the readable forms give on the CPU; with `-m gpu`, the same on CUDA."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jrt_lmeval.checkpoints.found import find
from jrt_lmeval.checkpoints.load import load_model
from jrt_lmeval.modeling.feature_maps import build_feature_map
from jrt_lmeval.modeling.linear_attention import Prefix, chunked, fla, naive

MAMBA = Path(__file__).resolve().parents[1] / "fixtures" / "released" / "mamba_tiny"
D, V = 16, 112
SHAPES = (
    (2, 3, 63),
    (2, 3, 200),
    (1, 16, 1025),
)  # fla takes its recurrent kernel below 64 tokens, its chunked one above
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
KERNELS = [
    pytest.param("cpu", chunked, torch.float32, 1e-4),
    pytest.param("cuda", chunked, torch.float32, 1e-4, marks=pytest.mark.gpu),
    pytest.param("cuda", chunked, torch.bfloat16, 5e-2, marks=pytest.mark.gpu),
    pytest.param("cuda", fla, torch.float32, 5e-3, marks=pytest.mark.gpu),  # its products of float32 are in TF32
    pytest.param("cuda", fla, torch.bfloat16, 5e-2, marks=pytest.mark.gpu),
]


def relative_error(mine: Tensor, truth: Tensor) -> float:
    """Largest difference over the largest value, in float64 on the CPU."""
    mine, truth = mine.detach().double().cpu(), truth.detach().double().cpu()
    return float((mine - truth).abs().max() / truth.abs().max())


def errors(form: Callable[..., Any], shape: tuple[int, int, int], device: str, dtype: torch.dtype) -> list[float]:
    """Errors of outputs, normaliser and state on Taylor features, a prefix of a third of the tokens, a ragged mask."""
    B, H, T = shape
    generator = torch.Generator().manual_seed(T)
    phi = build_feature_map("taylor", H, D)
    q, k, ke = (phi(torch.randn(B, H, T, D, generator=generator)).to(device, dtype) for _ in range(3))
    v, ve = (torch.randn(B, H, T, V, generator=generator).to(device, dtype) for _ in range(2))
    order = torch.arange(T, device=device).expand(B, T)
    mask, before = order < T - torch.arange(B, device=device)[:, None], order < T // 3
    exact = Prefix(ke.cpu().double(), ve.cpu().double(), before.cpu())
    truth = naive(*(x.cpu().double() for x in (q, k, v)), exact, mask.cpu())
    y, d, state = form(q, k, v, Prefix(ke, ve, before), mask)
    real = mask[:, None, :, None].cpu()
    return [
        relative_error(y.cpu() * real, truth[0] * real),
        relative_error(d.cpu() * real[..., 0], truth[1] * real[..., 0]),
        relative_error(state.S, truth[2].S),
    ]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("device", "form", "dtype", "limit"), KERNELS)
def test_linear_attention_is_the_naive_form(
    device: str, form: Callable[..., Any], dtype: torch.dtype, limit: float, shape: tuple[int, int, int]
) -> None:
    if form is fla and not find_spec("fla"):
        pytest.skip("needs flash-linear-attention")
    assert max(errors(form, shape, device, dtype)) < limit


def test_a_wrong_kernel_is_found() -> None:
    def wrong(*given: Any) -> Any:
        y, d, state = chunked(*given)
        return 1.01 * y, d, state

    assert max(errors(wrong, SHAPES[0], "cpu", torch.float32)) == pytest.approx(0.01, rel=1e-2)


@pytest.mark.parametrize("device", DEVICES)
def test_mamba_gives_the_logits_of_the_cpu(device: str) -> None:
    """On CUDA by mamba-ssm's kernels where they are installed."""
    ids = torch.randint(0, 100, (2, 70), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        cpu, there = (load_model(find(str(MAMBA)), torch.float32, d)(ids.to(d)).logits for d in ("cpu", device))
    assert relative_error(there, cpu) < 1e-3
