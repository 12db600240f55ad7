"""Decoding: steps that change the state in place (`modeling/one_token.py`) against the general path, and compiled.

    python -m benchmarks --only decode

Each way decodes as many tokens as a short answer has, with what it must make ready before the first. Compiled steps are
measured where `torch.compile` finds what it needs; what compiling cost is said in steps that it must save first. The
last line asks real rows both ways: their answers must be identical.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.geometry import jrt_config
from benchmarks.reuse import documents, prompts, run
from benchmarks.row import Options, Row, row, seconds, side_by_side
from jrt_lmeval.commands.in_process import load_model
from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.compiled import require_compiler
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.modeling.one_token import OneToken
from jrt_lmeval.modeling.state import RecurrentState

TOKENS = 12  # of an answer
READ = 300
TOLERANCE = 1e-4  # of logits up to 20 in size; float32's own distance from a run in double precision is 2e-5
GENERAL, IN_PLACE, COMPILED = "general path", "in place", "compiled"


def rows(options: Options) -> list[Row]:
    """The shipped model at several batch sizes, six layers of 360M geometry, and answers on real rows."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    lm = load_model("jrt_rnn", {"prefix": "document"}, batch_size="auto")
    found = []
    with torch.inference_mode():
        fast = None if options.quick else _compiler(lm.engine.model)
        for batch in (1, 2) if options.quick else (1, 4, 16, 32):
            found += _steps("jrt-mlp", lm.engine.model, batch, fast if batch in (1, 32) else None, options, "trained")
        if not options.quick:
            large = JRTForCausalLM(jrt_config("360M", mixers=["conv", "prefix_linear", "swa"] * 2)).eval()
            for batch in (1, 16):
                found += _steps("six layers of 360M", large, batch, None, options, "geometry")
    return [*found, _answers(lm, options)]


def _compiler(model: JRTForCausalLM) -> OneToken | None:
    try:
        require_compiler(model.device)
    except JRTError as error:
        print(f"decode: nothing is compiled: {error}")
        return None
    return OneToken(model, compile=True)


def _steps(
    name: str, model: JRTForCausalLM, batch: int, fast: OneToken | None, options: Options, weights: str
) -> list[Row]:
    torch.manual_seed(batch)
    ids = torch.randint(300, 4000, (batch, READ))
    chosen = torch.randint(300, 4000, (TOKENS, batch))
    state = model.prefill(ids, prefix_lengths=torch.full((batch,), READ // 2))[1]
    forms: dict[str, Callable[[], Tensor]] = {
        GENERAL: lambda: _generally(model, state, chosen),
        IN_PLACE: lambda: _in_place(OneToken(model), state, chosen),
    }
    spent = 0.0
    if fast is not None:
        forms[COMPILED] = lambda: _in_place(fast, state, chosen)
        spent = _compiling(forms[COMPILED])
    results = {form: work() for form, work in forms.items()}
    ways = {form: (lambda work=work: seconds(work)) for form, work in forms.items()}
    costs = side_by_side(ways, options.repeats(7 if weights == "geometry" else 11))
    shape = f"{name}, {TOKENS} tokens for {batch} row{'s' if batch > 1 else ''}"
    found = []
    for ours in list(forms)[1:]:
        apart = float((results[ours] - results[GENERAL]).abs().max())
        if not apart <= TOLERANCE:
            raise AssertionError(f"{shape}, {ours}: logits differ by {apart:.1e}.")
        same = f"within {apart:.1e}"
        if ours == COMPILED:
            same += f"; pays after {_pays(spent, costs):,.0f} steps"
        found.append(row(f"{shape}, {ours}", costs, ours, GENERAL, same, weights=weights))
    return found


def _generally(model: JRTForCausalLM, state: RecurrentState, chosen: Tensor) -> Tensor:
    for ids in chosen:
        logits, state = model.step(ids, state)
    return logits


def _in_place(one_token: OneToken, state: RecurrentState, chosen: Tensor) -> Tensor:
    buffers = one_token.open(state)
    for ids in chosen:
        logits = one_token.step(ids, buffers)
    return logits


def _compiling(work: Callable[[], object]) -> float:
    """Seconds of the processor that the first call takes, the compiler's own included and nothing found in a cache."""
    settings = {"compile_threads": 1, "force_disable_caches": True}
    with torch._inductor.config.patch(settings):
        children = _children()
        return seconds(work) + _children() - children


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _pays(spent: float, costs: dict[str, list[float]]) -> float:
    """Steps after which compiling has cost less than it saved against steps in place."""
    saved = sorted(a - b for a, b in zip(costs[IN_PLACE], costs[COMPILED], strict=True))[len(costs[COMPILED]) // 2]
    return TOKENS * spent / saved if saved > 0 else float("inf")


def _answers(lm: Any, options: Options) -> Row:
    """Two questions on each of many documents, read and answered both ways."""
    count, length = (2, 60) if options.quick else (100, 300)
    asked = prompts(documents(lm, count, length), 2, "whole")
    in_place, answers = lm.engine.one_token, {}

    def timed(form: str) -> float:
        lm.engine.one_token = in_place if form == IN_PLACE else None
        answers[form], totals = run(lm, asked, True)
        return totals["seconds"]

    with patch.object(lm.engine, "one_token"):
        costs = side_by_side({form: (lambda form=form: timed(form)) for form in (IN_PLACE, GENERAL)}, 1)
    if answers[IN_PLACE] != answers[GENERAL]:
        raise AssertionError(f"answers differ between {IN_PLACE} and {GENERAL}.")
    what = f"reading and answering {len(asked)} questions, batch auto"
    same = f"identical, {len(asked)} answers"
    return row(what, costs, IN_PLACE, GENERAL, same, weights="trained", unit="s", scale=1)
