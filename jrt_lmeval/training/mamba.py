"""Train transformers' Mamba on a CPU: its fallback scan takes a token a millisecond, with a graph node for each.

The recurrence is the same, written into one autograd function: no node per token, and the gradient is the recurrence
run backwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.mamba import modeling_mamba


class LinearRecurrence(torch.autograd.Function):
    """h_t = a_t h_{t-1} + b_t from h_{-1} = 0; a, b and h `[T, ...]`."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        h = torch.empty_like(b)
        h[0] = b[0]
        for t in range(1, len(b)):
            torch.addcmul(b[t], a[t], h[t - 1], out=h[t])
        ctx.save_for_backward(a, h)
        return h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        a, h = ctx.saved_tensors
        g = grads[0].clone(memory_format=torch.contiguous_format)
        for t in range(len(g) - 2, -1, -1):
            g[t].addcmul_(a[t + 1], g[t + 1])
        da = torch.zeros_like(a)
        torch.mul(g[1:], h[:-1], out=da[1:])
        return da, g


def selective_scan(
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor,
    delta_bias: Tensor,
    **_: Any,
) -> Tensor:
    """Mamba's scan (arXiv 2312.00752, eq. 2) with the arguments that transformers passes in training.

    Args:
        hidden_states, dt, z: `[B, E, T]`.
        A: `[E, N]`.
        B, C: `[B, N, T]`.
        D, delta_bias: `[E]`.

    Returns:
        `[B, E, T]`.
    """
    u, dt = hidden_states.permute(2, 0, 1), F.softplus(dt + delta_bias[:, None]).permute(2, 0, 1)  # [T, B, E]
    kept = torch.exp(dt[..., None] * A)  # [T, B, E, N]
    added = (dt * u)[..., None] * B.permute(2, 0, 1)[:, :, None]
    states = LinearRecurrence.apply(kept, added)
    y = (states @ C.permute(2, 0, 1)[..., None])[..., 0] + u * D
    return y.permute(1, 2, 0) * F.silu(z)


@contextmanager
def trainable_scan() -> Iterator[None]:
    """Within it, transformers' Mamba uses `selective_scan`: for whole rows without a cache, as in training."""
    theirs = modeling_mamba.mamba_selective_scan
    modeling_mamba.mamba_selective_scan = selective_scan
    try:
        yield
    finally:
        modeling_mamba.mamba_selective_scan = theirs
