"""Mamba-2 on a CPU: transformers' chunked scan computes the products of keys and queries anew for every head, and its
depthwise convolution is slow there.

The same sums in an order that a CPU likes: heads of a group share their keys, so that a chunk costs a few large
products. Twins are transformers' own functions, which tests hold equal.

Letters: R rows, n chunks of c tokens, G groups of K heads, P values a head, N the state's size, M = K P.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.activations import ACT2FN

from jrt_lmeval.modeling.convolution import depthwise

CHUNK = 64


def chunk_scan(
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    chunk_size: int = CHUNK,
    D: Tensor | None = None,
    dt_bias: Tensor | None = None,
    initial_states: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, float("inf")),
    return_final_states: bool = False,
    **_: Any,
) -> Tensor | tuple[Tensor, Tensor]:
    """h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t, y_t = h_t C_t + D x_t (arXiv 2405.21060), arguments as transformers has
    them.

    Args:
        hidden_states: x `[R, T, H, P]`.
        dt: `[R, T, H]`.
        A, D, dt_bias: `[H]`.
        B, C: `[R, T, G, N]`.
        chunk_size: of the checkpoint's configuration; chunks here are of `CHUNK` tokens, which changes no result.
        initial_states: `[R, H, P, N]`.

    Returns:
        y `[R, T, H, P]`, with `return_final_states` also the state after the last token `[R, H, P, N]`.
    """
    (R, T, H, P), (G, N) = hidden_states.shape, B.shape[2:]
    dt = dt if dt_bias is None else dt + dt_bias.to(dt.dtype)
    dt = (F.softplus(dt) if dt_softplus else dt).clamp(*dt_limit)
    x = hidden_states if hidden_states.dtype == torch.float64 else hidden_states.float()
    c = min(CHUNK, T)
    written, fading, B, C = (_chunks(part.to(x.dtype), c) for part in (x * dt[..., None], dt * A, B, C))
    total = fading.cumsum(2).transpose(2, 3).unflatten(2, (G, -1))  # [R, n, G, K, c]
    u = written.unflatten(3, (G, -1)).permute(0, 1, 3, 4, 2, 5)  # [R, n, G, K, c, P]
    B, C = B.transpose(2, 3), C.transpose(2, 3)  # [R, n, G, c, N]
    within = _differences(total).exp() * (C @ B.mT)[:, :, :, None]
    kept = (total[..., -1:] - total).exp()[..., None]
    added = B.mT @ (u * kept).transpose(3, 4).flatten(4)  # [R, n, G, N, M]
    states = _between(added, total[..., -1], initial_states)
    before = (C @ states[:, :-1]).unflatten(4, (-1, P)).transpose(3, 4)  # [R, n, G, K, c, P]
    y = within @ u + before * total.exp()[..., None]
    y = y.permute(0, 1, 4, 2, 3, 5).reshape(R, -1, H, P)[:, :T]
    y = (y if D is None else y + x * D[:, None]).contiguous()  # transformers takes views of both
    if not return_final_states:
        return y
    last = states[:, -1].unflatten(3, (-1, P)).permute(0, 1, 3, 4, 2).reshape(R, H, P, N)
    return y, last.contiguous()


def _chunks(x: Tensor, c: int) -> Tensor:
    """`[R, T, ...] -> [R, n, c, ...]`, filled up with tokens that write nothing and let nothing fade."""
    pad = -x.shape[1] % c
    return F.pad(x, (0, 0) * (x.dim() - 2) + (0, pad)).unflatten(1, (-1, c))


def _differences(total: Tensor) -> Tensor:
    """`total_i - total_j` for j <= i, else minus infinity: `[..., c] -> [..., c, c]`."""
    later = torch.ones(total.shape[-1], total.shape[-1], dtype=torch.bool, device=total.device).triu(1)
    return (total[..., :, None] - total[..., None, :]).masked_fill(later, -torch.inf)


def _between(added: Tensor, fading: Tensor, first: Tensor | None) -> Tensor:
    """States before each chunk and after the last, `[R, n + 1, G, N, M]`.

    Args:
        added: by each chunk to the state after it, `[R, n, G, N, M]`.
        fading: logarithm of what a chunk leaves of the state before it, `[R, n, G, K]`.
        first: state to start from, `[R, H, P, N]`; None for nothing.
    """
    R, _, G, N, M = added.shape
    K = fading.shape[3]
    start = added.new_zeros(R, 1, G, N, M)
    if first is not None:
        start = first.to(added.dtype).reshape(R, G, M, N).mT[:, None]
    each = torch.cat([start, added], 1).unflatten(4, (K, -1)).permute(0, 2, 4, 1, 3, 5).flatten(4)
    left = _differences(
        F.pad(fading.cumsum(1), (0, 0, 0, 0, 1, 0)).permute(0, 2, 3, 1)
    ).exp()  # [R, G, K, n + 1, n + 1]
    return (left @ each).unflatten(4, (N, -1)).permute(0, 3, 1, 4, 2, 5).flatten(4)


def causal_conv(
    hidden_states: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None, **_: Any
) -> Tensor:
    """Depthwise causal convolution (see `convolution`), arguments as transformers has them.

    Args:
        hidden_states: `[R, E, T]`.
        weight: `[E, K]`.
        bias: `[E]`.
        activation: name of a function, as in transformers.

    Returns:
        `[R, E, T]`.
    """
    y = depthwise(F.pad(hidden_states.mT, (0, 0, weight.shape[1] - 1, 0)), weight)
    y = y if bias is None else y + bias
    return (y if activation is None else ACT2FN[activation](y)).mT
