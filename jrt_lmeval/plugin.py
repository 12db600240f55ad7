"""All that lm_eval is told about this package; nothing else here touches its registries.

The start-up hook calls each `..._ready` with a module right after lm_eval has imported it; `register` is the explicit
way. Each may be called any number of times.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from jrt_lmeval.errors import JRTError
from jrt_lmeval.paths import MODEL, OUTPUT, tasks_dir

log = logging.getLogger("lm_eval.jrt")

MODELS = {
    "jrt_rnn": "model_adapters.models:JRTRNN",
    "based": "model_adapters.models:Based",
    "mamba": "model_adapters.models:Mamba",
    "hf_recall": "model_adapters.models:HFRecall",
}
"""`--model` names and the classes they stand for, as text: importing a class waits until it is asked for."""

FINGERPRINT = "jrt_lmeval:fingerprint"
"""Key of a request cache under which our models leave whose answers it holds."""

LONGEST_NAME = 200
"""Bytes of the name of a folder."""

_OURS_ONLY = ContextVar("_OURS_ONLY", default=False)


@contextmanager
def ours_only() -> Iterator[None]:
    """Inside, a new `TaskManager` indexes our tasks and the user's, not lm_eval's own: reading those takes seconds."""
    token = _OURS_ONLY.set(True)
    try:
        yield
    finally:
        _OURS_ONLY.reset(token)


def _replaces(owner: Any, name: str) -> Callable[[Callable[..., Any]], None]:
    """Put a function in the place of one of lm_eval's, which it gets as its first argument; once, and if it is there.

    A second call finds the mark and changes nothing.
    """

    def put(new: Callable[..., Any]) -> None:
        plain = getattr(owner, name, None)
        if plain is None or getattr(plain, "_knows_jrt", False):
            return

        @functools.wraps(plain)
        def replacement(*args: Any, **kwargs: Any) -> Any:
            return new(plain, *args, **kwargs)

        replacement._knows_jrt = True  # type: ignore[attr-defined]
        setattr(owner, name, replacement)

    return put


def register() -> None:
    """Import lm_eval and tell it about our models and tasks.

    Raises:
        ImportError: lm_eval is not installed.
    """
    import lm_eval.models
    import lm_eval.tasks

    models_ready(lm_eval.models)
    tasks_ready(lm_eval.tasks)
    if find_spec("lm_eval.api.model"):
        caches_ready(import_module("lm_eval.api.model"))
    if find_spec("lm_eval.loggers"):
        tracker_ready(import_module("lm_eval.loggers.evaluation_tracker"))
    if find_spec("transformers"):  # no hook may be waiting for lm_eval's Hugging Face models
        huggingface_ready()


def models_ready(models: ModuleType) -> None:
    """Add our models to lm_eval's registry. A name lm_eval already uses for something else stays lm_eval's.

    `lm_eval.models` is fully imported: registering earlier would hide every built-in model.
    """
    from lm_eval.api.registry import model_registry

    from jrt_lmeval import one_line

    one_line.install()
    for name, target in MODELS.items():
        if name not in model_registry:
            model_registry.register(name, target=target)
        elif not _same(model_registry, name, target):
            log.warning("lm_eval has a model named %r of its own; ours (%s) is not registered.", name, target)


def caches_ready(model: ModuleType) -> None:
    """Warn where a model that is not ours opens a request cache that one of ours filled: it looks at no fingerprint."""

    @_replaces(model.CachingLM, "__init__")
    def init(plain: Any, self: Any, lm: Any, cache_db: str, *args: Any, **kwargs: Any) -> None:
        plain(self, lm, cache_db, *args, **kwargs)
        if not hasattr(lm, "fingerprint") and FINGERPRINT in self.dbdict:
            log.warning(
                "%s: holds answers of a model of jrt_lmeval, which this model (%s) would give as its own. Use another "
                "--use_cache path.",
                *(cache_db, type(lm).__name__),
            )


def model_class(name: str) -> Any:
    """The LM class that lm_eval has under a name; raises as lm_eval does where there is none."""
    from lm_eval.api.registry import get_model

    return get_model(name)


def huggingface_ready(_: ModuleType | None = None) -> None:
    """Tell transformers of our model type, so that lm_eval's own `--model hf` loads our folders as well."""
    import jrt_lmeval.modeling.model  # noqa: F401 - registers itself


def _same(registry: Any, name: str, target: str) -> bool:
    """Whether `name` already stands for `target`: as text, as an entry point, or as the class itself."""
    current = getattr(registry, "_objs", {}).get(name)
    if isinstance(current, type):
        current = f"{current.__module__}:{current.__qualname__}"
    return target == (current if isinstance(current, str) else getattr(current, "value", None))


def tasks_ready(tasks: ModuleType) -> None:
    """Let every `TaskManager` that knows lm_eval's own tasks know ours too."""

    @_replaces(tasks.TaskManager, "__init__")
    def init(plain: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        call = inspect.signature(plain).bind(self, *args, **kwargs)
        call.apply_defaults()
        _warn_of_faults(call.arguments["include_path"])
        if call.arguments["include_defaults"]:
            call.arguments["include_path"] = _with_ours(call.arguments["include_path"])
            call.arguments["include_defaults"] = not _OURS_ONLY.get()
        plain(*call.args, **call.kwargs)

    @_replaces(tasks.TaskManager, "load")
    def load(plain: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        factory: Any = getattr(self, "_factory", None)
        if hasattr(factory, "_meta"):
            factory._meta = with_tokenizer(factory._meta or {})
        loaded = plain(self, *args, **kwargs)
        for group in (loaded.get("groups") or {}).values() if isinstance(loaded, dict) else ():
            mark_group(group)
        return loaded

    for name in ("_yaml_loader", "_factory"):
        _replaces(sys.modules.get(f"lm_eval.tasks.{name}"), "load_yaml")(_load_yaml)


def with_tokenizer(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What lm_eval tells a task of the model, with a `tokenizer` where the model is ours and nobody named one.

    Tasks that count in the model's tokens, such as lm_eval's `ruler` and our needles, look for a name that transformers
    can read: `tokenizer`, else `pretrained`. A model of ours may have neither (`feature_map=mlp`), or a name of ours.
    """
    arguments, tokenizer = MODEL.get() or ({}, None)
    own = {**dict.fromkeys(("pretrained", "path")), **arguments}
    if tokenizer is None or "tokenizer" in metadata or any(metadata.get(name) != own[name] for name in own):
        return dict(metadata)
    folder = Path(tokenizer.name_or_path)
    if not folder.is_absolute() or not (folder / "tokenizer.json").is_file():
        _FOLDERS.append(TemporaryDirectory(prefix="tokenizer-"))
        folder = Path(_FOLDERS[-1].name)
        tokenizer.save_pretrained(folder)
    return {**metadata, "tokenizer": str(folder)}


_FOLDERS: list[TemporaryDirectory[str]] = []
"""Tokenizers written for tasks to read; deleted when the process ends."""


def _load_yaml(plain: Callable[..., Any], path: str | Path, **arguments: Any) -> Any:
    """As lm_eval; a task of ours is told the YAML file it was read from, also where its path was given to lm_eval.

    lm_eval 0.4.13 then hands on what stands in the file, and says that it came from nowhere.
    """
    from jrt_lmeval.task.taskfiles import check, faults_of

    whole = arguments.get("_seen") is None
    try:
        config = plain(path, **arguments)
    except Exception as error:
        if whole and (found := list(faults_of(Path(path)))):
            raise JRTError("; ".join(found)) from error
        raise
    if not isinstance(config, dict):
        return config
    file, ours = Path(path).expanduser().resolve(), getattr(config.get("class"), "knows_its_file", False)
    if ours or "class" not in config:
        check(file, config, whole=whole)
    if ours:
        config["jrt_file"] = str(file)
    return config


def tracker_ready(tracking: ModuleType) -> None:
    """Name the folders of our models' results, and remember where results go so that a model can check it first.

    lm_eval names a folder for `pretrained=` and its like; without one, all runs land in a folder with one random name.
    A folder that cannot be written is found by lm_eval after the run, which then loses its results and ends as if
    nothing had happened. Errors of errors, which lm_eval makes up, are left out of the results file.
    """
    kind, tracker = tracking.GeneralConfigTracker, tracking.EvaluationTracker

    @_replaces(kind, "log_experiment_args")
    def log_experiment_args(
        plain: Any, self: Any, model_source: Any, model_args: Any, *args: Any, **kwargs: Any
    ) -> None:
        plain(self, model_source, model_args, *args, **kwargs)
        if model_source not in MODELS:
            return
        if kind._get_model_name(model_args) is None:
            from jrt_lmeval.report.fields import arguments
            from jrt_lmeval.runner import folder_name

            self.model_name = folder_name(model_source, arguments(model_args))
        # file systems take 255 bytes
        name = tracking.sanitize_model_name(self.model_name).encode()
        self.model_name_sanitized = name[:LONGEST_NAME].decode(errors="ignore")

    @_replaces(tracker, "save_results_aggregated")
    def save_results_aggregated(plain: Any, self: Any, results: Any, *args: Any, **kwargs: Any) -> Any:
        # a task's errors by document are metrics to lm_eval, which gives each an error of its own, always N/A
        for figures in (results or {}).get("results", {}).values():
            for name in [name for name in figures if name.partition(",")[0].endswith("_stderr_stderr")]:
                del figures[name]
        return plain(self, results, *args, **kwargs)

    @_replaces(tracker, "__init__")
    def init(plain: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **kwargs)
        OUTPUT.set(self.output_path)


def mark_group(group: Any) -> None:
    """Show in a group's line of the result table that its mean is over sample rows, or that some of its tasks are.

    A group of tasks that score by length has these scores too.
    """
    tasks = group.get_all_tasks()
    lengths = sorted({length for task in tasks for length in getattr(task, "lengths", ())}, key=int)
    if lengths and group.aggregate_metric_list:
        by_length = [replace(group.aggregate_metric_list[0], metric=length) for length in lengths]
        group.aggregate_metric_list = [*group.aggregate_metric_list, *by_length]
    blocks = [(getattr(task.config, "metadata", None) or {}).get("jrt") or {} for task in tasks]
    samples = [block.get("source") == "sample" for block in blocks]
    if any(samples):
        mark = "[sample]" if all(samples) else f"[{sum(samples)} of {len(samples)} sample]"
        group.alias = f"{group.alias or group.name} {mark}"


def _folders(include_path: str | Path | Iterable[str | Path] | None) -> list[str | Path]:
    if isinstance(include_path, (str, Path)):
        return [include_path] if include_path else []
    return list(include_path or ())


def _warn_of_faults(include_path: str | Path | Iterable[str | Path] | None) -> None:
    for folder in {Path(path).resolve() for path in _folders(include_path) if Path(path).is_dir()} - {tasks_dir()}:
        from jrt_lmeval.one_line import FAULTS
        from jrt_lmeval.task.taskfiles import faults

        FAULTS[folder] = list(faults(folder))
        for fault in FAULTS[folder]:
            log.warning("%s; its tasks are left out.", fault)


def _with_ours(include_path: str | Path | Iterable[str | Path] | None) -> list[str | Path]:
    """The folders to index besides lm_eval's own: ours first, so that a user's task of the same name wins."""
    users, ours = _folders(include_path), tasks_dir()
    known = {Path(path).resolve() for path in (*users, *_found_by_lm_eval())}
    return users if ours in known else [ours, *users]


def _found_by_lm_eval() -> Iterable[Path]:
    """Task folders that an lm_eval newer than 0.4.13 finds through entry points; indexing one twice warns per task."""
    discover = getattr(sys.modules.get("lm_eval.tasks.manager"), "discover_plugin_task_paths", None)
    try:
        return discover() if discover else ()
    except Exception as error:  # what keeps lm_eval from reading entry points must not keep it from our tasks
        log.warning("lm_eval could not read the entry points of tasks (%s); ours are added without them.", error)
        return ()
