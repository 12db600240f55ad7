"""Half precision on this CPU: what it costs beside float32, in evaluation and training, and how many answers change.

    python -m benchmarks --only half

The probe is what `dtype=probe` decides by. Answers are counted, not required to be the same: bfloat16 has eight bits.
"""

from __future__ import annotations

import os
from itertools import islice

import torch

from benchmarks.reuse import documents, prompts, run
from benchmarks.row import Options, Row, row, seconds, side_by_side
from jrt_lmeval.checkpoints.found import find
from jrt_lmeval.checkpoints.tokenizers import read_own
from jrt_lmeval.commands.in_process import load_model
from jrt_lmeval.training.mixture import Mixture, Place
from jrt_lmeval.training.models import new_model
from jrt_lmeval.training.objective import collate, jrt_loss, shares
from jrt_lmeval.training.recipes import suite
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
        *(_training(model, units, options) for model in ("jrt_rnn", "llama")),
    ]


def _training(model: str, units: str, options: Options) -> Row:
    """Steps of the suite's recipe with products in both formats (`jrt-eval train --dtype`), optimiser left out."""
    recipe = suite(model)
    tokenizer = read_own(find("llama").folder)
    core, silent = tokenizer.backend_tokenizer, torch.Generator()
    stream = Mixture(recipe, lambda text: core.encode(text).ids, tokenizer.eos_token_id, 0)
    count = 1 if options.quick else 6
    batches = [
        collate(rows, tokenizer.mask_token_id, 0.0, 0.0, 0.0, silent)
        for _, rows in islice(stream.batches(Place(3, 0, recipe.tokens // 2)), count)
    ]
    torch.manual_seed(0)
    trained = new_model(recipe, tokenizer)
    losses: dict[str, float] = {}

    def steps(name: str) -> None:
        losses[name] = 0.0
        for batch in batches:
            for share in shares(batch, None):
                with torch.autocast("cpu", torch.bfloat16, enabled=name == BFLOAT16):
                    loss = jrt_loss(trained, share, 0.0)[0]
                loss.backward()
                losses[name] += loss.item() / count

    ways = {name: (lambda name=name: seconds(lambda: steps(name))) for name in (FLOAT32, BFLOAT16)}
    costs = side_by_side(ways, options.repeats(5))
    apart = f"losses differ by {abs(losses[FLOAT32] - losses[BFLOAT16]) / losses[FLOAT32]:.0e}"
    return row(f"{count} training steps of the suite's {model}, {units}", costs, BFLOAT16, FLOAT32, apart)


def _probe(units: str, options: Options) -> Row:
    works = {name: half.work(kind) for name, kind in ((FLOAT32, torch.float32), (BFLOAT16, torch.bfloat16))}
    ways = {name: (lambda work=work: seconds(work)) for name, work in works.items()}
    for way in ways.values():
        way()
    costs = side_by_side(ways, options.repeats(15))
    return row(f"the probe's layer, {units}", costs, BFLOAT16, FLOAT32, "not compared")
