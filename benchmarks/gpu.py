"""python -m benchmarks.gpu [--out FOLDER] [--only PART ...] [--device cpu --tiny]

How fast is what runs on the GPU, and does it answer as the CPU does? Runs every part, prints one table, and writes it
to FOLDER as gpu.md. Status 1 where something is not as it must be or a part failed. `--device cpu --tiny` shows that
the parts run; its figures say nothing. That the kernels are right is tested: `pytest -m gpu`.

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

from jrt_lmeval.data.shipped import factbook_rows
from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.markdown import markdown_table
from jrt_lmeval.modeling.config import JRTConfig
from jrt_lmeval.modeling.feature_maps import build_feature_map
from jrt_lmeval.modeling.linear_attention import Prefix, chunked, fla, normalise
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.prompts import Prompt, render
from jrt_lmeval.runner import load_model
from jrt_lmeval.training.recipes import published
from model_adapters.engines.jrt import JRTEngine
from model_adapters.options import TOKENS_CUDA
from model_adapters.running.batching import Budget, batches

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
