"""What `python -m benchmarks.gpu` does, part by part: is what runs on the GPU right, and how fast is it?

The published figures beside which those of `prefill` stand (JRT paper, arXiv 2407.05483, table 5, an H100, batch 16,
one layer's kernel): JRT-RNN 0.4, 0.8, 1.5, 2.8, 5.6 ms and FlashAttention-2 0.5, 1.8, 6.8, 26.6, 107.8 ms at 2k to 32k
tokens. They are another kernel on another machine; the ratio to flash attention in the same run is what counts.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from jrt_lmeval.checkpoints.found import find, shipped_models
from jrt_lmeval.checkpoints.load import load_model as load_checkpoint
from jrt_lmeval.data.shipped import factbook_rows
from jrt_lmeval.doctor.model import NO_TOKENIZER, examine
from jrt_lmeval.modeling.config import JRTConfig
from jrt_lmeval.modeling.feature_maps import build_feature_map
from jrt_lmeval.modeling.linear_attention import Prefix, chunked, fla, naive, normalise
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.prompts import Prompt, render
from jrt_lmeval.runner import load_model
from model_adapters.engines.jrt import JRTEngine
from model_adapters.options import TOKENS_CUDA
from model_adapters.running.batching import Budget, batches

FIXTURES = Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "released"
HEADS, D = 16, 16


@dataclass(frozen=True)
class Setting:
    """Where and how much.

    Attributes:
        device: `cuda`, or `cpu` to see that a part runs.
        tiny: sizes at which every part takes seconds on a CPU; such figures say nothing about speed.
    """

    device: str = "cuda"
    tiny: bool = False

    @property
    def on_cuda(self) -> bool:
        """Whether this is about a GPU."""
        return torch.device(self.device).type == "cuda"

    @property
    def dtype(self) -> torch.dtype:
        """bfloat16 on CUDA, float32 elsewhere."""
        return torch.bfloat16 if self.on_cuda else torch.float32

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        if self.on_cuda:
            torch.cuda.synchronize()

    def forget_peak(self) -> None:
        """Count memory afresh."""
        if self.on_cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak_gigabytes(self) -> float:
        """Most that tensors held on the GPU since the last `forget_peak`; 0 on a CPU."""
        return torch.cuda.max_memory_allocated() / 1e9 if self.on_cuda else 0.0

    def milliseconds(self, work: Callable[[], object], repeats: int = 10) -> float:
        """Median of `work`, after two runs that do not count (kernels are compiled and chosen in them)."""
        for _ in range(2):
            work()
        found = []
        for _ in range(1 if self.tiny else repeats):
            self.wait()
            started = time.perf_counter()
            work()
            self.wait()
            found.append(1000 * (time.perf_counter() - started))
        return median(found)


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        what: was done.
        value, unit: the figure, None where there is none.
        passed: whether it is as it must be; None for a figure that has no right or wrong, or where nothing could be
            done, which `seen` then says.
        seen: in words.
    """

    what: str
    value: float | None
    unit: str
    passed: bool | None
    seen: str = ""


def doctor(setting: Setting) -> Iterator[Finding]:
    """`jrt-eval doctor` for each shipped model and each released fixture, in float32 and bfloat16."""
    models = {name: (name, None) for name in shipped_models()}
    models |= {folder.name: (str(folder), NO_TOKENIZER) for folder in sorted(FIXTURES.glob("*/")) if folder.is_dir()}
    if setting.tiny:
        models = dict([*models.items()][-1:])
    for name, (source, tokenizer) in models.items():
        for dtype in ("float32", "bfloat16"):
            checks = list(examine(source, tokenizer=tokenizer, device=setting.device, dtype=dtype))
            # on a CPU the doctor finds bfloat16 coarse, which is so
            expected = {"dtype and device sane"} if dtype == "bfloat16" and not setting.on_cuda else set()
            failed = [f"{check.name}: {check.seen}" for check in checks if check.passed is False]
            wrong = [line for line in failed if line.partition(":")[0] not in expected]
            done = sum(check.passed is not None for check in checks)
            yield Finding(f"doctor {name}, {dtype}", done, "checks", not wrong, "; ".join(wrong) or "all passed")


def answers(setting: Setting, rows: int = 200) -> Iterator[Finding]:
    """The same rows on the CPU in float32 and on the device: identical in float32, counted in bfloat16."""
    rendered = (render("factbook", "flat", row, 600) for row in factbook_rows())
    kept = (prompt for prompt in rendered if isinstance(prompt, Prompt))
    asked = [prompt for prompt, _ in zip(kept, range(4 if setting.tiny else rows), strict=False)]
    truth = answers_of("cpu", "float32", asked)
    for dtype in ("float32", "bfloat16"):
        given = answers_of(setting.device, dtype, asked)
        different = sum(mine != right for mine, right in zip(given, truth, strict=True))
        passed = different == 0 if dtype == "float32" else None
        seen = f"of {len(asked)} answers of jrt-mlp differ from the CPU's in float32"
        yield Finding(f"answers, {dtype}", different, "answers", passed, seen)


def answers_of(device: str, dtype: str, asked: list[Prompt]) -> list[str]:
    """Of the shipped model."""
    lm: Any = load_model("jrt_rnn", {"prefix": "dynamic", "dtype": dtype}, device=device, batch_size="auto")
    requests = [SimpleNamespace(args=(prompt, {"until": ["\n"], "max_gen_toks": 16})) for prompt in asked]
    return [str(answer) for answer in lm.generate_until(requests, disable_tqdm=True)]


def processes(setting: Setting) -> Iterator[Finding]:
    """One process in a group of nccl (gloo on a CPU), with the calls that gathering the rows of several needs."""
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


def forms(setting: Setting) -> dict[str, Callable[..., Any]]:
    """The linear-time forms that run here; fla's needs CUDA and the package."""
    return {"chunked": chunked, **({"fla": fla} if setting.on_cuda and find_spec("fla") else {})}


SHAPES = ((2, 3, 63), (2, 3, 200), (1, 16, 1025))
"""Rows, heads, tokens: fla takes its recurrent kernel below 64 tokens and its chunked one above."""
LIMITS = {
    ("chunked", torch.float32): 1e-4,
    ("chunked", torch.bfloat16): 5e-2,
    ("fla", torch.float32): 5e-3,  # its products of float32 are in TF32
    ("fla", torch.bfloat16): 5e-2,
}
"""Largest error over the largest value."""


def linear_attention(setting: Setting) -> Iterator[Finding]:
    """Our chunked form on the device, and fla's kernels, against the naive form in float64 on the CPU."""
    if setting.on_cuda and not find_spec("fla"):
        yield Finding("fla against naive", None, "", None, "not done: pip install flash-linear-attention")
    for dtype in (torch.float32, torch.bfloat16) if setting.on_cuda else (torch.float32,):
        for B, H, T in SHAPES[:1] if setting.tiny else SHAPES:
            given, prefix, mask = _features(setting, B, H, T, dtype)
            exact = Prefix(prefix.k.cpu().double(), prefix.v.cpu().double(), prefix.mask.cpu())
            truth = naive(*(x.cpu().double() for x in given), exact, mask.cpu())
            for name, form in forms(setting).items():
                y, d, state = form(*given, prefix, mask)
                real = mask[:, None, :, None].cpu()
                error = max(
                    relative_error(y.cpu() * real, truth[0] * real),
                    relative_error(d.cpu() * real[..., 0], truth[1] * real[..., 0]),
                    relative_error(state.S, truth[2].S),
                )
                what = f"{name} against naive, {str(dtype).removeprefix('torch.')}, {B} x {H} x {T}"
                limit = LIMITS[name, dtype]
                yield Finding(what, error, "of the largest", error < limit, f"limit {limit:g}")


def _features(setting: Setting, B: int, H: int, T: int, dtype: torch.dtype) -> tuple[list[Tensor], Prefix, Tensor]:
    """Taylor features of random queries and keys with values, a prefix of a third of the tokens, and a ragged mask."""
    generator = torch.Generator().manual_seed(T)
    phi = build_feature_map("taylor", H, D)
    q, k, ke = (phi(torch.randn(B, H, T, D, generator=generator)).to(setting.device, dtype) for _ in range(3))
    v, ve = (torch.randn(B, H, T, 112, generator=generator).to(setting.device, dtype) for _ in range(2))
    order = torch.arange(T, device=setting.device).expand(B, T)
    return [q, k, v], Prefix(ke, ve, order < T // 3), order < T - torch.arange(B, device=setting.device)[:, None]


def relative_error(mine: Tensor, truth: Tensor) -> float:
    """Largest difference over the largest value, in float64 on the CPU."""
    mine, truth = mine.detach().double().cpu(), truth.detach().double().cpu()
    return float((mine - truth).abs().max() / truth.abs().max())


def mamba(setting: Setting) -> Iterator[Finding]:
    """Mamba on the device, by mamba-ssm's kernels where they are installed, against the CPU's logits."""
    fused = setting.on_cuda and bool(find_spec("mamba_ssm")) and bool(find_spec("causal_conv1d"))
    ids = torch.randint(0, 100, (2, 70), generator=torch.Generator().manual_seed(0))
    checkpoint = find(str(FIXTURES / "mamba_tiny"))
    logits = []
    with torch.inference_mode():
        for device in map(torch.device, ("cpu", setting.device)):
            logits.append(load_checkpoint(checkpoint, torch.float32, device, {})(ids.to(device)).logits)
    error = relative_error(logits[1], logits[0])
    by = "mamba-ssm" if fused else "transformers' own scan"
    yield Finding(f"mamba by {by} against the CPU", error, "of the largest", error < 1e-3, "limit 0.001")
    if setting.on_cuda and not fused:
        yield Finding("mamba-ssm against naive", None, "", None, "not done: pip install mamba-ssm causal-conv1d")


LENGTHS, TINY_LENGTHS = (2048, 4096, 8192, 16384, 32768), (96,)
BATCH, V = 16, 64
GOAL_MS, GOAL_RATIO = 5.6, 20.0
"""At 32,768 tokens."""


def prefill(setting: Setting) -> Iterator[Finding]:
    """Prefix linear attention from raw queries and keys to the normalised output, against flash attention."""
    batch = 1 if setting.tiny else BATCH
    for T in TINY_LENGTHS if setting.tiny else LENGTHS:
        shape = f"{batch} rows, T = {T:,}"
        flash, seen = _timed(setting, _flash(setting, batch, T))
        yield Finding(f"flash attention, {shape}", flash, "ms", None, seen)
        for name, form in forms(setting).items():
            spent, seen = _timed(setting, _ours(setting, form, batch, T))
            yield Finding(f"JRT-RNN by {name}, {shape}", spent, "ms", _goal(T, spent, GOAL_MS, setting), seen)
            if flash and spent:
                passed = _goal(T, GOAL_RATIO, flash / spent, setting)
                yield Finding(f"flash attention / {name}, {shape}", flash / spent, "times", passed, "in this run")


def _goal(T: int, smaller: float | None, larger: float, setting: Setting) -> bool | None:
    """Whether the goal is met where there is one: at the longest length, on CUDA."""
    if LENGTHS[-1] != T or not setting.on_cuda or smaller is None:
        return None
    return smaller <= larger


def _timed(setting: Setting, work: Callable[[], object]) -> tuple[float | None, str]:
    """Milliseconds and gigabytes; or why there are none: a form that does not fit in memory is a finding too."""
    setting.forget_peak()
    try:
        spent = setting.milliseconds(work)
    except torch.OutOfMemoryError:
        return None, "out of memory"
    return spent, f"{setting.peak_gigabytes():.1f} GB"


def _random(setting: Setting, *shape: int) -> Tensor:
    return torch.randn(*shape, device=setting.device, dtype=setting.dtype)


def _flash(setting: Setting, batch: int, T: int) -> Callable[[], object]:
    q, k, v = (_random(setting, batch, HEADS, T, V) for _ in range(3))

    def work() -> object:
        with torch.inference_mode(), sdpa_kernel(SDPBackend.FLASH_ATTENTION) if setting.on_cuda else nullcontext():
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    return work


def _ours(setting: Setting, form: Callable[..., Any], batch: int, T: int) -> Callable[[], object]:
    phi = build_feature_map("taylor", HEADS, D).to(setting.device, setting.dtype)
    q, k, ke = (_random(setting, batch, HEADS, T, D) for _ in range(3))
    v, ve = (_random(setting, batch, HEADS, T, V) for _ in range(2))
    mask = torch.ones(batch, T, dtype=torch.bool, device=setting.device)
    half = (torch.arange(T, device=setting.device) < T // 2).expand(batch, T)

    def work() -> object:
        with torch.inference_mode():
            y, d, _ = form(phi(q), phi(k), v, Prefix(phi(ke), ve, half), mask)
            return normalise(y, d.to(y.dtype), (True,) * HEADS)

    return work


GEOMETRY = {
    "360M": (1024, 26, (1, 6, 11, 16, 21), (2, 7, 12, 17, 22)),
    "1.3B": (1792, 36, (1, 6, 11, 16, 21, 27, 33), (2, 7, 12, 17, 22, 28, 34)),
}
"""Width, layers, and which of them are prefix linear attention and window attention; the others convolve (JRT paper,
appendix B.3, and the released config.json)."""


def jrt_config(size: str, **changed: object) -> JRTConfig:
    """Configuration of JRT-RNN at a released size, for random weights and so for times alone."""
    width, count, at_linear, at_window = GEOMETRY[size]
    mixers = ["prefix_linear" if i in at_linear else "swa" if i in at_window else "conv" for i in range(count)]
    settings: dict = {
        "vocab_size": 50264, "hidden_size": width, "intermediate_size": 2 * width, "mixers": mixers, "num_heads": 16,
        "feature_map": "taylor", "feature_dim": 16, "window": 129, "conv_expand": 2, "context_length": 2048,
    }  # fmt: skip
    return JRTConfig(**{**settings, **changed})


def random_model(setting: Setting, size: str, **changed: object) -> JRTForCausalLM:
    """JRT-RNN of a released size on the device; with `tiny`, three layers of a toy size."""
    toy = {"hidden_size": 64, "intermediate_size": 128, "vocab_size": 512, "mixers": ["conv", "prefix_linear", "swa"]}
    with torch.device(setting.device):
        return JRTForCausalLM(jrt_config(size, **{**changed, **(toy if setting.tiny else {})})).to(setting.dtype).eval()


def decode(setting: Setting) -> Iterator[Finding]:
    """A step of six layers of 360M geometry, batch 16."""
    batch, model = (
        2 if setting.tiny else BATCH,
        random_model(setting, "360M", mixers=["conv", "prefix_linear", "swa"] * 2),
    )
    ids = torch.randint(0, 500, (batch, 160), device=setting.device)
    with torch.inference_mode():
        logits, state = model.prefill(ids, prefix_lengths=ids.new_full((batch,), 80))
    token = logits.argmax(-1)

    def work() -> Tensor:
        with torch.inference_mode():
            return model.step(token, state.clone())[0]

    size = "a toy model" if setting.tiny else "six layers of 360M geometry"
    yield Finding(f"decode step, {batch} rows, {size}", setting.milliseconds(work, 30), "ms", None)


QUESTIONS = {
    "swde": (1111, 1036), "fda": (1102, 2000), "squadv2": (2984, 152), "nq_1024": (3157, 8858),
    "triviaqa": (1698, 310), "drop": (2084, 237),
}  # fmt: skip
"""Rows, and mean GPT-2 tokens of a document before it is cut (JRT paper, arXiv 2407.05483, table 7)."""
WINDOW, ANSWER = 1000, 48
"""GPT-2 tokens that the tasks keep of a document, and tokens of an answer at most (tasks/*/_*.yaml)."""
SUITE_SECONDS, SUITE_MINUTES = 90.0, 5.0
"""How long prompts are run, and the goal for all of them."""


def suite(setting: Setting) -> Iterator[Finding]:
    """The paper's six tasks at 1.3B, read once: as many prompts, as long, by this package's own engine.

    Weights and tokens are random, so only time and memory mean anything. Prompts are run in the mix of lengths of the
    six tasks for a minute and a half; what is left is estimated from the tokens that were read.
    """
    prompts = [min(WINDOW, mean) for count, mean in QUESTIONS.values() for _ in range(count)]
    random.Random(0).shuffle(prompts)
    prompts = prompts[: 4 if setting.tiny else None]
    engine, new = JRTEngine(random_model(setting, "1.3B")), 2 if setting.tiny else ANSWER
    _read_and_answer(engine, [32], 2)
    setting.forget_peak()
    setting.wait()
    started, done, asked = time.perf_counter(), 0, 0
    # batches of a part of the prompts at a time, so that whenever the time is over the mix is that of the whole
    size, budget = max(1, len(prompts) // 12), Budget(tokens=TOKENS_CUDA)
    for first in range(0, len(prompts), size):
        part = prompts[first : first + size]
        for numbers in batches([length + new for length in part], budget):
            _read_and_answer(engine, [part[number] for number in numbers], new)
        done, asked = done + sum(part), asked + len(part)
        setting.wait()
        if time.perf_counter() - started > SUITE_SECONDS:
            break
    spent = time.perf_counter() - started
    minutes = spent * sum(prompts) / done / 60
    what = f"six tasks, {'toy' if setting.tiny else 'JRT-RNN 1.3B geometry'}"
    seen = f"{asked:,} of {len(prompts):,} prompts run in {spent:.0f} s, {done / spent:,.0f} prompt tokens a second"
    passed = minutes < SUITE_MINUTES if setting.on_cuda and not setting.tiny else None
    yield Finding(what, minutes, "min", passed, seen)
    yield Finding(f"{what}, peak memory", setting.peak_gigabytes(), "GB", None, "tensors; 0 on a CPU")


def _read_and_answer(engine: JRTEngine, lengths: list[int], new: int) -> None:
    """Read a batch, half of each prompt as prefix, and answer with `new` tokens."""
    logits, state = engine.prefill([[7] * length for length in lengths], [length // 2 for length in lengths])
    for _ in range(new - 1):
        logits, state = engine.step(logits.argmax(-1), state)


@dataclass(frozen=True)
class Part:
    """`run` gives findings; its process is ended after `seconds`."""

    run: Callable[[Setting], Iterator[Finding]]
    seconds: int


PARTS = {
    "doctor": Part(doctor, 100),
    "answers": Part(answers, 80),
    "processes": Part(processes, 20),
    "linear_attention": Part(linear_attention, 60),
    "mamba": Part(mamba, 30),
    "prefill": Part(prefill, 70),
    "decode": Part(decode, 60),
    "suite": Part(suite, 120),
}
"""In the order of their value; their limits add up to the nine minutes of all."""
