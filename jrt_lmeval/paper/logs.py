"""What is kept of a run: the results without the machine's paths, and every answer with what it was scored against.

Documents and prompts are left out (they come with the data), so that the logs of a whole suite are a few megabytes; the
hash of the prompt stays, and answer and accepted answers stay, so that scores can be made again.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
