"""One evaluation by lm_eval inside this process: a model loaded once, its files written as lm_eval writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jrt_lmeval.errors import JRTError
from jrt_lmeval.paths import tasks_dir


def load_model(name: str, arguments: Mapping[str, Any], **common: Any) -> Any:
    """The model that `--model name --model_args arguments` would build; `common` as lm_eval passes it on."""
    from jrt_lmeval.plugin import model_class

    return model_class(name).create_from_arg_obj(dict(arguments), common)


def task_manager(metadata: Mapping[str, Any], include_path: str | None = None) -> Any:
    """Our tasks and a user's, with metadata laid over each; lm_eval's own take long to index and have no block."""
    from lm_eval.tasks import TaskManager

    include = [str(tasks_dir()), *([include_path] if include_path else [])]
    return TaskManager(include_defaults=False, include_path=include, metadata=dict(metadata))


def evaluate(
    model: Any,
    name: str,
    arguments: Mapping[str, Any],
    tasks: Sequence[str],
    manager: Any,
    folder: Path,
    **options: Any,
) -> dict[str, Any] | None:
    """Evaluate a loaded model and write results and samples below `folder`.

    Args:
        model: an lm_eval model, see `load_model`.
        name, arguments: what it was made from, for the results file.
        tasks: names that `manager` knows.
        manager: see `task_manager`.
        folder: where lm_eval's files go.
        **options: of `lm_eval.simple_evaluate`.

    Returns:
        The results as in lm_eval's file, or None in a process that is not the one that writes.

    Raises:
        JRTError: the files could not be written.
    """
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker

    if hasattr(model, "runtime"):
        model.runtime.reset()  # the totals of one evaluation are not those of the ones before it
    tracker = EvaluationTracker(output_path=str(folder))
    results = simple_evaluate(
        model=model,
        model_args=dict(arguments),
        tasks=list(tasks),
        task_manager=manager,
        log_samples=True,
        evaluation_tracker=tracker,
        **options,
    )
    if results is None:
        return None
    facts = tracker.general_config_tracker
    results["config"]["model"] = facts.model_source = name
    facts.model_name = facts.model_name_sanitized = "lm_eval"  # `folder` says already what was run
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task in results["configs"]:
        tracker.save_results_samples(task_name=task, samples=samples[task])
    if not list(folder.rglob("results_*.json")):
        raise JRTError(f"{folder}: the results could not be written; see lm_eval's warning above.")
    return results
