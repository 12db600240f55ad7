"""Logs as lm_eval writes them, small and made by hand, for the tests of the report."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

STAMP = "2026-01-02T03-04-05.678901"
BLOCK = {"layout": "hier", "source": "local", "control": "none", "overlap": 0.2, "order": "coarse_to_fine"}


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def sample(number: int, score: float, prompt: str = "", **more: Any) -> dict[str, Any]:
    """A line of a samples log: two questions on each document."""
    facts = {"doc_id": f"d{number // 2}", "prompt_tokens": 100 + number, "jrt_seconds": 0.25, **more.pop("facts", {})}
    line = {
        "doc_id": number,
        "doc": {"doc_id": f"d{number // 2}", "key": f"Question {number}", "text": f"words {number}", "jrt": facts},
        "target": str([f"answer {number}"]),
        "filtered_resps": [f" answer {number}" if score else " nothing"],
        "filter": "none",
        "metrics": ["contains", "f1"],
        "doc_hash": digest(f"row {number}"),
        "prompt_hash": digest(f"prompt {number} {prompt}"),
        "target_hash": digest(str(number)),
        "contains": score,
        "f1": score,
    }
    return line | more


def write_run(
    folder: Path,
    scores: Sequence[float] | None = None,
    task: str = "swde_jrt_hier",
    *,
    model: str = "jrt_rnn",
    arguments: Any = None,
    facts: Mapping[str, Any] | None = None,
    block: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    total: int | None = None,
    version: float = 2.0,
    lines: Sequence[Mapping[str, Any]] | None = None,
    log: bool = True,
    packed: bool = False,
    prompt: str = "",
) -> Path:
    """A results file and its samples; `lines` instead of `scores` gives the samples themselves."""
    made = [sample(i, score, prompt) for i, score in enumerate(scores or ())] if lines is None else list(lines)
    mean = sum(line["contains"] for line in made) / len(made)
    content = {
        "results": {task: {"contains,none": mean, "contains_stderr,none": 0.01, "f1,none": mean}},
        "versions": {task: version},
        "n-samples": {task: {"original": total or len(made), "effective": len(made)}},
        "config": {
            "model": model,
            "model_args": {"prefix": "dynamic"} if arguments is None else arguments,
            "limit": None,
            "random_seed": 0,
            **({"jrt": dict(facts)} if facts is not None else {}),
            **(config or {}),
        },
        "configs": {task: {"metadata": {"jrt": dict(BLOCK if block is None else block)}}},
    }
    if block == {}:
        content["configs"][task]["metadata"] = {}
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"results_{STAMP}.json"
    file.write_text(json.dumps(content))
    if log:
        body = "".join(json.dumps(line) + "\n" for line in made)
        name = folder / f"samples_{task}_{STAMP}.jsonl"
        if packed:
            name.with_name(name.name + ".gz").write_bytes(gzip.compress(body.encode()))
        else:
            name.write_text(body)
    return file
