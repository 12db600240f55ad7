"""The paper's six tasks at 1.3B: as many prompts, as long, by this package's own engine. Goal: under five minutes.

Weights and tokens are random, so only time and memory mean anything. Prompts are run in the mix of lengths of the six
tasks until a minute and a half is over; what is left is reckoned from the tokens that were read and generated.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import torch

from benchmarks.extrapolate import ANSWER, QUESTIONS, WINDOW
from benchmarks.geometry import jrt_config
from benchmarks.gpu.findings import Finding, Setting, forget_peak, peak_gigabytes, wait
from jrt_lmeval.modeling.model import JRTForCausalLM
from model_adapters.engines.jrt import JRTEngine
from model_adapters.running.batching import Budget, batches
from model_adapters.running.hardware import TOKENS_CUDA

SECONDS, GOAL_MINUTES = 90.0, 5.0
TOY: dict = {"hidden_size": 64, "vocab_size": 512, "intermediate_size": 128, "mixers": ["conv", "prefix_linear", "swa"]}


def lengths() -> list[int]:
    """Tokens of every prompt of the six tasks, in an order that mixes them."""
    found = [min(WINDOW, mean) for count, mean in QUESTIONS.values() for _ in range(count)]
    random.Random(0).shuffle(found)
    return found


def suite(setting: Setting) -> Iterator[Finding]:
    """Time and memory of the six tasks, read once, answers of 48 tokens."""
    config = jrt_config("1.3B", **(TOY if setting.tiny else {}))
    with torch.device(setting.device):
        model = JRTForCausalLM(config).to(setting.dtype)
    engine, prompts = JRTEngine(model), lengths()[: 4 if setting.tiny else None]
    # batches of a part of the prompts at a time, so that whenever the time is over the mix is that of the whole
    size, budget, new = max(1, len(prompts) // 12), Budget(tokens=TOKENS_CUDA), 2 if setting.tiny else ANSWER
    run(engine, [[5] * 32], 2)
    forget_peak(setting)
    wait(setting)
    started, done, asked = time.perf_counter(), 0, 0
    for first in range(0, len(prompts), size):
        part = prompts[first : first + size]
        for numbers in batches([length + new for length in part], budget):
            run(engine, [[7] * part[number] for number in numbers], new)
        done, asked = done + sum(part), asked + len(part)
        wait(setting)
        if time.perf_counter() - started > SECONDS:
            break
    spent, whole = time.perf_counter() - started, sum(prompts)
    minutes = spent * whole / done / 60
    what = f"six tasks, {'toy' if setting.tiny else 'JRT-RNN 1.3B geometry'}"
    seen = f"{asked:,} of {len(prompts):,} prompts run in {spent:.0f} s, {done / spent:,.0f} prompt tokens a second"
    yield Finding(what, minutes, "min", minutes < GOAL_MINUTES if setting.on_cuda and not setting.tiny else None, seen)
    yield Finding(f"{what}, peak memory", peak_gigabytes(setting), "GB", None, "tensors; 0 on a CPU")


def run(engine: JRTEngine, ids: list[list[int]], new: int) -> None:
    """Read a batch, half of each prompt as prefix, and answer with `new` tokens."""
    logits, state = engine.prefill(ids, [len(row) // 2 for row in ids])
    for _ in range(new - 1):
        logits, state = engine.step(logits.argmax(-1), state)
