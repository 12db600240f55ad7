"""Linear attention with a head start: `naive` (the readable truth), `chunked` (fast) and `step` (decoding).

`streamed` (`streamed.py`) is the fourth, from raw queries and keys. All compute, over features q, k, ke of a map
(glossary in `modeling/__init__.py`),

    S_0 = S_init + sum_{j < M} ke_j ve_j^T         z_0 = z_init + sum_{j < M} ke_j
    S_i = S_{i-1} + k_i v_i^T                      z_i = z_{i-1} + k_i
    y_i = q_i^T S_i                                d_i = q_i^T z_i

(JRT, arXiv 2407.05483, eq. 3, started from an initial state). M = 0 is causal linear attention (Based). Tokens outside
`mask` are padding: they enter neither sum, so a row's result does not depend on the batch it stands in.

With `decay` g (log, per head; Based's option) the numerator forgets and the denominator does not:
S_i = exp(g) S_{i-1} + k_i v_i^T.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 64
SEGMENT = 64 * CHUNK
EPS = 1e-6


class LinearState(NamedTuple):
    """The sums a row carries: `S [B, H, F, V]` and `z [B, H, F]`."""

    S: Tensor
    z: Tensor


class Prefix(NamedTuple):
    """What gives the head start: featurised keys `k [B, H, T, F]`, values `v [B, H, T, V]`, `mask [B, T]` (True
    where j < M)."""

    k: Tensor
    v: Tensor
    mask: Tensor


def _masked(k: Tensor, mask: Tensor | None) -> Tensor:
    return k if mask is None else k * mask[:, None, :, None].to(k.dtype)


def head_start(k: Tensor, v: Tensor, prefix: Prefix | None, state: LinearState | None) -> LinearState:
    """S_0 and z_0: the initial state (zero if None) plus the sum over the prefix."""
    if state is None:
        B, H, _, D = k.shape
        state = LinearState(k.new_zeros(B, H, D, v.shape[-1]), k.new_zeros(B, H, D))
    if prefix is None:
        return state
    ke = _masked(prefix.k, prefix.mask)
    return LinearState(state.S + ke.transpose(-1, -2) @ prefix.v, state.z + ke.sum(dim=2))


def _count(x: Tensor, mask: Tensor | None) -> Tensor:
    """Real tokens up to and including each, `[B, T]`, for x `[B, H, T, .]`."""
    real = x.new_ones(x.shape[0], x.shape[2]) if mask is None else mask.to(x.dtype)
    return real.cumsum(1)


def _fade(decay: Tensor, tokens: Tensor) -> Tensor:
    """What is left after `tokens [B, ...]` tokens: `[B, H, ...]`."""
    return torch.exp(decay.to(tokens.dtype).reshape(1, -1, *(1,) * (tokens.dim() - 1)) * tokens[:, None].clamp(min=0))


def naive(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    prefix: Prefix | None = None,
    mask: Tensor | None = None,
    state: LinearState | None = None,
    decay: Tensor | None = None,
) -> tuple[Tensor, Tensor, LinearState]:
    """Quadratic form: every weight q_i.k_j is written out.

    Args:
        q, k: features `[B, H, T, F]`.
        v: values `[B, H, T, V]`.
        prefix: keys and values of the head start, or None (M = 0).
        mask: bool `[B, T]`, False at padding.
        state: where the recurrence starts, or None for zero.
        decay: log of what a token leaves of the numerator's state, `[H]`, at most 0; None for all of it.

    Returns:
        y `[B, H, T, V]` (not yet normalised), d `[B, H, T]`, and the state after the last token.
    """
    start = head_start(k, v, None, state)
    causal = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    weights = (q @ _masked(k, mask).transpose(-1, -2)).masked_fill(~causal, 0.0)  # [B, H, T, T]
    d = weights.sum(-1) + (q @ start.z[..., None])[..., 0]
    y = q @ start.S
    if prefix is not None:
        # [B, H, T, T], every query sees the whole prefix
        seen = q @ _masked(prefix.k, prefix.mask).transpose(-1, -2)
        y, d = y + seen @ prefix.v, d + seen.sum(-1)
    S, z = head_start(k, v, prefix, state)
    k = _masked(k, mask)
    z = z + k.sum(dim=2)
    if decay is None:
        return y + weights @ v, d, LinearState(S + k.transpose(-1, -2) @ v, z)
    count = _count(q, mask)
    y = y * _fade(decay, count)[..., None] + (weights * _fade(decay, count[:, :, None] - count[:, None, :])) @ v
    S = S * _fade(decay, count[:, -1])[..., None, None]
    k = k * _fade(decay, count[:, -1:] - count)[..., None]
    return y, d, LinearState(S + k.transpose(-1, -2) @ v, z)


def step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    prefix: Prefix | None = None,
    mask: Tensor | None = None,
    state: LinearState | None = None,
    decay: Tensor | None = None,
) -> tuple[Tensor, Tensor, LinearState]:
    """Recurrent form, one token after the other: what decoding does with T = 1. Arguments and results as
    `naive`."""
    S, z = head_start(k, v, prefix, state)
    k = _masked(k, mask)
    real = None if decay is None else _count(q, mask).diff(dim=1, prepend=q.new_zeros(q.shape[0], 1))
    ys, ds = [], []
    for i in range(q.shape[2]):
        if decay is not None and real is not None:
            S = S * _fade(decay, real[:, i])[..., None, None]
        S = S + k[:, :, i, :, None] * v[:, :, i, None, :]
        z = z + k[:, :, i]
        ys.append((q[:, :, i, None, :] @ S)[:, :, 0])
        ds.append((q[:, :, i] * z).sum(-1))
    return torch.stack(ys, dim=2), torch.stack(ds, dim=2), LinearState(S, z)


def chunked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    prefix: Prefix | None = None,
    mask: Tensor | None = None,
    state: LinearState | None = None,
    decay: Tensor | None = None,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor, LinearState]:
    """Linear-time form: quadratic inside chunks, the state between them. Arguments and results as `naive`.

    Works through segments of 64 chunks, so that memory for the states between chunks stays bounded at any length.
    """
    state, k = head_start(k, v, prefix, state), _masked(k, mask)
    real = None if decay is None else _count(q, mask).diff(dim=1, prepend=q.new_zeros(q.shape[0], 1))
    ys, ds = [], []
    for start in range(0, q.shape[2], SEGMENT):
        part = slice(start, start + SEGMENT)
        forget = None if decay is None or real is None else (decay, real[:, part])
        y, d, state = _segment(q[:, :, part], k[:, :, part], v[:, :, part], state, chunk, forget)
        ys.append(y)
        ds.append(d)
    if len(ys) == 1:
        return ys[0], ds[0], state
    return torch.cat(ys, dim=2), torch.cat(ds, dim=2), state


def _segment(
    q: Tensor, k: Tensor, v: Tensor, state: LinearState, chunk: int, forget: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor, LinearState]:
    B, H, T, _ = q.shape
    chunk = min(chunk, T)
    pad = -T % chunk
    if pad:  # zero keys add nothing to the sums
        q, k, v = (F.pad(x, (0, 0, 0, pad)) for x in (q, k, v))
    q, k, v = (x.reshape(B, H, -1, chunk, x.shape[-1]) for x in (q, k, v))  # [B, H, N, C, .]
    z = torch.cat([state.z[:, :, None], k.sum(dim=3)], dim=2).cumsum(dim=2)  # [B, H, N + 1, F]
    weights = (q @ k.transpose(-1, -2)).tril()  # [B, H, N, C, C]
    d = weights.sum(-1) + (q @ z[:, :, :-1, :, None])[..., 0]
    if forget is None:
        S = torch.cat([state.S[:, :, None], k.transpose(-1, -2) @ v], dim=2).cumsum(dim=2)  # [B, H, N + 1, F, V]
    else:
        decay, real = forget
        count = F.pad(real, (0, pad)).reshape(B, -1, chunk).cumsum(2)  # [B, N, C]
        k = k * _fade(decay, count[..., -1:] - count)[..., None]
        S = _faded_sums(state.S, k.transpose(-1, -2) @ v, _fade(decay, count[..., -1]))
        weights = weights * _fade(decay, count[..., :, None] - count[..., None, :])
        q = q * _fade(decay, count)[..., None]
    y = weights @ v + q @ S[:, :, :-1]
    y, d = y.reshape(B, H, T + pad, -1)[:, :, :T], d.reshape(B, H, T + pad)[:, :, :T]
    return y, d, LinearState(S[:, :, -1], z[:, :, -1])


def _faded_sums(S: Tensor, added: Tensor, left: Tensor) -> Tensor:
    """States before each chunk and after the last, `[B, H, N + 1, F, V]`; `left [B, H, N]` stays over a chunk."""
    states = [S]
    for i in range(added.shape[2]):
        states.append(states[-1] * left[:, :, i, None, None] + added[:, :, i])
    return torch.stack(states, dim=2)


LINEAR_ATTENTION: dict[str, Callable[..., tuple[Tensor, Tensor, LinearState]]] = {
    "naive": naive,
    "chunked": chunked,
    "step": step,
}


def by_kernel(
    kernel: Callable[[Tensor, Tensor], Tensor | None],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    prefix: Prefix | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor] | None:
    """The quadratic form from raw queries and keys: `kernel` gives phi(q).phi(k) of all pairs without any feature.

    For training on rows of fewer tokens than a map has features, where it is far cheaper than any form that writes the
    features out. It leaves no state behind.

    Args:
        kernel: of the feature map; None as its result means that it knows no such way.
        q, k: before the feature map, `[B, H, T, D]`; `prefix.k` likewise.
        v, prefix, mask: as in `naive`.

    Returns:
        y and d as `naive`, or None where the kernel gives none.
    """
    weights = kernel(q, k)
    if weights is None:
        return None
    weights = weights.tril() if mask is None else weights.tril() * mask[:, None, None, :].to(q.dtype)
    y, d = weights @ v, weights.sum(-1)
    if prefix is not None:
        seen = kernel(q, prefix.k)
        assert seen is not None
        seen = seen * prefix.mask[:, None, None, :].to(q.dtype)
        y, d = y + seen @ prefix.v, d + seen.sum(-1)
    return y, d


def normalise(y: Tensor, d: Tensor, by_sum: tuple[bool, ...], eps: float = EPS) -> Tensor:
    """Divide y `[B, H, T, V]` by d `[B, H, T]` in the heads where `by_sum` is True, in others by its own root
    mean square."""
    if all(by_sum):
        return y / (d[..., None] + eps)
    rms = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps)
    if not any(by_sum):
        return rms
    heads = torch.tensor(by_sum, device=y.device)[None, :, None]
    return torch.where(heads[..., None], y / (torch.where(heads, d, 1.0)[..., None] + eps), rms)
