"""The cache of a Hugging Face model as a state that can be forked: attention keys and values, or a recurrent state."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer, LinearAttentionCacheLayerMixin

from jrt_lmeval.errors import JRTError

ELSEWHERE = "lm_eval's own --model hf may run it; keep to --batch_size 1 there."


@dataclass
class HFState:
    """A transformers cache and what is needed to go on from it.

    Attributes:
        cache: keys and values, or convolution and recurrent states; replaced, never shared, by `select` and `clone`.
        mask: `[B, slots]`, 1 where a cache slot holds a real token.
        lengths: tokens read per row, `[B]`: the position of the next one.
    """

    cache: Cache
    mask: Tensor
    lengths: Tensor

    def clone(self) -> HFState:
        return self.select(torch.arange(len(self.lengths), device=self.lengths.device))

    def select(self, rows: Tensor) -> HFState:
        rows = rows.to(self.lengths.device)
        cache = unshared(self.cache)
        cache.reorder_cache(rows)  # copies the rows named, so the original's tensors stay as they are
        return HFState(cache, self.mask[rows], self.lengths[rows])

    def row_bytes(self) -> list[int]:
        totals = [0] * len(self.lengths)
        lengths = self.lengths.tolist()
        for layer in self.cache.layers:
            for name, tensor in layer_tensors(layer):
                size = tensor.numel() * tensor.element_size() // len(totals)
                for row, length in enumerate(lengths):
                    if name in ("keys", "values"):
                        slots = tensor.shape[-2]
                        totals[row] += size // slots * min(length, slots)
                    else:
                        totals[row] += size
        return totals


def layer_tensors(layer: Any) -> list[tuple[str, Tensor]]:
    """The tensors of one cache layer that have a row as their first dimension, by attribute name."""
    found = []
    for name, value in vars(layer).items():
        values = value.values() if isinstance(value, dict) else [value]
        found += [(name, v) for v in values if isinstance(v, Tensor) and v.dim() > 1]
    return found


def unshared(cache: Cache) -> Cache:
    """A cache whose layers can be re-pointed to other tensors without the original noticing."""
    twin = copy.copy(cache)
    twin.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in twin.layers:
        for name, value in vars(layer).items():
            if isinstance(value, dict):
                setattr(layer, name, dict(value))
    return twin


def require_cache(cache: object, model_name: str) -> Cache:
    """The cache, if it is one whose rows can be selected.

    Raises:
        JRTError: the model keeps its state in something else.
    """
    if isinstance(cache, Cache) and hasattr(cache, "layers"):
        return cache
    raise JRTError(
        f"{model_name} keeps its state in {type(cache).__name__}, not in a transformers Cache, so its rows cannot be "
        f"told apart. {ELSEWHERE}"
    )


def only_full_attention(cache: Cache) -> bool:
    """Whether every layer is plain attention: then padding between old and new tokens can be masked out."""
    return all(type(layer) is DynamicLayer for layer in cache.layers)


def only_recurrent(cache: Cache) -> bool:
    """Whether every layer is a recurrent state of fixed size, which can only be continued token by token."""
    return all(
        isinstance(layer, LinearAttentionCacheLayerMixin) and not isinstance(layer, DynamicLayer)
        for layer in cache.layers
    )


def write_rows(target: Cache, rows: Tensor, source: Cache) -> None:
    """Put the rows of a recurrent `source` into `target` at `rows`, in place."""
    for into, new in zip(target.layers, source.layers, strict=True):
        for (_, old_tensor), (_, new_tensor) in zip(layer_tensors(into), layer_tensors(new), strict=True):
            old_tensor.index_copy_(0, rows, new_tensor)
