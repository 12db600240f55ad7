"""Run a plan: one model after the other in this process, finished runs passed over, logs kept as they come."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from jrt_lmeval import __version__
from jrt_lmeval.checkpoints.found import find, shipped_for, shipped_names
from jrt_lmeval.commands.in_process import evaluate, load_model, task_manager
from jrt_lmeval.data.sources import FOLDER_VARIABLE
from jrt_lmeval.errors import JRTError
from jrt_lmeval.paper.logs import keep, kept_arguments
from jrt_lmeval.paper.plan import Run

DONE = "run.json"
WEIGHTS = ("config.json", "model*.safetensors", "pytorch_model*.bin")


@dataclass(frozen=True)
class Options:
    """What is the same for all runs of a sitting.

    Attributes:
        limit: first rows of each task; None for all.
        batch_size, device: as lm_eval's.
    """

    limit: int | None = None
    batch_size: int | str = "auto"
    device: str | None = None


@dataclass(frozen=True)
class Estimate:
    """What a run would take: rows and tokens of its prompts (GPT-2's), and seconds at a measured speed, or None."""

    run: Run
    rows: int
    tokens: int
    seconds: float | None


def identity(run: Run, options: Options) -> dict[str, Any]:
    """What a finished run must agree with to count as this one; the tasks are looked at one by one."""
    return {
        "version": __version__,
        "model": run.model,
        "model_args": kept_arguments(run.arguments),
        "block": dict(run.block),
        "limit": options.limit,
        "weights": weights_of(run),
        "local_data": bool(os.environ.get(FOLDER_VARIABLE)),
    }


def weights_of(run: Run) -> str | None:
    """Name and hash of the weights that a run reads from this machine; None for a hub id, and where there are none.

    A shipped model that was trained anew, or one that takes its place, is another model under the same arguments.
    """
    source, feature_map = run.arguments.get("pretrained"), run.arguments.get("feature_map")
    try:
        if source is None:
            checkpoint = shipped_for(run.model, feature_map)
        elif source in shipped_names() or Path(source).is_dir():
            checkpoint = find(source)
        else:
            return None
    except JRTError:
        return None
    return f"{Path(checkpoint.name).name} {_hash(checkpoint.folder)}"


@lru_cache
def _hash(folder: Path) -> str:
    found = hashlib.sha256()
    for pattern in WEIGHTS:
        for file in sorted(folder.glob(pattern)):
            with file.open("rb") as opened:
                while block := opened.read(1 << 20):
                    found.update(block)
    return found.hexdigest()[:16]


def finished(folder: Path, run: Run, options: Options) -> frozenset[str]:
    """Tasks of the run that stand finished in its folder.

    Raises:
        JRTError: the folder holds another run, or another version's: its numbers must not be mixed with new ones.
    """
    file = folder / DONE
    if not file.is_file():
        return frozenset()
    content = json.loads(file.read_text(encoding="utf-8"))
    for name, value in identity(run, options).items():
        if content["identity"].get(name) != json.loads(json.dumps(value)):
            raise JRTError(
                f"{file}: was made with {name} {content['identity'].get(name)!r}, not {value!r}. "
                "Choose another --out, or delete that folder to run it again."
            )
    return frozenset(content["tasks"])


def execute(
    runs: Sequence[Run], out: Path, options: Options, tell: Callable[[Run, int, float], None]
) -> list[tuple[Run, str]]:
    """Run what is not finished yet.

    Args:
        runs: of a plan; those of one model stand together.
        out: `out/<name of the run>/` gets its logs.
        options: of all runs.
        tell: called after each run with it, its number and its seconds.

    Returns:
        Runs that could not be made, and why: a model that is not there costs its rows, not the suite.
    """
    missing: list[tuple[Run, str]] = []
    loaded: tuple[str, Any] | None = None
    for number, run in enumerate(runs, 1):
        folder, started = out / run.name, time.monotonic()
        done = finished(folder, run, options)
        tasks = [task for task in run.tasks if task not in done]
        if tasks:
            try:
                if loaded is None or loaded[0] != run.loaded:
                    loaded = None  # the old model goes before the new one comes
                    common = {"batch_size": options.batch_size, "device": options.device}
                    loaded = (run.loaded, load_model(run.model, run.arguments, **common))
                _one(loaded[1], run, tasks, folder, options, done)
            except JRTError as error:
                missing.append((run, str(error)))
        tell(run, number, time.monotonic() - started)
    return missing


def _one(model: Any, run: Run, tasks: Sequence[str], folder: Path, options: Options, done: frozenset[str]) -> None:
    with tempfile.TemporaryDirectory() as written:
        manager = task_manager({"jrt": dict(run.block)} if run.block else {})
        known = set(manager.all_tasks)
        if unknown := [task for task in tasks if task not in known]:
            raise JRTError(f"no task called {', '.join(unknown)}; 'jrt-eval run ls tasks' lists them.")
        results = evaluate(
            model,
            run.model,
            run.arguments,
            tasks,
            manager,
            Path(written),
            batch_size=options.batch_size,
            device=options.device,
            limit=options.limit,
        )
        if results is None:
            return
        part = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        keep(Path(written), part)
    folder.mkdir(parents=True, exist_ok=True)
    for file in part.iterdir():
        file.replace(folder / file.name)
    part.rmdir()
    # last, so that a run that was broken off counts as not finished
    content = {"identity": identity(run, options), "tasks": sorted({*done, *tasks})}
    (folder / DONE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def estimates(runs: Sequence[Run], out: Path, options: Options) -> Iterator[Estimate]:
    """Rows, tokens and time of what is left to do; the time at the speed of the runs that are finished in `out`."""
    sizes: dict[str, tuple[int, int]] = {}
    speed = measured_speed(out)
    for run in runs:
        done = finished(out / run.name, run, options)
        rows = tokens = 0
        for task in (task for task in run.tasks if task not in done):
            key = json.dumps([task, dict(run.block)], sort_keys=True)
            if key not in sizes:
                sizes[key] = _size(task, run, options)
            rows, tokens = rows + sizes[key][0], tokens + sizes[key][1]
        yield Estimate(run, rows, tokens, tokens / speed if speed else None)


def _size(task: str, run: Run, options: Options) -> tuple[int, int]:
    from jrt_lmeval.prompts.gpt2 import count_tokens

    manager = task_manager({"jrt": dict(run.block)} if run.block else {})
    if task not in manager.all_tasks:
        return 0, 0
    loaded = manager.load([task])["tasks"][task]
    loaded.build_all_requests(limit=options.limit, rank=0, world_size=1)
    texts = [str(request.args[0]) for request in loaded.instances]
    return len(texts), sum(count_tokens(text) for text in texts)


def measured_speed(out: Path) -> float | None:
    """Prompt tokens a second over all finished runs below `out`, or None where there are none."""
    tokens = seconds = 0.0
    for file in out.glob("*/results_*.json"):
        facts = (json.loads(file.read_text(encoding="utf-8"))["config"].get("jrt")) or {}
        tokens, seconds = tokens + facts.get("prompt_tokens", 0), seconds + facts.get("seconds", 0.0)
    return tokens / seconds if seconds else None
