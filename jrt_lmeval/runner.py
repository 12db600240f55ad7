"""Many runs of lm_eval in one process, as `jrt-eval run --grid` and `jrt-eval paper` make them.

Each run has a folder with lm_eval's files and a `run.json` that states what was run. A run is found again by that
statement, and not by the name of its folder, so that a command that was interrupted resumes where it stopped.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jrt_lmeval import __version__
from jrt_lmeval.checkpoints.found import find, named, shipped_for
from jrt_lmeval.data.sources import FOLDER_VARIABLE
from jrt_lmeval.errors import JRTError
from jrt_lmeval.paths import tasks_dir

STATED = "run.json"
WEIGHTS = ("config.json", "model*.safetensors", "pytorch_model*.bin")
LONGEST_NAME = 80


@dataclass(frozen=True)
class EvalRun:
    """One evaluation.

    Attributes:
        model: lm_eval's `--model`.
        arguments: its `--model_args`.
        tasks: names of tasks, or paths of their files.
        block: laid over each task's `jrt:` block.
    """

    model: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    block: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Everything that makes the run what it is except its tasks."""
        return _as_text([self.model, kept_arguments(self.arguments), dict(self.block)])

    @property
    def loaded(self) -> str:
        """Equal for runs that the same loaded model serves."""
        return _as_text([self.model, dict(self.arguments)])

    @property
    def label(self) -> str:
        """The run in a line for people, such as `jrt_rnn, feature_map=mlp, overlap=0.2`."""
        return ", ".join([self.model, *settings_text({**self.arguments, **self.block})])

    @property
    def plain(self) -> EvalRun:
        """The same model on the same tasks without changes to their blocks."""
        return EvalRun(self.model, self.arguments, self.tasks)


@dataclass(frozen=True)
class Options:
    """What all runs of a command share.

    Attributes:
        limit: lm_eval's `--limit`.
        batch_size, device, use_cache, max_batch_size: as lm_eval's; they do not change an answer.
        include_path: a folder with further tasks.
        metadata: given to every task, the `jrt:` block aside.
        settings: further arguments of `simple_evaluate` that may change an answer.
        compact: keep only what tables are made from, see `keep`; else all that lm_eval writes.
    """

    limit: int | float | None = None
    batch_size: int | str = "auto"
    device: str | None = None
    use_cache: str | None = None
    max_batch_size: int | None = None
    include_path: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    compact: bool = False


def settings_text(settings: Mapping[str, Any]) -> list[str]:
    """Settings as words such as `overlap=0.2`."""
    return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()]


def folder_name(model: str, settings: Mapping[str, Any]) -> str:
    """A short plain name for the folder of a run, such as `jrt_rnn-mlp-dynamic-overlap-0.2`.

    It helps people and identifies nothing: a value that is a word stands without its key, a path as its last part, and
    a long name is cut.
    """
    words = [model]
    for key, value in settings.items():
        text = Path(value).name if isinstance(value, str) else json.dumps(value)
        words.append(text if isinstance(value, str) else f"{key}-{text}")
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", "-".join(words))
    return plain[:LONGEST_NAME].strip("-.")


def stated_runs(out: Path) -> dict[str, Path]:
    """`EvalRun.key` -> the folder in `out` whose `run.json` states that run.

    Raises:
        JRTError: two folders state the same run, or a `run.json` that cannot be read.
    """
    found: dict[str, Path] = {}
    for file in sorted(out.glob(f"*/{STATED}")):
        identity = _stated(file)["identity"]
        key = _as_text([identity["model"], identity["model_args"], identity["block"]])
        if key in found:
            raise JRTError(f"{found[key]} and {file.parent} state the same run: delete one of them.")
        found[key] = file.parent
    return found


def finished(out: Path, run: EvalRun, options: Options) -> frozenset[str]:
    """Tasks of the run that stand finished in `out`.

    Raises:
        JRTError: they were made with other settings, weights or another version: numbers must not be mixed.
    """
    folder = stated_runs(out).get(run.key)
    if folder is None:
        return frozenset()
    content = _stated(folder / STATED)
    stated, wanted = content["identity"], json.loads(_as_text(_identity(run, options)))
    for name in {**wanted, **stated}:
        if stated.get(name) != wanted.get(name):
            raise JRTError(
                f"{folder / STATED}: was made with {name} {stated.get(name)!r}, not {wanted.get(name)!r}. "
                "Choose another output folder, or delete that one to run it again."
            )
    return frozenset(content["tasks"])


def _stated(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {"identity": dict(content["identity"]), "tasks": list(content["tasks"])}
    except (ValueError, KeyError, TypeError):
        raise JRTError(f"{file}: does not state a run; delete its folder to run it again.") from None


def _identity(run: EvalRun, options: Options) -> dict[str, Any]:
    """What a finished run must agree with to count as this one; its tasks are looked at one by one."""
    base = {
        "version": __version__,
        "model": run.model,
        "model_args": kept_arguments(run.arguments),
        "block": dict(run.block),
        "limit": options.limit,
        "weights": weights_of(run),
        "local_data": bool(os.environ.get(FOLDER_VARIABLE)),
    }
    policy = Path(str(run.arguments.get("prefix_policy", "")))
    if policy.is_file():  # a policy that was fitted anew is another one under the same name
        base["prefix_policy"] = hashlib.sha256(policy.read_bytes()).hexdigest()[:12]
    further = {**options.settings, **({"metadata": dict(options.metadata)} if options.metadata else {})}
    return base | {name: value for name, value in further.items() if value is not None}


def weights_of(run: EvalRun) -> str | None:
    """Name and hash of the weights that a run reads from this machine; None for a hub id, and where there are none.

    A shipped model that was trained anew, or one that takes its place, is another model under the same arguments.
    """
    source, feature_map = run.arguments.get("pretrained"), run.arguments.get("feature_map")
    try:
        if source is None:
            checkpoint = shipped_for(run.model, feature_map)
        elif source in named() or Path(source).is_dir():
            checkpoint = find(source)
        else:
            return None
    except JRTError:
        return None
    return f"{Path(checkpoint.name).name} {_hash(checkpoint.folder)}"


@lru_cache
def _hash(folder: Path) -> str:
    found = hashlib.sha256()
    for file in (file for pattern in WEIGHTS for file in sorted(folder.glob(pattern))):
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                found.update(block)
    return found.hexdigest()[:16]


def execute(
    runs: Sequence[EvalRun], out: Path, options: Options, tell: Callable[[EvalRun, int, float], None]
) -> list[tuple[EvalRun, str]]:
    """Run what is not finished yet, each run in a folder of its own in `out`.

    Args:
        runs: those of one model should stand together, since a model is kept until another is needed.
        tell: called after each run with it, its number from 1, and its seconds.

    Returns:
        Runs that could not be made, and why: a model that is not there costs its own runs only.

    Raises:
        JRTError: see `finished`.
        OSError: `out` cannot be written to; found out before anything is run.
    """
    done = [finished(out, run, options) for run in runs]
    missing: list[tuple[EvalRun, str]] = []
    loaded: tuple[str, Any] | None = None
    for number, (run, have) in enumerate(zip(runs, done, strict=True), 1):
        started = time.monotonic()
        tasks = [task for task in run.tasks if task not in have]
        if tasks:
            out.mkdir(parents=True, exist_ok=True)
            try:
                with TemporaryDirectory(dir=out, prefix=".part-") as written:
                    manager = task_manager(metadata(run, options), options.include_path)
                    _check(tasks, manager, Path(written))
                    if loaded is None or loaded[0] != run.loaded:
                        loaded = None  # the old model goes before the new one comes
                        common = {name: getattr(options, name) for name in ("batch_size", "max_batch_size", "device")}
                        common = {name: value for name, value in common.items() if value is not None}
                        loaded = (run.loaded, load_model(run.model, run.arguments, **common))
                    same = {name: getattr(options, name) for name in ("batch_size", "device", "use_cache", "limit")}
                    further = {**same, **options.settings}
                    results = evaluate(loaded[1], run.model, run.arguments, tasks, manager, Path(written), **further)
                    if results is not None:
                        _keep_run(Path(written), out, run, options, sorted({*have, *tasks}))
            except JRTError as error:
                missing.append((run, str(error)))
        tell(run, number, time.monotonic() - started)
    return missing


def metadata(run: EvalRun, options: Options) -> dict[str, Any]:
    """What each task of a run is given besides its file."""
    return {**options.metadata, **({"jrt": dict(run.block)} if run.block else {})}


def _check(tasks: Sequence[str], manager: Any, written: Path) -> None:
    """Raise before anything is run for a task that is not there or whose log could not be written."""
    known = set(manager.all_tasks)
    if missing := [task for task in tasks if task not in known and not task.endswith(".yaml")]:
        raise JRTError(f"no task called {', '.join(missing)}; 'jrt-eval run ls tasks' lists them.")
    for task in tasks:
        log = written / f"samples_{Path(task).stem}_2026-01-01T00-00-00.000000.jsonl.gz"
        try:
            log.touch()
        except OSError as error:
            why = f"its answers could not be written ({error.strerror}); give it a shorter name."
            raise JRTError(f"{task}: {why}") from None
        log.unlink()


def _keep_run(written: Path, out: Path, run: EvalRun, options: Options, tasks: Sequence[str]) -> None:
    """Move what lm_eval wrote into the folder of the run; the statement comes last."""
    ready = written / "ready"
    ready.mkdir()
    if options.compact:
        keep(written, ready)
    else:
        for file in [*written.rglob("results_*.json"), *written.rglob("samples_*.jsonl")]:
            file.replace(ready / file.name)
    content = json.dumps({"identity": _identity(run, options), "tasks": tasks}, indent=1, default=str)
    (ready / STATED).write_text(content + "\n", encoding="utf-8")
    folder = stated_runs(out).get(run.key)
    if folder is None:
        name = folder_name(run.model, {**run.arguments, **run.block})
        taken = {path.name for path in out.iterdir()}
        ready.rename(out / next(free for at in count(1) if (free := name if at == 1 else f"{name}-{at}") not in taken))
    else:
        for file in sorted(ready.iterdir(), key=lambda file: file.name == STATED):
            file.replace(folder / file.name)


def load_model(name: str, arguments: Mapping[str, Any], **common: Any) -> Any:
    """The model that `--model name --model_args arguments` would build; `common` as lm_eval passes it on."""
    from jrt_lmeval.plugin import model_class

    return model_class(name).create_from_arg_obj(dict(arguments), common)


def task_manager(metadata: Mapping[str, Any], include_path: str | None = None) -> Any:
    """Our tasks and a user's, with metadata laid over each; lm_eval's own take long to index and have no block."""
    from lm_eval.tasks import TaskManager

    include = [str(tasks_dir()), *([include_path] if include_path else [])]
    return TaskManager(include_defaults=False, include_path=include, metadata=metadata)


def evaluate(
    model: Any,
    name: str,
    arguments: Mapping[str, Any],
    tasks: Sequence[str],
    manager: Any,
    folder: Path,
    **options: Any,
) -> dict[str, Any] | None:
    """Evaluate a loaded model and write lm_eval's files below `folder`.

    Args:
        model: as `load_model` made it from `name` and `arguments`, which are for the results file.
        tasks: names that `manager`, see `task_manager`, knows.
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
    options |= {"task_manager": manager, "log_samples": True, "evaluation_tracker": tracker}
    results = simple_evaluate(model=model, model_args=dict(arguments), tasks=list(tasks), **options)
    if results is None:
        return None
    facts = tracker.general_config_tracker
    results["config"]["model"] = facts.model_source = name
    facts.model_name = facts.model_name_sanitized = "lm_eval"
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task in results["configs"]:
        tracker.save_results_samples(task_name=task, samples=samples[task])
    if not list(folder.rglob("results_*.json")):
        raise JRTError(f"{folder}: the results could not be written; see lm_eval's warning above.")
    return results


# What `keep` leaves of lm_eval's files. Documents and prompts are left out (they come with the data), so that the logs
# of a whole suite are a few megabytes; the hash of the prompt, the answer and the accepted answers stay, so that scores
# can be made again. Paths of this machine go.
RESULTS = ("results", "versions", "n-samples", "higher_is_better", "task_hashes", "date", "lm_eval_version")
CONFIG = ("model", "model_num_parameters", "model_dtype", "jrt", "limit", "batch_size", "random_seed")
BLOCKS = ("jrt", "jrt_found", "ppl")
PRIVATE = ("pretrained", "path", "tokenizer")
SAMPLE = ("doc_id", "target", "doc_hash", "prompt_hash", "target_hash", "filter")


def keep(written: Path, target: Path) -> None:
    """Write the kept part of lm_eval's files below `written` into the folder `target`."""
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(written.rglob("results_*.json")):
        text = json.dumps(kept_results(json.loads(file.read_text(encoding="utf-8"))), indent=1)
        (target / file.name).write_text(text + "\n", encoding="utf-8")
    for file in sorted(written.rglob("samples_*.jsonl")):
        lines = (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())
        body = "".join(json.dumps(kept_sample(line), ensure_ascii=False) + "\n" for line in lines)
        # mtime 0: the same answers give the same bytes
        (target / f"{file.name}.gz").write_bytes(gzip.compress(body.encode(), mtime=0))


def kept_results(content: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a results file that says what was measured on what, without the machine."""
    blocks = {
        name: {"metadata": {key: found for key in BLOCKS if (found := config["metadata"].get(key))}}
        for name, config in content["configs"].items()
    }
    config = {name: content["config"].get(name) for name in CONFIG}
    if isinstance(config["jrt"], dict):
        config["jrt"] = kept_arguments(config["jrt"])
    return {
        **{name: content[name] for name in RESULTS if name in content},
        "config": {**config, "model_args": kept_arguments(content["config"]["model_args"])},
        "configs": blocks,
    }


def kept_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Model arguments, or a model's facts, without the folders of this machine."""
    return {
        name: Path(str(value)).name if name in PRIVATE and value is not None else value
        for name, value in arguments.items()
    }


def kept_sample(sample: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the samples log without its document: identity, answer, accepted answers, scores, figures."""
    doc = sample.get("doc") or {}
    facts = dict(doc.get("jrt") or {})
    names = {key: doc[key] for key in ("doc_id", "key", "question") if key in doc}
    # What standard errors are made of stands in the scores and the document's name.
    metrics = [name for name in sample.get("metrics", ()) if not name.endswith("_stderr")]
    return {
        **{name: sample[name] for name in SAMPLE if name in sample},
        "doc": {**names, "jrt": facts},
        "filtered_resps": sample.get("filtered_resps"),
        "metrics": metrics,
        **{name: sample[name] for name in metrics if name in sample},
    }


def _as_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
