"""The tiny released checkpoints: where they lie, what they expect, how far off we are."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

HERE = Path(__file__).parent / "fixtures" / "released"
ROOTS = [HERE, *map(Path, filter(None, [os.environ.get("JRT_LMEVAL_FIXTURES")]))]
FOLDERS = {
    folder.parent.name: folder.parent
    for root in ROOTS
    for folder in sorted([*root.glob("*/expected.safetensors"), *root.glob("released/*/expected.safetensors")])
}
"""Name -> folder of every checkpoint with expectations."""

LIMIT = 1e-4
"""The largest error allowed, relative to the largest value. Rounding gives 1e-5; mistakes give 1e-2."""


def expected(name: str) -> dict[str, Tensor]:
    return load_file(FOLDERS[name] / "expected.safetensors")


def cases(*pattern: str) -> list[tuple[str, str]]:
    """(checkpoint, case) of every tensor called `pattern[0].<case>.pattern[1]`."""
    first, last = pattern
    return [
        (name, key.removeprefix(f"{first}.").removesuffix(f".{last}"))
        for name in FOLDERS
        for key in sorted(expected(name))
        if key.startswith(f"{first}.") and key.endswith(f".{last}")
    ]


def error(mine: Tensor, truth: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    assert mine.shape == truth.shape
    return float((mine - truth).abs().max() / truth.abs().max())


def padded(ids: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Left-padded with 220 up to a length, and the mask."""
    pads = ids.new_full((len(ids), max(0, length - ids.shape[1])), 220)
    return torch.cat([pads, ids], 1), torch.cat([torch.zeros_like(pads), torch.ones_like(ids)], 1)
