"""The state of a Hugging Face model: its cache as a tree of tensors whose rows can be selected, joined and copied.

Caches of transformers and flash-linear-attention differ in where they keep their tensors (in layers, beside them, in
tuples of tuples), so nothing here knows any of them: a tree is walked whole, and every tensor in it is found or the
cache is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer, LinearAttentionAndFullAttentionLayer

from jrt_lmeval.errors import JRTError

PLAIN = (str, bytes, int, float, bool, type(None), torch.dtype, torch.device, torch.Size, type)


class Leaf(NamedTuple):
    """A tensor of a tree and the names that lead to it, such as `layers.0.keys`."""

    path: str
    tensor: Tensor


def mapped(
    node: Any, change: Callable[[Leaf], Tensor], path: tuple[str, ...] = (), copies: dict[int, Any] | None = None
) -> Any:
    """A copy of a tree whose tensors are what `change` makes of them; what holds no tensor stays shared.

    `copies` are those of the objects met so far by id, since a layer may know its cache.
    """
    copies = {} if copies is None else copies

    def below(value: Any, name: object) -> Any:
        return mapped(value, change, (*path, str(name)), copies)

    if isinstance(node, Tensor):
        return change(Leaf(".".join(path), node))
    if isinstance(node, dict):
        twin = copy.copy(node)
        twin.update({key: below(value, key) for key, value in node.items()})
        return twin
    if isinstance(node, (list, tuple)):
        items = [below(value, number) for number, value in enumerate(node)]
        return type(node)(*items) if hasattr(node, "_fields") else type(node)(items)
    # neither a plain value nor a model's configuration or module
    if isinstance(node, PLAIN) or callable(node) or hasattr(node, "to_diff_dict") or not hasattr(node, "__dict__"):
        return node
    if id(node) not in copies:
        twin = copies[id(node)] = copy.copy(node)
        for name, value in vars(node).items():
            twin.__dict__[name] = below(value, name)
    return copies[id(node)]


def leaves(node: Any) -> list[Leaf]:
    """All tensors of a tree, in an order that depends on its structure alone."""
    found: list[Leaf] = []

    def note(leaf: Leaf) -> Tensor:
        found.append(leaf)
        return leaf.tensor

    mapped(node, note)
    return found


def is_counter(tensor: Tensor) -> bool:
    """Whether it is one whole number for all rows, such as the tokens read so far or the width of a window."""
    return not tensor.is_floating_point() and tensor.numel() == 1 and tensor.dim() < 2


def selected(node: Any, rows: Tensor) -> Any:
    """A tree of copies of the rows named (LongTensor), whose tensors the original does not share."""
    return merged([node], rows)


def merged(parts: Sequence[Any], order: Tensor) -> Any:
    """One tree of the rows of several, `order [B]` naming them as if the parts stood one behind the other.

    The parts must have the same structure, and shapes that differ in their rows only.
    """
    others = [[leaf.tensor for leaf in leaves(part)] for part in parts]
    numbers = iter(range(len(others[0])))

    def join(leaf: Leaf) -> Tensor:
        number = next(numbers)
        if is_counter(leaf.tensor) or leaf.tensor.numel() == 0:
            return leaf.tensor.clone()
        whole = torch.cat([tensors[number] for tensors in others]) if len(others) > 1 else leaf.tensor
        return whole.index_select(0, order.to(leaf.tensor.device))

    return mapped(parts[0], join)


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
        cache: keys and values, or convolution and recurrent states; copied, never shared, by `select`.
        mask: `[B, slots]`, 1 where a cache slot holds a real token.
        lengths: tokens read per row, `[B]`: the position of the next one.
        slots: see `CacheLayout`.
    """

    cache: Any
    mask: Tensor
    lengths: Tensor
    slots: Mapping[str, int]

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
    found = leaves(cache)
    if not found:
        raise JRTError(
            f"{model_name} keeps no state that could be forked (its cache, a {type(cache).__name__}, holds no tensor). "
            f"{ELSEWHERE}"
        )
    wrong = [
        f"{path} {list(tensor.shape)}"
        for path, tensor in found
        if not is_counter(tensor) and (tensor.dim() == 0 or tensor.shape[0] != rows) and tensor.numel() > 0
    ]
    if wrong:
        raise JRTError(
            f"{model_name} keeps tensors in its {type(cache).__name__} whose first dimension is not the row "
            f"({'; '.join(wrong[:3])}), so its rows cannot be separated. {ELSEWHERE}"
        )


def unshared(cache: Any) -> Any:
    """A cache whose parts can be re-pointed to other tensors without the original noticing."""
    return mapped(cache, lambda leaf: leaf.tensor)


def recurrent_part(state: HFState) -> list[Leaf]:
    """The tensors of a state that do not grow with the tokens read, counters aside."""
    return [leaf for leaf in leaves(state.cache) if leaf.path not in state.slots and not is_counter(leaf.tensor)]
