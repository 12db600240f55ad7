"""What a model is and what a run of it took: parameters, features, both parts of the state, memory, and the machine."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import Any

from jrt_lmeval.report.records import Cell
from jrt_lmeval.report.tables import Entry, Number, Table

MEGA, KILO = 1e-6, 1e-3
MEASURES: dict[str, tuple[str, float, int]] = {
    "features F / head": ("features_per_head", 1, 0),
    "weights, MB": ("model_bytes", MEGA, 1),
    "states and activations at most, MB": ("work_peak_bytes", MEGA, 0),
    "process at most, MB": ("process_peak_memory_bytes", MEGA, 0),
    "read and written, tokens/s": ("tokens_per_second", 1, 0),
    "threads": ("threads", 1, 0),
    "load": ("load_average", 1, 1),
}
"""Column -> what a model reports of a run, scale, digits; the median over the runs of a line."""

NOTE = (
    "State: of a row after its prompt. Window: keys and values of sliding windows, which hold the last tokens as they "
    "are; what remembers more is the rest. Process: with Python, lm_eval and data. Load: of the machine over the "
    "last minute of the run; seconds and tokens/s under another load or on another machine are others."
)


def cost_table(cells: Sequence[Cell]) -> list[Table]:
    """A line a model; none where no run reports what it took."""
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        if "threads" in cell.first.run.facts or "model_bytes" in cell.first.run.facts:
            groups[cell.model].append(cell)
    if not groups:
        return []
    header = (
        "model", "processor", "device", "parameters", "state, KB", "of it window, KB", *MEASURES,
    )  # fmt: skip
    rows = tuple(_line(model, group) for model, group in groups.items())
    return [Table("cost", "What the models are and what they took", header, rows, 3, (NOTE,))]


def _line(model: str, group: Sequence[Cell]) -> tuple[Entry, ...]:
    facts = [run.facts for run in {cell.first.run.file: cell.first.run for cell in group}.values()]
    words = [", ".join(sorted({str(f[name]) for f in facts if f.get(name)})) for name in ("processor", "device")]
    states = [
        Number(_middle([cell.figure(name) for cell in group]), KILO, 0) for name in ("state_bytes", "window_bytes")
    ]
    measured = [
        Number(_middle([f.get(name) for f in facts]), scale, digits) for name, scale, digits in MEASURES.values()
    ]
    return (model, *words, Number(_middle([cell.first.run.parameters for cell in group]), 1, 0), *states, *measured)


def _middle(values: Sequence[Any]) -> float:
    known = [float(value) for value in values if isinstance(value, (int, float)) and not math.isnan(value)]
    return median(known) if known else math.nan
