"""The present scoring applied to old answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from jrt_lmeval import scoring
from jrt_lmeval.errors import JRTError
from jrt_lmeval.report.columns import Columns
from jrt_lmeval.report.records import Broken, Cell, Collection, Result

SCORES = {
    "contains": scoring.contains,
    "contains_word": scoring.contains_word,
    "exact": scoring.exact,
    "f1": scoring.f1,
}


def rescored(collection: Collection) -> tuple[Collection, tuple[str, ...]]:
    """Every recall result with scores made again from its logged answers, and sentences on what changed.

    Results whose log keeps no answers cannot be scored again; they are left out and named, so that no table mixes two
    scorings. Results without `contains` are not ours to score and stay.

    Raises:
        JRTError: no result keeps its answers.
    """
    cells: list[Cell] = []
    left: list[Broken] = []
    changed: list[str] = []
    for cell in collection.cells:
        if cell.mean("contains") is None:
            cells.append(cell)
        elif cell.columns is None or not cell.columns.has_answers:
            left.append(
                Broken(cell.first.run.file, f"{cell.first.run.file}: {cell.task} keeps no answers to score again.")
            )
        else:
            made = replace(cell, results=tuple(rescored_result(result) for result in cell.results))
            changed += _changes(cell, made)
            cells.append(made)
    if not any(cell.mean("contains") is not None for cell in cells):
        raise JRTError("--rescore: no log keeps answers and what they were scored against; run with --log_samples.")
    about = (f"Scored again from {len(cells)} logs of answers; {len(changed) or 'nothing'} changed.", *changed)
    return replace(collection, cells=tuple(cells), broken=(*collection.broken, *left)), about


def rescored_result(result: Result) -> Result:
    """A result with the present scores in place of the logged ones.

    Raises:
        JRTError: an answer without anything to score it against; names the file and the question.
    """
    columns = result.columns
    assert columns is not None
    values: dict[str, list[float]] = {name: [] for name in SCORES}
    rows: list[int] = []
    for sample in result.samples():
        if sample.figures.get("skipped"):
            continue
        if sample.answer is None or not sample.gold:
            raise JRTError(f"{result.samples_file}: question {sample.question!r} has no answer or no accepted answers.")
        rows.append(sample.row)
        for name, score in SCORES.items():
            values[name].append(float(score(sample.answer, sample.gold)))
    assert rows == columns.rows.tolist(), "the same log, read twice"
    scores: Mapping[str, np.ndarray] = {**columns.scores, **{name: np.array(found) for name, found in values.items()}}
    return _with(
        result, replace(columns, scores=scores), {name: float(np.mean(found)) for name, found in values.items()}
    )


def _with(result: Result, columns: Columns, means: Mapping[str, float]) -> Result:
    made = replace(result, means={**result.means, **means}, errors={})
    made.__dict__["columns"] = columns  # what `cached_property` would read from the log
    return made


def _changes(before: Cell, after: Cell) -> list[str]:
    told = []
    for name in SCORES:
        old, new = before.mean(name), after.mean(name)
        if old is None or new is None or math.isclose(old, new, abs_tol=1e-9):
            continue
        told.append(f"{before.model}, {before.label}: {name} {100 * old:.2f} → {100 * new:.2f}")
    return told
