"""One more token for every row, in place: what decoding does again and again.

`mixers.py` reads any number of tokens and makes its state anew each time. Here each row has exactly one token and a
state before it, so nothing is padded or gathered, and the state lives in `Buffers` that are made once for a batch and
changed where they stand. `JRTForCausalLM.decode` is the readable twin.

Keys and values of a window stand in a ring of W slots, those of full attention in slots with room to spare: softmax
does not ask for their order, and their positions were rotated into them when they were read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jrt_lmeval.modeling.attention import rotate, rotation
from jrt_lmeval.modeling.linear_attention import normalise
from jrt_lmeval.modeling.mixers import Attention, GatedShortConv, LinearAttention
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.modeling.state import LayerState, RecurrentState

ROOM = 64  # slots that full attention's buffers grow by: copying them for every token would cost more than reading


@dataclass
class Buffers:
    """The state of B rows, as steps change it.

    Attributes:
        layers: per layer its tensors, as in `RecurrentState` but for attention's `k, v [B, H, slots, D]`.
        lengths: tokens read, `[B]`.
        end: slot of the next token before a ring turns it round, `[]`; the same for all rows.
        room: tokens that full attention's buffers still hold.
        full: whether every row has filled its windows, so that none of their slots needs a mask.
    """

    layers: list[LayerState]
    lengths: Tensor
    end: Tensor
    room: int
    full: bool

    @property
    def batch_size(self) -> int:
        return int(self.lengths.shape[0])

    def select(self, rows: Tensor) -> Buffers:
        """The rows named, in memory of their own."""
        layers = [{name: tensor[rows] for name, tensor in layer.items()} for layer in self.layers]
        return Buffers(layers, self.lengths[rows], self.end.clone(), self.room, self.full)


@dataclass(frozen=True)
class Now:
    """What all layers of one step share.

    Attributes:
        cos, sin: that rotate queries and keys, `[B, 1, 1, half]`; None where nothing is rotated.
        slot, window_slot: where full attention and windows put this token, `[1]`.
        valid, window_valid: bool `[B, 1, 1, slots]`, False at slots of no token; None where all hold one, or where
            there is no such layer.
    """

    cos: Tensor | None
    sin: Tensor | None
    slot: Tensor
    window_slot: Tensor
    valid: Tensor | None
    window_valid: Tensor | None


class OneToken:
    """Steps of one of our models.

    Args:
        model: one for which `fits` holds.
    """

    def __init__(self, model: JRTForCausalLM):
        self.model, self.window = model, model.config.window
        self.blocks: list[Any] = list(model.blocks)
        self.mixers: list[Any] = [block.mixer for block in self.blocks]
        self.maps: list[Any] = [None] * len(self.mixers)

    @staticmethod
    def fits(model: JRTForCausalLM) -> bool:
        """Whether all mixers are known here, and the model does not read everything again for every token."""
        again = model.config.filling == "iterate" and model.has_prefix
        return not again and all(type(block.mixer) in STEPS for block in model.blocks)

    def open(self, state: RecurrentState) -> Buffers:
        """Buffers that start as a state says; the state itself is never touched, and weights must not change from here
        on."""
        self.maps = [one.feature_map.ready() if isinstance(one, LinearAttention) else None for one in self.mixers]
        grown = [layer["k"].shape[1] for layer, one in zip(state.layers, self.mixers, strict=True) if _grows(one)]
        end = grown[0] if grown else 0
        layers = [self._opened(layer, mixer, end) for layer, mixer in zip(state.layers, self.mixers, strict=True)]
        full = bool((state.lengths >= self.window - 1).all())
        device = state.lengths.device
        return Buffers(layers, state.lengths.clone(), torch.tensor(end, device=device), ROOM if grown else 0, full)

    def close(self, buffers: Buffers) -> RecurrentState:
        """The state that reading the same tokens in any other way would have left."""
        end = int(buffers.end)
        layers = [self._closed(layer, mixer, end) for layer, mixer in zip(buffers.layers, self.mixers, strict=True)]
        return RecurrentState(layers, buffers.lengths.clone())

    def _opened(self, layer: LayerState, mixer: nn.Module, end: int) -> LayerState:
        if not isinstance(mixer, Attention):
            return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in layer.items()}
        opened = {name: tensor.clone() for name, tensor in layer.items() if name not in ("k", "v")}
        for name in ("k", "v"):
            old = layer[name].transpose(1, 2)
            if mixer.window is None:
                opened[name] = F.pad(old, (0, 0, 0, ROOM))
            else:
                opened[name] = F.pad(old, (0, 0, 1, 0)).roll(end, 2)
        return opened

    def _closed(self, layer: LayerState, mixer: nn.Module, end: int) -> LayerState:
        closed = {name: tensor.clone() for name, tensor in layer.items()}
        if isinstance(mixer, Attention):
            for name in ("k", "v"):
                kept = layer[name][:, :, :end] if mixer.window is None else layer[name].roll(-end, 2)[:, :, 1:]
                closed[name] = kept.transpose(1, 2).contiguous()
        return closed

    def step(self, ids: Tensor, buffers: Buffers) -> Tensor:
        """Logits `[B, vocab]` after one more token per row, `[B]`; `buffers` then hold it."""
        if buffers.room == 0:
            self._grow(buffers)
        logits = self._next_logits(ids, buffers.layers, buffers.lengths, buffers.end, buffers.full)
        buffers.lengths += 1
        buffers.end += 1
        buffers.room -= 1
        return logits

    def _grow(self, buffers: Buffers) -> None:
        buffers.room = ROOM
        for layer, mixer in zip(buffers.layers, self.mixers, strict=True):
            if _grows(mixer):
                layer.update({name: F.pad(layer[name], (0, 0, 0, ROOM)) for name in ("k", "v")})

    def _next_logits(self, ids: Tensor, layers: list[LayerState], lengths: Tensor, end: Tensor, full: bool) -> Tensor:
        now = self._now(layers, lengths, end, full)
        x = self.model.embed_tokens(ids)  # [B, C]
        for block, layer, phi in zip(self.blocks, layers, self.maps, strict=True):
            x = x + STEPS[type(block.mixer)](block.mixer, block.mixer_norm(x), layer, now, phi)
            x = x + block.mlp(block.mlp_norm(x))
        return self.model.next_logits(self.model.norm(x))

    def _now(self, layers: list[LayerState], lengths: Tensor, end: Tensor, full: bool) -> Now:
        cos = sin = valid = window_valid = None
        turning = next((one for one in self.mixers if isinstance(one, Attention) and one.rotary_dim), None)
        if turning is not None:
            dtype = self.model.embed_tokens.weight.dtype
            cos, sin = rotation(lengths[:, None], turning.rotary_base, turning.rotary_dim, dtype)
        growing = next((layer for layer, one in zip(layers, self.mixers, strict=True) if _grows(one)), None)
        if growing is not None:
            valid = _holding(growing["k"].shape[2], end, lengths, None)
        if not full:
            window_valid = _holding(self.window, end, lengths, self.window)
        return Now(cos, sin, end[None], (end % self.window)[None], valid, window_valid)


def _grows(mixer: nn.Module) -> bool:
    return isinstance(mixer, Attention) and mixer.window is None


def _holding(slots: int, end: Tensor, lengths: Tensor, ring: int | None) -> Tensor:
    """Which slots hold a token, this one included: bool `[B, 1, 1, slots]`."""
    age = end - torch.arange(slots, device=end.device)
    age = age if ring is None else age % ring
    return ((age >= 0) & (age <= lengths[:, None]))[:, None, None]


def _keys(mixer: Attention | LinearAttention, fresh: Tensor, x: Tensor, layer: LayerState, weight: Tensor) -> Tensor:
    """Keys `[B, H D]` from the product `fresh` of this token with all of `weight`, and shifted ones from the token
    before, which this one replaces."""
    source = mixer.key_source
    if not source.shifted:
        return fresh
    split = source.shifted * weight.shape[0] // source.heads
    keys = torch.cat([F.linear(layer["last"][:, 0], weight[:split]), fresh[:, split:]], dim=-1)
    layer["last"].copy_(x[:, None])
    return keys


def _by_heads(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1))[:, :, None]  # [B, C] -> [B, H, 1, C / H]


def _convolve(mixer: GatedShortConv, x: Tensor, layer: LayerState, now: Now, phi: None) -> Tensor:
    u, gate = mixer.in_proj(x).chunk(2, dim=-1)
    joined = torch.cat([layer["tail"], u[:, None]], dim=1)
    layer["tail"].copy_(joined[:, 1:])
    mixed = (joined * mixer.conv_weight.T).sum(1)
    return mixer.out_proj(F.silu(mixed) * gate)


def _attend(mixer: Attention, x: Tensor, layer: LayerState, now: Now, phi: None) -> Tensor:
    weight = mixer.qkv_proj.weight
    q, k, v = F.linear(x, weight).chunk(3, dim=-1)
    k = _keys(mixer, k, x, layer, weight.chunk(3)[1])
    q, k, v = (_by_heads(part, mixer.num_heads) for part in (q, k, v))
    if mixer.rotary_dim:
        assert now.cos is not None and now.sin is not None
        q, k = rotate(q, now.cos, now.sin), rotate(k, now.cos, now.sin)
    slot, valid = (now.slot, now.valid) if mixer.window is None else (now.window_slot, now.window_valid)
    layer["k"].index_copy_(2, slot, k)
    layer["v"].index_copy_(2, slot, v)
    y = F.scaled_dot_product_attention(q, layer["k"], layer["v"], attn_mask=valid)
    return mixer.out_proj(y.flatten(1))


def _recur(mixer: LinearAttention, x: Tensor, layer: LayerState, now: Now, phi: Callable[[Tensor], Tensor]) -> Tensor:
    """`linear_attention.step` for one token; the queries and keys of a head are mapped together."""
    k = _keys(mixer, mixer.k_proj(x), x, layer, mixer.k_proj.weight)
    both = torch.cat([_by_heads(part, mixer.num_heads) for part in (mixer.q_proj(x), k)], dim=2)
    q, k = phi(both).unbind(2)  # [B, H, F]
    v = _by_heads(mixer.v_proj(x), mixer.num_heads)
    S, z = layer["S"], layer["z"]
    if mixer.config.decode == "published" and not mixer.prefix:
        S.addcmul_(k[..., None], v)  # the published recurrence adds k v^T before the state fades, and again after
    if mixer.fades:
        S.mul_(mixer.decay.to(S.dtype).exp()[:, None, None])
    S.addcmul_(k[..., None], v)
    z.add_(k)
    y, d = q[:, :, None] @ S, (q * z).sum(-1, keepdim=True)
    if mixer.fades:
        y = y * mixer.decay_proj(x)[..., None, None]
    return mixer.out_proj(normalise(y, d, mixer.by_sum, mixer.eps).flatten(1))


STEPS: dict[type[nn.Module], Callable[..., Tensor]] = {
    GatedShortConv: _convolve,
    Attention: _attend,
    LinearAttention: _recur,
}
