"""The recurrent state: all a model remembers of what it has read, as one object."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from jrt_lmeval.errors import JRTError

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

    def to(self, device: torch.device | str) -> RecurrentState:
        return RecurrentState(
            [{k: v.to(device) for k, v in layer.items()} for layer in self.layers], self.lengths.to(device)
        )

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file that `load` reads."""
        tensors = {f"layers.{i}.{k}": v.contiguous() for i, layer in enumerate(self.layers) for k, v in layer.items()}
        save_file({**tensors, "lengths": self.lengths}, str(path))

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> RecurrentState:
        """Read what `save` wrote.

        Raises:
            JRTError: the file holds something else.
        """
        tensors = load_file(str(path), device=device)
        if "lengths" not in tensors:
            raise JRTError(f"{path}: not a saved recurrent state (no tensor 'lengths').")
        lengths = tensors.pop("lengths")
        names = {name: name.split(".", 2) for name in tensors}
        count = 1 + max((int(parts[1]) for parts in names.values()), default=-1)
        layers: list[LayerState] = [{} for _ in range(count)]
        for name, (_, index, key) in names.items():
            layers[int(index)][key] = tensors[name]
        return cls(layers, lengths)
