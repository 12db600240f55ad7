"""The recurrent state: everything a model remembers of what it has read, as one object."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LayerState = dict[str, Tensor]


@dataclass
class RecurrentState:
    """What a batch of B rows carries from token to token.

    Attributes:
        layers: per layer the tensors its mixer keeps, each with the row as its first dimension.
        lengths: tokens read so far, `[B]`.
    """

    layers: list[LayerState]
    lengths: Tensor

    @property
    def batch_size(self) -> int:
        return int(self.lengths.shape[0])

    def clone(self) -> RecurrentState:
        """A copy that shares no memory: continue it without touching this one."""
        return RecurrentState([{k: v.clone() for k, v in layer.items()} for layer in self.layers], self.lengths.clone())

    def select(self, rows: Tensor | list[int]) -> RecurrentState:
        """The rows named, in that order; a row named twice is forked, one left out is dropped."""
        rows = torch.as_tensor(rows, dtype=torch.long, device=self.lengths.device)
        return RecurrentState([{k: v[rows] for k, v in layer.items()} for layer in self.layers], self.lengths[rows])

    def nbytes(self) -> int:
        """Bytes of all rows together."""
        return sum(t.numel() * t.element_size() for layer in self.layers for t in layer.values())
