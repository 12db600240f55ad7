"""Recall tasks for lm_eval: a YAML file becomes documents, prompts, scores and a log.

`jrt_lmeval.task.RecallTask`, `NeedlesTask` and `PerplexityTask` are the names used in task YAML
(`class: !function jrt_lmeval.task.RecallTask`). They are imported when they are asked for, so that the modules of this
package which need no lm_eval can be used without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_CLASSES = {
    "RecallTask": "jrt_lmeval.task.recall",
    "NeedlesTask": "jrt_lmeval.task.needles",
    "PerplexityTask": "jrt_lmeval.task.perplexity",
}


def __getattr__(name: str) -> Any:
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_CLASSES[name]), name)
