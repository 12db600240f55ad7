"""One results file of lm_eval, of any version and model, as a run and its results."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
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
    dotted,
)
from jrt_lmeval.report.records import Result, Run
from jrt_lmeval.report.samples import content_hash

_HEAD = 400  # bytes: lm_eval writes "results" first


def looks_like_results(file: Path) -> bool:
    """Whether a JSON file may be lm_eval's, by its name or its first words: a folder can hold many others."""
    if file.name.startswith("results_"):
        return True
    with file.open("rb") as stream:
        return b'"results"' in stream.read(_HEAD)


def read_file(file: Path) -> tuple[Run, tuple[Result, ...]]:
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


def _run(file: Path, content: Mapping[str, Any]) -> Run:
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
    return Run(
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


def _results(run: Run, content: Mapping[str, Any]) -> Iterator[Result]:
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
