"""Where transformers computes Mamba's layers on a CPU without kernels, our faster forms of its functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from transformers import FalconMambaForCausalLM, Mamba2ForCausalLM, MambaForCausalLM
from transformers.models.falcon_mamba import modeling_falcon_mamba
from transformers.models.mamba import modeling_mamba
from transformers.models.mamba2 import modeling_mamba2

from jrt_lmeval.modeling.mamba2_scan import causal_conv, chunk_scan
from jrt_lmeval.modeling.mamba_scan import selective_scan

SCANNED = (MambaForCausalLM, FalconMambaForCausalLM, Mamba2ForCausalLM)
"""The models that it makes faster."""

OURS: tuple[tuple[ModuleType, str, Callable[..., Any]], ...] = (
    (modeling_mamba, "mamba_selective_scan", selective_scan),
    (modeling_falcon_mamba, "mamba_selective_scan", selective_scan),
    (modeling_mamba2, "mamba2_chunk_scan", chunk_scan),
    (modeling_mamba2, "causal_conv1d_fn", causal_conv),
)


@contextmanager
def fast_scans() -> Iterator[None]:
    """Within it, the models of `SCANNED` use our forms, in training and for prompts; for float32 and float64."""
    theirs = [getattr(module, name) for module, name, _ in OURS]
    for module, name, ours in OURS:
        setattr(module, name, ours)
    try:
        yield
    finally:
        for (module, name, _), function in zip(OURS, theirs, strict=True):
            setattr(module, name, function)
