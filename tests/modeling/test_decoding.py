"""Decoding a token equals reading one more token: logits and states, for every mixer, map, batch and padding."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from jrt_lmeval.checkpoints.load import load_pretrained
from jrt_lmeval.modeling.feature_maps import FEATURE_MAPS
from jrt_lmeval.modeling.mixers import MIXERS
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.modeling.state import RecurrentState
from model_adapters.engines.jrt import JRTEngine

RELEASED = Path(__file__).parents[1] / "fixtures" / "released"
TIGHT = {"rtol": 1e-9, "atol": 1e-9}
LENGTHS = {
    "ragged": [37, 20, 5, 1],
    "odd": [19, 18, 17],
    "one row": [23],
    "one token": [1],
    "as wide as windows": [7, 7],
}


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def model_of(mixers: tuple[str, ...], **changes: Any) -> JRTForCausalLM:
    torch.manual_seed(0)
    return tiny.jrt(mixers, window=8, **changes).double()


def read(model: JRTForCausalLM, lengths: list[int]) -> RecurrentState:
    torch.manual_seed(1)
    ids, real = torch.randint(1, 250, (len(lengths), max(lengths))), torch.tensor(lengths)
    return model.prefill(ids, real, real // 2 if model.has_prefix else None)[1]


def assert_same_steps(model: JRTForCausalLM, state: RecurrentState, steps: int) -> None:
    """Decoding and reading take the same tokens: the same logits each time, and the same state in the end."""
    torch.manual_seed(2)
    kept, mine, theirs = deepcopy(state), state, state
    for _ in range(steps):
        ids = torch.randint(1, 250, (len(state.lengths),))
        truth, theirs = model.prefill(ids[:, None], state=theirs)
        logits, mine = model.step(ids, mine)
        torch.testing.assert_close(logits, truth, **TIGHT)
    for left, old in zip(state.layers, kept.layers, strict=True):
        assert all(torch.equal(left[name], old[name]) for name in old)  # what was started from is still what it was
    assert torch.equal(mine.lengths, theirs.lengths) and mine.row_bytes() == theirs.row_bytes()
    for left, right in zip(mine.layers, theirs.layers, strict=True):
        torch.testing.assert_close(left, right, **TIGHT)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("mixers", [*((name,) for name in MIXERS), tuple(MIXERS)], ids="-".join)
def test_decoding_is_reading_one_more_token(mixers: tuple[str, ...], lengths: list[int]) -> None:
    model = model_of(mixers)
    assert_same_steps(model, read(model, lengths), 12)


@pytest.mark.parametrize("name", FEATURE_MAPS)
def test_every_map_and_shifted_heads(name: str) -> None:
    model = model_of(("linear", "prefix_linear", "swa", "attention"), feature_map=name, shifted_heads=1)
    assert_same_steps(model, read(model, LENGTHS["ragged"]), 5)


@pytest.mark.parametrize("name, options", [
    ("jrt_tiny", {}), ("jrt_tiny", {"padding": "published"}), ("based_decay_tiny", {}), ("attn_tiny_oddrot", {}),
])  # fmt: skip
def test_released_models_and_published_ways(name: str, options: dict[str, str]) -> None:
    model = load_pretrained(RELEASED / name, dtype="float64", **options)
    assert_same_steps(model, read(model, LENGTHS["ragged"]), 6)


def test_padding_on_the_left_comes_to_the_same() -> None:
    model = model_of(("conv", "prefix_linear", "swa", "attention"))
    ids, lengths = torch.randint(1, 250, (3, 12)), torch.tensor([12, 7, 1])
    left = torch.stack([ids[row].roll(12 - int(n)) for row, n in enumerate(lengths)])
    mask = torch.arange(12) >= 12 - lengths[:, None]
    state = model(left, mask, prefix_lengths=lengths // 2).state
    token = torch.tensor([5, 6, 7])
    mine, _ = model.step(token, state)
    other, _ = model.step(token, model.prefill(ids, lengths, lengths // 2)[1])
    torch.testing.assert_close(mine, other, **TIGHT)


def test_rows_leave_and_are_forked_between_steps() -> None:
    model = model_of(tuple(MIXERS))
    engine = JRTEngine(model)
    prompts = [list(range(3, 3 + n)) for n in (30, 11, 2, 1)]
    prefixes = [4, 3, 2, 1]
    _, mine = engine.prefill(prompts, prefixes)
    for step, rows in enumerate(([0, 1, 2, 3], [3, 1, 0], [1, 1, 2], [2])):
        mine = mine.select(torch.tensor(rows))
        prompts, prefixes = [prompts[row] for row in rows], [prefixes[row] for row in rows]
        ids = torch.arange(len(rows)) + 10 * step + 4
        prompts = [[*prompt, int(token)] for prompt, token in zip(prompts, ids, strict=True)]
        logits, mine = engine.step(ids, mine)
        truth, theirs = engine.prefill(prompts, prefixes)
        torch.testing.assert_close(logits, truth, **TIGHT)
        assert mine.row_bytes() == theirs.row_bytes() and engine.window_bytes(mine) == engine.window_bytes(theirs)
    fork = deepcopy(mine)
    engine.step(torch.tensor([9]), mine)
    more = engine.prefill([[5, 6]], [0], fork)[0]
    torch.testing.assert_close(more, engine.prefill([[*prompts[0], 5, 6]], prefixes)[0], **TIGHT)


def test_new_weights_count_from_the_next_step_on() -> None:
    model = model_of(("prefix_linear",), feature_map="mlp")
    engine = JRTEngine(model)
    _, state = engine.prefill([[4, 5, 6]], [1])
    token = torch.tensor([7])
    before = engine.step(token, state)[0]
    model.blocks[0].mixer.feature_map.skip.mul_(-3.0)
    assert not torch.allclose(engine.step(token, state)[0], before)
