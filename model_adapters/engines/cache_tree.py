"""The state of any model as a tree of tensors: transformers' caches, fla's, and lists, tuples and dicts of tensors.

Caches differ in where they keep their tensors (in layers, beside them, in tuples of tuples), so nothing here knows any
of them: a tree is walked whole, and every tensor in it is found or the cache is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

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
