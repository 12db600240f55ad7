"""Prefix linear attention in its three forms, side by side: naive, chunked and step.

    python -m benchmarks --only linear_attention

All three read the same T tokens, half of them prefix, and must give the same result before any is timed. The features
are those of the shipped models' geometry and stand ready: no feature map and no projection is timed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.row import Options, Row, row, seconds, side_by_side
from jrt_lmeval.modeling.linear_attention import LINEAR_ATTENTION, Prefix

LENGTHS, QUICK_LENGTHS = (256, 512, 1024, 2048, 4096), (64, 256)
B, H, F, V = 1, 4, 64, 32
FORMS = ("naive", "chunked", "step")
TOLERANCE = 2e-3


def inputs(T: int) -> tuple[tuple[torch.Tensor, ...], Prefix]:
    """Positive features q, k `[B, H, T, F]`, values `[B, H, T, V]`, and a prefix of T / 2 tokens."""
    generator = torch.Generator().manual_seed(T)
    q, k, ke = (torch.rand(B, H, T, F, generator=generator) / F for _ in range(3))
    v, ve = (torch.randn(B, H, T, V, generator=generator) for _ in range(2))
    return (q, k, v), Prefix(ke, ve, (torch.arange(T) < T // 2).expand(B, T))


def check(T: int) -> None:
    """Stop if the forms differ: a wrong answer has no speed."""
    (q, k, v), prefix = inputs(T)
    y, d, state = LINEAR_ATTENTION["naive"](q, k, v, prefix)
    for form in FORMS[1:]:
        other = LINEAR_ATTENTION[form](q, k, v, prefix)
        torch.testing.assert_close((*other[:2], *other[2]), (y, d, *state), rtol=TOLERANCE, atol=TOLERANCE)


def rows(options: Options) -> list[Row]:
    """Naive and step over chunked, for every length."""
    found = []
    with torch.inference_mode():
        for T in QUICK_LENGTHS if options.quick else LENGTHS:
            check(T)
            (q, k, v), prefix = inputs(T)
            ways = {form: _timed(form, q, k, v, prefix) for form in FORMS}
            costs = side_by_side(ways, options.repeats(9))
            for twin in ("naive", "step"):
                what = f"features given, {twin}, T = {T}"
                found.append(row(what, costs, "chunked", twin, f"within {TOLERANCE:g}", T=T))
    return found


def _timed(form: str, *given: torch.Tensor | Prefix) -> Callable[[], float]:
    return lambda: seconds(lambda: LINEAR_ATTENTION[form](*given))
