"""Others' kernels against the readable forms: fla for prefix linear attention, mamba-ssm for Mamba."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.gpu.checks import FIXTURES
from benchmarks.gpu.findings import Finding, Setting, relative_error
from jrt_lmeval.checkpoints.found import find
from jrt_lmeval.checkpoints.load import load_model
from jrt_lmeval.modeling.feature_maps import build_feature_map
from jrt_lmeval.modeling.linear_attention import LinearState, Prefix, chunked, head_start, naive

SHAPES = ((2, 3, 63), (2, 3, 200), (1, 16, 1025))
"""Rows, heads, tokens: fla takes its recurrent kernel below 64 tokens and its chunked one above."""
D, V = 16, 112
LIMITS = {
    ("chunked", torch.float32): 1e-4,
    ("chunked", torch.bfloat16): 5e-2,
    ("fla", torch.float32): 5e-3,  # its products of float32 are in TF32
    ("fla", torch.bfloat16): 5e-2,
}
"""Largest error over the largest value."""


def inputs(setting: Setting, B: int, H: int, T: int, dtype: torch.dtype) -> tuple[list[Tensor], Prefix, Tensor]:
    """Taylor features of random queries and keys with values, a prefix of a third of the tokens, and a ragged mask."""
    generator = torch.Generator().manual_seed(T)
    phi = build_feature_map("taylor", H, D)
    q, k, ke = (phi(torch.randn(B, H, T, D, generator=generator)).to(setting.device, dtype) for _ in range(3))
    v, ve = (torch.randn(B, H, T, V, generator=generator).to(setting.device, dtype) for _ in range(2))
    order = torch.arange(T, device=setting.device).expand(B, T)
    return [q, k, v], Prefix(ke, ve, order < T // 3), order < T - torch.arange(B, device=setting.device)[:, None]


def fla_form(q: Tensor, k: Tensor, v: Tensor, prefix: Prefix, mask: Tensor) -> tuple[Tensor, Tensor, LinearState]:
    """The recurrence by fla's kernels, our sums in float32 beside them; arguments and results as `naive`."""
    from fla.ops.linear_attn import chunk_linear_attn, fused_recurrent_linear_attn

    start = head_start(k.float(), v.float(), Prefix(prefix.k.float(), prefix.v.float(), prefix.mask), None)
    k = k * mask[:, None, :, None].to(k.dtype)
    kernel = chunk_linear_attn if q.shape[2] >= 64 else fused_recurrent_linear_attn
    y, S = kernel(
        *(x.transpose(1, 2).contiguous() for x in (q, k, v)),
        scale=1.0, initial_state=start.S, output_final_state=True, normalize=False,
    )  # fmt: skip
    z = start.z[:, :, None] + k.float().cumsum(2)
    return y.transpose(1, 2), (q.float() * z).sum(-1), LinearState(S, z[:, :, -1])


def linear_attention(setting: Setting) -> Iterator[Finding]:
    """Our chunked form on the device, and fla's kernels, against the naive form in float64 on the CPU."""
    forms = {"chunked": chunked}
    if setting.on_cuda and find_spec("fla"):
        forms["fla"] = fla_form
    elif setting.on_cuda:
        yield Finding("fla against naive", None, "", None, "not done: pip install flash-linear-attention")
    for dtype in (torch.float32, torch.bfloat16) if setting.on_cuda else (torch.float32,):
        for B, H, T in SHAPES[:1] if setting.tiny else SHAPES:
            given, prefix, mask = inputs(setting, B, H, T, dtype)
            exact = [x.cpu().double() for x in given]
            truth = naive(
                *exact, Prefix(prefix.k.cpu().double(), prefix.v.cpu().double(), prefix.mask.cpu()), mask.cpu()
            )
            for name, form in forms.items():
                y, d, state = form(*given, prefix, mask)
                real = mask[:, None, :, None].cpu()
                error = max(
                    relative_error(y.cpu() * real, truth[0] * real),
                    relative_error(d.cpu() * real[..., 0], truth[1] * real[..., 0]),
                    relative_error(state.S, truth[2].S),
                )
                what = f"{name} against naive, {str(dtype).removeprefix('torch.')}, {B} x {H} x {T}"
                limit = LIMITS[name, dtype]
                yield Finding(what, error, "of the largest", error < limit, f"limit {limit:g}")


def mamba(setting: Setting) -> Iterator[Finding]:
    """Mamba on the device, by mamba-ssm's kernels where they are installed, against the CPU's logits."""
    folder: Path = FIXTURES / "mamba_tiny"
    fused = setting.on_cuda and bool(find_spec("mamba_ssm")) and bool(find_spec("causal_conv1d"))
    ids = torch.randint(0, 100, (2, 70), generator=torch.Generator().manual_seed(0))
    checkpoint = find(str(folder))
    with torch.inference_mode():
        truth = load_model(checkpoint, torch.float32, torch.device("cpu"), {})(ids).logits
        mine = load_model(checkpoint, torch.float32, torch.device(setting.device), {})(ids.to(setting.device)).logits
    error = relative_error(mine, truth)
    by = "mamba-ssm" if fused else "transformers' own scan"
    yield Finding(f"mamba by {by} against the CPU", error, "of the largest", error < 1e-3, "limit 0.001")
    if setting.on_cuda and not fused:
        yield Finding("mamba-ssm against naive", None, "", None, "not done: pip install mamba-ssm causal-conv1d")
