"""How much one setting matters: runs that differ in it alone, in a line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from jrt_lmeval.report.pivot import number_of, value_of
from jrt_lmeval.report.plots.picture import Picture
from jrt_lmeval.report.plots.shared import asked, bars_note, batched, numbered, reach, scaled
from jrt_lmeval.report.plots.style import COLOURS, canvas, legend, line, look, styled
from jrt_lmeval.report.records import Cell, Collection, Result

SETTINGS = {"prefix_step": "step of the dynamic prefix, %", "overlap": "overlap of neighbouring segments, %"}
"""Settings, shares from 0 to 1, that have a picture -> what its axis is called."""


def step(collection: Collection, metric: str) -> list[Picture] | str:
    """Recall by the step of the dynamic prefix."""
    return _by(collection, metric, "prefix_step")


def overlap(collection: Collection, metric: str) -> list[Picture] | str:
    """Recall by the overlap of the hierarchical prompt's segments."""
    return _by(collection, metric, "overlap")


def _by(collection: Collection, metric: str, name: str) -> list[Picture] | str:
    groups = families(collection.cells, metric, name)
    if not groups:
        return f"no two runs with {metric} differ in {name} and in nothing else"
    chunks = batched(list(named_families(groups, name).items()), len(COLOURS))
    return [sensitivity(name, dict(chunk), metric, number) for number, chunk in enumerate(chunks, 1)]


def families(cells: Sequence[Cell], metric: str, name: str) -> list[list[Cell]]:
    """Runs with the document shown that differ in one setting and in nothing else, by its value; two at least."""
    found: dict[Any, dict[float, Cell]] = defaultdict(dict)
    for cell in cells:
        value = setting(cell.first, name)
        if value is not None and cell.mean(metric) is not None and cell.control == "none":
            found[_others(cell.first, name)].setdefault(value, cell)
    return [[cell for _, cell in sorted(members.items())] for members in found.values() if len(members) > 1]


def setting(result: Result, name: str) -> float | None:
    """A number that was set for the model or the task; None where there is none."""
    value = {**result.run.settings, **result.settings}.get(name)
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _others(result: Result, name: str) -> Any:
    """Everything that a result is known by but one setting."""
    run = {key: str(value) for key, value in result.run.settings.items() if key != name}
    task = {key: str(value) for key, value in result.settings.items() if key != name}
    place = (result.run.kind, result.run.weights, result.task, str(result.version), result.source, result.partly)
    return (*place, result.layout, tuple(sorted(run.items())), tuple(sorted(task.items())))


def named_families(groups: Sequence[list[Cell]], name: str) -> dict[str, list[Cell]]:
    """Groups by a name: benchmark, model and settings, what is said of the setting itself left out."""

    def told(cell: Cell) -> str:
        words = f"{value_of(cell, 'benchmark')}: {cell.model} {cell.setting}".split()
        return " ".join(word for word in words if not word.startswith(f"{name}="))

    found: dict[str, list[Cell]] = {}
    for group in groups:
        label = told(group[0])
        found[label if label not in found else f"{label} ({group[0].task} {group[0].first.partly})"] = group
    return found


@styled
def sensitivity(name: str, groups: dict[str, list[Cell]], metric: str, number: int = 1) -> Picture:
    """A line a group: its metric with intervals by the setting."""
    figure, (axis,) = canvas(2.0)
    values = sorted({100 * (setting(cell.first, name) or 0.0) for group in groups.values() for cell in group})
    width = 0.25 * min((b - a for a, b in pairwise(values)), default=1.0)
    for at, group in enumerate(groups.values()):
        numbers = [number_of(cell, metric) for cell in group]
        shift = width * (at - (len(groups) - 1) / 2) / max(len(groups), 2)
        x = [100 * (setting(cell.first, name) or 0.0) + shift for cell in group]
        below, above = zip(*map(reach, numbers), strict=True)
        axis.errorbar(x, list(map(scaled, numbers)), yerr=[below, above], **look(at), elinewidth=0.8)
    axis.set_xticks(values, [f"{value:g}" for value in values])
    axis.set(xlabel=SETTINGS[name], ylabel=f"{metric}, %", ylim=(0, None))
    legend(figure, [(label, line(**look(at))) for at, label in enumerate(groups)])
    cells = [cell for group in groups.values() for cell in group]
    caption = (
        f"{metric} by {name}, in runs that differ in nothing else; lines are shifted a little so that none hides "
        "another. "
        f"{asked(cells, metric)} a point. {bars_note(cells, metric)} Runs on the same questions: "
        "differences are told better than the bars suggest, see the paired differences."
    )
    return Picture(numbered(name, number), f"{metric} by {name}", caption, figure)
