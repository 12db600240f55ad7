"""Faster forms of Mamba's layers on a CPU compute what transformers computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    FalconMambaConfig,
    FalconMambaForCausalLM,
    Mamba2Config,
    Mamba2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
)
from transformers.models.mamba2 import modeling_mamba2

from jrt_lmeval.modeling.scans import CHUNK, OURS, SelectiveScan, causal_conv, chunk_scan, fast_scans
from model_adapters.engines.hf import HFEngine

KINDS = ("mamba", "falcon_mamba", "mamba2")


@pytest.mark.parametrize("chunk", [1, 4, 9, 64])
def test_the_scan_has_the_gradient_of_its_plain_form(chunk: int) -> None:
    torch.manual_seed(0)
    u, dt = (torch.rand(9, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    A = -torch.rand(3, 2, dtype=torch.float64)
    B, C = (torch.randn(9, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    inputs = (u, dt, A.requires_grad_(), B, C)
    assert torch.autograd.gradcheck(lambda *given: SelectiveScan.apply(*given, chunk), inputs)
    h, plain = torch.zeros(2, 3, 2, dtype=torch.float64), []
    for t in range(9):
        h = torch.exp(dt[t, ..., None] * A) * h + (dt[t] * u[t])[..., None] * B[t, :, None]
        plain.append((h * C[t, :, None]).sum(-1))
    y, state = SelectiveScan.apply(*inputs, chunk)
    assert torch.allclose(y, torch.stack(plain)) and torch.allclose(state, h)


def _mamba(kind: str) -> Any:
    """A small model with weights that are not the structured ones of a start, and their kind's module."""
    torch.manual_seed(0)
    config, model = {
        "mamba": (MambaConfig, MambaForCausalLM),
        "falcon_mamba": (FalconMambaConfig, FalconMambaForCausalLM),
        "mamba2": (Mamba2Config, Mamba2ForCausalLM),
    }[kind]
    sizes = {"num_heads": 4, "head_dim": 8, "n_groups": 2, "chunk_size": 8} if kind == "mamba2" else {}
    made = model(config(vocab_size=40, hidden_size=16, state_size=4, num_hidden_layers=2, **sizes))
    for name, weight in made.named_parameters():
        if name.endswith("A_log"):
            weight.data += 0.3 * torch.randn_like(weight)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_mamba_trains_as_transformers_computes_it(kind: str) -> None:
    model = _mamba(kind).train()
    ids, towards = torch.randint(0, 40, (2, 37)), torch.randn(2, 37, 16)
    theirs = [getattr(module, name) for module, name, _ in OURS]

    def one_pass():
        hidden = model.base_model(ids, use_cache=False).last_hidden_state
        return hidden.detach(), torch.autograd.grad((hidden * towards).sum(), list(model.base_model.parameters()))

    plain = one_pass()
    with fast_scans():
        assert all(getattr(module, name) is ours for module, name, ours in OURS)
        fast = one_pass()
    assert [getattr(module, name) for module, name, _ in OURS] == theirs
    assert torch.allclose(plain[0], fast[0], atol=1e-5)
    for x, y in zip(plain[1], fast[1], strict=True):
        assert (x - y).abs().max() <= 1e-3 * x.abs().max()


@pytest.mark.parametrize("tokens", [1, 2, 16, 37])
@pytest.mark.parametrize("kind", KINDS)
def test_mamba_reads_prompts_as_transformers_does_in_double_precision(kind: str, tokens: int) -> None:
    model = _mamba(kind).double().eval()
    ids = torch.randint(1, 40, (3, tokens))
    mask = torch.arange(tokens) >= torch.tensor([0, tokens // 2, tokens - 1])[:, None]

    @torch.inference_mode()
    def read():
        out = model(ids, attention_mask=mask.long(), use_cache=True)
        more = torch.ones(3, 1, dtype=torch.long)
        step = model(
            more, cache_params=out.cache_params, attention_mask=torch.cat([mask.long(), more], 1), use_cache=True
        )
        return out.logits, step.logits

    assert HFEngine(model)._scan is fast_scans
    plain = read()
    with fast_scans():
        fast = read()
    for x, y in zip(plain, fast, strict=True):
        # transformers rounds to float32 inside: B and u of Mamba, all of Mamba-2's scan
        rtol, atol = (1e-5, 1e-6) if kind == "mamba2" else (1e-6, 1e-7)
        torch.testing.assert_close(y, x, rtol=rtol, atol=atol)


def _mamba2_inputs(tokens: int, groups: int) -> dict[str, Any]:
    torch.manual_seed(tokens)
    rows, heads, values, size = 2, 4, 3, 5
    return {
        "hidden_states": torch.randn(rows, tokens, heads, values),
        "dt": torch.randn(rows, tokens, heads),
        "A": -torch.rand(heads),
        "B": torch.randn(rows, tokens, groups, size),
        "C": torch.randn(rows, tokens, groups, size),
        "chunk_size": 16,
        "D": torch.randn(heads),
        "dt_bias": torch.randn(heads),
        "initial_states": torch.randn(rows, heads, values, size),
        "dt_softplus": True,
        "dt_limit": (0.1, 2.0),
        "return_final_states": True,
    }


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("tokens", [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7])
def test_mamba2_scan_is_transformers_and_the_plain_recurrence(tokens: int, groups: int) -> None:
    given = _mamba2_inputs(tokens, groups)
    y, state = chunk_scan(**given)
    assert y.is_contiguous() and state.is_contiguous()
    for ours, theirs in zip((y, state), modeling_mamba2.mamba2_chunk_scan(**given), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    x, h = given["hidden_states"], given["initial_states"]
    dt = torch.nn.functional.softplus(given["dt"] + given["dt_bias"]).clamp(*given["dt_limit"])
    B, C = (given[name].repeat_interleave(4 // groups, dim=2) for name in "BC")
    for t in range(tokens):
        step = dt[:, t, :, None, None]
        h = torch.exp(step * given["A"][:, None, None]) * h + step * x[:, t, ..., None] * B[:, t, :, None]
        plain = (h * C[:, t, :, None]).sum(-1) + given["D"][:, None] * x[:, t]
        torch.testing.assert_close(y[:, t], plain, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(state, h, rtol=1e-4, atol=1e-4)


def test_mamba2_scan_begins_from_nothing_and_gives_no_state_unasked() -> None:
    given = _mamba2_inputs(9, 2) | {"initial_states": None, "return_final_states": False, "D": None}
    torch.testing.assert_close(chunk_scan(**given), modeling_mamba2.mamba2_chunk_scan(**given), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", ["silu", None])
@pytest.mark.parametrize("tokens", [1, 3, 11])
def test_the_convolution_is_transformers(tokens: int, activation: str | None) -> None:
    x, weight, bias = torch.randn(2, 6, tokens), torch.randn(6, 4), torch.randn(6)
    for given in (bias, None):
        ours = causal_conv(x, weight, given, activation)
        torch.testing.assert_close(ours, modeling_mamba2.causal_conv1d_fn(x, weight, given, activation))


@torch.inference_mode()
@pytest.mark.parametrize("tokens", [1, 2, 70])
def test_mamba2_goes_on_from_a_state_that_our_scan_made(tokens: int) -> None:
    model = _mamba("mamba2").eval()
    ids = torch.randint(1, 40, (3, tokens + 3))
    with fast_scans():
        cache = model(ids[:, :tokens], use_cache=True).cache_params
        part = model(ids[:, tokens : tokens + 2], cache_params=cache, use_cache=True)
        last = model(ids[:, tokens + 2 :], cache_params=part.cache_params, use_cache=True)
    torch.testing.assert_close(last.logits[:, -1], model(ids).logits[:, -1], rtol=1e-4, atol=1e-5)
