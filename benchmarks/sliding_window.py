"""Window attention in blocks against one full mask, at the shipped model's and at the 1.3B layer's geometry.

python -m benchmarks --only sliding_window
"""

from __future__ import annotations

import torch

from benchmarks.row import Options, Row, row, seconds, side_by_side
from jrt_lmeval.modeling.attention import banded, blocked

SHAPES = {"jrt-mlp": (4, 32, 128), "1.3B layer": (16, 112, 129)}
"""Heads, head dimension, window."""
LENGTHS, QUICK_LENGTHS = (512, 2048, 4096), (256,)
TOLERANCE = 1e-4


def rows(options: Options) -> list[Row]:
    """Full mask over blocks, for every shape and length."""
    found = []
    with torch.inference_mode():
        for name, (H, D, window) in SHAPES.items():
            for T in QUICK_LENGTHS if options.quick else LENGTHS:
                torch.manual_seed(T)
                q = torch.randn(1, H, T, D)
                k, v = (torch.randn(1, H, window - 1 + T, D) for _ in range(2))
                valid = (torch.arange(window - 1 + T) >= window - 1)[None]
                work = {form: _call(form, q, k, v, valid, window) for form in (banded, blocked)}
                torch.testing.assert_close(work[blocked](), work[banded](), rtol=TOLERANCE, atol=TOLERANCE)
                ways = {"full mask": _timed(work[banded]), "blocks": _timed(work[blocked])}
                costs = side_by_side(ways, options.repeats(9))
                what = f"{name}, window {window}, T = {T}"
                found.append(row(what, costs, "blocks", "full mask", f"within {TOLERANCE:g}", T=T))
    return found


def _call(form, q, k, v, valid, window):
    return lambda: form(q, k, v, valid, window)


def _timed(work):
    return lambda: seconds(work)
