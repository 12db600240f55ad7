"""How models were trained: the logs that a training leaves beside its weights, as curves."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jrt_lmeval.errors import JRTError

HELD_OUT, STEPS = "heldout.jsonl", "log.jsonl"
COUNTS = ("step", "tokens", "seconds")
FROM_STEPS = "answer_accuracy"
SMOOTHED = 50
"""Steps of training that a point of a curve from a log of steps is the mean of."""


@dataclass(frozen=True)
class Broken:
    """A file that could not be used, and why, in a sentence that names it."""

    file: Path
    why: str


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        name: of its folder.
        curves: what was measured -> (tokens read so far, value) in the order of training; shares from 0 to 1.
        held_out: whether the values are of rows kept from training; else they are means over the batches themselves.
    """

    name: str
    curves: dict[str, tuple[tuple[float, float], ...]]
    held_out: bool


def trainings(folders: Iterable[Path]) -> tuple[tuple[Training, ...], tuple[Broken, ...]]:
    """All trainings in folders, searched through; files that are no such logs are named.

    A folder's `heldout.jsonl` counts; where there is none, its `log.jsonl`.
    """
    found: list[Training] = []
    broken: list[Broken] = []
    for folder in sorted(
        {
            file.parent
            for top in folders
            if top.is_dir()
            for file in top.rglob("*.jsonl")
            if file.name in (HELD_OUT, STEPS)
        }
    ):
        file = next(folder / name for name in (HELD_OUT, STEPS) if (folder / name).is_file())
        try:
            found.append(read_training(file))
        except JRTError as error:
            broken.append(Broken(file, str(error)))
    return tuple(found), tuple(broken)


def read_training(file: Path) -> Training:
    """The curves of one log.

    Raises:
        JRTError: not the log of a training; names the file.
    """
    try:
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        held_out = file.name == HELD_OUT
        names = [name for name in lines[0] if name not in COUNTS] if held_out else [FROM_STEPS]
        curves = {
            name: [(float(at["tokens"]), float(at[name])) for at in lines if at.get(name) is not None] for name in names
        }
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError) as error:
        raise JRTError(f"{file}: not the log of a training ({type(error).__name__}: {error}).") from None
    known = {name: tuple(curve) if held_out else _smoothed(curve) for name, curve in curves.items() if curve}
    if not known:
        raise JRTError(f"{file}: not the log of a training (no line has {' or '.join(names)}).")
    return Training(file.parent.name, known, held_out)


def _smoothed(curve: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Means of as many steps each."""
    parts = np.array_split(np.array(curve), math.ceil(len(curve) / SMOOTHED))
    return tuple((float(part[-1, 0]), float(part[:, 1].mean())) for part in parts)
