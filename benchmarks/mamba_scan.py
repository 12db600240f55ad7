"""Mamba's and Mamba-2's scans over a prompt, cache returned: ours against transformers' loop over tokens, or chunks,
at 130M's geometry; and what they make of layers of Mamba, FalconMamba and Mamba-2.

python -m benchmarks --only mamba_scan
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from transformers import FalconMambaConfig, FalconMambaModel, Mamba2Config, Mamba2Model, MambaConfig, MambaModel
from transformers.models.mamba.modeling_mamba import mamba_selective_scan
from transformers.models.mamba2.modeling_mamba2 import mamba2_chunk_scan

from benchmarks.measure import Options, Row, compared
from jrt_lmeval.modeling.scans import chunk_scan, fast_scans, selective_scan

E, N = 1536, 16
HEADS, N2 = 24, 128
"""Of Mamba-2, whose heads have 64 values and whose state has 128 numbers for each."""
LENGTHS, QUICK_LENGTHS = (1024, 256), (64, 64)
"""Tokens that the scans and the layers read."""
TOLERANCE = 1e-3
MODELS = {
    "Mamba": (MambaConfig, MambaModel, {"state_size": N}),
    "FalconMamba": (FalconMambaConfig, FalconMambaModel, {"state_size": N}),
    "Mamba-2": (
        Mamba2Config,
        Mamba2Model,
        {"state_size": N2, "num_heads": HEADS, "head_dim": E // HEADS, "n_groups": 1},
    ),
}


def inputs(T: int) -> dict[str, Tensor | bool]:
    """What transformers passes, for one row of T tokens; in memory tokens come first in all but dt."""
    torch.manual_seed(T)
    u, z = torch.randn(2, 1, T, E).mT
    dt = torch.randn(1, E, T)
    B, C = torch.randn(2, 1, T, N).mT
    A = -torch.arange(1.0, N + 1).expand(E, N)
    given = {"hidden_states": u, "dt": dt, "A": A, "B": B, "C": C, "D": torch.ones(E), "z": z}
    return {**given, "delta_bias": torch.zeros(E), "delta_softplus": True, "return_last_state": True}


def inputs_2(T: int) -> dict[str, Tensor | bool | int]:
    """The same of Mamba-2, whose configuration asks for chunks of 256 tokens."""
    torch.manual_seed(T)
    B, C = torch.randn(2, 1, T, 1, N2)
    given = {"hidden_states": torch.randn(1, T, HEADS, E // HEADS), "dt": torch.randn(1, T, HEADS), "B": B, "C": C}
    given |= {"A": -torch.arange(1.0, HEADS + 1), "D": torch.ones(HEADS), "dt_bias": torch.zeros(HEADS)}
    return {**given, "chunk_size": 256, "dt_softplus": True, "return_final_states": True}


def rows(options: Options) -> list[Row]:
    """The scans of transformers over ours, and two layers of each model with them."""
    T, short = QUICK_LENGTHS if options.quick else LENGTHS
    given, given_2 = inputs(T), inputs_2(T)
    work: dict[str, dict[str, Callable[[], object]]] = {
        f"scan of {E} x {N}, T = {T}": {
            "ours": lambda: selective_scan(**given),
            "transformers": lambda: mamba_selective_scan(**given),
        },
        f"Mamba-2's scan of {E} x {N2}, T = {T}": {
            "ours": lambda: chunk_scan(**given_2),
            "transformers": lambda: mamba2_chunk_scan(**given_2),
        },
    }
    for kind, (_, _, sizes) in MODELS.items():
        work[f"2 layers of {kind}, {E} x {sizes['state_size']}, T = {short}"] = layers(kind, short)
    with torch.inference_mode():
        return [compared(what, ways, TOLERANCE, options.repeats(5), "geometry") for what, ways in work.items()]


def layers(kind: str, T: int) -> dict[str, Callable[[], object]]:
    """Two layers that read T tokens with either scan."""
    torch.manual_seed(T)
    config, model, sizes = MODELS[kind]
    layers = model(config(vocab_size=64, hidden_size=E // 2, num_hidden_layers=2, **sizes)).eval()
    ids = torch.randint(0, 64, (1, T))

    def read(scan: Callable[[], AbstractContextManager[None]]) -> Tensor:
        with scan():
            return layers(ids, use_cache=True).last_hidden_state

    return {"ours": lambda: read(fast_scans), "transformers": lambda: read(nullcontext)}
