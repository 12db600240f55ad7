"""One layer's kernel, batch 16, and decoding.

The published figures beside which they stand (JRT paper, arXiv 2407.05483, table 5, an H100, batch 16, one layer's
kernel): JRT-RNN 0.4, 0.8, 1.5, 2.8, 5.6 ms and FlashAttention-2 0.5, 1.8, 6.8, 26.6, 107.8 ms at 2k to 32k tokens. They
are another kernel on another machine; the ratio to flash attention *in this run* is what counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.geometry import jrt_config
from benchmarks.gpu.findings import Finding, Setting, forget_peak, milliseconds, peak_gigabytes
from benchmarks.gpu.kernels import fla_form
from jrt_lmeval.modeling.feature_maps import build_feature_map
from jrt_lmeval.modeling.linear_attention import Prefix, chunked, normalise
from jrt_lmeval.modeling.model import JRTForCausalLM

LENGTHS, TINY_LENGTHS = (2048, 4096, 8192, 16384, 32768), (96,)
BATCH, HEADS, D, V = 16, 16, 16, 64
GOAL_MS, GOAL_RATIO = 5.6, 20.0
"""At 32,768 tokens."""


def prefill(setting: Setting) -> Iterator[Finding]:
    """Prefix linear attention from raw queries and keys to the normalised output, against flash attention."""
    batch = 1 if setting.tiny else BATCH
    for T in TINY_LENGTHS if setting.tiny else LENGTHS:
        shape = f"{batch} rows, T = {T:,}"
        flash, seen = _timed(setting, _flash(setting, batch, T))
        yield Finding(f"flash attention, {shape}", flash, "ms", None, seen)
        for name, form in _forms(setting).items():
            spent, seen = _timed(setting, _ours(setting, form, batch, T))
            yield Finding(f"JRT-RNN by {name}, {shape}", spent, "ms", _goal(T, spent, GOAL_MS, setting), seen)
            if flash and spent:
                ratio = flash / spent
                passed = _goal(T, GOAL_RATIO, ratio, setting)
                yield Finding(f"flash attention / {name}, {shape}", ratio, "times", passed, "in this run")


def _goal(T: int, smaller: float | None, larger: float, setting: Setting) -> bool | None:
    """Whether the goal is met where there is one: at the longest length, on CUDA."""
    if LENGTHS[-1] != T or not setting.on_cuda or smaller is None:
        return None
    return smaller <= larger


def _forms(setting: Setting) -> dict[str, Callable[..., Any]]:
    return {"chunked": chunked, **({"fla": fla_form} if setting.on_cuda and find_spec("fla") else {})}


def _timed(setting: Setting, work: Callable[[], object]) -> tuple[float | None, str]:
    """Milliseconds and gigabytes; or why there are none: a form that does not fit in memory is a finding too."""
    forget_peak(setting)
    try:
        spent = milliseconds(setting, work)
    except torch.OutOfMemoryError:
        return None, "out of memory"
    return spent, f"{peak_gigabytes(setting):.1f} GB"


def _random(setting: Setting, *shape: int) -> torch.Tensor:
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


def decode(setting: Setting) -> Iterator[Finding]:
    """A step of six layers of 360M geometry (random weights), batch 16: eager, and compiled into CUDA graphs."""
    toy: dict[str, Any] = {"hidden_size": 64, "vocab_size": 512} if setting.tiny else {}
    batch, mixers = 2 if setting.tiny else BATCH, ["conv", "prefix_linear", "swa"] * 2
    with torch.device(setting.device):
        model = JRTForCausalLM(jrt_config("360M", mixers=mixers, **toy)).to(setting.dtype).eval()
    ids = torch.randint(0, 500, (batch, 160), device=setting.device)
    with torch.inference_mode():
        logits, state = model.prefill(ids, prefix_lengths=ids.new_full((batch,), 80))
    token, shape = logits.argmax(-1), f"{batch} rows, six layers of {'toy' if setting.tiny else '360M'} geometry"
    truth = None
    for name, compile_mode in (("eager", None), ("compiled", "reduce-overhead" if setting.on_cuda else "default")):
        if compile_mode and setting.tiny:
            continue  # compiling takes longer than everything else here
        step = torch.compile(model.step, mode=compile_mode) if compile_mode else model.step

        def work(step: Callable[..., Any] = step) -> torch.Tensor:
            with torch.inference_mode():
                return step(token, state.clone())[0]

        try:
            found = work().clone()
            spent = milliseconds(setting, work, 30)
        except Exception as error:  # what compiles on one version of torch does not on another: a finding
            yield Finding(f"decode step, {name}, {shape}", None, "ms", None, f"{type(error).__name__}: {error}"[:200])
            continue
        truth = found if truth is None else truth
        largest = float((found - truth).abs().max())
        seen = f"largest difference of a logit from eager {largest:.1e}"
        yield Finding(f"decode step, {name}, {shape}", spent, "ms", None, seen)
