"""Linear attention with a head start, in four forms that give the same result, and one token's step of decoding.

Over features q, k, ke of a map (glossary in `modeling/__init__.py`) every form computes

    S_0 = S_init + sum_{j < M} ke_j ve_j^T         z_0 = z_init + sum_{j < M} ke_j
    S_i = S_{i-1} + k_i v_i^T                      z_i = z_{i-1} + k_i
    y_i = q_i^T S_i                                d_i = q_i^T z_i

(JRT, arXiv 2407.05483, eq. 3, started from an initial state). M = 0 is causal linear attention (Based). Tokens outside
`mask` are padding: they enter neither sum, so a row's result does not depend on the batch it stands in. With `decay` g
(log, per head; Based's option) the numerator forgets and the denominator does not: S_i = exp(g) S_{i-1} + k_i v_i^T.

The forms: `naive` is quadratic and the readable truth; `chunked` is linear in T; `streamed` is linear in T and makes
the features chunk by chunk (the default on a CPU); `fla` uses flash-linear-attention's kernels (the default on a GPU).
`attend` takes any of them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from jrt_lmeval.errors import unknown
from jrt_lmeval.modeling.feature_maps import FeatureMap

CHUNK = 64
SEGMENT = 64 * CHUNK
EPS = 1e-6

CACHED = 2**19
"""Numbers that `streamed` keeps of a chunk at once: 2 MB of float32, little more than a core's own cache."""
HELD = 2**25
"""Features that `streamed` keeps for the backward pass where a layer has no more: 128 MB of float32."""


class LinearState(NamedTuple):
    """The sums a row carries: `S [B, H, F, V]` and `z [B, H, F]`."""

    S: Tensor
    z: Tensor


class Prefix(NamedTuple):
    """What gives the head start: keys `k [B, H, T, F]` (`[B, H, T, D]` where a form maps them itself), values
    `v [B, H, T, V]`, and `mask [B, T]`, True where j < M."""

    k: Tensor
    v: Tensor
    mask: Tensor


Attended = tuple[Tensor, Tensor, LinearState]
"""y `[B, H, T, V]` (not yet normalised), d `[B, H, T]`, and the state after the last token."""


def attend(
    form: str,
    feature_map: FeatureMap,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    prefix: Prefix | None = None,
    mask: Tensor | None = None,
    state: LinearState | None = None,
    decay: Tensor | None = None,
) -> Attended:
    """Linear attention from raw queries and keys.

    Args:
        form: a name of `FORMS`. `streamed` is for CPUs and has no decay; elsewhere `chunked` takes its place.
        feature_map: phi.
        q, k: before the feature map, `[B, H, T, D]`; `prefix.k` likewise.
        v, prefix, mask, state, decay: as in `naive`.

    Raises:
        JRTError: no such form.
    """
    if form not in FORMS:
        raise unknown("form of linear attention", form, FORMS)
    if form == "streamed" and q.device.type == "cpu" and decay is None:
        return streamed(feature_map, q, k, v, prefix, mask, state)
    q, k = feature_map(q), feature_map(k)
    if prefix is not None:
        prefix = prefix._replace(k=feature_map(prefix.k))
    return FORMS[form](q, k, v, prefix, mask, state, decay)


def best_form(device: torch.device) -> str:
    """The form to read prompts with: `fla` on CUDA where flash-linear-attention is installed."""
    return "fla" if device.type == "cuda" and find_spec("fla") is not None else "streamed"


def one_token(
    feature_map: FeatureMap,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: LinearState,
    decay: Tensor | None = None,
    twice: bool = False,
) -> Attended:
    """The recurrence for one more token of every row: what decoding does. Arguments and results as in `attend`, T = 1.

    Args:
        twice: add k v^T once before the state fades and once after, as the published Based code decodes.
    """
    S, z, dtype = state.S, state.z, v.dtype
    q, k = feature_map(torch.cat([q, k], dim=2)).to(S.dtype).split(1, dim=2)  # [B, H, 1, F]
    added = k.transpose(-1, -2), v.to(S.dtype)
    if twice:
        S = torch.addcmul(S, *added)
    if decay is not None:
        S = S * decay.to(S.dtype).exp()[:, None, None]
    S, z = torch.addcmul(S, *added), z + k[:, :, 0]
    y, d = q @ S, (q[:, :, 0] * z).sum(-1, keepdim=True)
    return y.to(dtype), d.to(dtype), LinearState(S, z)


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


# ---------------------------------------------------------------- naive: the readable truth


def naive(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    prefix: Prefix | None = None,
    mask: Tensor | None = None,
    state: LinearState | None = None,
    decay: Tensor | None = None,
) -> Attended:
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


# ---------------------------------------------------------------- chunked: linear in T


def chunked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    prefix: Prefix | None = None,
    mask: Tensor | None = None,
    state: LinearState | None = None,
    decay: Tensor | None = None,
    chunk: int = CHUNK,
) -> Attended:
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
) -> Attended:
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


# ---------------------------------------------------------------- streamed: features made chunk by chunk

# Written out for a whole row, features are by far the largest thing in a layer (512 a token and head for 32 values in
# the shipped models). Here a chunk's features are used while they are in the cache, scores within a chunk come from
# the map's closed kernel where it has one, and one running state is all that goes on. For the backward pass features
# are kept only while they are few: those of long rows are made again. Inside, heads and rows are one dimension, heads
# first: `[N, C, .]` with N = H x rows.


def streamed(
    feature_map: FeatureMap,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    prefix: Prefix | None = None,
    mask: Tensor | None = None,
    state: LinearState | None = None,
    chunk: int = CHUNK,
    again: bool | None = None,
) -> Attended:
    """What `naive(feature_map(q), feature_map(k), v, ...)` gives, in linear time and with gradients.

    Arguments as `attend`. `chunk` tokens are taken at a time, and the backward pass makes features `again`, by default
    where they are many; the result depends on neither.
    """
    (B, H, T, _), features, values = q.shape, feature_map.feature_dim, v.shape[-1]
    if state is None:
        state = LinearState(v.new_zeros(B, H, features, values), v.new_zeros(B, H, features))
    if again is None:
        written = B * H * features * (2 * T + (0 if prefix is None else prefix.k.shape[2]))
        again = torch.is_grad_enabled() and written > HELD
    tokens = min(T, chunk)
    together = max(1, CACHED // (H * tokens * (features + values + tokens)))
    if together < B:  # more rows at a time than the cache holds would all be read from memory
        cut = [
            [None] * -(-B // together) if x is None else x.split(together)
            for x in (q, k, v, *(prefix or (None, None, None)), mask, *state)
        ]
        found = [
            streamed(
                feature_map, a, b, c, ke if ke is None else Prefix(ke, ve, seen), real, LinearState(S, z), chunk, again
            )
            for a, b, c, ke, ve, seen, real, S, z in zip(*cut, strict=True)
        ]
        y = torch.cat([one[0].transpose(1, 2) for one in found]).transpose(1, 2)
        ends = (torch.cat(end) for end in zip(*(one[2] for one in found), strict=True))
        return y, torch.cat([one[1] for one in found]), LinearState(*ends)
    S, z = _merged(state.S), _merged(state.z)
    ys, ds = [], []
    if prefix is not None:
        for real, *some in _chunks(prefix.mask, chunk, prefix.k, prefix.v):
            if real is None or bool(real.any()):
                S, z = _run(_absorb, again, feature_map, S, z, real, *some)
    for real, *some in _chunks(mask, chunk, k, v, q):
        y, d, S, z = _run(_read, again, feature_map, S, z, real, *some)
        ys.append(_split(y, H).transpose(1, 2))
        ds.append(_split(d, H))
    # what is read next are the heads of a token together
    return torch.cat(ys, 1).transpose(1, 2), torch.cat(ds, 2), LinearState(_split(S, H), _split(z, H))


def _chunks(mask: Tensor | None, chunk: int, *parts: Tensor) -> Iterator[tuple[Tensor | None, ...]]:
    """Which tokens of each chunk count, `[rows, C]` (None: all), and the chunk of each of the parts `[B, H, T, .]`."""
    split = [part.split(chunk, 2) for part in parts]
    masks = [None] * len(split[0]) if mask is None else mask.split(chunk, 1)
    for real, *some in zip(masks, *split, strict=True):
        yield (None if real is None or bool(real.all()) else real, *some)


def _run(step: Callable[..., Any], again: bool, *arguments: Any) -> Any:
    """A chunk's step; with `again` nothing of it is kept for the backward pass."""
    return checkpoint(step, *arguments, use_reentrant=False, preserve_rng_state=False) if again else step(*arguments)


def _absorb(
    feature_map: FeatureMap, S: Tensor, z: Tensor, real: Tensor | None, k: Tensor, v: Tensor
) -> tuple[Tensor, Tensor]:
    """The sums `S [N, F, V]` and `z [N, F]` after a chunk of keys; those do not count that are not `real [rows, C]`."""
    phi = _merged(_masked(feature_map(k), real))
    return torch.baddbmm(S, phi.mT, _merged(v)), z + phi.sum(1)


def _read(
    feature_map: FeatureMap, S: Tensor, z: Tensor, real: Tensor | None, k: Tensor, v: Tensor, q: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y `[N, C, V]` and d `[N, C]` of a chunk, and the sums after it; as `_absorb`."""
    phi_k, phi_q, value = _merged(_masked(feature_map(k), real)), _merged(feature_map(q)), _merged(v)
    kernel = feature_map.kernel(q, k)
    if kernel is None:
        scores = torch.bmm(phi_q, phi_k.mT).tril_()
    else:
        kernel = kernel if real is None else kernel * real[:, None, None, :].to(kernel.dtype)
        scores = _merged(kernel).tril_()
    y = torch.baddbmm(torch.bmm(scores, value), phi_q, S)
    d = scores.sum(-1) + (phi_q * z[:, None]).sum(-1)
    return y, d, torch.baddbmm(S, phi_k.mT, value), z + phi_k.sum(1)


def _merged(x: Tensor) -> Tensor:
    """`[rows, H, ...] -> [N, ...]`."""
    return x.transpose(0, 1).flatten(0, 1)


def _split(x: Tensor, H: int) -> Tensor:
    """Back again."""
    return x.unflatten(0, (H, -1)).transpose(0, 1)


# ---------------------------------------------------------------- fla: kernels for a GPU


def fla(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    prefix: Prefix | None = None,
    mask: Tensor | None = None,
    state: LinearState | None = None,
    decay: Tensor | None = None,
) -> Attended:
    """Linear-time form by flash-linear-attention's Triton kernels; arguments as in `naive`, the state is in float32.

    The kernels give the numerator and its state from any initial one. The denominator is a cumulative sum in float32,
    so that neither form nor number format changes what is divided by. A decay is left to `chunked`.
    """
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


# ---------------------------------------------------------------- by_kernel: training on short rows


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
    features out. Arguments as `attend`. Returns y and d as `naive`, without a state; None where the kernel gives none.
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


FORMS: dict[str, Callable[..., Attended]] = {"naive": naive, "chunked": chunked, "streamed": chunked, "fla": fla}
"""Name -> the form from features; `attend` says where `streamed` stands for itself."""
