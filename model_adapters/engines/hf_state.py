"""The cache of a Hugging Face model as a state that can be forked: attention keys and values, or a recurrent state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer, LinearAttentionAndFullAttentionLayer

from jrt_lmeval.errors import JRTError
from model_adapters.engines.cache_tree import Leaf, is_counter, leaves, mapped, misfits, selected

ELSEWHERE = "lm_eval's own --model hf may run it; keep to --batch_size 1 there."


@dataclass(frozen=True)
class CacheLayout:
    """What a model's cache holds, seen by reading a few tokens.

    Attributes:
        slots: for each tensor that grows with the tokens read, by path, the dimension that grows. All others are a
            recurrent state.
        full_attention: whether what grows belongs to layers of full attention in transformers' own cache, where tokens
            can be masked out wherever they stand.
    """

    slots: Mapping[str, int]
    full_attention: bool
    recurrent: bool


def layout(before: Any, after: Any) -> CacheLayout:
    """The layout of a cache, from itself before and after one more token."""
    slots: dict[str, int] = {}
    recurrent = False
    for old, new in zip(leaves(before), leaves(after), strict=True):
        grown = [dim for dim, (a, b) in enumerate(zip(old.tensor.shape, new.tensor.shape, strict=True)) if a != b]
        if grown:
            slots[old.path] = grown[0]
        elif not is_counter(old.tensor):
            recurrent = True
    layers = getattr(after, "layers", [])
    kinds = {type(layers[int(path.split(".")[1])]) for path in slots if path.startswith("layers.")}
    inside = all(path.startswith("layers.") for path in slots)
    return CacheLayout(slots, inside and kinds <= {DynamicLayer, LinearAttentionAndFullAttentionLayer}, recurrent)


@dataclass
class HFState:
    """A model's cache and what is needed to go on from it.

    Attributes:
        cache: keys and values, or convolution and recurrent states; copied, never shared, by `select` and `clone`.
        mask: `[B, slots]`, 1 where a cache slot holds a real token.
        lengths: tokens read per row, `[B]`: the position of the next one.
        slots: see `CacheLayout`.
    """

    cache: Any
    mask: Tensor
    lengths: Tensor
    slots: Mapping[str, int]

    def clone(self) -> HFState:
        return self.select(torch.arange(len(self.lengths), device=self.lengths.device))

    def select(self, rows: Tensor) -> HFState:
        rows = rows.to(self.lengths.device)
        return HFState(selected(self.cache, rows), self.mask[rows], self.lengths[rows], self.slots)

    def row_bytes(self) -> list[int]:
        lengths = self.lengths.tolist()
        totals = [0] * len(lengths)
        for path, tensor in leaves(self.cache):
            if is_counter(tensor):
                continue
            size = tensor.numel() * tensor.element_size() // len(totals)
            slots = tensor.shape[self.slots[path]] if path in self.slots else 0
            for row, length in enumerate(lengths):
                totals[row] += size // slots * min(length, slots) if slots else size
        return totals


def require_rows_first(cache: Any, rows: int, model_name: str) -> None:
    """Raise JRTError unless every tensor of a cache has the rows of the batch as its first dimension."""
    tensors = list(leaves(cache))
    if not tensors:
        raise JRTError(
            f"{model_name} keeps no state that could be forked (its cache, a {type(cache).__name__}, holds no tensor). "
            f"{ELSEWHERE}"
        )
    if wrong := misfits(cache, rows):
        raise JRTError(
            f"{model_name} keeps tensors in its {type(cache).__name__} whose first dimension is not the row "
            f"({'; '.join(wrong[:3])}), so its rows cannot be told apart. {ELSEWHERE}"
        )


def unshared(cache: Any) -> Any:
    """A cache whose parts can be re-pointed to other tensors without the original noticing."""
    return mapped(cache, lambda leaf: leaf.tensor)


def recurrent_part(state: HFState) -> list[Leaf]:
    """The tensors of a state that do not grow with the tokens read, counters aside."""
    return [leaf for leaf in leaves(state.cache) if leaf.path not in state.slots and not is_counter(leaf.tensor)]
