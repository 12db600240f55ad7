"""The state of a Hugging Face model: its cache as a tree of tensors whose rows can be selected, joined and copied.

Caches of transformers and flash-linear-attention differ in where they keep their tensors (in layers, beside them, in
tuples of tuples), so nothing here knows any of them: a tree is walked whole, and every tensor in it is found or the
cache is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
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


def mapped(node: Any, change: Callable[[Leaf], Tensor]) -> Any:
    """A copy of a tree whose tensors are what `change` makes of them; what holds no tensor stays shared."""
    return _mapped(node, change, "", {})


def _mapped(node: Any, change: Callable[[Leaf], Tensor], path: str, copies: dict[int, Any]) -> Any:
    """`copies`: of the objects met so far by id, since a layer may know its cache."""
    if isinstance(node, Tensor):
        return change(Leaf(path, node))
    if isinstance(node, dict):
        return _like(node, {key: _mapped(value, change, _join(path, key), copies) for key, value in node.items()})
    if isinstance(node, (list, tuple)):
        items = [_mapped(value, change, _join(path, number), copies) for number, value in enumerate(node)]
        return type(node)(*items) if hasattr(node, "_fields") else type(node)(items)
    if not _is_container(node):
        return node
    if id(node) not in copies:
        twin = copies[id(node)] = copy.copy(node)
        for name, value in vars(node).items():
            twin.__dict__[name] = _mapped(value, change, _join(path, name), copies)
    return copies[id(node)]


def _like(old: dict[Any, Any], items: dict[Any, Any]) -> dict[Any, Any]:
    if type(old) is dict:
        return items
    twin = copy.copy(old)
    twin.update(items)
    return twin


def _join(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)


def _is_container(node: Any) -> bool:
    """Whether an object may hold tensors of a state: neither a plain value nor a model's configuration or module."""
    return (
        hasattr(node, "__dict__")
        and not isinstance(node, PLAIN)
        and not callable(node)
        and not hasattr(node, "to_diff_dict")
    )


def leaves(node: Any) -> Iterator[Leaf]:
    """All tensors of a tree, in an order that depends on its structure alone."""
    found: list[Leaf] = []

    def note(leaf: Leaf) -> Tensor:
        found.append(leaf)
        return leaf.tensor

    mapped(node, note)
    yield from found


def is_counter(tensor: Tensor) -> bool:
    """Whether it is one whole number for all rows, such as the tokens read so far or the width of a window."""
    return not tensor.is_floating_point() and tensor.numel() == 1 and tensor.dim() < 2


def misfits(node: Any, rows: int) -> list[str]:
    """Paths and shapes of the tensors that do not have a row of the batch as their first dimension."""
    return [
        f"{path} {list(tensor.shape)}"
        for path, tensor in leaves(node)
        if not is_counter(tensor) and (tensor.dim() == 0 or tensor.shape[0] != rows) and tensor.numel() > 0
    ]


def selected(node: Any, rows: Tensor) -> Any:
    """A tree of copies of the rows named (LongTensor), whose tensors the original does not share."""

    def pick(leaf: Leaf) -> Tensor:
        if is_counter(leaf.tensor) or leaf.tensor.numel() == 0:
            return leaf.tensor.clone()
        return leaf.tensor.index_select(0, rows.to(leaf.tensor.device))

    return mapped(node, pick)


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
        return torch.cat([tensors[number] for tensors in others]).index_select(0, order.to(leaf.tensor.device))

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
            f"({'; '.join(wrong[:3])}), so its rows cannot be separated. {ELSEWHERE}"
        )


def unshared(cache: Any) -> Any:
    """A cache whose parts can be re-pointed to other tensors without the original noticing."""
    return mapped(cache, lambda leaf: leaf.tensor)


def recurrent_part(state: HFState) -> list[Leaf]:
    """The tensors of a state that do not grow with the tokens read, counters aside."""
    return [leaf for leaf in leaves(state.cache) if leaf.path not in state.slots and not is_counter(leaf.tensor)]
