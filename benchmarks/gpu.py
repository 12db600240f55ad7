"""python -m benchmarks.gpu [--out FOLDER] [--only PART ...] [--device cpu --tiny]

Is what runs on the GPU right, and how fast is it? Runs every part, prints one table, and writes it to FOLDER as gpu.md.
Status 1 where something is not as it must be or a part failed. `--device cpu --tiny` shows that the parts run; its
figures say nothing.

The published figures beside which those of `prefill` stand (JRT paper, arXiv 2407.05483, table 5, an H100, batch 16,
one layer's kernel): JRT-RNN 0.4, 0.8, 1.5, 2.8, 5.6 ms and FlashAttention-2 0.5, 1.8, 6.8, 26.6, 107.8 ms at 2k to 32k
tokens. They are another kernel on another machine; the ratio to flash attention in the same run is what counts.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from jrt_lmeval.checkpoints.found import find
from jrt_lmeval.checkpoints.load import load_model as load_checkpoint
from jrt_lmeval.data.shipped import factbook_rows
from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.markdown import markdown_table
from jrt_lmeval.modeling.config import JRTConfig
from jrt_lmeval.modeling.feature_maps import build_feature_map
from jrt_lmeval.modeling.linear_attention import Prefix, chunked, fla, naive, normalise
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.prompts import Prompt, render
from jrt_lmeval.runner import load_model
from jrt_lmeval.training.recipes import published
from model_adapters.engines.jrt import JRTEngine
from model_adapters.options import TOKENS_CUDA
from model_adapters.running.batching import Budget, batches

FIXTURES = Path(__file__).resolve().parents[1] / "tests" / "fixtures" / "released"
HEADS, D, V = 16, 16, 64


@dataclass(frozen=True)
class Setting:
    """The device to measure on, and how much.

    Attributes:
        device: `cuda`, or `cpu` to see that a part runs.
        tiny: sizes at which every part takes seconds on a CPU; such figures say nothing about speed.
    """

    device: str = "cuda"
    tiny: bool = False

    @property
    def on_cuda(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.startswith("cuda")

    def wait(self) -> None:
        """Wait until the device has done all that it was given."""
        if self.on_cuda:
            torch.cuda.synchronize()

    def random(self, *shape: int) -> Tensor:
        """Random numbers on the device, in bfloat16 on a GPU."""
        return torch.randn(*shape, device=self.device, dtype=torch.bfloat16 if self.on_cuda else torch.float32)

    def peak_gigabytes(self) -> float:
        """Most that tensors held on the GPU since this was last asked; 0 on a CPU."""
        if not self.on_cuda:
            return 0.0
        peak = torch.cuda.max_memory_allocated() / 1e9
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return peak


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        what: what was done.
        figure: with its unit; empty where there is none.
        passed: whether it is as it must be; None for a figure that has no right or wrong, or where nothing could be
            done, which `seen` then says.
        seen: in words.
    """

    what: str
    figure: str
    passed: bool | None
    seen: str = ""


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
        yield Finding(f"answers, {dtype}", f"{different} answers", passed, seen)


def answers_of(device: str, dtype: str, asked: list[Prompt]) -> list[str]:
    """The answers of the shipped model."""
    lm: Any = load_model("jrt_rnn", {"prefix": "dynamic", "dtype": dtype}, device=device, batch_size="auto")
    requests = [SimpleNamespace(args=(prompt, {"until": ["\n"], "max_gen_toks": 16})) for prompt in asked]
    return [str(answer) for answer in lm.generate_until(requests, disable_tqdm=True)]


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
        yield Finding("fla against naive", "", None, "not done: pip install flash-linear-attention")
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
                yield _error(what, error, LIMITS[name, dtype])


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


def _error(what: str, error: float, limit: float) -> Finding:
    return Finding(what, f"{error:.3g} of the largest", error < limit, f"limit {limit:g}")


def mamba(setting: Setting) -> Iterator[Finding]:
    """Mamba on the device, by mamba-ssm's kernels where they are installed, against the CPU's logits."""
    fused = setting.on_cuda and bool(find_spec("mamba_ssm")) and bool(find_spec("causal_conv1d"))
    ids = torch.randint(0, 100, (2, 70), generator=torch.Generator().manual_seed(0))
    checkpoint = find(str(FIXTURES / "mamba_tiny"))
    with torch.inference_mode():
        cpu, there = (
            load_checkpoint(checkpoint, torch.float32, device)(ids.to(device)).logits
            for device in ("cpu", setting.device)
        )
    by = "mamba-ssm" if fused else "transformers' own scan"
    yield _error(f"mamba by {by} against the CPU", relative_error(there, cpu), 1e-3)
    if setting.on_cuda and not fused:
        yield Finding("mamba-ssm against naive", "", None, "not done: pip install mamba-ssm causal-conv1d")


LENGTHS, TINY_LENGTHS = (2048, 4096, 8192, 16384, 32768), (96,)
BATCH, REPEATS = 16, 10
GOAL_MS, GOAL_RATIO = 5.6, 20.0
"""At 32,768 tokens."""


def prefill(setting: Setting) -> Iterator[Finding]:
    """Prefix linear attention from raw queries and keys to the normalised output, against flash attention."""
    batch = 1 if setting.tiny else BATCH
    for T in TINY_LENGTHS if setting.tiny else LENGTHS:
        shape = f"{batch} rows, T = {T:,}"
        judged = setting.on_cuda and LENGTHS[-1] == T
        flash, seen = timed(setting, _flash(setting, batch, T))
        yield Finding(f"flash attention, {shape}", f"{flash:.3g} ms", None, seen)
        for name, form in forms(setting).items():
            ours, seen = timed(setting, _ours(setting, form, batch, T))
            yield Finding(f"JRT-RNN by {name}, {shape}", f"{ours:.3g} ms", ours <= GOAL_MS if judged else None, seen)
            passed = flash / ours >= GOAL_RATIO if judged else None
            yield Finding(f"flash attention / {name}, {shape}", f"{flash / ours:.3g} times", passed, "in this run")


def timed(setting: Setting, work: Callable[[], object]) -> tuple[float, str]:
    """Median milliseconds, after two runs in which kernels are compiled and chosen, and gigabytes; NaN where a form
    does not fit in memory, which is a finding too."""
    setting.peak_gigabytes()
    found = []
    try:
        for _ in range(1 if setting.tiny else 2 + REPEATS):
            setting.wait()
            started = time.perf_counter()
            work()
            setting.wait()
            found.append(1000 * (time.perf_counter() - started))
    except torch.OutOfMemoryError:
        return float("nan"), "out of memory"
    return median(found[2:] or found), f"{setting.peak_gigabytes():.1f} GB"


def _flash(setting: Setting, batch: int, T: int) -> Callable[[], object]:
    q, k, v = (setting.random(batch, HEADS, T, V) for _ in range(3))

    def work() -> object:
        with torch.inference_mode(), sdpa_kernel(SDPBackend.FLASH_ATTENTION) if setting.on_cuda else nullcontext():
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    return work


def _ours(setting: Setting, form: Callable[..., Any], batch: int, T: int) -> Callable[[], object]:
    q, k, ke = (setting.random(batch, HEADS, T, D) for _ in range(3))
    v, ve = (setting.random(batch, HEADS, T, V) for _ in range(2))
    phi = build_feature_map("taylor", HEADS, D).to(q.device, q.dtype)
    mask = torch.ones(batch, T, dtype=torch.bool, device=setting.device)
    half = (torch.arange(T, device=setting.device) < T // 2).expand(batch, T)

    def work() -> object:
        with torch.inference_mode():
            y, d, _ = form(phi(q), phi(k), v, Prefix(phi(ke), ve, half), mask)
            return normalise(y, d.to(y.dtype), (True,) * HEADS)

    return work


QUESTIONS = {
    "swde": (1111, 1036), "fda": (1102, 2000), "squadv2": (2984, 152), "nq_1024": (3157, 8858),
    "triviaqa": (1698, 310), "drop": (2084, 237),
}  # fmt: skip
"""Rows, and mean GPT-2 tokens of a document before it is cut (JRT paper, arXiv 2407.05483, table 7)."""
WINDOW, ANSWER = 1000, 48
"""GPT-2 tokens that the tasks keep of a document, and tokens of an answer at most (tasks/*/_*.yaml)."""
SUITE_SECONDS, SUITE_MINUTES = 90.0, 5.0
"""How long prompts are run, and the goal for all of them."""


def random_model(setting: Setting) -> JRTForCausalLM:
    """JRT-RNN of the geometry of 1.3B on the device; with `tiny`, three layers of a toy size."""
    recipe = published("1b")
    names = "hidden_size intermediate_size vocab_size mixers num_heads feature_map feature_dim window".split()
    fields = {**{name: getattr(recipe, name) for name in names}, "conv_expand": 2, "context_length": 2048}
    toy = {"hidden_size": 64, "intermediate_size": 128, "vocab_size": 512, "mixers": ["conv", "prefix_linear", "swa"]}
    with torch.device(setting.device):
        model = JRTForCausalLM(JRTConfig(**{**fields, **(toy if setting.tiny else {})}))
    return model.to(torch.bfloat16 if setting.on_cuda else torch.float32).eval()


def suite(setting: Setting) -> Iterator[Finding]:
    """The paper's six tasks at 1.3B, read once: as many prompts, as long, by this package's own engine.

    Weights and tokens are random, so only time and memory mean anything. Prompts are run in the mix of lengths of the
    six tasks for a minute and a half; what is left is estimated from the tokens that were read.
    """
    prompts = [min(WINDOW, mean) for count, mean in QUESTIONS.values() for _ in range(count)]
    random.Random(0).shuffle(prompts)
    prompts = prompts[: 4 if setting.tiny else None]
    engine, new = JRTEngine(random_model(setting)), 2 if setting.tiny else ANSWER
    _read_and_answer(engine, [32], 2)
    setting.peak_gigabytes()
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
    seen = f"{asked:,} of {len(prompts):,} prompts run in {spent:.0f} s, {done / spent:,.0f} prompt tokens a second"
    passed = minutes < SUITE_MINUTES if setting.on_cuda and not setting.tiny else None
    what = f"six tasks, {'toy' if setting.tiny else 'JRT-RNN 1.3B geometry'}"
    yield Finding(what, f"{minutes:.3g} min", passed, f"{seen}, {setting.peak_gigabytes():.1f} GB at most")


def _read_and_answer(engine: JRTEngine, lengths: list[int], new: int) -> None:
    """Read a batch, half of each prompt as prefix, and answer with `new` tokens."""
    logits, state = engine.prefill([[7] * length for length in lengths], [length // 2 for length in lengths])
    for _ in range(new - 1):
        logits, state = engine.step(logits.argmax(-1), state)


PARTS: dict[str, Callable[[Setting], Iterator[Finding]]] = {
    "answers": answers,
    "linear_attention": linear_attention,
    "mamba": mamba,
    "prefill": prefill,
    "suite": suite,
}
MARKS = {True: "yes", False: "**NO**", None: "-"}


def findings(name: str, setting: Setting) -> Iterator[Finding]:
    """What a part finds; a part that fails is a finding, after those that it made before."""
    try:
        yield from PARTS[name](setting)
    except Exception as error:  # a kernel may fail in any way
        traceback.print_exc()
        yield Finding(name, "", False, f"failed: {' '.join(str(error).split())[-300:]}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts and write what they found after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for gpu.md")
    parser.add_argument("--only", nargs="+", metavar="PART", default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes for a CPU, to see that it runs")
    given = parser.parse_args(argv)
    setting = Setting(given.device, given.tiny)
    if setting.on_cuda and not torch.cuda.is_available():
        raise JRTError("no CUDA device here; --device cpu --tiny shows that the parts run.")
    for name in given.only:
        if name not in PARTS:
            raise unknown("part", name, PARTS)
    machine = f"{torch.cuda.get_device_name() if setting.on_cuda else 'cpu'}, torch {torch.__version__}"
    lines, passed, text = [], True, ""
    for name in given.only:
        print(f"{name} ...", file=sys.stderr, flush=True)
        found = list(findings(name, setting))
        passed = passed and all(one.passed is not False for one in found)
        lines += [[name, one.what, one.figure, MARKS[one.passed], one.seen] for one in found]
        text = f"{markdown_table(('part', 'what', 'figure', 'as it must be', 'seen'), lines, left=2)}\n{machine}\n"
        if given.out:  # after each part, so that nothing is lost where the next one ends the process
            given.out.mkdir(parents=True, exist_ok=True)
            (given.out / "gpu.md").write_text(text, encoding="utf-8")
    print(text)
    return int(not passed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except JRTError as error:
        sys.exit(f"benchmarks.gpu: {error}")
