"""The keys of a task: ours, which lm_eval must not see, and lm_eval's own with our defaults."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import fields
from typing import Any

from lm_eval.config.task import TaskConfig

from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.task.scores import SCORES, metric_list, name_of
from jrt_lmeval.task.taskfiles import OUR_KEYS
from jrt_lmeval.task.templates import TEMPLATE_KEYS

_OURS = ("class", "jrt_file", *OUR_KEYS, *TEMPLATE_KEYS)
_THEIRS = tuple(field.name for field in fields(TaskConfig))

# As published: greedy, to the end of the line.
_DEFAULTS: dict[str, Any] = {
    "output_type": "generate_until",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 48},
    "num_fewshot": 0,
    # Keeps lm_eval from looking for metrics of these names; `RecallTask.process_results` does the work.
    "process_results": "jrt_lmeval",
}


def taken_out(config: dict[str, Any]) -> dict[str, Any]:
    """Our keys of a task's configuration, which are taken out of it.

    Raises:
        JRTError: a key that neither lm_eval nor we know.
    """
    ours = {key: config.pop(key) for key in _OURS if key in config}
    for key in config:
        if key not in _THEIRS:
            raise unknown("key", key, [*_THEIRS, *_OURS])
    return ours


def completed(config: dict[str, Any], scores: Sequence[str]) -> dict[str, Any]:
    """lm_eval's keys with our defaults for those that the YAML leaves out, and the scores as metrics.

    Raises:
        JRTError: the task does not generate.
    """
    if config.get("output_type", "generate_until") != "generate_until":
        raise JRTError(f"output_type must be generate_until, not {config['output_type']!r}.")
    # A copy for each task: lm_eval's --gen_kwargs changes the one it is given.
    complete = deepcopy(_DEFAULTS) | config
    theirs = [entry for entry in config.get("metric_list") or () if name_of(entry) not in SCORES]
    complete["metric_list"] = [*metric_list(scores), *theirs]
    complete["generation_kwargs"] = {**_DEFAULTS["generation_kwargs"], **(config.get("generation_kwargs") or {})}
    return complete
