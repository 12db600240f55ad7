"""Sequence mixers: gated short convolution, sliding-window and full attention, causal and prefix linear attention.

One signature: `forward(x, span, state) -> (y, state)`. A mixer's state is a dict of tensors, rows first; None
starts afresh.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jrt_lmeval.errors import unknown
from jrt_lmeval.modeling import attention
from jrt_lmeval.modeling.config import JRTConfig, rotated
from jrt_lmeval.modeling.feature_maps import build_feature_map, sum_normalised_heads
from jrt_lmeval.modeling.linear_attention import LinearState, Prefix, attend, by_kernel, normalise, one_token
from jrt_lmeval.modeling.state import LayerState

COPY_STRENGTH = 0.2  # of what induction heads write at the start, beside the token's own embedding


@dataclass(frozen=True)
class Span:
    """Which tokens of a right-padded batch are real, where they stand, and which give the head start.

    Attributes:
        lengths: real tokens per row, `[B]`.
        mask: bool `[B, T]`, True at real tokens; None when all are.
        prefix_mask: bool `[B, T]`, True where j < M; None when M = 0 in every row.
        offset: tokens read before these, `[B]`.
        linear_attention: the form that computes it, a name of `linear_attention.FORMS`; or `kernel`: as `streamed`,
            but while training, maps with a closed kernel are computed from it alone where rows are short, quadratic
            in T and without a state to go on from.
        keyless: bool `[B, T]`, True at tokens whose keys prefix linear attention sets to zero before its feature map:
            the padding of the published code. None when there are none.
        decoding: these are single tokens that the model chose, not a text that it reads.
    """

    lengths: Tensor
    mask: Tensor | None
    prefix_mask: Tensor | None
    offset: Tensor
    linear_attention: str = "streamed"
    keyless: Tensor | None = None
    decoding: bool = False


def _heads(x: Tensor, num_heads: int) -> Tensor:
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)  # [B, T, C] -> [B, H, T, C / H]


def last_slots(x: Tensor, span: Span, size: int, cache: int) -> Tensor:
    """The last `size` slots before each row's end, of x `[B, cache + T, ...]` (slots of no token hold slot 0)."""
    if span.mask is None:  # no row ends before the others
        return x[:, x.shape[1] - size :].clone()
    index = (cache + span.lengths)[:, None] + torch.arange(-size, 0, device=x.device)
    index = index.clamp(min=0).reshape(*index.shape, *(1,) * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])
    return x.gather(1, index)


class _KeySource:
    """What keys are made from: the token itself or, in the first `shifted_heads` heads, the one before.

    State: `last [B, 1, C]`, the input at the last token; nothing where no head is shifted.
    """

    def __init__(self, heads: int, shifted: int):
        self.heads, self.shifted = heads, shifted

    def before(self, x: Tensor, span: Span, state: LayerState | None) -> tuple[Tensor, LayerState]:
        """Inputs one token earlier `[B, T, C]`, and the state to keep."""
        if not self.shifted:
            return x, {}
        x = torch.cat([x.new_zeros(x.shape[0], 1, x.shape[2]) if state is None else state["last"], x], dim=1)
        return x[:, :-1], {"last": last_slots(x, span, 1, 1)}

    def keys(self, x: Tensor, before: Tensor, weight: Tensor) -> Tensor:
        """Keys `[B, H, T, D]` for a projection's weight `[H D, C]`."""
        if not self.shifted:
            return _heads(F.linear(x, weight), self.heads)
        split = self.shifted * weight.shape[0] // self.heads
        return _heads(torch.cat([F.linear(before, weight[:split]), F.linear(x, weight[split:])], dim=-1), self.heads)

    def start_as_copy(self, q: Tensor, keys: list[Tensor], v: list[Tensor], out: Tensor) -> None:
        """Let shifted heads begin as induction heads: equal tokens match, and what is read is written out again."""
        d, e = (self.shifted * size // self.heads for size in (q.shape[0], v[0].shape[0]))
        with torch.no_grad():
            for k in keys:
                k[:d] = q[:d]
            for value in v[1:]:
                value[:e] = v[0][:e]
            out[:, :e] = COPY_STRENGTH * v[0][:e].T


def depthwise(x: Tensor, weight: Tensor) -> Tensor:
    """Depthwise causal convolution of `x [B, K - 1 + T, E]`, the inputs and the K - 1 before them, by `weight [E, K]`.

    A sum of shifted products, several times faster on a CPU than a grouped convolution.
    """
    T = x.shape[1] - weight.shape[1] + 1
    y = x[:, :T] * weight[:, 0]
    for i in range(1, weight.shape[1]):
        y = y + x[:, i : i + T] * weight[:, i]
    return y


class GatedShortConv(nn.Module):
    """BaseConv of Based: `out(silu(conv(u1)) * u2)`, (u1, u2) = in(x); causal depthwise convolution, no bias in it.

    State: `tail [B, K - 1, E]`, the last inputs of the convolution.
    """

    def __init__(self, config: JRTConfig):
        super().__init__()
        self.kernel = config.conv_kernel
        width = config.conv_expand * config.hidden_size
        self.in_proj = nn.Linear(config.hidden_size, 2 * width)
        self.conv_weight = nn.Parameter(torch.randn(width, self.kernel) * self.kernel**-0.5)
        self.out_proj = nn.Linear(width, config.hidden_size)

    def forward(self, x: Tensor, span: Span, state: LayerState | None) -> tuple[Tensor, LayerState]:
        u, gate = self.in_proj(x).chunk(2, dim=-1)
        tail = u.new_zeros(u.shape[0], self.kernel - 1, u.shape[2]) if state is None else state["tail"]
        u = torch.cat([tail, u], dim=1)
        return self.out_proj(F.silu(depthwise(u, self.conv_weight)) * gate), {
            "tail": last_slots(u, span, self.kernel - 1, self.kernel - 1)
        }


class Attention(nn.Module):
    """Softmax attention, with rotary positions unless told otherwise; a window makes it sliding.

    State: `k, v [B, slots, H, D]`, right-aligned; W - 1 slots with a window, else as many as the longest row has
    tokens.
    """

    def __init__(self, config: JRTConfig, window: int | None, positions: bool = True):
        super().__init__()
        self.window, self.num_heads = window, config.attention_heads or config.num_heads
        self.rotary_base = config.rotary_base
        fraction = config.rotary_fraction if positions else 0.0
        self.rotary_dim, _ = rotated(config.hidden_size // self.num_heads, fraction)
        self.key_source = _KeySource(self.num_heads, config.shifted_heads)
        self.qkv_proj = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor, span: Span, state: LayerState | None) -> tuple[Tensor, LayerState]:
        B, T, _ = x.shape
        before, kept = self.key_source.before(x, span, state)
        q_weight, k_weight, v_weight = self.qkv_proj.weight.chunk(3)
        q, v = (_heads(F.linear(x, weight), self.num_heads) for weight in (q_weight, v_weight))
        k = self.key_source.keys(x, before, k_weight)
        positions = span.offset[:, None] + torch.arange(T, device=x.device)
        q, k = (attention.rotary(part, positions, self.rotary_base, self.rotary_dim) for part in (q, k))
        if state is None:
            cache = 0 if self.window is None else self.window - 1
            empty = k.new_zeros(B, self.num_heads, cache, k.shape[-1])
            k, v = torch.cat([empty, k], dim=2), torch.cat([empty, v], dim=2)
        else:
            cache = state["k"].shape[1]
            k, v = (torch.cat([state[n].transpose(1, 2), new], dim=2) for n, new in (("k", k), ("v", v)))
        valid = torch.arange(cache + T, device=x.device) >= cache - span.offset[:, None]
        if self.window is None or self.window >= T:
            y = attention.banded(q, k, v, valid, self.window)
        else:
            y = attention.blocked(q, k, v, valid, self.window)
        size = cache + T if self.window is None else cache
        k, v = (last_slots(old.transpose(1, 2), span, size, cache) for old in (k, v))
        return self.out_proj(y.transpose(1, 2).flatten(2)), {"k": k, "v": v, **kept}

    def start_as_copy(self) -> None:
        """Let the shifted heads begin as induction heads."""
        q, k, v = self.qkv_proj.weight.chunk(3)
        self.key_source.start_as_copy(q, [k], [v], self.out_proj.weight)


class LinearAttention(nn.Module):
    """Causal linear attention (Based) or, with `prefix=True`, prefix linear attention (JRT-RNN, arXiv 2407.05483 eq.
    3).

    With `config.decay` the state fades by a fixed rate per head and the numerator is scaled by a gate that each token
    chooses (Based's `fixed_decay` with `use_decay_proj`).

    State: `S [B, H, F, V]` and `z [B, H, F]`; prefix and causal sums are one state, so decoding costs the same for
        both.
    """

    decay: Tensor

    def __init__(self, config: JRTConfig, prefix: bool):
        super().__init__()
        self.num_heads, self.prefix = config.num_heads, prefix
        self.config, self.eps, self.fades = config, config.normaliser_eps, config.decay
        self.key_source = _KeySource(config.num_heads, config.shifted_heads)
        width = config.num_heads * config.feature_dim
        self.q_proj = nn.Linear(config.hidden_size, width, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, width, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        if prefix:
            self.k_prefix_proj = nn.Linear(config.hidden_size, width, bias=False)
            self.v_prefix_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        if config.decay:
            self.decay_proj = nn.Linear(config.hidden_size, config.num_heads, bias=False)
            self.register_buffer("decay", torch.log(1 - 2.0 ** (-3.0 - torch.arange(config.num_heads))))
        self.feature_map = build_feature_map(
            config.feature_map, config.num_heads, config.feature_dim, **config.feature_map_options
        )
        # not a buffer: from_pretrained builds models on the meta device, where unsaved buffers lose their values
        self.by_sum = sum_normalised_heads(self.feature_map)
        if config.normaliser is not None:
            self.by_sum = (config.normaliser == "sum",) * config.num_heads

    def forward(self, x: Tensor, span: Span, state: LayerState | None) -> tuple[Tensor, LayerState]:
        before, kept = self.key_source.before(x, span, state)
        q, v = _heads(self.q_proj(x), self.num_heads), _heads(self.v_proj(x), self.num_heads)
        k, prefix = self._keys(x, before, self.k_proj.weight, span), None
        if self.prefix and span.prefix_mask is not None:
            ke = self._keys(x, before, self.k_prefix_proj.weight, span)
            prefix = Prefix(ke, _heads(self.v_prefix_proj(x), self.num_heads), span.prefix_mask)
        form = span.linear_attention
        is_short = not self.fades and x.shape[1] < 2 * self.feature_map.feature_dim
        if form == "kernel" and self.training and state is None and is_short:
            short = by_kernel(self.feature_map.kernel, q, k, v, prefix, span.mask)
            if short is not None:
                return self._out(normalise(*short, self.by_sum, self.eps)), kept
        start = None if state is None else LinearState(state["S"], state["z"])
        decay = self.decay if self.fades else None
        if start is not None and span.decoding:
            twice = self.config.decode == "published" and not self.prefix
            y, d, end = one_token(self.feature_map, q, k, v, start, decay, twice)
        else:
            form = "streamed" if form == "kernel" else form
            y, d, end = attend(form, self.feature_map, q, k, v, prefix, span.mask, start, decay)
        if self.fades:
            y = y * self.decay_proj(x).transpose(1, 2)[..., None]
        return self._out(normalise(y, d, self.by_sum, self.eps)), {"S": end.S, "z": end.z, **kept}

    def _out(self, y: Tensor) -> Tensor:
        return self.out_proj(y.transpose(1, 2).flatten(2))

    def _keys(self, x: Tensor, before: Tensor, weight: Tensor, span: Span) -> Tensor:
        k = self.key_source.keys(x, before, weight)
        if self.prefix and span.keyless is not None:
            k = k.masked_fill(span.keyless[:, None, :, None], 0)
        return k

    def start_as_copy(self) -> None:
        """Let the shifted heads begin as induction heads."""
        keys, values = [self.k_proj.weight], [self.v_proj.weight]
        if self.prefix:
            keys, values = [*keys, self.k_prefix_proj.weight], [*values, self.v_prefix_proj.weight]
        self.key_source.start_as_copy(self.q_proj.weight, keys, values, self.out_proj.weight)


MIXERS = {
    "conv": GatedShortConv,
    "swa": lambda config: Attention(config, config.window),
    "attention": lambda config: Attention(config, None),
    "attention_nope": lambda config: Attention(config, None, positions=False),
    "linear": lambda config: LinearAttention(config, prefix=False),
    "prefix_linear": lambda config: LinearAttention(config, prefix=True),
}


def build_mixer(name: str, config: JRTConfig) -> nn.Module:
    """The mixer called `name`.

    Raises:
        JRTError: no such mixer.
    """
    if name not in MIXERS:
        raise unknown("mixer", name, MIXERS)
    return MIXERS[name](config)
