"""All results in files and folders, identified by content and not by file name, with labels that distinguish them."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jrt_lmeval.errors import JRTError
from jrt_lmeval.report.cells import Cell, Collection, Training
from jrt_lmeval.report.fields import MEASURED
from jrt_lmeval.report.runs import KNOBS, Result, looks_like_results, read_file

_SAME = 1e-6
_MEANS = ("contains", "contains_word", "contains_normalised", "exact", "f1", "acc", "exact_match", "string_match_all")
"""Metrics that are means over the questions; others may be anything, such as a corpus score or a median."""


def collect(paths: Iterable[Path | str]) -> Collection:
    """All results in files and in folders, which are searched.

    Files that cannot be read are skipped and named in `Collection.broken`. A result that is found twice counts once.
    Runs that differ by their seed alone become one cell.

    Raises:
        JRTError: a path that does not exist; no results; two runs with the same settings and different scores; two
            runs of one task with the same settings that were asked different questions.
    """
    given = [Path(path) for path in paths]
    broken: list[str] = []
    files = _files(given)
    results = _results(given, files, broken)
    _same_questions(results)
    trained, unread = trainings(given)
    cells, copies = _cells(results, labelled(results))
    settings = _values(result.run.settings for result in results)
    common = {name: next(iter(values.values())) for name, values in settings.items() if len(values) == 1}
    return Collection(cells, (*broken, *unread), copies, common, len(files), trained)


def collect_both(first: Path, second: Path) -> tuple[tuple[Cell, ...], tuple[Cell, ...]]:
    """The cells of two places with labels that distinguish all of them; equal results in both are kept apart.

    Raises:
        JRTError: as `collect`.
    """
    results = [_results([path], _files([path]), []) for path in (first, second)]
    together = [*results[0], *results[1]]
    _same_questions(together)
    labels, count = labelled(together), len(results[0])
    return _cells(results[0], labels[:count])[0], _cells(results[1], labels[count:])[0]


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


def _results(given: Sequence[Path], files: Sequence[Path], broken: list[str]) -> list[Result]:
    """The results in files; what is wrong with a file, or with the log of a result's answers, goes to `broken`."""
    results: list[Result] = []
    for file in files:
        try:
            for result in read_file(file):
                try:
                    _agree(result)
                    results.append(result)
                except JRTError as error:
                    broken.append(str(error))
                    results.append(replace(result, samples_file=None))
        except JRTError as error:
            broken.append(str(error))
    if not results:
        more = f" ({len(broken)} broken: {broken[0]})" if broken else ""
        where = ", ".join(map(str, given))
        raise JRTError(f"no results of lm_eval in {where}{more}: run lm_eval with --output_path there.")
    return results


def _agree(result: Result) -> None:
    """Read the log of a result's answers; JRTError if it is broken or is not of this result."""
    columns, file = result.columns, result.samples_file
    if columns is None:
        return
    count = len(columns) + columns.skipped
    if result.asked and count != result.asked:
        raise JRTError(f"{file}: holds {count} answers, {result.run.file.name} counts {result.asked}.")
    if columns.skipped:  # old versions counted skipped rows as zeros in their means
        return
    for name in filter(_is_mean, columns.scores):
        mean, values = result.means.get(name), columns.scores[name]
        if mean is not None and len(values):
            logged = float(np.mean(values))
            if not math.isclose(logged, mean, rel_tol=_SAME, abs_tol=_SAME):
                raise JRTError(f"{file}: its mean of {name} is {logged:.6g}, {result.run.file.name} says {mean:.6g}.")


def _is_mean(metric: str) -> bool:
    return metric.partition(",")[0] in _MEANS


def _cells(results: Sequence[Result], labels: Sequence[Label]) -> tuple[tuple[Cell, ...], int]:
    """Results that differ by seed alone as one cell each, and how many results were copies of others.

    Raises:
        JRTError: two results of one key have the same seeds and other answers.
    """
    groups: dict[Any, list[Result]] = defaultdict(list)
    of_groups: dict[Any, Label] = {}
    copies = 0
    for result, label in zip(results, labels, strict=True):
        group = groups[result.key]
        of_groups.setdefault(result.key, label)
        if any(_copy(result, other) for other in group):
            copies += 1
            continue
        for other in group:
            if other.run.seeds == result.run.seeds:
                raise _ambiguous(other, result)
        group.append(result)
    return tuple(Cell(tuple(group), *of_groups[key]) for key, group in groups.items()), copies


def _copy(one: Result, other: Result) -> bool:
    """Whether two results with one key are the same answers, logged or found twice."""
    names = [name for name in one.means if _is_mean(name)]
    same = one.run.seeds == other.run.seeds and one.asked == other.asked
    same = same and all(one.means[name] == other.means.get(name) for name in names)
    first, second = one.columns, other.columns
    if not same or first is None or second is None:
        return same
    by_row = [np.argsort(columns.rows) for columns in (first, second)]
    return len(first) == len(second) and all(
        np.array_equal(first.scores[name][by_row[0]], second.scores[name][by_row[1]])
        for name in names
        if name in first.scores and name in second.scores
    )


def _ambiguous(first: Result, second: Result) -> JRTError:
    """What to say of two runs that nothing distinguishes and that scored differently."""
    name = next((name for name in second.means if _is_mean(name)), next(iter(second.means)))
    scores = [f"{name} {one.means[name]:.4f}" for one in (first, second) if name in one.means]
    one, two = first.run.facts, second.run.facts
    differ = sorted(n for n in one.keys() | two.keys() if n not in MEASURED and one.get(n) != two.get(n))
    more = f"; they also differ in {', '.join(differ)}" if differ else ""
    return JRTError(
        f"{first.run.file} and {second.run.file}: both are {second.run.kind} {second.run.weights} on {second.task} "
        f"with the same settings and seeds, but they scored differently ({' and '.join(scores)}){more}: give only one "
        "of them."
    )


def _same_questions(results: Sequence[Result]) -> None:
    """Refuse runs of one task with the same settings that were asked different questions."""
    asked: dict[Any, Result] = {}
    for result in results:
        columns = result.columns
        # needles are as long as they are in each model's own tokens: others for another tokenizer
        if columns is None or not columns.prompts.any() or "needle_length" in columns.figures:
            continue
        chat = tuple(str(result.run.settings.get(name)) for name in ("chat_template_sha", "system_instruction_sha"))
        first = asked.setdefault((*result.task_key, chat), result)
        other = first.columns
        if first is result or other is None:
            continue
        common, here, there = np.intersect1d(columns.rows, other.rows, return_indices=True)
        differ = int(np.sum(columns.prompts[here] != other.prompts[there]))
        if differ:
            what = f"{differ} of {len(common)} prompts differ"
        elif len(common) < len(columns) and not result.partly:
            what = f"only {len(common)} questions are the same"
        else:
            continue
        raise JRTError(
            f"{first.run.file} and {result.run.file}: {result.task} with the same settings, but {what}: other "
            "data or another version of the prompts. Give them to two reports."
        )


# -------------------------------------------------------------------- labels

_PREFIX = ("feature_map", "prefix", "prefix_length", "prefix_step", "entropy_low", "entropy_high", "entropy_window")
_FIRST = (*_PREFIX, "kv_window", "kv_sinks")
_BY_NATURE = ("window", "ppl", *KNOBS, "until", "max_gen_toks", "num_fewshot", "description", "do_sample")
"""Settings of the window and of generation, in which tasks of one layout may differ."""


Label = tuple[str, str]
"""What distinguishes a result: its model with the settings that differ, and the settings of its task that differ."""


def labelled(results: Sequence[Result]) -> list[Label]:
    """A label for each result: every setting that differs between them, and nothing else.

    A setting of a model is part of the label if two of the runs that have it differ in it; a setting of a task, if two
    runs of the task differ in it or, for settings of the layout, two tasks of that layout. If two results still have
    one label, a setting that only some runs have is added; after that, what should not change an answer (device, batch
    size, versions).
    """
    models = _differing((None, result.run.settings) for result in results).get(None, set())
    tasks = _differing((result.task, _task_settings(result)) for result in results)
    layouts = _differing((result.layout, _layout_settings(result)) for result in results)
    labels: list[Label] = []
    for result in results:
        run, settings = result.run, _task_settings(result)
        # the feature map of jrt-mlp is clear from its name
        named = str(run.settings.get("feature_map", "")) in run.weights.replace("_", "-").split("-")
        model = [run.kind, run.weights, *_told(models - ({"feature_map"} if named else set()), run.settings)]
        setting = _told(tasks[result.task] | layouts[result.layout], settings)
        labels.append((" ".join(filter(None, model)), " ".join(setting)))
    lacking: dict[Label, list[Result]] = defaultdict(list)
    for label, result in zip(labels, results, strict=True):
        lacking[label].append(result)
    some = {label: _had_by_some(group) for label, group in lacking.items()}
    labels = [
        (" ".join([model, *_told(some[model, setting], result.run.settings)]), setting)
        for (model, setting), result in zip(labels, results, strict=True)
    ]
    machine = _differing((label, result.run.machine) for label, result in zip(labels, results, strict=True))
    return [
        (" ".join([label[0], *_told(machine[label], result.run.machine)]), label[1])
        for label, result in zip(labels, results, strict=True)
    ]


def _values(found: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Setting -> its different values, as text -> value."""
    values: dict[str, dict[str, Any]] = defaultdict(dict)
    for settings in found:
        for name, value in settings.items():
            values[name].setdefault(str(value), value)
    return values


def _differing(found: Iterable[tuple[Any, Mapping[str, Any]]]) -> dict[Any, set[str]]:
    """Place -> the settings that have several values there."""
    places: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for place, settings in found:
        places[place].append(settings)
    return {
        place: {name for name, values in _values(group).items() if len(values) > 1} for place, group in places.items()
    }


def _had_by_some(results: Sequence[Result]) -> set[str]:
    """Settings of the model that, of the runs asked the same, some have and others do not."""
    asked: dict[Any, list[set[str]]] = defaultdict(list)
    for result in results:
        asked[result.task, result.control, result.partly].append(set(result.run.settings))
    return {name for have in asked.values() for name in have[0].union(*have) - have[0].intersection(*have)}


def _told(names: set[str], settings: Mapping[str, Any]) -> list[str]:
    order = [*(name for name in _FIRST if name in names), *sorted(names - {*_FIRST})]
    return [f"{name}={settings[name]}" for name in order if name in settings]


def _task_settings(result: Result) -> dict[str, Any]:
    version = result.version
    return {
        **result.settings,
        "version": int(version) if isinstance(version, float) and version.is_integer() else version,
        "source": result.source,
        "recipe": result.block.get("recipe"),
        "layout": result.layout,  # a layout given by --metadata
    }


def _layout_settings(result: Result) -> dict[str, Any]:
    return {name: value for name, value in result.settings.items() if name.partition(".")[0] not in _BY_NATURE}


# -------------------------------------------------------------------- logs of trainings

HELD_OUT, STEPS = "heldout.jsonl", "log.jsonl"
COUNTS = ("step", "tokens", "seconds")
FROM_STEPS = "answer_accuracy"
SMOOTHED = 50
"""Steps of training over which a point of a curve from a log of steps is the mean."""


def trainings(folders: Iterable[Path]) -> tuple[tuple[Training, ...], tuple[str, ...]]:
    """All trainings in folders, which are searched, and the files that could not be read.

    A folder's `heldout.jsonl` is read; if there is none, its `log.jsonl`.
    """
    tops = [top for top in folders if top.is_dir()]
    parents = {file.parent for top in tops for name in (HELD_OUT, STEPS) for file in top.rglob(name)}
    found: list[Training] = []
    broken: list[str] = []
    for folder in sorted(parents):
        held_out = (folder / HELD_OUT).is_file()
        file = folder / (HELD_OUT if held_out else STEPS)
        try:
            lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
            names = [name for name in lines[0] if name not in COUNTS] if held_out else [FROM_STEPS]
            points = {n: [(float(at["tokens"]), float(at[n])) for at in lines if at.get(n) is not None] for n in names}
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError) as error:
            broken.append(f"{file}: not the log of a training ({type(error).__name__}: {error}).")
            continue
        curves = {name: tuple(curve if held_out else _smoothed(curve)) for name, curve in points.items() if curve}
        if curves:
            found.append(Training(folder.name, curves, held_out))
        else:
            broken.append(f"{file}: not the log of a training (no line has {' or '.join(names)}).")
    return tuple(found), tuple(broken)


def _smoothed(curve: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Means over `SMOOTHED` steps each."""
    parts = np.array_split(np.array(curve), math.ceil(len(curve) / SMOOTHED))
    return tuple((float(part[-1, 0]), float(part[:, 1].mean())) for part in parts)
