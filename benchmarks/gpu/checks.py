"""Is what runs on the GPU right? The doctor on every model, answers beside those of the CPU, and nccl."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.gpu.findings import Finding, Setting
from jrt_lmeval.checkpoints.found import shipped_models
from jrt_lmeval.commands.in_process import load_model
from jrt_lmeval.data.shipped import factbook_rows
from jrt_lmeval.doctor.model import NO_TOKENIZER, examine
from jrt_lmeval.prompts import Prompt, render

FIXTURES = Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "released"
ROWS, TINY_ROWS, NEW_TOKENS = 200, 4, 16
WINDOW = 600


def doctor(setting: Setting) -> Iterator[Finding]:
    """`jrt-eval doctor` for each shipped model and each released fixture, in float32 and bfloat16."""
    models = {name: (name, None) for name in shipped_models()}
    models |= {folder.name: (str(folder), NO_TOKENIZER) for folder in sorted(FIXTURES.glob("*/")) if folder.is_dir()}
    if setting.tiny:
        models = dict([*models.items()][-1:])
    for name, (source, tokenizer) in models.items():
        for dtype in setting.dtypes:
            checks = list(examine(source, tokenizer=tokenizer, device=setting.device, dtype=dtype))
            # on a CPU the doctor finds bfloat16 coarse, which is so
            expected = {"dtype and device sane"} if dtype == "bfloat16" and not setting.on_cuda else set()
            failed = [f"{check.name}: {check.seen}" for check in checks if check.passed is False]
            wrong = [line for line in failed if line.partition(":")[0] not in expected]
            done = sum(check.passed is not None for check in checks)
            yield Finding(f"doctor {name}, {dtype}", done, "checks", not wrong, "; ".join(wrong) or "all passed")


def prompts(count: int) -> list[Prompt]:
    """Rows of factbook as the task writes them with the document twice."""
    rendered = (render("factbook", "flat", row, WINDOW) for row in factbook_rows())
    kept = (prompt for prompt in rendered if isinstance(prompt, Prompt))
    return [prompt for prompt, _ in zip(kept, range(count), strict=False)]


def answers_of(device: str, dtype: str, asked: list[Prompt]) -> list[str]:
    """Of the shipped model."""
    lm: Any = load_model("jrt_rnn", {"prefix": "dynamic", "dtype": dtype}, device=device, batch_size="auto")
    goal = {"until": ["\n"], "max_gen_toks": NEW_TOKENS}
    requests = [SimpleNamespace(args=(prompt, goal)) for prompt in asked]
    return [str(answer) for answer in lm.generate_until(requests, disable_tqdm=True)]


def answers(setting: Setting) -> Iterator[Finding]:
    """The same rows on the CPU in float32 and on the device: identical in float32, counted in bfloat16."""
    asked = prompts(TINY_ROWS if setting.tiny else ROWS)
    truth = answers_of("cpu", "float32", asked)
    for dtype in setting.dtypes:
        given = answers_of(setting.device, dtype, asked)
        different = sum(mine != right for mine, right in zip(given, truth, strict=True))
        passed = different == 0 if dtype == "float32" else None
        seen = f"of {len(asked)} answers of jrt-mlp differ from the CPU's in float32"
        yield Finding(f"answers, {dtype}", different, "answers", passed, seen)


def processes(setting: Setting) -> Iterator[Finding]:
    """One process in a group of nccl (gloo on a CPU): what `model_adapters.processes` asks of it."""
    backend = "nccl" if setting.on_cuda else "gloo"
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29533"}
    dist.init_process_group(backend, rank=0, world_size=1)
    try:
        tensor = torch.arange(3.0, device=setting.device)
        parts = [torch.empty_like(tensor)]
        dist.all_gather(parts, tensor)
        found: list[Any] = [None]
        dist.gather_object({"rows": 3}, found, dst=0)
        dist.barrier()
        right = bool((parts[0] == tensor).all()) and found == [{"rows": 3}]
        yield Finding(f"{backend} with one process", None, "", right, "all_gather, gather_object, barrier")
    finally:
        dist.destroy_process_group()
