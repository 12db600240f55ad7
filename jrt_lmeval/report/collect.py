"""All results in files and folders, identified by content and not by file name, with labels that tell them apart."""

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
from jrt_lmeval.report.cells import Cell, Collection
from jrt_lmeval.report.fields import MEASURED
from jrt_lmeval.report.runs import Broken, Result, Training, looks_like_results, read_file

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


_PREFIX = ("feature_map", "prefix", "prefix_length", "prefix_step", "entropy_low", "entropy_high", "entropy_window")
_FIRST = (*_PREFIX, "kv_window", "kv_sinks")


class Labels:
    """Labels of the results at hand.

    A setting of a model is told if two of the runs that have it differ in it; a setting of a task, if two runs of that
    task or, for the layout, two tasks of that layout differ in it. One that only some runs have is told where nothing
    else tells two results apart; after that, what should not change an answer is (device, batch size, versions).

    Attributes:
        common: settings of models that are the same in all runs that have them.
    """

    def __init__(self, results: Sequence[Result]) -> None:
        self._model = _values((None, result.run.settings) for result in results)
        self._task = _values((result.task, _task_settings(result)) for result in results)
        self._layout = _values((result.layout, _layout_settings(result)) for result in results)
        self._lacking: dict[tuple[str, str], set[str]] = {}
        self._lacking = {place: _had_by_some(group) for place, group in self._same(results).items()}
        self._machine = {
            place: {
                name
                for name, values in _values((None, r.run.machine) for r in group).get(None, {}).items()
                if len(values) > 1
            }
            for place, group in self._same(results).items()
        }
        self.common: Mapping[str, Any] = {
            name: next(iter(values.values())) for name, values in self._model.get(None, {}).items() if len(values) == 1
        }

    def model(self, result: Result) -> str:
        """Kind, weights and what differs."""
        plain = self._plain(result)
        told = self._machine.get((plain, self.setting(result)), set())
        return " ".join([plain, *_settings_told(told, result.run.machine)])

    def setting(self, result: Result) -> str:
        """What differs between runs of this task, or between tasks of this layout."""
        task, layout = _task_settings(result), _layout_settings(result)
        differ = _differing(self._task.get(result.task, {})) | _differing(self._layout.get(result.layout, {}))
        return " ".join(_settings_told(differ, task | layout))

    def _same(self, results: Sequence[Result]) -> dict[tuple[str, str], list[Result]]:
        """The results that have the same label so far."""
        same: dict[tuple[str, str], list[Result]] = defaultdict(list)
        for result in results:
            same[self._plain(result), self.setting(result)].append(result)
        return same

    def _plain(self, result: Result) -> str:
        text = self._differing(result)
        lacking = self._lacking.get((text, self.setting(result)), set())
        return " ".join([text, *_settings_told(lacking, result.run.settings)])

    def _differing(self, result: Result) -> str:
        settings = result.run.settings
        differ = _differing(self._model.get(None, {}))
        # jrt-mlp says that its map is mlp
        if str(settings.get("feature_map", "")) in result.run.weights.replace("_", "-").split("-"):
            differ -= {"feature_map"}
        return " ".join(
            [part for part in (result.run.kind, result.run.weights) if part] + _settings_told(differ, settings)
        )


def _values(found: Any) -> dict[Any, dict[str, dict[str, Any]]]:
    """By place and setting the different values, as text -> value."""
    values: dict[Any, dict[str, dict[str, Any]]] = defaultdict(lambda: defaultdict(dict))
    for place, settings in found:
        for name, value in settings.items():
            values[place][name].setdefault(str(value), value)
    return values


def _had_by_some(results: Sequence[Result]) -> set[str]:
    """Settings of the model that of the runs asked the same some have and others do not."""
    asked: dict[Any, list[set[str]]] = defaultdict(list)
    for result in results:
        asked[result.task, result.control, result.partly].append(set(result.run.settings))
    return {name for names in asked.values() for have in names for other in names for name in have - other}


def _differing(values: Mapping[str, Mapping[str, Any]]) -> set[str]:
    return {name for name, different in values.items() if len(different) > 1}


def _settings_told(names: set[str], settings: Mapping[str, Any]) -> list[str]:
    order = [*(name for name in _FIRST if name in names), *sorted(names - {*_FIRST})]
    return [f"{name}={settings[name]}" for name in order if name in settings]


def _task_settings(result: Result) -> dict[str, Any]:
    return {
        **result.settings,
        "version": _version(result),
        "source": result.source,
        "recipe": result.block.get("recipe"),
        "layout": result.layout,  # one that was laid over the task's own
    }


def _version(result: Result) -> Any:
    version = result.version
    return int(version) if isinstance(version, float) and version.is_integer() else version


def _layout_settings(result: Result) -> dict[str, Any]:
    """The settings of the layout: those of a window or of generating belong to a task by nature."""
    own = ("window", "ppl", "until", "max_gen_toks", "num_fewshot", "description", "do_sample")
    return {name: value for name, value in result.settings.items() if name.partition(".")[0] not in own}


HELD_OUT, STEPS = "heldout.jsonl", "log.jsonl"
COUNTS = ("step", "tokens", "seconds")
FROM_STEPS = "answer_accuracy"
SMOOTHED = 50
"""Steps of training that a point of a curve from a log of steps is the mean of."""


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
