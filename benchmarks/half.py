"""Half precision on this CPU: what it costs beside float32, and how many answers change.

    python -m benchmarks --only half

The probe is what `dtype=probe` decides by. Answers are counted, not required to be the same: bfloat16 has eight bits.
"""

from __future__ import annotations

import os

import torch

from benchmarks.reuse import documents, prompts, run
from benchmarks.row import Options, Row, row, seconds, side_by_side
from jrt_lmeval.commands.in_process import load_model
from model_adapters.engines import half

FLOAT32, BFLOAT16 = "float32", "bfloat16"


def rows(options: Options) -> list[Row]:
    """The probe's work, and documents read and asked about by the shipped model in both formats."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    units = "with AMX" if half.has_matrix_units(torch.bfloat16) else "without AMX"
    models = {name: load_model("jrt_rnn", {"prefix": "document", "dtype": name}) for name in (FLOAT32, BFLOAT16)}
    count, tokens = (2, 60) if options.quick else (24, 300)
    asked = prompts(documents(models[FLOAT32], count, tokens), 2, "whole")
    answers: dict[str, list[str]] = {}

    def timed(name: str) -> float:
        answers[name], totals = run(models[name], asked, True)
        return totals["seconds"]

    with torch.inference_mode():
        probe = _probe(units, options)
    costs = side_by_side({name: (lambda name=name: timed(name)) for name in models}, options.repeats(3))
    agreeing = sum(a == b for a, b in zip(answers[FLOAT32], answers[BFLOAT16], strict=True))
    what = f"{len(asked)} questions on documents of {tokens} tokens, jrt-mlp"
    same = f"{len(asked) - agreeing} of {len(asked)} answers differ"
    return [
        probe,
        row(f"{what}, {units}", costs, BFLOAT16, FLOAT32, same, weights="trained", unit="s", scale=1),
    ]


def _probe(units: str, options: Options) -> Row:
    works = {name: half.work(kind) for name, kind in ((FLOAT32, torch.float32), (BFLOAT16, torch.bfloat16))}
    ways = {name: (lambda work=work: seconds(work)) for name, work in works.items()}
    for way in ways.values():
        way()
    costs = side_by_side(ways, options.repeats(15))
    return row(f"the probe's layer, {units}", costs, BFLOAT16, FLOAT32, "not compared")
