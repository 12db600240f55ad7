"""Mamba on a CPU: transformers' fallback scan takes a token a millisecond, and in training a graph node for each.

The recurrence is the same, written into one autograd function: no node per token, the gradient is the recurrence run
backwards, and what is computed at once stays in the cache. FalconMamba normalises dt, B and C before the scan, which
then is Mamba's.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CACHED = 2**20  # numbers that the states of a chunk may have: 4 MB of float32
CHUNKS = (8, 32)  # tokens of the shortest and the longest chunk
LOG2_E = math.log2(math.e)


class SelectiveScan(torch.autograd.Function):
    """h_t = exp(dt_t A) h_{t-1} + dt_t u_t B_t from h_{-1} = 0, y_t = h_t C_t (arXiv 2312.00752, eq. 2).

    u, dt and y `[T, B, E]`, A `[E, N]`, B and C `[T, B, N]`. Only the states between chunks are kept; those inside are
    computed again on the way back. The state after the last token `[B, E, N]` is the second result.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        h, y, starts = u.new_zeros(*u.shape[1:], A.shape[1]), torch.empty_like(u), []
        room, written, exponent = _room(h, chunk), dt * u, A * LOG2_E
        for first in range(0, len(u), chunk):
            part = slice(first, first + chunk)
            starts.append(h)
            _, states = _states(written[part], dt[part], exponent, B[part], h, room)
            y[part] = torch.einsum("tben,tbn->tbe", states, C[part])
            h = states[-1].clone()
        ctx.save_for_backward(u, dt, A, B, C, torch.stack(starts))
        ctx.chunk = chunk
        return y, h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (u, dt, A, B, C, starts), (dy, dh) = ctx.saved_tensors, grads
        du, ddt, dB, dC = (torch.empty_like(x) for x in (u, dt, B, C))
        dA, later, room, exponent = torch.zeros_like(A), dh, _room(starts[0], ctx.chunk), A * LOG2_E
        for number in range(len(starts) - 1, -1, -1):
            part = slice(number * ctx.chunk, (number + 1) * ctx.chunk)
            kept, states = _states(dt[part] * u[part], dt[part], exponent, B[part], starts[number], room)
            dC[part] = torch.einsum("tben,tbe->tbn", states, dy[part])
            g = dy[part][..., None] * C[part][:, :, None]  # of the states [t, B, E, N]
            g[-1] += later
            for t in range(len(g) - 2, -1, -1):
                g[t].addcmul_(kept[t + 1], g[t + 1])
            later = kept[0] * g[0]
            written = torch.einsum("tben,tbn->tbe", g, B[part])
            du[part] = written * dt[part]
            dB[part] = torch.einsum("tben,tbe->tbn", g, dt[part] * u[part])
            kept[1:] *= states[:-1]
            kept[0] *= starts[number]
            kept *= g  # now the gradient of the exponent dt A
            ddt[part] = written * u[part] + torch.einsum("tben,en->tbe", kept, A)
            dA += torch.einsum("tben,tbe->en", kept, dt[part])
        return du, ddt, dA, dB, dC, None


def _room(h: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Memory for what `_states` returns: the same for all chunks, so that it stays in the cache."""
    return h.new_empty(chunk, *h.shape), h.new_empty(chunk, *h.shape)


def _states(
    written: Tensor, dt: Tensor, exponent: Tensor, B: Tensor, h: Tensor, room: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """What each token leaves of the state before it, and the states after each, `[t, B, E, N]`; `written` is dt u,
    `exponent` A / log(2): a power of two takes a third of the time of one of e."""
    kept, states = (memory[: len(dt)] for memory in room)
    torch.mul(dt[..., None], exponent, out=kept).exp2_()
    torch.mul(written[..., None], B[:, :, None], out=states)
    for t in range(len(states)):
        h = states[t].addcmul_(kept[t], h)
    return kept, states


def selective_scan(
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor,
    delta_bias: Tensor,
    return_last_state: bool = False,
    **_: Any,
) -> Tensor | tuple[Tensor, Tensor]:
    """Mamba's scan (arXiv 2312.00752, eq. 2) with the arguments that transformers passes.

    Args:
        hidden_states, dt, z: `[B, E, T]`.
        A: `[E, N]`.
        B, C: `[B, N, T]`.
        D, delta_bias: `[E]`.

    Returns:
        `[B, E, T]`, with `return_last_state` also the state after the last token `[B, E, N]`.
    """
    rows, E = dt.shape[:2]
    u, B, C, z = (x.permute(2, 0, 1) for x in (hidden_states, B, C, z))
    dt = dt.flatten(0, 1).mT.contiguous().unflatten(1, (rows, E))  # of matrices torch has a fast transpose
    dt = F.softplus(dt + delta_bias)
    chunk = min(max(CACHED // (rows * A.numel()), CHUNKS[0]), CHUNKS[1])
    y, state = SelectiveScan.apply(u.contiguous(), dt, A, B.contiguous(), C.contiguous(), chunk)
    y = (torch.addcmul(y, u, D) * F.silu(z)).permute(1, 2, 0)
    return (y, state) if return_last_state else y
