"""Linear attention from raw queries and keys: features are made chunk by chunk and never stand in memory together.

Written out for a whole row, features are by far the largest thing in a layer (512 of them a token and head for 32
values in the shipped models). Here a chunk's features are used while they are in the cache, scores within a chunk come
from the map's closed kernel where it has one, and one running state, added to in place, is all that goes on. For the
way back the states between chunks are kept, and features only while they are few: those of long rows are made again.

Inside, heads and rows are one dimension, heads first: `[N, C, .]` with N = H x rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jrt_lmeval.modeling.feature_maps import FeatureMap
from jrt_lmeval.modeling.linear_attention import CHUNK, LinearState, Prefix

CACHED = 2**19
"""Numbers that a chunk of some rows may hold at once: 2 MB of float32, little more than a core's own cache."""
HELD = 2**25
"""Features that are kept for the way back, where a layer has no more: 128 MB of float32. Of more, none are."""


def streamed(
    feature_map: FeatureMap,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    prefix: Prefix | None = None,
    mask: Tensor | None = None,
    state: LinearState | None = None,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor, LinearState]:
    """What `naive(feature_map(q), feature_map(k), v, ...)` gives, in linear time and with gradients.

    Args:
        feature_map: phi.
        q, k: before the feature map, `[B, H, T, D]`; `prefix.k` likewise.
        v, prefix, mask, state: as in `naive`.
        chunk: tokens taken at a time; the result does not depend on it.

    Returns:
        As `naive`.
    """
    if state is None:
        B, H, F, V = len(q), q.shape[1], feature_map.feature_dim, v.shape[-1]
        state = LinearState(v.new_zeros(B, H, F, V), v.new_zeros(B, H, F))
    ke, ve, seen = (None, None, None) if prefix is None else prefix
    weights = [weight for weight in feature_map.parameters() if weight.requires_grad]
    keep = torch.is_grad_enabled()
    y, d, *end = _Streamed.apply(feature_map, chunk, keep, mask, seen, q, k, v, ke, ve, *state, *weights)
    return y, d, LinearState(*end)


class _Streamed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        feature_map: FeatureMap,
        chunk: int,
        keep: bool,
        mask: Tensor | None,
        seen: Tensor | None,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        ke: Tensor | None,
        ve: Tensor | None,
        S_0: Tensor,
        z_0: Tensor,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        B, H, T, _ = q.shape
        y = v.new_empty(B, T, H, v.shape[-1]).transpose(1, 2)  # what is read next are the heads of a token together
        d, S_end, z_end = v.new_empty(B, H, T), torch.empty_like(S_0), torch.empty_like(z_0)
        starts: list[tuple[Tensor, Tensor]] = []
        hold = keep and (2 * q.numel() + (0 if ke is None else ke.numel())) // q.shape[-1] * S_0.shape[2] <= HELD
        held: list[Made] = []

        def made(real: Tensor | None, *raw: Tensor) -> tuple[Tensor, ...]:
            if not hold:
                return _chunk(feature_map, real, *raw)
            held.append(_made(feature_map, real, *raw))
            return tuple(x.detach() for x in held[-1].outs)

        for rows in _together(q, v, feature_map, chunk):
            S, z = _merged(S_0[rows]).clone(), _merged(z_0[rows]).clone()
            for at, real in _prefix_parts(rows, ke, seen, chunk):
                assert ke is not None and ve is not None
                (phi,) = made(real, ke[at])
                _add(S, z, phi, _merged(ve[at]))
            for at, real in _parts(rows, q, mask, chunk):
                if keep:
                    starts.append((S.clone(), z.clone()))
                value, (phi_k, phi_q, scores) = _merged(v[at]), made(real, k[at], q[at])
                y[at] = _split(torch.bmm(scores, value).baddbmm_(phi_q, S), H)
                d[at] = _split(scores.sum(-1) + (phi_q * z[:, None]).sum(-1), H)
                _add(S, z, phi_k, value)
            S_end[rows], z_end[rows] = _split(S, H), _split(z, H)
        ctx.save_for_backward(mask, seen, q, k, v, ke, ve, *weights)
        ctx.feature_map, ctx.chunk, ctx.starts, ctx.held = feature_map, chunk, starts, held if hold else None
        return y, d, S_end, z_end

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (mask, seen, q, k, v, ke, ve, *weights), (dy, dd, dS_end, dz_end) = ctx.saved_tensors, grads
        feature_map, chunk, H = ctx.feature_map, ctx.chunk, q.shape[1]
        starts, held = reversed(ctx.starts), None if ctx.held is None else reversed(ctx.held)
        like: list[Any] = [None if x is None else torch.zeros_like(x) for x in (q, k, v, ke, ve)]
        dq, dk, dv, dke, dve = like
        dS_0, dz_0, dweights = (
            torch.empty_like(dS_end),
            torch.empty_like(dz_end),
            [torch.zeros_like(w) for w in weights],
        )

        def pulled(made: Made, *ups: Tensor) -> tuple[Tensor, ...]:
            found = torch.autograd.grad(made.outs, (*made.ins, *weights), ups)
            for total, grad in zip(dweights, found[len(made.ins) :], strict=True):
                total += grad
            return found[: len(made.ins)]

        for rows in reversed(list(_together(q, v, feature_map, chunk))):
            dS, dz = _merged(dS_end[rows]).clone(), _merged(dz_end[rows]).clone()
            for at, real in reversed(list(_parts(rows, q, mask, chunk))):
                S, z = next(starts)
                made = _made(feature_map, real, k[at], q[at]) if held is None else next(held)
                phi_k, phi_q, scores = (x.detach() for x in made.outs)
                value, up, down = _merged(v[at]), _merged(dy[at]), _merged(dd[at])[..., None]
                dv[at] = _split(torch.bmm(scores.mT, up).baddbmm_(phi_k, dS), H)
                dk[at], dq[at] = pulled(
                    made,
                    torch.baddbmm(dz[:, None], value, dS.mT),
                    (down * z[:, None]).baddbmm_(up, S.mT),
                    torch.baddbmm(down, up, value.mT),
                )
                _add(dS, dz, phi_q, up, down)
            for at, real in reversed(list(_prefix_parts(rows, ke, seen, chunk))):
                made = _made(feature_map, real, ke[at]) if held is None else next(held)
                dve[at] = _split(torch.bmm(made.outs[0].detach(), dS), H)
                (dke[at],) = pulled(made, torch.baddbmm(dz[:, None], _merged(ve[at]), dS.mT))
            dS_0[rows], dz_0[rows] = _split(dS, H), _split(dz, H)
        return None, None, None, None, None, dq, dk, dv, dke, dve, dS_0, dz_0, *dweights


class Made(NamedTuple):
    """What `_chunk` gave, with the graph that leads back to its own copies of what it was made from."""

    ins: tuple[Tensor, ...]
    outs: tuple[Tensor, ...]


At = tuple[slice, slice, slice]


def _together(q: Tensor, v: Tensor, feature_map: FeatureMap, chunk: int) -> Iterator[slice]:
    """Rows whose chunks the cache holds together: of many at once all would be read from memory."""
    B, H, T, _ = q.shape
    C = min(T, chunk)
    size = max(1, CACHED // (H * C * (feature_map.feature_dim + v.shape[-1] + C)))
    return (slice(first, first + size) for first in range(0, B, size))


def _parts(rows: slice, x: Tensor | None, mask: Tensor | None, chunk: int) -> Iterator[tuple[At, Tensor | None]]:
    """Where chunks of some rows of `x [B, H, T, .]` are, and which of their tokens count, `[rows, C]` (None: all)."""
    for first in range(0, 0 if x is None else x.shape[2], chunk):
        part = slice(first, first + chunk)
        real = None if mask is None else mask[rows, part]
        yield (rows, slice(None), part), None if real is None or bool(real.all()) else real


def _prefix_parts(rows: slice, x: Tensor | None, seen: Tensor | None, chunk: int) -> Iterator[tuple[At, Tensor | None]]:
    """As `_parts`, without those of which no token counts."""
    return (part for part in _parts(rows, x, seen, chunk) if part[1] is None or bool(part[1].any()))


def _merged(x: Tensor) -> Tensor:
    """`[rows, H, ...] -> [N, ...]`."""
    return x.transpose(0, 1).flatten(0, 1)


def _split(x: Tensor, H: int) -> Tensor:
    """Back again."""
    return x.unflatten(0, (H, -1)).transpose(0, 1)


def _chunk(feature_map: FeatureMap, real: Tensor | None, k: Tensor, q: Tensor | None = None) -> tuple[Tensor, ...]:
    """Features `[N, C, F]` of keys `[rows, H, C, D]`; with queries also theirs, and their causal products
    `[N, C, C]`. Keys do not count where not `real [rows, C]`."""
    phi_k = _merged(feature_map(k) if real is None else feature_map(k) * real[:, None, :, None].to(k.dtype))
    if q is None:
        return (phi_k,)
    phi_q, scores = _merged(feature_map(q)), feature_map.kernel(q, k)
    if scores is None:
        return phi_k, phi_q, torch.bmm(phi_q, phi_k.mT).tril_()
    if real is not None:
        scores = scores * real[:, None, None, :].to(scores.dtype)
    return phi_k, phi_q, _merged(scores).tril_()


def _made(feature_map: FeatureMap, real: Tensor | None, *raw: Tensor) -> Made:
    with torch.enable_grad():
        ins = tuple(x.detach().requires_grad_() for x in raw)
        return Made(ins, _chunk(feature_map, real, *ins))


def _add(S: Tensor, z: Tensor, phi: Tensor, value: Tensor, weight: Tensor | None = None) -> None:
    """Add a chunk to the sums, `S [N, F, V]` and `z [N, F]`, in place."""
    S.baddbmm_(phi.mT, value)
    z += (phi if weight is None else phi * weight).sum(1)
