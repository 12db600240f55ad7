"""`.eval_results` entries for the model page on the hub, written by huggingface_hub's own code."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

import yaml

from jrt_lmeval import __version__
from jrt_lmeval.report.records import Cell

METRIC = "contains"


def eval_results(cells: Sequence[Cell]) -> str:
    """A YAML file for a model repository's `.eval_results/`: one list a model, as comments say.

    Only whole benchmarks that lie on the hub: samples, parts of a task, controls and benchmarks without a data set
    there are left out, and a comment counts them.
    """
    from huggingface_hub import eval_result_entries_to_yaml

    by_model: dict[str, list[Cell]] = {}
    for cell in cells:
        if dataset_of(cell):
            by_model.setdefault(cell.model, []).append(cell)
    parts = []
    for model, found in by_model.items():
        entries = eval_result_entries_to_yaml([_entry(cell) for cell in found])
        parts.append(f"# {model}\n{yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)}")
    left = len(cells) - sum(map(len, by_model.values()))
    if left:
        parts.append(f"# {left} results left out: samples, parts of a task, controls, or no data set on the hub.\n")
    return "\n".join(parts)


def dataset_of(cell: Cell) -> str:
    """The hub's name of the data set that a cell is about; empty where its number is not of that data set."""
    from jrt_lmeval.prompts.benchmarks import RECIPES

    first = cell.first
    recipe = RECIPES.get(str(first.block.get("recipe")))
    whole = not first.marks and cell.mean(METRIC) is not None
    return str(recipe.dataset) if whole and recipe is not None and "/" in recipe.dataset else ""


def _entry(cell: Cell):  # type: ignore[no-untyped-def]  # the class is imported late: huggingface_hub takes a second
    from huggingface_hub import EvalResultEntry

    found, first = cell.interval(METRIC), cell.first
    spread = f", 95 % interval {100 * found.low:.1f} to {100 * found.high:.1f}" if found else ""
    documents = f" on {found.clusters} documents" if found and found.clusters else ""
    day = first.run.date and datetime.fromtimestamp(first.run.date, tz=timezone.utc)
    return EvalResultEntry(
        dataset_id=dataset_of(cell),
        task_id=first.task,
        value=round(100 * (cell.mean(METRIC) or 0.0), 2),
        date=day.strftime("%Y-%m-%dT%H:%M:%SZ") if day else None,
        notes=f"{METRIC}, %; {first.asked} questions{documents}{spread}; jrt-lmeval {__version__}; {cell.label}",
    )
