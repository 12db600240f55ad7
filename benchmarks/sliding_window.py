"""Window attention in blocks against one full mask, at the shipped model's and at the 1.3B layer's geometry.

    python -m benchmarks --only sliding_window

The blocks as they were before, with five dimensions, stand beside them: PyTorch has no fused kernel for those.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.row import Options, Row, row, seconds, side_by_side
from jrt_lmeval.modeling.attention import banded, blocked

SHAPES = {"jrt-mlp": (4, 32, 128), "1.3B layer": (16, 112, 129)}
"""Heads, head dimension, window."""
LENGTHS, QUICK_LENGTHS = (512, 2048, 4096), (256,)
TOLERANCE = 1e-4


def five_dimensions(q: Tensor, k: Tensor, v: Tensor, valid: Tensor, window: int) -> Tensor:
    """Blocks of W queries that look at their own and the block before, beside the heads. Arguments as `banded`."""
    B, H, T, D = q.shape
    front, back = window - (k.shape[2] - T), -T % window
    q = F.pad(q, (0, 0, 0, back)).reshape(B, H, -1, window, D)  # [B, H, N, W, D]
    k, v = (F.pad(x, (0, 0, front, back)).unfold(2, 2 * window, window).transpose(-1, -2) for x in (k, v))
    valid = F.pad(valid, (front, back)).unfold(1, 2 * window, window)  # [B, N, 2 W]
    distance = torch.arange(window, 2 * window)[:, None] - torch.arange(2 * window)
    band, own = (distance >= 0) & (distance < window), distance == 0
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=band & (valid[:, None, :, None, :] | own))
    return y.reshape(B, H, -1, D)[:, :, :T]


FORMS = {"blocks": blocked, "full mask": banded, "blocks as before": five_dimensions}


def rows(options: Options) -> list[Row]:
    """Both others over blocks, for every shape and length."""
    found = []
    with torch.inference_mode():
        for name, (H, D, window) in SHAPES.items():
            for T in QUICK_LENGTHS if options.quick else LENGTHS:
                torch.manual_seed(T)
                q = torch.randn(1, H, T, D)
                k, v = (torch.randn(1, H, window - 1 + T, D) for _ in range(2))
                valid = (torch.arange(window - 1 + T) >= window - 1)[None]
                work = {way: _call(form, q, k, v, valid, window) for way, form in FORMS.items()}
                truth = work["full mask"]()
                for way in work:
                    torch.testing.assert_close(work[way](), truth, rtol=TOLERANCE, atol=TOLERANCE)
                ways = {way: _timed(call) for way, call in work.items()}
                costs = side_by_side(ways, options.repeats(9))
                for twin in list(FORMS)[1:]:
                    what = f"{name}, window {window}, {twin}, T = {T}"
                    found.append(row(what, costs, "blocks", twin, f"within {TOLERANCE:g}", T=T))
    return found


def _call(form: Callable[..., Tensor], *given: Tensor | int) -> Callable[[], Tensor]:
    return lambda: form(*given)


def _timed(work: Callable[[], object]) -> Callable[[], float]:
    return lambda: seconds(work)
