"""All results in files and folders: what is in them counts, never what they are called or where they lie."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jrt_lmeval.errors import JRTError
from jrt_lmeval.report.fields import MEASURED
from jrt_lmeval.report.labels import Labels
from jrt_lmeval.report.records import Broken, Cell, Collection, Result
from jrt_lmeval.report.resultfiles import looks_like_results, read_file
from jrt_lmeval.report.trainings import trainings

_SAME = 1e-6


def collect(paths: Iterable[Path | str]) -> Collection:
    """All results in files and folders (searched through).

    Files that cannot be read are skipped and named in `Collection.broken`. The same result found twice is counted once.
    Runs that differ by seed alone become one cell.

    Raises:
        JRTError: a path that is not there; nothing found; two runs that nothing tells apart but that scored
            differently; two runs of one task with the same settings that were asked different questions.
    """
    given = [Path(path) for path in paths]
    broken: list[Broken] = []
    results: list[Result] = []
    files = _files(given)
    for file in files:
        try:
            _, found = read_file(file)
        except JRTError as error:
            broken.append(Broken(file, str(error)))
            continue
        results += (_checked(result, broken) for result in found)
    if not results:
        more = f" ({len(broken)} broken: {broken[0].why})" if broken else ""
        where = ", ".join(map(str, given))
        raise JRTError(f"no results of lm_eval in {where}{more}: run lm_eval with --output_path there.")
    _same_questions(results)
    trained, unread = trainings(given)
    labels = Labels(results)
    groups: dict[Any, list[Result]] = defaultdict(list)
    copies = 0
    for result in results:
        group = groups[result.key]
        if any(_copy(result, other) for other in group):
            copies += 1
            continue
        group.append(result)
    cells = tuple(
        Cell(tuple(_seeds(group)), labels.model(group[0]), labels.setting(group[0])) for group in groups.values()
    )
    return Collection(cells, (*broken, *unread), copies, labels.common, len(files), trained)


def _files(paths: Sequence[Path]) -> list[Path]:
    found: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            candidates = [file for file in sorted(path.rglob("*.json")) if looks_like_results(file)]
        elif path.is_file():
            candidates = [path]
        else:
            raise JRTError(f"{path}: no such file or folder.")
        for file in candidates:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def _checked(result: Result, broken: list[Broken]) -> Result:
    """The result with its log of answers read, or without it where the log is broken or not of this result."""
    try:
        columns = result.columns
        if columns is None:
            return result
        _agree(result)
        return result
    except JRTError as error:
        assert result.samples_file is not None
        broken.append(Broken(result.samples_file, str(error)))
        return replace(result, samples_file=None)


def _agree(result: Result) -> None:
    columns, file = result.columns, result.samples_file
    assert columns is not None
    count = len(columns) + columns.skipped
    if result.asked and count != result.asked:
        raise JRTError(f"{file}: holds {count} answers, {result.run.file.name} counts {result.asked}.")
    if columns.skipped:  # older means held skipped rows as zeros: the log is what counts
        return
    for name, values in columns.scores.items():
        mean = result.means.get(name)
        if mean is None or len(values) == 0 or name.endswith("perplexity") or name == "bits_per_byte":
            continue
        if not math.isclose(float(np.mean(values)), mean, rel_tol=_SAME, abs_tol=_SAME) and _is_mean(name):
            raise JRTError(
                f"{file}: its mean of {name} is {float(np.mean(values)):.6g}, {result.run.file.name} says {mean:.6g}."
            )


def _is_mean(metric: str) -> bool:
    """Metrics of recall tasks are means; those of others may be anything (a corpus score, a median)."""
    return metric.partition(",")[0] in ("contains", "contains_word", "exact", "f1", "acc", "exact_match")


def _copy(one: Result, other: Result) -> bool:
    """Whether two results with one key are the same answers, logged or found twice."""
    same = one.run.seeds == other.run.seeds and one.asked == other.asked
    names = [name for name in one.means if _is_mean(name)]
    same = same and all(one.means[name] == other.means.get(name) for name in names)
    first, second = one.columns, other.columns
    if not same or first is None or second is None:
        return same
    return len(first) == len(second) and all(
        np.array_equal(_by_row(first.rows, first.scores[name]), _by_row(second.rows, second.scores[name]))
        for name in names
        if name in first.scores and name in second.scores
    )


def _by_row(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    return values[np.argsort(rows)]


def _seeds(group: Sequence[Result]) -> Sequence[Result]:
    """The results of one key, if they differ by seed.

    Raises:
        JRTError: two have the same seeds and other answers.
    """
    seen: dict[str, Result] = {}
    for result in group:
        seed = str(sorted(result.run.seeds.items()))
        if seed in seen:
            other = seen[seed]
            raise JRTError(
                f"{other.run.file} and {result.run.file}: both are {result.run.kind} {result.run.weights} on "
                f"{result.task} with the same settings and seeds, but they scored differently ({_told(other)} and "
                f"{_told(result)}){_difference(other.run.facts, result.run.facts)}: give only one of them."
            )
        seen[seed] = result
    return group


def _told(result: Result) -> str:
    name = next((name for name in result.means if _is_mean(name)), next(iter(result.means)))
    return f"{name} {result.means[name]:.4f}"


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    names = [n for n in one.keys() | other.keys() if n not in MEASURED and one.get(n) != other.get(n)]
    return f"; they also differ in {', '.join(sorted(names))}" if names else ""


def _same_questions(results: Sequence[Result]) -> None:
    """Refuse runs of one task with the same settings that were asked different things."""
    asked: dict[Any, Result] = {}
    for result in results:
        columns = result.columns
        if columns is None or not columns.by_content or not columns.prompts.any():
            continue
        chat = tuple(str(result.run.settings.get(name)) for name in ("chat_template_sha", "system_instruction_sha"))
        first = asked.setdefault((*result.task_key, chat), result)
        if first is result:
            continue
        other = first.columns
        assert other is not None
        common, here, there = np.intersect1d(columns.rows, other.rows, return_indices=True)
        differ = int(np.sum(columns.prompts[here] != other.prompts[there]))
        if differ or (len(common) < len(columns) and not result.partly):
            what = (
                f"{differ} of {len(common)} prompts differ" if differ else f"only {len(common)} questions are the same"
            )
            raise JRTError(
                f"{first.run.file} and {result.run.file}: {result.task} with the same settings, but {what}: other "
                "data or another version of the prompts. Give them to two reports."
            )
