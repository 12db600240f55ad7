"""Prefix linear attention from raw queries and keys against the published quadratic form, at the 1.3B layer's geometry.

    python -m benchmarks --only prefix_linear

Feature maps are part of what is timed, projections are not. The published form writes out its 1 + D + D^2 Taylor
features for whole rows, scores of all pairs of tokens, and running sums for the normaliser.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.row import Options, Row, row, seconds, side_by_side
from jrt_lmeval.modeling.feature_maps import FeatureMap, build_feature_map
from jrt_lmeval.modeling.linear_attention import Prefix, chunked, naive, normalise
from jrt_lmeval.modeling.streamed import streamed

H, D, V = 16, 16, 112
LENGTHS, QUICK_LENGTHS = (512, 1024, 2048), (128,)
OTHERS = {"mlp": {"features": 64}, "elu": {}, "gaussian": {"features": 64}}
"""Maps without a closed kernel, timed at one length against all features of the row at once."""
TOLERANCE = 5e-3

Inputs = tuple[Tensor, Tensor, Tensor, Prefix]


def inputs(T: int, M: int) -> Inputs:
    """Queries and keys before the map `[1, H, T, D]`, values, and a prefix of M tokens."""
    generator = torch.Generator().manual_seed(T)
    q, k, ke = (torch.randn(1, H, T, D, generator=generator) for _ in range(3))
    v, ve = (torch.randn(1, H, T, V, generator=generator) for _ in range(2))
    return q, k, v, Prefix(ke, ve, (torch.arange(T) < M)[None])


def published_features(x: Tensor) -> Tensor:
    """1 + D + D^2 features of the second-order Taylor expansion, every product twice (JRT's `TaylorExp`)."""
    squares = (x[..., :, None] * x[..., None, :]).flatten(-2) / (2 * D) ** 0.5
    return torch.cat([torch.ones_like(x[..., :1]), x * D**-0.25, squares], dim=-1)


def published(q: Tensor, k: Tensor, v: Tensor, prefix: Prefix) -> Tensor:
    """The quadratic form of the published code, `[1, H, T, V]`."""
    real = prefix.mask[:, None, :, None]
    q, k, ke = published_features(q), published_features(k), published_features(prefix.k) * real
    y = (q @ k.mT).tril() @ v + (q @ ke.mT) @ (prefix.v * real)
    return y / ((q * (k.cumsum(2) + ke.sum(2, keepdim=True))).sum(-1, keepdim=True) + 1e-6)


def ours(feature_map: FeatureMap, given: Inputs) -> Tensor:
    y, d, _ = streamed(feature_map, *given)
    return normalise(y, d, (True,) * H)


def at_once(feature_map: FeatureMap, given: Inputs, form: Callable = chunked) -> Tensor:
    """All features of the row first."""
    q, k, v, prefix = given
    y, d, _ = form(feature_map(q), feature_map(k), v, prefix._replace(k=feature_map(prefix.k)))
    return normalise(y, d, (True,) * H)


def rows(options: Options) -> list[Row]:
    """Published over ours for M = T and M = T / 2; for other maps, whole rows of features over ours."""
    found = []
    taylor = build_feature_map("taylor", H, D)
    with torch.inference_mode():
        for T in QUICK_LENGTHS if options.quick else LENGTHS:
            for M in (T, T // 2):
                given = inputs(T, M)
                work = {
                    "chunk by chunk": lambda given=given: ours(taylor, given),
                    "published": lambda given=given: published(*given),
                }
                what = f"taylor, published quadratic form, M = {M}, T = {T}"
                found.append(_compared(what, work, options, T if M == T else None))
        T = QUICK_LENGTHS[0] if options.quick else LENGTHS[1]
        for name, settings in OTHERS.items():
            torch.manual_seed(0)
            feature_map, given = build_feature_map(name, H, D, **settings), inputs(T, T)
            work = {
                "chunk by chunk": lambda feature_map=feature_map, given=given: ours(feature_map, given),
                "quadratic": lambda feature_map=feature_map, given=given: at_once(feature_map, given, naive),
            }
            found.append(_compared(f"{name}, quadratic form, M = {T}, T = {T}", work, options))
    return found


def _compared(what: str, work: dict[str, Callable[[], Tensor]], options: Options, T: int | None = None) -> Row:
    fast, plain = work
    torch.testing.assert_close(work[fast](), work[plain](), rtol=TOLERANCE, atol=TOLERANCE)
    ways = {way: (lambda call=call: seconds(call)) for way, call in work.items()}
    return row(what, side_by_side(ways, options.repeats(5)), fast, plain, f"within {TOLERANCE:g}", T=T)
