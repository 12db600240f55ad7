"""A report made from logs, with the logged or the present scoring, and checked against what was written."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from jrt_lmeval import __version__, scoring
from jrt_lmeval.errors import JRTError
from jrt_lmeval.report.cells import Cell, Collection, chosen
from jrt_lmeval.report.collect import collect
from jrt_lmeval.report.runs import Result
from jrt_lmeval.report.standard import main_metric, pivot, standard_tables
from jrt_lmeval.report.tables import WRITERS, Report, json_text

JSON = WRITERS["json"][0]
_RELATIVE = 1e-9


def build(asked: dict) -> tuple[Collection, Report]:
    """Collect the logs and make the tables.

    Args:
        asked: what `Report.arguments` holds: `paths`, and as on the command line `rows`, `cols`, `metric`, `where`,
            `rescore`, `misses`.
    """
    collection = collect(asked["paths"])
    changes: tuple[str, ...] = ()
    if asked["rescore"]:
        collection, changes = rescored(collection)
    cells = chosen(collection.cells, asked["where"])
    metric = asked["metric"] or main_metric(cells)
    rows, columns = names(asked["rows"]), names(asked["cols"])
    if rows or columns:
        tables = [pivot(cells, rows or ["model"], columns, metric)]
    else:
        tables = standard_tables(replace(collection, cells=cells), metric, everything=asked["misses"])
    about = (*_about(collection), *changes)
    return collection, Report(tuple(tables), about, collection.broken, asked)


def names(text: str) -> list[str]:
    """Names separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _about(collection: Collection) -> list[str]:
    """What was read, what all runs share, and what was counted once."""
    lines = [f"Results files: {collection.files:,}. Results of a model on a task: {len(collection.cells):,}."]
    if collection.common:
        shared = ", ".join(f"{name}={value}" for name, value in sorted(collection.common.items()))
        lines.append(f"The same in all runs that have it: {shared}.")
    if collection.copies:
        lines.append(f"{collection.copies} results were found more than once and are counted once.")
    if seeds := [cell for cell in collection.cells if cell.seeds > 1]:
        lines.append(f"{len(seeds)} results are means over runs that differ by seed.")
    return lines


# -------------------------------------------------------------------- the present scoring

SCORES = {
    "contains": scoring.contains,
    "contains_normalised": scoring.contains_normalised,
    "contains_word": scoring.contains_word,
    "exact": scoring.exact,
    "f1": scoring.f1,
}


def rescored(collection: Collection) -> tuple[Collection, tuple[str, ...]]:
    """Every recall result scored again from its logged answers, and sentences on what changed.

    Results whose log keeps no answers cannot be scored again; they are left out and named, so that no table mixes two
    scorings. Results without `contains` are of other tasks and stay as they are.

    Raises:
        JRTError: no result keeps its answers.
    """
    cells: list[Cell] = []
    left: list[str] = []
    changed: list[str] = []
    for cell in collection.cells:
        if cell.mean("contains") is None:
            cells.append(cell)
        elif cell.columns is None or not cell.columns.has_answers:
            left.append(f"{cell.first.run.file}: {cell.task} keeps no answers to score again.")
        else:
            made = replace(cell, results=tuple(map(_rescored, cell.results)))
            cells.append(made)
            for name in SCORES:
                old, new = cell.mean(name), made.mean(name)
                if old is not None and new is not None and not math.isclose(old, new, abs_tol=1e-9):
                    changed.append(f"{cell.model}, {cell.label}: {name} {100 * old:.2f} → {100 * new:.2f}")
    if not any(cell.mean("contains") is not None for cell in cells):
        raise JRTError("--rescore: no log keeps answers and what they were scored against; run with --log_samples.")
    about = (f"Scored again from {len(cells)} logs of answers; {len(changed) or 'nothing'} changed.", *changed)
    return replace(collection, cells=tuple(cells), broken=(*collection.broken, *left)), about


def _rescored(result: Result) -> Result:
    """A result with the present scores in place of the logged ones."""
    columns = result.columns
    assert columns is not None
    values: dict[str, list[float]] = {name: [] for name in SCORES}
    for sample in (sample for sample in result.samples() if not sample.figures.get("skipped")):
        if sample.answer is None or not sample.gold:
            raise JRTError(f"{result.samples_file}: question {sample.question!r} has no answer or no accepted answers.")
        for name, score in SCORES.items():
            values[name].append(float(score(sample.answer, list(sample.gold))))
    scores = {name: np.array(found) for name, found in values.items()}
    means = {**result.means, **{name: float(np.mean(found)) for name, found in values.items()}}
    made = replace(result, means=means, errors={})
    made.__dict__["columns"] = replace(columns, scores={**columns.scores, **scores})  # not read from the log again
    return made


# -------------------------------------------------------------------- a written report, checked


def relative(paths: Sequence[str], folder: Path) -> list[str]:
    """Paths relative to a report's folder, so that the report names no folder of the machine."""
    return [Path(os.path.relpath(path, folder.resolve())).as_posix() for path in paths]


def check(report: Path, paths: Sequence[Path] = ()) -> int:
    """Make a report again from the logs that it names, compare every number and print what differs.

    Args:
        report: its folder or its JSON file. Files of other formats beside it are compared with what would be written.
        paths: logs to make it from; by default those that it was made from.

    Returns:
        0 if everything is the same, else 1.

    Raises:
        JRTError: there is no report, or its logs are gone.
    """
    file = report / JSON if report.is_dir() else report
    try:
        written = json.loads(file.read_text(encoding="utf-8"))
        before, asked = _entries(written["tables"]), dict(written["arguments"])
        asked["paths"] = [str(path) for path in paths] or [str(file.parent / path) for path in asked["paths"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JRTError(f"{file}: no report of jrt-eval ({type(error).__name__}: {error}).") from None
    made = replace(build(asked)[1], arguments=written["arguments"])
    after = _entries(json.loads(json_text(made))["tables"])
    wrong = [
        f"{place}: written {_told(before, place)}, derived {_told(after, place)}"
        for place in dict.fromkeys([*before, *after])
        if place not in before or place not in after or not _same(before[place], after[place])
    ]
    wrong += _other_files(file.parent, made)
    for line in wrong:
        print(f"differs: {line}", file=sys.stderr)
    numbers = sum(isinstance(entry, dict) for entry in before.values())
    tables = len(written["tables"])
    print(f"{file}: {numbers} numbers in {tables} tables derived again, {len(wrong) or 'nothing'} different.")
    return int(bool(wrong))


def _entries(tables: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Place of an entry in words -> the entry; titles and notes are entries too."""
    found: dict[str, Any] = {}
    for table in tables:
        for part in ("title", "notes"):
            found[f"table {table['name']}, its {part}"] = table[part]
        for number, row in enumerate(table["rows"], 1):
            words = ", ".join(word for word in row[:2] if isinstance(word, str))
            for column, entry in zip(table["header"], row, strict=True):
                found[f"table {table['name']}, line {number}, {words}, {column}"] = entry
    return found


def _told(entries: Mapping[str, Any], place: str) -> Any:
    entry = entries.get(place, "nothing")
    return entry["value"] if isinstance(entry, dict) else repr(entry)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, float) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=_RELATIVE, abs_tol=_RELATIVE)
    return bool(one == other)


def _other_files(folder: Path, made: Report) -> Iterator[str]:
    """The first line that differs in each file of another format beside the report."""
    for kind, (name, writer) in WRITERS.items():
        file = folder / name
        if kind != "json" and file.is_file():
            lines = zip_longest(file.read_text(encoding="utf-8").splitlines(), writer(made).splitlines())
            for at, (old, new) in enumerate(lines, 1):
                if old != new:
                    yield f"{file}, line {at}: {'nothing' if old is None else old[:160]}"
                    break


# -------------------------------------------------------------------- for a model's page on the hub

METRIC = "contains"


def eval_results(cells: Sequence[Cell]) -> str:
    """A YAML file for a model repository's `.eval_results/`, written by huggingface_hub's own code.

    There is a list for each model. Samples, parts of a task, controls and benchmarks without a data set on the hub are
    left out, and a comment counts them.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    by_model: dict[str, list[Any]] = {}
    for cell in cells:
        if not (dataset := _dataset_of(cell)):
            continue
        found, first = cell.interval(METRIC), cell.first
        spread = f", 95 % interval {100 * found.low:.1f} to {100 * found.high:.1f}" if found else ""
        documents = f" on {found.clusters} documents" if found and found.clusters else ""
        day = first.run.date and datetime.fromtimestamp(first.run.date, tz=timezone.utc)
        entry = EvalResultEntry(
            dataset_id=dataset,
            task_id=first.task,
            value=round(100 * (cell.mean(METRIC) or 0.0), 2),
            date=day.strftime("%Y-%m-%dT%H:%M:%SZ") if day else None,
            notes=f"{METRIC}, %; {first.asked} questions{documents}{spread}; jrt-lmeval {__version__}; {cell.label}",
        )
        by_model.setdefault(cell.model, []).append(entry)
    parts = [
        f"# {model}\n{yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True)}"
        for model, entries in by_model.items()
    ]
    left = len(cells) - sum(map(len, by_model.values()))
    if left:
        parts.append(f"# {left} results left out: samples, parts of a task, controls, or no data set on the hub.\n")
    return "\n".join(parts)


def _dataset_of(cell: Cell) -> str:
    """The hub's name of the data set that a cell is about; empty if its number is not of that whole data set."""
    from jrt_lmeval.prompts.benchmarks import BENCHMARKS

    recipe = BENCHMARKS.get(str(cell.first.block.get("recipe")))
    whole = not cell.first.marks and cell.mean(METRIC) is not None
    return str(recipe.dataset) if whole and recipe is not None and "/" in recipe.dataset else ""
