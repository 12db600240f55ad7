"""Mamba's scan over a prompt, cache returned: in chunks against transformers' loop over tokens, at 130M's geometry.

python -m benchmarks --only mamba_scan
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.models.mamba.modeling_mamba import mamba_selective_scan

from benchmarks.row import Options, Row, row, seconds, side_by_side
from jrt_lmeval.modeling.mamba_scan import selective_scan

E, N = 1536, 16
LENGTHS, QUICK_LENGTHS = (256, 1024), (64,)
TOLERANCE = 1e-3


def inputs(T: int) -> dict[str, Tensor | bool]:
    """What transformers passes, for one row of T tokens."""
    torch.manual_seed(T)
    u, dt, z = torch.randn(3, 1, E, T)
    B, C = torch.randn(2, 1, N, T)
    A = -torch.arange(1.0, N + 1).expand(E, N)
    given = {"hidden_states": u, "dt": dt, "A": A, "B": B, "C": C, "D": torch.ones(E), "z": z}
    return {**given, "delta_bias": torch.zeros(E), "delta_softplus": True, "return_last_state": True}


def rows(options: Options) -> list[Row]:
    """The loop over the chunks, for every length."""
    found = []
    with torch.inference_mode():
        for T in QUICK_LENGTHS if options.quick else LENGTHS:
            given = inputs(T)
            forms = {"chunks": selective_scan, "loop": mamba_selective_scan}
            results = [form(**given) for form in forms.values()]
            torch.testing.assert_close(*results, rtol=TOLERANCE, atol=TOLERANCE)
            ways = {way: (lambda form=form, given=given: seconds(lambda: form(**given))) for way, form in forms.items()}
            costs = side_by_side(ways, options.repeats(5))
            found.append(
                row(f"scan of {E} x {N}, T = {T}", costs, "chunks", "loop", f"within {TOLERANCE:g}", weights="geometry")
            )
    return found
