"""Recall by how far the last copy of the answer stands from the end, and by whether it is still in a sliding window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from jrt_lmeval.report.columns import Columns
from jrt_lmeval.report.records import Cell
from jrt_lmeval.report.tables import PERCENT, Entry, Number, Table
from jrt_lmeval.stats import interval

EDGES = (0, 64, 128, 256, 512, 1024, 2048, math.inf)
WINDOW_FACTS = ("sliding_window", "window", "window_tokens")


def distances(columns: Columns) -> np.ndarray | None:
    """From the start of the answer's last copy to the end of the prompt, in GPT-2 tokens: float64 [N].

    NaN where the answer stands nowhere in the prompt; None where the log does not say.
    """
    figures = columns.figures
    if "answer_last_token" not in figures or "prompt_tokens" not in figures:
        return None
    return figures["prompt_tokens"] - figures["answer_last_token"]


def window_of(cell: Cell) -> float:
    """The model's sliding window in its tokens; NaN where it has none or does not say."""
    facts = cell.first.run.facts
    return next((float(facts[name]) for name in WINDOW_FACTS if isinstance(facts.get(name), (int, float))), math.nan)


def inside_window(cell: Cell) -> np.ndarray | None:
    """Whether the last copy is still in the sliding window when the answer begins: 1, 0 or NaN, float64 [N].

    The log counts the prompt in GPT-2 tokens and the window is in the model's: the distance is converted by the ratio
    of the prompt's two lengths.
    """
    columns, window = cell.columns, window_of(cell)
    if columns is None or math.isnan(window) or "model_prompt_tokens" not in columns.figures:
        return None
    far = distances(columns)
    if far is None:
        return None
    own = far * columns.figures["model_prompt_tokens"] / columns.figures["prompt_tokens"]
    return np.where(np.isnan(own), np.nan, (own <= window).astype(float))


def split(columns: Columns, metric: str, mask: np.ndarray) -> Number:
    """A metric over some of the answers, with its interval."""
    part = columns.taken(mask)
    found = interval(part.scores[metric].tolist(), part.clusters.tolist())
    return Number(found.mean, PERCENT, interval=found)


def by_distance(cells: Sequence[Cell], metric: str) -> list[Table]:
    """A line a run, a column a range of distances; then inside and outside the window, where a model states one."""
    shown = [cell for cell in cells if cell.by_document(metric) and cell.control == "none"]
    found = [(cell, far) for cell in shown if cell.columns is not None and (far := distances(cell.columns)) is not None]
    if not found:
        return []
    ranges = [(low, high) for low, high in pairwise(EDGES) if any(((f > low) & (f <= high)).any() for _, f in found)]
    windowed = any(not math.isnan(window_of(cell)) for cell, _ in found)
    rows: list[tuple[Entry, ...]] = []
    for cell, far in found:
        assert cell.columns is not None
        masks = [*((far > low) & (far <= high) for low, high in ranges), np.isnan(far)]
        numbers: list[Entry] = [split(cell.columns, metric, mask) for mask in masks]
        rows.append((cell.model, cell.label, *numbers, *(_window(cell, metric) if windowed else ())))
    names = [f"{low + 1}-{high}" if high < math.inf else f"above {low}" for low, high in ranges]
    window = ("in the window", "before it", "window, KB", "other state, KB") if windowed else ()
    header = ("model", "task", *names, "in no copy", *window)
    title = f"{metric}, %, by GPT-2 tokens from the answer's last copy to the end of the prompt"
    return [Table("distance", title, header, tuple(rows), 2, (_NOTE,) if windowed else ())]


_NOTE = (
    "In the window: the last copy is still in the model's sliding window when its answer begins (distances converted "
    "to the model's tokens by the ratio of the prompt's two lengths)."
)


def _window(cell: Cell, metric: str) -> tuple[Entry, ...]:
    inside, columns = inside_window(cell), cell.columns
    sizes = tuple(Number(cell.figure(name) / 1000, digits=0) for name in ("window_bytes", "recurrent_bytes"))
    if inside is None or columns is None:
        return (None, None, *sizes)
    return (split(columns, metric, inside == 1), split(columns, metric, inside == 0), *sizes)
