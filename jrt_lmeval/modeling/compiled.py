"""`torch.compile` for the steps of decoding, as an option: it costs seconds before the first step and then saves some
of each. docs/performance.md says when that pays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.state import LayerState


def require_compiler(device: torch.device) -> None:
    """Raise JRTError where `torch.compile` cannot work on a device."""
    if device.type != "cpu":
        return
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except Exception as error:  # each system fails in its own way
        raise JRTError(
            "compile=true: on a CPU, torch.compile needs a C++ compiler, and none was found. Install g++, or name "
            "another in the environment variable CXX; without compile=true nothing is compiled, for the same answers."
        ) from error


def compiled(step: Callable[..., Tensor], device: torch.device) -> Callable[..., Tensor]:
    """`step(ids [B], layers, lengths [B], ...)` compiled when it is first called: once for one row, once for more.

    Raises:
        JRTError: there is no compiler; when called, compiling failed.
    """
    require_compiler(device)
    fast = torch.compile(step)

    def call(ids: Tensor, layers: list[LayerState], lengths: Tensor, *given: Any) -> Tensor:
        from torch._dynamo.exc import TorchDynamoException

        if len(ids) > 1:  # rows leave a batch as they finish: else it would be compiled again for every size
            for tensor in (ids, lengths, *(tensor for layer in layers for tensor in layer.values())):
                torch._dynamo.maybe_mark_dynamic(tensor, 0)
        try:
            return fast(ids, layers, lengths, *given)
        except TorchDynamoException as error:
            said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise JRTError(f"compile=true: torch.compile failed ({said}). Leave compile out.") from error

    return call
