"""The scans of Mamba and Mamba-2 over a prompt, cache returned: ours against transformers' loop over tokens, or chunks,
at 130M's geometry; and what they make of whole layers.

python -m benchmarks --only mamba_scan
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers import Mamba2Config, Mamba2Model, MambaConfig, MambaModel
from transformers.models.mamba.modeling_mamba import mamba_selective_scan
from transformers.models.mamba2.modeling_mamba2 import mamba2_chunk_scan

from benchmarks.measure import Row, compared
from jrt_lmeval.modeling.scans import chunk_scan, fast_scans, selective_scan

E, N = 1536, 16
HEADS, N2 = 24, 128
"""Of Mamba-2, whose heads have 64 values and whose state has 128 numbers for each."""
LENGTHS, QUICK_LENGTHS = (1024, 256), (64, 64)
"""Tokens that the scans and the layers read."""
TOLERANCE = 1e-3


def inputs(T: int) -> dict[str, Any]:
    """What transformers passes, for one row of T tokens; in memory tokens come first in all but dt."""
    torch.manual_seed(T)
    u, z = torch.randn(2, 1, T, E).mT
    dt = torch.randn(1, E, T)
    B, C = torch.randn(2, 1, T, N).mT
    A = -torch.arange(1.0, N + 1).expand(E, N)
    given = {"hidden_states": u, "dt": dt, "A": A, "B": B, "C": C, "D": torch.ones(E), "z": z}
    return {**given, "delta_bias": torch.zeros(E), "delta_softplus": True, "return_last_state": True}


def inputs_2(T: int) -> dict[str, Any]:
    """The same for Mamba-2, whose configuration asks for chunks of 256 tokens."""
    torch.manual_seed(T)
    B, C = torch.randn(2, 1, T, 1, N2)
    given = {"hidden_states": torch.randn(1, T, HEADS, E // HEADS), "dt": torch.randn(1, T, HEADS), "B": B, "C": C}
    given |= {"A": -torch.arange(1.0, HEADS + 1), "D": torch.ones(HEADS), "dt_bias": torch.zeros(HEADS)}
    return {**given, "chunk_size": 256, "dt_softplus": True, "return_final_states": True}


def layers(model: Any, config: Any, T: int, **sizes: int) -> dict[str, Callable[[], object]]:
    """Two layers that read T tokens with either scan."""
    torch.manual_seed(T)
    read = model(config(vocab_size=64, hidden_size=E // 2, num_hidden_layers=2, **sizes)).eval()
    ids = torch.randint(0, 64, (1, T))

    def within(scan: Callable[[], AbstractContextManager[None]]) -> Tensor:
        with scan():
            return read(ids, use_cache=True).last_hidden_state

    return {"ours": lambda: within(fast_scans), "transformers": lambda: within(nullcontext)}


def rows(quick: bool) -> list[Row]:
    """The scans of transformers over ours, and two layers of each model with them."""
    T, short = QUICK_LENGTHS if quick else LENGTHS
    given, given_2 = inputs(T), inputs_2(T)
    sizes = {"state_size": N2, "num_heads": HEADS, "head_dim": E // HEADS, "n_groups": 1}
    work: dict[str, dict[str, Callable[[], object]]] = {
        f"scan of {E} x {N}, T = {T}": {
            "ours": lambda: selective_scan(**given),
            "transformers": lambda: mamba_selective_scan(**given),
        },
        f"Mamba-2's scan of {E} x {N2}, T = {T}": {
            "ours": lambda: chunk_scan(**given_2),
            "transformers": lambda: mamba2_chunk_scan(**given_2),
        },
        f"2 layers of Mamba, {E} x {N}, T = {short}": layers(MambaModel, MambaConfig, short, state_size=N),
        f"2 layers of Mamba-2, {E} x {N2}, T = {short}": layers(Mamba2Model, Mamba2Config, short, **sizes),
    }
    with torch.inference_mode():
        return [compared(f"{what} (geometry)", ways, TOLERANCE, quick) for what, ways in work.items()]
