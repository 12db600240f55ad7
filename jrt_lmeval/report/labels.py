"""Names for people: every setting that differs between the runs at hand is in them, and nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from jrt_lmeval.report.records import Result

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
        return " ".join([plain, *_told(told, result.run.machine)])

    def setting(self, result: Result) -> str:
        """What differs between runs of this task, or between tasks of this layout."""
        task, layout = _task_settings(result), _layout_settings(result)
        differ = _differing(self._task.get(result.task, {})) | _differing(self._layout.get(result.layout, {}))
        return " ".join(_told(differ, task | layout))

    def _same(self, results: Sequence[Result]) -> dict[tuple[str, str], list[Result]]:
        """The results that have the same label so far."""
        same: dict[tuple[str, str], list[Result]] = defaultdict(list)
        for result in results:
            same[self._plain(result), self.setting(result)].append(result)
        return same

    def _plain(self, result: Result) -> str:
        text = self._differing(result)
        lacking = self._lacking.get((text, self.setting(result)), set())
        return " ".join([text, *_told(lacking, result.run.settings)])

    def _differing(self, result: Result) -> str:
        settings = result.run.settings
        differ = _differing(self._model.get(None, {}))
        # jrt-mlp says that its map is mlp
        if str(settings.get("feature_map", "")) in result.run.weights.replace("_", "-").split("-"):
            differ -= {"feature_map"}
        return " ".join([part for part in (result.run.kind, result.run.weights) if part] + _told(differ, settings))


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


def _told(names: set[str], settings: Mapping[str, Any]) -> list[str]:
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
