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

from benchmarks.row import Options, Row, row, seconds, side_by_side
from jrt_lmeval.modeling.mamba2_scan import chunk_scan
from jrt_lmeval.modeling.mamba_scan import selective_scan
from jrt_lmeval.modeling.scans import fast_scans

E, N = 1536, 16
HEADS, N2 = 24, 128
"""Of Mamba-2, whose heads have 64 values and whose state has 128 numbers for each."""
LENGTHS, QUICK_LENGTHS = (256, 1024), (64,)
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
    """Theirs over ours: the scan at every length, two layers of either model at the first."""
    lengths = QUICK_LENGTHS if options.quick else LENGTHS
    with torch.inference_mode():
        found = [_scan(T, options) for T in lengths] + [_scan_2(T, options) for T in lengths]
        return found + [_layers(kind, lengths[0], options) for kind in MODELS]


def _scan(T: int, options: Options) -> Row:
    given = inputs(T)
    work = {"ours": lambda: selective_scan(**given), "transformers": lambda: mamba_selective_scan(**given)}
    return _compared(f"scan of {E} x {N}, T = {T}", work, options)


def _scan_2(T: int, options: Options) -> Row:
    given = inputs_2(T)
    work = {"ours": lambda: chunk_scan(**given), "transformers": lambda: mamba2_chunk_scan(**given)}
    return _compared(f"Mamba-2's scan of {E} x {N2}, T = {T}", work, options)


def _layers(kind: str, T: int, options: Options) -> Row:
    torch.manual_seed(T)
    config, model, sizes = MODELS[kind]
    layers = model(config(vocab_size=64, hidden_size=E // 2, num_hidden_layers=2, **sizes)).eval()
    ids = torch.randint(0, 64, (1, T))

    def read(scan: Callable[[], AbstractContextManager[None]]) -> Tensor:
        with scan():
            return layers(ids, use_cache=True).last_hidden_state

    work = {"ours": lambda: read(fast_scans), "transformers": lambda: read(nullcontext)}
    return _compared(f"2 layers of {kind}, {E} x {sizes['state_size']}, T = {T}", work, options)


def _compared(what: str, work: dict[str, Callable[[], object]], options: Options) -> Row:
    torch.testing.assert_close(work["ours"](), work["transformers"](), rtol=TOLERANCE, atol=TOLERANCE)
    ways = {way: (lambda call=call: seconds(call)) for way, call in work.items()}
    costs = side_by_side(ways, options.repeats(5))
    return row(what, costs, "ours", "transformers", f"within {TOLERANCE:g}", weights="geometry")
