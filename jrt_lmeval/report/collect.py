"""Results from the files that lm_eval writes: what is in them counts, never what they are called."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from jrt_lmeval.errors import JRTError
from jrt_lmeval.report.stats import clustered_stderr

FILTER = "none"


@dataclass(frozen=True)
class Result:
    """One model on one task.

    Attributes:
        model: name for people: kind, weights, feature map, prefix policy.
        task: name of the task, such as `swde_jrt_hier`.
        layout: `once`, `flat` or `hier`.
        source: where the rows come from; `sample` marks rows that are not the benchmark's.
        control: `none`, or what was done to the document.
        rows: questions answered.
        limited: run with `--limit`, so not on all rows.
        contains, f1: means over the questions.
        stderr: of `contains`; by document where the samples were logged, else lm_eval's, which takes questions as
            independent.
        clustered: whether `stderr` is by document.
        prompt_tokens, seconds, state_bytes: means per question; NaN for models that do not report them.
        file: what it was read from.
    """

    model: str
    task: str
    layout: str
    source: str
    control: str
    rows: int
    limited: bool
    contains: float
    f1: float
    stderr: float
    clustered: bool
    prompt_tokens: float
    seconds: float
    state_bytes: float
    file: str

    @property
    def benchmark(self) -> str:
        """The task without its layout, with `[sample]` where it is one."""
        name = self.task
        for ending in ("_once", "_jrt_hier", "_jrt"):
            name = name.removesuffix(ending)
        return f"{name} [sample]" if self.source == "sample" else name


def model_label(config: dict[str, Any]) -> str:
    """A short name for a run's model, from the `config` of its results."""
    facts, arguments = config.get("jrt", {}), config.get("model_args") or {}
    arguments = arguments if isinstance(arguments, dict) else {}
    source = facts.get("pretrained") or arguments.get("pretrained") or arguments.get("path") or ""
    parts = [str(config.get("model", "?"))]
    if source:
        parts.append(Path(str(source)).name)
    if facts.get("init") == "random":
        parts.append("untrained")
    if facts.get("prefix", "none") != "none":
        parts.append(f"prefix={facts['prefix']}")
    return " ".join(parts)


def collect(paths: Iterable[Path]) -> list[Result]:
    """All results in files and folders (searched through), in the order of their names.

    Raises:
        JRTError: a path that is not there, a file that is no results file of lm_eval, or nothing found.
    """
    paths = list(paths)
    results = [result for path in paths for file in _files(path) for result in read_results(file)]
    if not results:
        raise JRTError(
            f"no results of recall tasks in {', '.join(map(str, paths))}: run lm_eval with --output_path there."
        )
    return results


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.rglob("results_*.json"))
    if not path.is_file():
        raise JRTError(f"{path}: no such file or folder.")
    return [path]


def read_results(file: Path) -> Iterator[Result]:
    """The recall tasks in one results file."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        config, tasks = content["config"], content["configs"]
    except (ValueError, KeyError, TypeError) as error:
        raise JRTError(f"{file}: not a results file of lm_eval ({type(error).__name__}: {error}).") from error
    for task, figures in sorted(content["results"].items()):
        block = tasks.get(task, {}).get("metadata", {}).get("jrt")
        if block is None or f"contains,{FILTER}" not in figures:
            continue
        samples = _samples(file, task)
        stderr = figures.get(f"contains_stderr,{FILTER}")
        stderr = math.nan if not isinstance(stderr, (int, float)) else float(stderr)
        if samples:
            stderr = clustered_stderr([float(s["contains"]) for s in samples], [cluster(s["doc"]) for s in samples])
        yield Result(
            model=model_label(config),
            task=task,
            layout=block.get("layout", "once"),
            source=block.get("source", "unknown"),
            control=block.get("control", "none"),
            rows=content["n-samples"][task]["effective"],
            limited=config.get("limit") is not None,
            contains=figures[f"contains,{FILTER}"],
            f1=figures.get(f"f1,{FILTER}", math.nan),
            stderr=stderr,
            clustered=bool(samples),
            prompt_tokens=_mean(figures, "prompt_tokens"),
            seconds=_mean(figures, "jrt_seconds"),
            state_bytes=_mean(figures, "jrt_state_bytes"),
            file=str(file),
        )


def cluster(row: dict[str, Any]) -> str:
    """What the questions on one document share: its id, as the task logged it or as the row has it, or its text."""
    known = row.get("jrt", {}).get("doc_id", row.get("doc_id"))
    if known is not None:
        return str(known)
    return sha256(str(row.get("context", row.get("text", ""))).encode()).hexdigest()


def _mean(figures: dict[str, Any], name: str) -> float:
    value = figures.get(f"{name},{FILTER}")
    return float(value) if isinstance(value, (int, float)) else math.nan


def _samples(results: Path, task: str) -> list[dict[str, Any]]:
    """The logged samples of a task that belong to a results file: same folder, same time stamp."""
    stamp = results.stem.removeprefix("results_")
    file = results.with_name(f"samples_{task}_{stamp}.jsonl")
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
