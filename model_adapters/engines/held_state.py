"""Models whose layers keep the state of the last batch on themselves: taken from them after a pass, put back before."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

HELD = {"recurrent_gemma": (("conv1d_state", "recurrent_states"), "linear_x")}
"""By model type: the attributes of modules that hold the state, and the submodule whose output padding must not leave
(it feeds the convolution; behind that, the recurrence starts afresh at position 0)."""


class HeldState:
    """The state that a model's modules hold.

    Args:
        model: of a type named in HELD.
    """

    def __init__(self, model: nn.Module, model_type: str):
        names, feeding = HELD[model_type]
        self._places = [(module, name) for module in model.modules() for name in names if name in vars(module)]
        self._mask: Tensor | None = None
        for module in model.modules():
            if any(owner is module for owner, _ in self._places) and hasattr(module, feeding):
                getattr(module, feeding).register_forward_hook(self._hide_padding)

    def _hide_padding(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        if self._mask is None or self._mask.shape[1] != output.shape[1]:
            return output
        return output * self._mask[:, :, None].to(output.dtype)

    def put(self, tensors: list[Tensor] | None, mask: Tensor | None) -> None:
        """Before a pass: the state to go on from (None: afresh), and `mask [B, T]` of the tokens that will be read."""
        self._mask = mask
        for number, (module, name) in enumerate(self._places):
            setattr(module, name, None if tensors is None else tensors[number])

    def take(self) -> list[Tensor]:
        """After a pass: the state, of which the model keeps nothing."""
        tensors = [getattr(module, name) for module, name in self._places]
        self.put(None, None)
        return tensors
