"""Half precision on a CPU: what the processor has for it, and what it costs here."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

CPUINFO = Path("/proc/cpuinfo")
UNITS = {torch.bfloat16: "amx_bf16", torch.float16: "amx_fp16"}
"""Number format -> the processor's flag for matrix units that multiply it."""

ROUNDS, TOKENS, WIDTH, HEADS = 5, 256, 512, 8
CHEAPER = 0.9  # of float32's time: what is gained below that is not worth coarser numbers


def has_matrix_units(dtype: torch.dtype) -> bool:
    """Whether the processor multiplies matrices of a number format by AMX (Linux; False where it cannot be told)."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return UNITS.get(dtype) in flags


def relative_cost(dtype: torch.dtype) -> float:
    """Time of a number format / time of float32, median over rounds, for what a layer does: two linear maps with an
    activation between them, and scores of heads in chunks. A tenth of a second or so."""
    layers = [work(torch.float32), work(dtype)]
    found = []
    with torch.inference_mode():
        for layer in layers:
            layer()  # the first call of a shape is slower
        for _ in range(ROUNDS):
            exact, coarse = (_seconds(layer) for layer in layers)
            found.append(coarse / max(exact, 1e-9))
    return median(found)


def work(dtype: torch.dtype) -> Callable[[], Tensor]:
    """The layer that is timed, in a number format."""
    generator = torch.Generator().manual_seed(0)
    sizes = (TOKENS, WIDTH), (2 * WIDTH, WIDTH), (WIDTH, 2 * WIDTH)
    x, up, down = (torch.randn(size, generator=generator).to(dtype) for size in sizes)

    def layer() -> Tensor:
        y = F.linear(F.silu(F.linear(x, up)), down)
        heads = y.unflatten(0, (-1, 64)).unflatten(-1, (HEADS, -1)).transpose(1, 2)  # [chunks, H, 64, D]
        return (heads @ heads.mT).tril() @ heads

    return layer


def _seconds(layer: Callable[[], Tensor]) -> float:
    started = time.process_time()
    layer()
    return time.process_time() - started
