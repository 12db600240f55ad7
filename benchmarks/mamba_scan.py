"""Mamba's scan over a prompt, cache returned: in chunks against transformers' loop over tokens, at 130M's geometry; and
what it makes of layers of Mamba and FalconMamba.

python -m benchmarks --only mamba_scan
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from transformers import FalconMambaConfig, FalconMambaModel, MambaConfig, MambaModel
from transformers.models.mamba.modeling_mamba import mamba_selective_scan

from benchmarks.row import Options, Row, row, seconds, side_by_side
from jrt_lmeval.modeling.mamba_scan import selective_scan
from jrt_lmeval.modeling.scans import fast_scans

E, N = 1536, 16
LENGTHS, QUICK_LENGTHS = (256, 1024), (64,)
TOLERANCE = 1e-3
MODELS = {"Mamba": (MambaConfig, MambaModel), "FalconMamba": (FalconMambaConfig, FalconMambaModel)}


def inputs(T: int) -> dict[str, Tensor | bool]:
    """What transformers passes, for one row of T tokens; in memory tokens come first in all but dt."""
    torch.manual_seed(T)
    u, z = torch.randn(2, 1, T, E).mT
    dt = torch.randn(1, E, T)
    B, C = torch.randn(2, 1, T, N).mT
    A = -torch.arange(1.0, N + 1).expand(E, N)
    given = {"hidden_states": u, "dt": dt, "A": A, "B": B, "C": C, "D": torch.ones(E), "z": z}
    return {**given, "delta_bias": torch.zeros(E), "delta_softplus": True, "return_last_state": True}


def rows(options: Options) -> list[Row]:
    """The loop over the chunks: the scan at every length, two layers of either model at the first."""
    lengths = QUICK_LENGTHS if options.quick else LENGTHS
    with torch.inference_mode():
        found = [_scan(T, options) for T in lengths]
        return found + [_layers(kind, lengths[0], options) for kind in MODELS]


def _scan(T: int, options: Options) -> Row:
    given = inputs(T)
    work = {"chunks": lambda: selective_scan(**given), "loop": lambda: mamba_selective_scan(**given)}
    return _compared(f"scan of {E} x {N}, T = {T}", work, options)


def _layers(kind: str, T: int, options: Options) -> Row:
    torch.manual_seed(T)
    config, model = MODELS[kind]
    layers = model(config(vocab_size=64, hidden_size=E // 2, state_size=N, num_hidden_layers=2)).eval()
    ids = torch.randint(0, 64, (1, T))

    def read(scan: Callable[[], AbstractContextManager[None]]) -> Tensor:
        with scan():
            return layers(ids, use_cache=True).last_hidden_state

    work = {"chunks": lambda: read(fast_scans), "loop": lambda: read(nullcontext)}
    return _compared(f"2 layers of {kind}, {E} x {N}, T = {T}", work, options)


def _compared(what: str, work: dict[str, Callable[[], object]], options: Options) -> Row:
    torch.testing.assert_close(work["chunks"](), work["loop"](), rtol=TOLERANCE, atol=TOLERANCE)
    ways = {way: (lambda call=call: seconds(call)) for way, call in work.items()}
    costs = side_by_side(ways, options.repeats(5))
    return row(what, costs, "chunks", "loop", f"within {TOLERANCE:g}", weights="geometry")
