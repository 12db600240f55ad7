"""Mamba's layers on a CPU: faster forms of the functions with which transformers computes them without kernels.

transformers' fallback scan of Mamba takes a token a millisecond and, in training, a node of the graph for each; its
chunked scan of Mamba-2 computes the products of keys and queries anew for every head, and its depthwise convolution
is slow. Here the same sums are made in an order that suits a CPU. Tests hold them equal to transformers' functions.
FalconMamba normalises dt, B and C before the scan, which is then Mamba's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import FalconMambaForCausalLM, Mamba2ForCausalLM, MambaForCausalLM
from transformers.activations import ACT2FN
from transformers.models.falcon_mamba import modeling_falcon_mamba
from transformers.models.mamba import modeling_mamba
from transformers.models.mamba2 import modeling_mamba2

from jrt_lmeval.modeling.mixers import depthwise

SCANNED = (MambaForCausalLM, FalconMambaForCausalLM, Mamba2ForCausalLM)
"""The models that `fast_scans` makes faster."""


@contextmanager
def fast_scans() -> Iterator[None]:
    """Within it, the models of `SCANNED` use our forms, in training and for prompts; for float32 and float64."""
    theirs = [getattr(module, name) for module, name, _ in OURS]
    for module, name, ours in OURS:
        setattr(module, name, ours)
    try:
        yield
    finally:
        for (module, name, _), function in zip(OURS, theirs, strict=True):
            setattr(module, name, function)


# ---------------------------------------------------------------- Mamba and FalconMamba

CACHED = 2**20  # numbers that the states of a chunk may have: 4 MB of float32
CHUNKS = (8, 32)  # tokens of the shortest and the longest chunk
LOG2_E = math.log2(math.e)


class SelectiveScan(torch.autograd.Function):
    """h_t = exp(dt_t A) h_{t-1} + dt_t u_t B_t from h_{-1} = 0, y_t = h_t C_t (arXiv 2312.00752, eq. 2).

    u, dt and y `[T, B, E]`, A `[E, N]`, B and C `[T, B, N]`. Only the states between chunks are kept; those inside are
    computed again in the backward pass. The state after the last token `[B, E, N]` is the second result.
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


# ---------------------------------------------------------------- Mamba-2

# Letters: R rows, n chunks of c tokens, G groups of K heads, P values a head, N the state's size, M = K P. The heads of
# a group share their keys, so that a chunk costs a few large products.

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
    """States before each chunk and after the last, `[R, n + 1, G, N, M]`, from what each chunk has `added [R, n, G, N,
    M]` and the logarithm of what it leaves of the state before it, `fading [R, n, G, K]`."""
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
    """Depthwise causal convolution of `[R, E, T]` with `weight [E, K]`, arguments as transformers has them."""
    y = depthwise(F.pad(hidden_states.mT, (0, 0, weight.shape[1] - 1, 0)), weight)
    y = y if bias is None else y + bias
    return (y if activation is None else ACT2FN[activation](y)).mT


OURS: tuple[tuple[ModuleType, str, Callable[..., Any]], ...] = (
    (modeling_mamba, "mamba_selective_scan", selective_scan),
    (modeling_falcon_mamba, "mamba_selective_scan", selective_scan),
    (modeling_mamba2, "mamba2_chunk_scan", chunk_scan),
    (modeling_mamba2, "causal_conv1d_fn", causal_conv),
)
"""Where transformers looks its functions up, by which name, and ours."""
