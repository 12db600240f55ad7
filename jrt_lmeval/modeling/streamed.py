"""Linear attention from raw queries and keys: features are made chunk by chunk and never stand in memory together.

Written out for a whole row, features are by far the largest thing in a layer (512 of them a token and head for 32
values in the shipped models). Here a chunk's features are used while they are in the cache, scores within a chunk come
from the map's closed kernel where it has one, and one running state, sums of keys and values, is all that goes on.

Inside, heads come before rows: `[H, B, T, .]`.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from jrt_lmeval.modeling.feature_maps import FeatureMap
from jrt_lmeval.modeling.linear_attention import CHUNK, LinearState, Prefix


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
    B, H = q.shape[:2]
    sums = _start(feature_map, B, H, v, state)
    if prefix is not None:
        longest = int(prefix.mask.any(0).nonzero().max()) + 1 if bool(prefix.mask.any()) else 0
        parts = (_heads_first(x[:, :, :longest]).split(chunk, 2) for x in (prefix.k, prefix.v))
        for key, value, real in zip(*parts, prefix.mask[:, :longest].split(chunk, 1), strict=True):
            sums = _added(sums, _features(feature_map, key), _counted(value, real))
    ys = []
    parts = (_heads_first(x).split(chunk, 2) for x in (q, k, v))
    masks = itertools.repeat(None) if mask is None else mask.split(chunk, 1)
    for query, key, value, real in zip(*parts, masks, strict=False):
        phi_q, phi_k, value = _features(feature_map, query), _features(feature_map, key), _counted(value, real)
        scores = feature_map.kernel(query.flatten(0, 1), key.flatten(0, 1))
        scores = torch.bmm(phi_q, phi_k.mT) if scores is None else scores
        ys.append(torch.baddbmm(torch.bmm(scores.tril(), value), phi_q, sums))
        sums = _added(sums, phi_k, value)
    y = torch.cat(ys, dim=1).unflatten(0, (H, B)).transpose(0, 1)
    sums = sums.unflatten(0, (H, B)).transpose(0, 1)
    return y[..., :-1], y[..., -1], LinearState(sums[..., :-1].contiguous(), sums[..., -1].contiguous())


def _heads_first(x: Tensor) -> Tensor:
    return x.transpose(0, 1).contiguous()


def _counted(v: Tensor, mask: Tensor | None) -> Tensor:
    """Values `[H, B, C, V]` with a column of ones beside them, which sums to the normaliser: `[H B, C, V + 1]`, zero
    outside `mask [B, C]`."""
    if mask is None:
        return torch.cat([v, torch.ones_like(v[..., :1])], dim=-1).flatten(0, 1)
    real = mask[..., None].to(v.dtype)
    return torch.cat([v * real, real.expand(len(v), -1, -1, -1)], dim=-1).flatten(0, 1)


def _start(feature_map: FeatureMap, B: int, H: int, v: Tensor, state: LinearState | None) -> Tensor:
    """S and z as one, `[H B, F, V + 1]`, in memory of its own."""
    if state is None:
        return v.new_zeros(H * B, feature_map.feature_dim, v.shape[-1] + 1)
    return torch.cat([state.S, state.z[..., None]], dim=-1).transpose(0, 1).flatten(0, 1)


def _features(feature_map: FeatureMap, x: Tensor) -> Tensor:
    """`[H, B, C, D] -> [H B, C, F]`."""
    return feature_map(x.transpose(0, 1)).transpose(0, 1).flatten(0, 1)


def _added(sums: Tensor, phi: Tensor, value: Tensor) -> Tensor:
    """The sums and those of a chunk; in place where no gradient will ask for the old ones."""
    if torch.is_grad_enabled():
        return torch.baddbmm(sums, phi.mT, value)
    return sums.baddbmm_(phi.mT, value)
