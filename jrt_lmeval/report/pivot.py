"""Free pivots over cells: any setting as rows, any as columns, and nothing that would fall into one place twice."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.report.compare import difference
from jrt_lmeval.report.records import Cell
from jrt_lmeval.report.tables import PERCENT, Entry, Number, Table
from jrt_lmeval.stats import holm

LAYOUT_NAMES = {
    "once": "once", "flat": "twice (JRT)", "hier": "hierarchical", "focus": "document and passages",
    "passages": "passages only", "repeat_random": "other text", "repeat_question": "question repeated",
}  # fmt: skip
CONTROL_NAMES = {"no_context": "no document", "wrong_context": "another document", "counterfactual": "counterfactual"}
ORDER = (*LAYOUT_NAMES.values(), *CONTROL_NAMES.values())
_WORDS = (
    "kind",
    "weights",
    "model",
    "task",
    "benchmark",
    "layout",
    "control",
    "condition",
    "source",
    "setting",
    "part",
)
_SPLIT = ("model", "benchmark", "condition", "setting", "part", "source")
"""What tells cells apart that fall into one place, in the order in which it is asked."""
LOWER_IS_BETTER = ("perplexity", "bits_per_byte")
ALPHA = 0.05


def condition(cell: Cell) -> str:
    """Layout and control in words."""
    layout = LAYOUT_NAMES.get(cell.layout, cell.layout)
    if cell.control == "none":
        return layout
    control = CONTROL_NAMES.get(cell.control, cell.control)
    return control if cell.layout == "once" else f"{control}, {layout}"


def value_of(cell: Cell, name: str) -> str:
    """What a cell has on an axis: one of our words, or any setting of model or task; empty where it has none."""
    first = cell.first
    words = {
        "kind": first.run.kind,
        "weights": first.run.weights,
        "model": cell.model,
        "task": first.task,
        "benchmark": f"{first.benchmark} [sample]" if first.source == "sample" else first.benchmark,
        "layout": cell.layout,
        "control": cell.control,
        "condition": condition(cell),
        "source": first.source,
        "setting": cell.setting,
        "part": first.partly,
    }
    if name in words:
        return words[name]
    settings = {**first.run.machine, **first.run.settings, **first.settings}
    return str(settings.get(name, ""))


def axes(cells: Sequence[Cell]) -> list[str]:
    """All names that an axis can have."""
    names = {n for cell in cells for n in (*cell.first.run.machine, *cell.first.run.settings, *cell.first.settings)}
    return [*_WORDS, *sorted(names)]


def metrics(cells: Sequence[Cell]) -> list[str]:
    """All metrics of some cell."""
    return sorted({name for cell in cells for result in cell.results for name in result.means})


def chosen(cells: Sequence[Cell], conditions: Sequence[str]) -> tuple[Cell, ...]:
    """The cells that all conditions `NAME=VALUE` hold for.

    Raises:
        JRTError: no `=`, a name that no run has, or nothing left.
    """
    found = tuple(cells)
    for condition in conditions:
        name, equals, value = condition.partition("=")
        if not equals:
            raise JRTError(f"--where {condition}: write NAME=VALUE, such as --where layout=hier.")
        if name not in (known := axes(cells)):
            raise unknown("name in --where", name, known)
        values = sorted({value_of(cell, name) for cell in found})
        found = tuple(cell for cell in found if value_of(cell, name) == value)
        if not found:
            raise JRTError(f"--where {condition}: no such run; {name} is one of {', '.join(map(repr, values))}.")
    return found


def number_of(cell: Cell, metric: str) -> Number:
    """A metric of a cell with its interval; shares in per cent."""
    mean = cell.mean(metric)
    if mean is None:
        return Number(math.nan)
    found = cell.interval(metric)
    share = 0 <= mean <= 1 and not metric.startswith(LOWER_IS_BETTER) and not metric.endswith("perplexity")
    marks = ("*" if cell.first.partly else "") + ("" if cell.by_document(metric) or found is None else "†")
    marks += "‡" if cell.columns is not None and cell.columns.skipped else ""
    return Number(found.mean if found else mean, PERCENT if share else 1.0, 1 if share else 2, found, marks)


def pivot(
    cells: Sequence[Cell],
    rows: Sequence[str],
    columns: Sequence[str],
    metric: str,
    name: str = "pivot",
    title: str = "",
) -> Table:
    """One metric by any settings.

    Where several cells would fall into one place, what tells them apart is added to the rows: nothing is averaged over
    and nothing is left out. Within a row, or within a column if the tasks are the columns, the best is marked, and what
    is not told from it.

    Raises:
        JRTError: an axis or a metric that no run has; names the nearest.
    """
    known = axes(cells)
    for axis in (*rows, *columns):
        if axis not in known:
            raise unknown("axis", axis, known)
    chosen = [cell for cell in cells if cell.mean(metric) is not None]
    if not chosen:
        raise unknown("metric", metric, metrics(cells))
    rows = _enough(chosen, list(rows), list(columns))
    placed = {(_place(cell, rows), _place(cell, columns)): cell for cell in chosen}
    if len(placed) != len(chosen):
        raise JRTError(f"rows {', '.join(rows)} and columns {', '.join(columns)} do not tell all runs apart.")
    down = list(dict.fromkeys(place for place, _ in placed))
    across = sorted(dict.fromkeys(place for _, place in placed), key=_order)
    numbers = {place: number_of(cell, metric) for place, cell in placed.items()}
    within = 1 if {"task", "benchmark"} & set(columns) else 0
    for group in _groups(placed, within):
        numbers |= _ranked({place: placed[place] for place in group}, numbers, metric)
    rows_out = tuple((*place, *_row(numbers, place, across)) for place in down)
    header = (*rows, *(" ".join(part for part in place if part) or metric for place in across))
    unit = ", %" if any(number.scale == PERCENT for number in numbers.values()) else ""
    counts = sorted({(number.interval.n, number.interval.clusters) for number in numbers.values() if number.interval})
    told = "; ".join(f"{n:,} questions" + (f" on {d:,} documents" if d else "") for n, d in counts)
    notes = (f"± and [ ]: 95 % intervals by document (t quantiles), {told}.",) if told else ()
    return Table(name, f"{title or metric}{unit}", header, rows_out, len(rows), notes)


def _row(numbers: dict[tuple, Number], row: tuple, across: Sequence[tuple]) -> tuple[Entry, ...]:
    return tuple(numbers.get((row, column)) for column in across)


def _place(cell: Cell, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(value_of(cell, name) for name in names)


def _order(place: tuple[str, ...]) -> tuple:
    """Layouts and controls in the order in which they are read; numbers by size, words as they come in the alphabet."""
    keys = []
    for word in place:
        at = ORDER.index(word) if word in ORDER else len(ORDER)
        try:
            keys.append((at, float(word), word))
        except ValueError:
            keys.append((at, math.inf, word))
    return tuple(keys)


def _enough(cells: Sequence[Cell], rows: list[str], columns: list[str]) -> list[str]:
    """The rows, with what is needed so that no two cells fall into one place."""
    for more in (None, *_SPLIT):
        if more is not None and more not in (*rows, *columns):
            groups = _collisions(cells, rows, columns)
            if any(len({value_of(cell, more) for cell in group}) > 1 for group in groups):
                rows = [*rows, more]
    return rows


def _collisions(cells: Sequence[Cell], rows: Sequence[str], columns: Sequence[str]) -> list[list[Cell]]:
    groups: dict[tuple, list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[_place(cell, rows), _place(cell, columns)].append(cell)
    return [group for group in groups.values() if len(group) > 1]


def _groups(placed: dict[tuple, Cell], within: int) -> list[list[tuple]]:
    """Places that compete: those of a row, or of a column, on the same questions and with the document shown."""
    groups: dict[tuple, list[tuple]] = defaultdict(list)
    for place, cell in placed.items():
        if cell.control == "none":
            groups[place[within], value_of(cell, "benchmark"), cell.first.partly].append(place)
    return [group for group in groups.values() if len(group) > 1]


def _ranked(cells: dict[tuple, Cell], numbers: dict[tuple, Number], metric: str) -> dict[tuple, Number]:
    """The numbers of one group with the best marked, and those that the paired comparison does not tell from it."""
    sign = -1 if metric.startswith(LOWER_IS_BETTER) or metric.endswith("perplexity") else 1
    best = max(cells, key=lambda place: sign * numbers[place].value)
    others = [place for place in cells if place != best]
    found = [difference(cells[place], cells[best], metric) for place in others]
    corrected = holm([math.nan if pair is None else pair.paired.p for pair in found])
    marked = {best: replace(numbers[best], best=True)}
    for place, p in zip(others, corrected, strict=True):
        if p >= ALPHA:
            marked[place] = replace(numbers[place], marks=numbers[place].marks + "~")
    return marked
