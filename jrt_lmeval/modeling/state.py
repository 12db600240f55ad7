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
        growing: the layers whose keys and values `k`, `v` have a slot for each token read; those of others are of
            sliding windows.
    """

    layers: list[LayerState]
    lengths: Tensor
    growing: frozenset[int] = frozenset()

    def select(self, rows: Tensor | list[int]) -> RecurrentState:
        """A copy of the rows named, in that order, that shares no memory; a row named twice is forked."""
        rows = torch.as_tensor(rows, dtype=torch.long, device=self.lengths.device)
        layers = [{name: tensor[rows] for name, tensor in layer.items()} for layer in self.layers]
        return RecurrentState(layers, self.lengths[rows], self.growing)

    def row_bytes(self) -> list[int]:
        """Bytes of each row; what padding added is not counted."""
        fixed = per_token = 0
        for index, layer in enumerate(self.layers):
            for name, tensor in layer.items():
                if index in self.growing and name in ("k", "v"):
                    per_token += tensor[0, 0].numel() * tensor.element_size()
                else:
                    fixed += tensor[0].numel() * tensor.element_size()
        return [fixed + per_token * length for length in self.lengths.tolist()]

    def window_bytes(self) -> list[int]:
        """Bytes of each row that are keys and values of sliding windows."""
        windows = [layer for index, layer in enumerate(self.layers) if index not in self.growing]
        kept = [layer[name][0] for layer in windows for name in ("k", "v") if name in layer]
        return [sum(tensor.numel() * tensor.element_size() for tensor in kept)] * len(self.lengths)
