"""Linear attention with a head start by flash-linear-attention's Triton kernels: the fourth form, for a GPU.

The kernels give the numerator and its state from any initial one; the denominator is a cumulative sum in float32, so
that neither form nor number format changes what is divided by. Equal to `naive`: tests/with_fla/test_fla_form.py.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from jrt_lmeval.modeling.linear_attention import CHUNK, LinearState, Prefix, chunked, head_start


def best_form(device: torch.device) -> str:
    """The form of linear attention to read prompts with: `fla` on CUDA where flash-linear-attention is installed."""
    return "fla" if device.type == "cuda" and find_spec("fla") is not None else "chunked"


def fla(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    prefix: Prefix | None = None,
    mask: Tensor | None = None,
    state: LinearState | None = None,
    decay: Tensor | None = None,
) -> tuple[Tensor, Tensor, LinearState]:
    """Linear-time form. Arguments and results as `naive`'s, with a state in float32; a decay is left to `chunked`."""
    if decay is not None:
        return chunked(q, k, v, prefix, mask, state, decay)
    from fla.ops.linear_attn import chunk_linear_attn, fused_recurrent_linear_attn

    start = head_start(k, v, prefix, state)
    if mask is not None:
        k = k * mask[:, None, :, None].to(k.dtype)
    kernel = chunk_linear_attn if q.shape[2] >= CHUNK else fused_recurrent_linear_attn
    y, S = kernel(
        *(x.transpose(1, 2).contiguous() for x in (q, k, v)),  # [B, T, H, .]
        scale=1.0,
        initial_state=start.S.float().contiguous(),
        output_final_state=True,
        normalize=False,
    )
    z = start.z.float()[:, :, None] + k.float().cumsum(2)  # [B, H, T, F]
    d = (q.float() * z).sum(-1)
    return y.transpose(1, 2).to(q.dtype), d.to(q.dtype), LinearState(S, z[:, :, -1])
