"""One results file of lm_eval, of any version and model: the run that it logs, and its result on each task."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jrt_lmeval.errors import JRTError
from jrt_lmeval.report.fields import (
    BLOCK_FACTS,
    FOUND,
    MACHINE,
    MEASURED,
    NUMERIC_SETTINGS,
    ONLY_FOR,
    SEEDS,
    WEIGHTS,
    arguments,
    benchmark_of,
    dotted,
    layout_of,
)
from jrt_lmeval.report.samples import Columns, Sample, content_hash, read_columns, read_samples


@dataclass(frozen=True)
class Broken:
    """A file that could not be used, and why, in a sentence that names it."""

    file: Path
    why: str


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        name: of its folder.
        curves: what was measured -> (tokens read so far, value) in the order of training; shares from 0 to 1.
        held_out: whether the values are of rows kept from training; else they are means over the batches themselves.
    """

    name: str
    curves: dict[str, tuple[tuple[float, float], ...]]
    held_out: bool


@dataclass(frozen=True)
class LoggedRun:
    """One call of lm_eval: a results file.

    Attributes:
        file: what it was read from; never part of what a result is known by.
        kind: lm_eval's `--model`.
        weights: the last part of the weights' name or folder; for a server, the model that it serves.
        settings: what was set for the model, dotted names; defaults that a model reports included.
        machine: settings that should not change an answer.
        seeds: random seeds.
        facts: everything that the model reports of itself and of the run (`config.jrt`).
        parameters: number of the model's parameters, or None.
        date: seconds since 1970, or None.
        limit: lm_eval's `--limit`, or None.
    """

    file: Path
    kind: str
    weights: str
    settings: Mapping[str, Any]
    machine: Mapping[str, Any]
    seeds: Mapping[str, Any]
    facts: Mapping[str, Any]
    parameters: int | None
    date: float | None
    limit: float | None


@dataclass(frozen=True)
class Result:
    """One run on one task.

    Attributes:
        run: the run.
        task: name of the task, such as `swde_jrt_hier`.
        version: of the task.
        block: the task's `jrt:` block as logged; empty for tasks of others.
        settings: what was set for the task, dotted names: block, shots, how long and until what is generated.
        means: metric -> mean as lm_eval wrote it; a filter other than `none` stands behind a comma.
        errors: metric -> lm_eval's standard error, which takes questions as independent.
        asked: questions answered.
        total: questions that the task has.
        samples_file: the log of its answers, or None.
        columns_read: the scores and figures of all answers, or None without such a log.
    """

    run: LoggedRun
    task: str
    version: Any
    block: Mapping[str, Any]
    settings: Mapping[str, Any]
    means: Mapping[str, float]
    errors: Mapping[str, float]
    asked: int
    total: int
    samples_file: Path | None

    @property
    def layout(self) -> str:
        """`once`, `flat`, `hier`, ...; `-` for a task that has none."""
        return layout_of(self.task, self.block)

    @property
    def benchmark(self) -> str:
        """The task without its layout."""
        return benchmark_of(self.task)

    @property
    def source(self) -> str:
        """Where the rows come from; `sample` marks rows that are not the benchmark's."""
        return str(self.block.get("source", "-"))

    @property
    def control(self) -> str:
        """`none`, or what was done to the document."""
        return str(self.block.get("control", "none"))

    @property
    def partly(self) -> str:
        """Empty, or what part of the task's questions was asked."""
        if self.run.limit is None and self.asked >= self.total:
            return ""
        return f"first {self.asked}" if self.run.limit is not None else f"{self.asked} chosen"

    @property
    def marks(self) -> tuple[str, ...]:
        """What a reader must not miss: generated rows, part of the rows, a control, an untrained model."""
        marks = ["sample"] if self.source == "sample" else []
        marks += [f"{self.partly} of {self.total}"] if self.partly else []
        marks += [self.control] if self.control != "none" else []
        return (*marks, *(["untrained"] if self.run.facts.get("init") == "random" else []))

    @cached_property
    def columns(self) -> Columns | None:
        """Scores and figures of all answers, read once; None without a log of answers."""
        return None if self.samples_file is None else read_columns(self.samples_file)

    def samples(self) -> Iterator[Sample]:
        """The answers one by one, in the order of the log; nothing is kept in memory."""
        return iter(()) if self.samples_file is None else read_samples(self.samples_file)

    @property
    def task_key(self) -> tuple[Any, ...]:
        """What makes the questions what they are: runs with the same one must have been asked the same."""
        settings = tuple(sorted((name, str(value)) for name, value in self.settings.items()))
        return (self.task, str(self.version), self.layout, self.source, self.control, self.partly, settings)

    @property
    def key(self) -> tuple[Any, ...]:
        """Everything but the seeds and where the files lie."""
        model = tuple(sorted((name, str(value)) for name, value in self.run.settings.items()))
        machine = tuple(sorted((name, str(value)) for name, value in self.run.machine.items()))
        return (self.run.kind, self.run.weights, model, machine, *self.task_key)


_HEAD = 400  # bytes: lm_eval writes "results" first


def looks_like_results(file: Path) -> bool:
    """Whether a JSON file may be lm_eval's, by its name or its first words: a folder can hold many others."""
    if file.name.startswith("results_"):
        return True
    with file.open("rb") as stream:
        return b'"results"' in stream.read(_HEAD)


def read_file(file: Path) -> tuple[LoggedRun, tuple[Result, ...]]:
    """What a results file says.

    Raises:
        JRTError: not a results file of lm_eval; names the file.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        run = _run(file, content)
        return run, tuple(_results(run, content))
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise JRTError(f"{file}: not a results file of lm_eval ({type(error).__name__}: {error}).") from None


def _run(file: Path, content: Mapping[str, Any]) -> LoggedRun:
    config = content["config"]
    facts = dict(config.get("jrt") or {})
    given = arguments(config.get("model_args"))
    named = facts.get("pretrained") or next((given[name] for name in WEIGHTS if given.get(name)), None)
    weights = str(named or content.get("model_name") or "").rstrip("/")
    reported = {
        name: value
        for name, value in dotted(facts).items()
        if name.partition(".")[0] not in MEASURED
        and (isinstance(value, (str, bool)) or name in NUMERIC_SETTINGS or name in given)
    }
    settings = {**dotted(given), **reported, **_lm_eval_settings(content, config)}
    settings = {name: value for name, value in settings.items() if name not in WEIGHTS}
    policy = settings.get("prefix")
    settings = {
        name: value for name, value in settings.items() if policy is None or policy in ONLY_FOR.get(name, (policy,))
    }
    machine = {name: settings.pop(name) for name in tuple(settings) if name in MACHINE}
    machine |= {name: config[name] for name in ("batch_size", "device", "model_sha") if config.get(name) is not None}
    machine |= {"weights_folder": weights} | ({"lm_eval_version": v} if (v := content.get("lm_eval_version")) else {})
    seeds = {name: config[name] for name in SEEDS if config.get(name) is not None}
    seeds |= {"seed": settings.pop("seed")} if "seed" in settings else {}
    parameters = config.get("model_num_parameters")
    return LoggedRun(
        file,
        str(config.get("model") or "?"),
        Path(weights).name if weights else "",
        settings,
        machine,
        seeds,
        facts,
        int(parameters) if isinstance(parameters, (int, float)) and parameters > 0 else None,
        content.get("date"),
        config.get("limit"),
    )


def _lm_eval_settings(content: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """What lm_eval puts around every prompt and its own arguments for generating."""
    found = {
        name: content.get(name) for name in ("chat_template_sha", "system_instruction_sha", "fewshot_as_multiturn")
    }
    found |= dotted({"gen_kwargs": config.get("gen_kwargs")}) if isinstance(config.get("gen_kwargs"), dict) else {}
    return {name: value for name, value in found.items() if value not in (None, False, "")}


def _results(run: LoggedRun, content: Mapping[str, Any]) -> Iterator[Result]:
    counts, configs = content.get("n-samples") or {}, content.get("configs") or {}
    groups = content.get("groups") or {}
    for task, figures in sorted(content["results"].items()):
        if task in groups and task not in configs:
            continue
        config = configs.get(task) or {}
        block = (config.get("metadata") or {}).get("jrt") or {}
        means, errors = _numbers(figures)
        if not means:
            continue
        found = ((config.get("metadata") or {}).get(FOUND) or {}).get("means") or {}
        means = {name: float(value) for name, value in found.items() if isinstance(value, (int, float))} | means
        count = counts.get(task) or {}
        asked = int(count.get("effective") or figures.get("sample_len") or 0)
        yield Result(
            run,
            task,
            (content.get("versions") or {}).get(task, (config.get("metadata") or {}).get("version", "-")),
            block,
            _task_settings(config, block),
            means,
            errors,
            asked,
            int(count.get("original") or asked),
            _samples_file(run.file, task, (content.get("task_hashes") or {}).get(task)),
        )


def _numbers(figures: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """Means and standard errors by metric; `contains,none` is `contains`."""
    means: dict[str, float] = {}
    errors: dict[str, float] = {}
    for name, value in figures.items():
        metric, comma, filter_name = name.partition(",")
        if not comma or isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        is_error = metric.endswith("_stderr")
        metric = metric.removesuffix("_stderr") + ("" if filter_name == "none" else f",{filter_name}")
        (errors if is_error else means)[metric] = float(value)
    return means, {name: value for name, value in errors.items() if not math.isnan(value)}


def _task_settings(config: Mapping[str, Any], block: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in dotted(block).items() if name.partition(".")[0] not in BLOCK_FACTS}
    found |= dotted({"ppl": (config.get("metadata") or {}).get("ppl") or {}})
    generation = config.get("generation_kwargs") or {}
    found |= {
        name: value for name, value in dotted(generation).items() if name in ("until", "max_gen_toks", "do_sample")
    }
    if config.get("num_fewshot"):
        found["num_fewshot"] = config["num_fewshot"]
    if config.get("description"):
        found["description"] = config["description"]
    return found


def _samples_file(results: Path, task: str, known: str | None) -> Path | None:
    """The log of a task's answers: by its name, or, where files were renamed, by the hash in the results file."""
    stamp = results.stem.removeprefix("results_")
    stamps = (stamp, stamp[-26:])  # --output_path x.json gives x_STAMP.json
    for name in dict.fromkeys(f"samples_{task}_{stamp}.jsonl{end}" for stamp in stamps for end in ("", ".gz")):
        if (file := results.with_name(name)).is_file():
            return file
    if not known:
        return None
    for file in sorted((*results.parent.glob("*.jsonl"), *results.parent.glob("*.jsonl.gz"))):
        try:
            if content_hash(file) == known:
                return file
        except JRTError:
            continue
    return None
