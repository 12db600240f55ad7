"""Prefix linear attention from raw queries and keys against quadratic forms, at the 1.3B layer's geometry.

    python -m benchmarks --only prefix_linear

Feature maps are part of what is timed, projections are not. The published form writes out its 1 + D + D^2 Taylor
features for whole rows, scores of all pairs of tokens, and running sums for the normaliser. Further lines: time a token
at other lengths, and memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.peak import peak
from benchmarks.row import Options, Row, counted, row, seconds, side_by_side
from jrt_lmeval.modeling.feature_maps import FEATURE_MAPS, FeatureMap, build_feature_map, sum_normalised_heads
from jrt_lmeval.modeling.linear_attention import Prefix, chunked, naive, normalise
from jrt_lmeval.modeling.streamed import streamed

H, D, V = 16, 16, 112
LENGTHS, QUICK_LENGTHS = (512, 1024, 2048), (128,)
LONG, QUICK_LONG = (2048, 4096, 8192, 16384, 32768), (128, 256)
TOLERANCE = 5e-3
MEGABYTE = 2**20

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
    return normalise(y, d, sum_normalised_heads(feature_map))


def at_once(feature_map: FeatureMap, given: Inputs, form: Callable = chunked) -> Tensor:
    """All features of the row first."""
    q, k, v, prefix = given
    y, d, _ = form(feature_map(q), feature_map(k), v, prefix._replace(k=feature_map(prefix.k)))
    return normalise(y, d, sum_normalised_heads(feature_map))


def prepared(form: str, T: int, gradients: bool) -> Callable[[], object]:
    """One pass over T tokens, with `gradients` there and back: what `peak` measures."""
    way, given = {"chunk by chunk": ours, "features at once": at_once}[form], inputs(T, T)
    taylor = build_feature_map("taylor", H, D)
    if not gradients:
        return torch.inference_mode()(partial(way, taylor, given))
    for x in (*given[:3], *given[3][:2]):
        x.requires_grad_()
    return lambda: way(taylor, given).sum().backward()


def rows(options: Options) -> list[Row]:
    """Published over ours for M = T and M = T / 2; every map's quadratic form over ours; lengths and memory."""
    lengths, long = (QUICK_LENGTHS, QUICK_LONG) if options.quick else (LENGTHS, LONG)
    with torch.inference_mode():
        found = [_against_published(T, M, options) for T in lengths for M in (T, T // 2)]
        found += [_against_quadratic(name, lengths[-2:][0], options) for name in FEATURE_MAPS]
        found += _a_token(long, options)
    return [*found, _memory(long[-1], False), _memory(long[len(long) // 2], True)]


def _against_published(T: int, M: int, options: Options) -> Row:
    given, taylor = inputs(T, M), build_feature_map("taylor", H, D)
    work = {"chunk by chunk": partial(ours, taylor, given), "published": partial(published, *given)}
    return _compared(f"taylor, published quadratic form, M = {M}, T = {T}", work, options, T if M == T else None)


def _against_quadratic(name: str, T: int, options: Options) -> Row:
    torch.manual_seed(0)
    feature_map, given = build_feature_map(name, H, D), inputs(T, T)
    work = {
        "chunk by chunk": partial(ours, feature_map, given),
        "quadratic": partial(at_once, feature_map, given, naive),
    }
    return _compared(f"{name}, quadratic form, M = {T}, T = {T}", work, options)


def _compared(what: str, work: dict[str, Callable[[], Tensor]], options: Options, T: int | None = None) -> Row:
    fast, plain = work
    torch.testing.assert_close(work[fast](), work[plain](), rtol=TOLERANCE, atol=TOLERANCE)
    ways = {way: (lambda call=call: seconds(call)) for way, call in work.items()}
    return row(what, side_by_side(ways, options.repeats(5)), fast, plain, f"within {TOLERANCE:g}", T=T)


def _a_token(lengths: tuple[int, ...], options: Options) -> list[Row]:
    """Time a token at the first length over that at each other: about 1 where time is linear."""
    taylor = build_feature_map("taylor", H, D)
    given = {f"T = {T}": inputs(T, T) for T in lengths}
    ways = {name: lambda one=one: seconds(partial(ours, taylor, one)) / one[0].shape[2] for name, one in given.items()}
    for way in ways.values():
        way()
    first, *others = given
    costs = side_by_side(ways, options.repeats(5))
    return [
        row(f"taylor, a token, {name} and {first}", costs, name, first, "-", unit="us", scale=1e6) for name in others
    ]


def _memory(T: int, gradients: bool) -> Row:
    """Peak of a pass over T tokens beyond its inputs."""
    ways = ("chunk by chunk", "features at once")
    ours, twin = ((way, peak(prepared, way, T, gradients) / MEGABYTE) for way in ways)
    what = f"taylor, peak memory{' with gradients' if gradients else ''}, M = T = {T}"
    return counted(what, ours, twin, "-", "MB", "none")
