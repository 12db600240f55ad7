"""One results file of lm_eval, of any version and any model: the run that it logs and its result on each task."""

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

_HEAD = 400  # bytes: lm_eval writes "results" first


@dataclass(frozen=True)
class LoggedRun:
    """One call of lm_eval.

    Attributes:
        file: the results file, whose name and folder never identify a run.
        kind: lm_eval's `--model`.
        weights: last part of the weights' name or folder; for a server, the model that it serves.
        settings: what was set for the model, with dotted names; defaults that a model reports are included.
        machine: settings that should not change an answer.
        facts: everything that the model reports about itself and the run (`config.jrt`).
        date: seconds since 1970, or None.
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
        task: name of the task, such as `swde_jrt_hier`.
        block: the task's `jrt:` block as logged; empty for tasks without one.
        settings: what was set for the task, with dotted names: block, shots, stop strings, length of the answers.
        means: metric -> mean as lm_eval wrote it; a filter other than `none` stands after a comma.
        errors: metric -> lm_eval's standard error.
        asked, total: number of questions that were asked, and that the task has.
        samples_file: the log of its answers, or None.
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
        """`once`, `flat`, `hier`, ...: from the block, else from the ending of the task's name; `-` if it has none."""
        return str(self.block.get("layout") or layout_of(self.task) or "-")

    @property
    def benchmark(self) -> str:
        """The task's name without the ending that names its layout."""
        return benchmark_of(self.task)

    @property
    def source(self) -> str:
        """Where the rows come from; `sample` means the shipped sample and not the benchmark."""
        return str(self.block.get("source", "-"))

    @property
    def control(self) -> str:
        """`none`, or what was done to the document."""
        return str(self.block.get("control", "none"))

    @property
    def partly(self) -> str:
        """Which part of the task's questions was asked; empty if all were."""
        if self.run.limit is None and self.asked >= self.total:
            return ""
        return f"first {self.asked}" if self.run.limit is not None else f"{self.asked} chosen"

    @property
    def marks(self) -> tuple[str, ...]:
        """Marks that every table shows: sample rows, part of the rows, a control, an untrained model."""
        marks = ["sample"] if self.source == "sample" else []
        marks += [f"{self.partly} of {self.total}"] if self.partly else []
        marks += [self.control] if self.control != "none" else []
        return (*marks, *(["untrained"] if self.run.facts.get("init") == "random" else []))

    @cached_property
    def columns(self) -> Columns | None:
        """Scores and figures of all answers, read once; None without a log of answers."""
        return None if self.samples_file is None else read_columns(self.samples_file)

    def samples(self) -> Iterator[Sample]:
        """The answers one by one in the order of the log, read again on each call."""
        return iter(()) if self.samples_file is None else read_samples(self.samples_file)

    @property
    def task_key(self) -> tuple[Any, ...]:
        """What determines the questions: runs with the same key must have been asked the same."""
        place = (self.task, str(self.version), self.layout, self.source, self.control, self.partly)
        return (*place, _frozen(self.settings))

    @property
    def key(self) -> tuple[Any, ...]:
        """Everything that identifies a result, apart from its seeds."""
        run = self.run
        return (run.kind, run.weights, _frozen(run.settings), _frozen(run.machine), *self.task_key)


def _frozen(settings: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, str(value)) for name, value in settings.items()))


def looks_like_results(file: Path) -> bool:
    """Whether a JSON file may be lm_eval's, by its name or its first bytes; folders hold many others."""
    if file.name.startswith("results_"):
        return True
    with file.open("rb") as stream:
        return b'"results"' in stream.read(_HEAD)


def read_file(file: Path) -> tuple[Result, ...]:
    """The results in a file of lm_eval.

    Raises:
        JRTError: not a results file of lm_eval; names the file.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return tuple(_results(_run(file, content), content))
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise JRTError(f"{file}: not a results file of lm_eval ({type(error).__name__}: {error}).") from None


def _run(file: Path, content: Mapping[str, Any]) -> LoggedRun:
    config = content["config"]
    facts, given = dict(config.get("jrt") or {}), arguments(config.get("model_args"))
    named = facts.get("pretrained") or next((given[name] for name in WEIGHTS if given.get(name)), None)
    weights = str(named or content.get("model_name") or "").rstrip("/")
    reported = {
        name: value
        for name, value in dotted(facts).items()
        if name.partition(".")[0] not in MEASURED
        and (isinstance(value, (str, bool)) or name in NUMERIC_SETTINGS or name in given)
    }
    # what lm_eval puts around every prompt, and its own arguments for generating
    around = {
        name: content.get(name) for name in ("chat_template_sha", "system_instruction_sha", "fewshot_as_multiturn")
    }
    around |= dotted({"gen_kwargs": config["gen_kwargs"]}) if isinstance(config.get("gen_kwargs"), dict) else {}
    around = {name: value for name, value in around.items() if value not in (None, False, "")}
    settings = {**dotted(given), **reported, **around}
    policy = settings.get("prefix")
    settings = {
        name: value
        for name, value in settings.items()
        if name not in WEIGHTS and (policy is None or policy in ONLY_FOR.get(name, (policy,)))
    }
    machine = {name: settings.pop(name) for name in tuple(settings) if name in MACHINE}
    machine |= {name: config[name] for name in ("batch_size", "device", "model_sha") if config.get(name) is not None}
    # lm_eval writes the device that was asked for, which is a GPU where nobody asked; a model says what it runs on
    machine |= {"device": str(facts["device"])} if facts.get("device") else {}
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


def _results(run: LoggedRun, content: Mapping[str, Any]) -> Iterator[Result]:
    part = {name: content.get(name) or {} for name in ("configs", "groups", "n-samples", "versions", "task_hashes")}
    for task, figures in sorted(content["results"].items()):
        config = part["configs"].get(task) or {}
        metadata = config.get("metadata") or {}
        means, errors = _numbers(figures)
        if not means or (task in part["groups"] and task not in part["configs"]):
            continue
        block = metadata.get("jrt") or {}
        found = (metadata.get(FOUND) or {}).get("means") or {}
        count = part["n-samples"].get(task) or {}
        asked = int(count.get("effective") or figures.get("sample_len") or 0)
        yield Result(
            run,
            task,
            part["versions"].get(task, metadata.get("version", "-")),
            block,
            _task_settings(config, block),
            {name: float(value) for name, value in found.items() if isinstance(value, (int, float))} | means,
            errors,
            asked,
            int(count.get("original") or asked),
            _samples_file(run.file, task, part["task_hashes"].get(task)),
        )


def _numbers(figures: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """Means and standard errors by metric; `contains,none` is `contains`."""
    means: dict[str, float] = {}
    errors: dict[str, float] = {}
    for name, value in figures.items():
        metric, comma, filter_name = name.partition(",")
        if comma and not isinstance(value, bool) and isinstance(value, (int, float)):
            plain = metric.removesuffix("_stderr")
            kind = means if plain == metric else errors
            kind[plain if filter_name == "none" else f"{plain},{filter_name}"] = float(value)
    return means, {name: value for name, value in errors.items() if not math.isnan(value)}


KNOBS = {name: name for name in ("mqar", "set_disjointness", "name_index", "middle_match")} | {"needles": "niah_"}
"""Block of the knobs of made rows -> how the names of its tasks begin."""


def _task_settings(config: Mapping[str, Any], block: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in dotted(block).items() if name.partition(".")[0] not in BLOCK_FACTS}
    metadata, task = config.get("metadata") or {}, str(config.get("task"))
    found |= dotted({"ppl": metadata.get("ppl") or {}})
    # --metadata reaches every task of a run, also those that do not read it
    found |= dotted({name: metadata.get(name) or {} for name, start in KNOBS.items() if task.startswith(start)})
    generation = dotted(config.get("generation_kwargs") or {})
    found |= {name: generation[name] for name in ("until", "max_gen_toks", "do_sample") if name in generation}
    return found | {name: config[name] for name in ("num_fewshot", "description") if config.get(name)}


def _samples_file(results: Path, task: str, known: str | None) -> Path | None:
    """The log of a task's answers: by its name or, for a renamed log, by the hash in the results file."""
    stamp = results.stem.removeprefix("results_")
    stamps = (stamp, stamp[-26:])  # `--output_path x.json` writes x_STAMP.json
    for name in dict.fromkeys(f"samples_{task}_{stamp}.jsonl{end}" for stamp in stamps for end in ("", ".gz")):
        if (file := results.with_name(name)).is_file():
            return file
    logs = sorted((*results.parent.glob("*.jsonl"), *results.parent.glob("*.jsonl.gz"))) if known else []
    return next((log for log in logs if content_hash(log) == known), None)
