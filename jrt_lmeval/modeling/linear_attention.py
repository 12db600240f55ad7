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
# the map's closed kernel where it has one, and one running state, added to in place, is all that goes on. For the
# backward pass the states between chunks are kept, and features only while they are few: those of long rows are made
# again. Inside, heads and rows are one dimension, heads first: `[N, C, .]` with N = H x rows.


def streamed(
    feature_map: FeatureMap,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    prefix: Prefix | None = None,
    mask: Tensor | None = None,
    state: LinearState | None = None,
    chunk: int = CHUNK,
) -> Attended:
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
        size = len(q), q.shape[1], feature_map.feature_dim
        state = LinearState(v.new_zeros(*size, v.shape[-1]), v.new_zeros(size))
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


FORMS: dict[str, Callable[..., Attended]] = {"naive": naive, "chunked": chunked, "streamed": chunked, "fla": fla}
"""Name -> the form from features; `attend` says where `streamed` stands for itself."""
