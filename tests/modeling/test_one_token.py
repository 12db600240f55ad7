"""Decoding in place == reading one more token: logits and states, for every mixer, map, batch and padding."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch

from jrt_lmeval.checkpoints.pretrained import load_pretrained
from jrt_lmeval.data.shipped import factbook_rows
from jrt_lmeval.modeling.feature_maps import FEATURE_MAPS
from jrt_lmeval.modeling.mixers import MIXERS
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.modeling.one_token import ROOM, OneToken
from jrt_lmeval.modeling.state import RecurrentState
from jrt_lmeval.prompts import Prompt
from model_adapters.engines.jrt import JRTEngine, JRTState, JRTSteps
from model_adapters.jrt_rnn import JRTRNN

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
    """Both ways take the same tokens: the same logits each time and, read on from, the same in the end."""
    torch.manual_seed(2)
    one_token = OneToken(model)
    kept = state.clone()
    buffers = one_token.open(state)
    theirs = state
    for _ in range(steps):
        ids = torch.randint(1, 250, (state.batch_size,))
        truth, theirs = model.step(ids, theirs)
        torch.testing.assert_close(one_token.step(ids, buffers), truth, **TIGHT)
    for mine, old in zip(state.layers, kept.layers, strict=True):
        assert all(torch.equal(mine[name], old[name]) for name in old)  # what was opened is still what it was
    more = torch.randint(1, 250, (state.batch_size, 5))
    closed = one_token.close(buffers)
    assert torch.equal(closed.lengths, theirs.lengths)
    torch.testing.assert_close(model.prefill(more, state=closed)[0], model.prefill(more, state=theirs)[0], **TIGHT)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("mixers", [*((name,) for name in MIXERS), tuple(MIXERS)], ids="-".join)
def test_steps_in_place_are_those_of_the_general_path(mixers: tuple[str, ...], lengths: list[int]) -> None:
    model = model_of(mixers)
    assert_same_steps(model, read(model, lengths), 12)


@pytest.mark.parametrize("name", FEATURE_MAPS)
def test_every_map_and_shifted_heads(name: str) -> None:
    model = model_of(("linear", "prefix_linear", "swa", "attention"), feature_map=name, shifted_heads=1)
    assert_same_steps(model, read(model, LENGTHS["ragged"]), 5)


def test_full_attention_gets_new_room() -> None:
    model = model_of(("attention", "swa"))
    assert_same_steps(model, read(model, [9, 3]), ROOM + 3)


@pytest.mark.parametrize("name, options", [
    ("jrt_tiny", {}), ("jrt_tiny", {"padding": "published"}), ("based_tiny", {"decode": "published"}),
    ("based_decay_tiny", {}), ("based_decay_tiny", {"decode": "published"}), ("attn_tiny_oddrot", {}),
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
    one_token = OneToken(model)
    token = torch.tensor([5, 6, 7])
    mine = one_token.step(token, one_token.open(state))
    other = one_token.step(token, one_token.open(model.prefill(ids, lengths, lengths // 2)[1]))
    torch.testing.assert_close(mine, other, **TIGHT)


def test_rows_leave_and_are_forked_between_steps() -> None:
    model = model_of(tuple(MIXERS))
    engine, twin = JRTEngine(model), JRTEngine(model)
    twin.one_token = None
    prompts = [list(range(3, 3 + n)) for n in (30, 11, 2, 1)]
    (_, mine), (_, theirs) = (one.prefill(prompts, [4, 3, 2, 1]) for one in (engine, twin))
    for step, rows in enumerate(([0, 1, 2, 3], [3, 1, 0], [1, 1, 2], [2])):
        mine, theirs = mine.select(torch.tensor(rows)), theirs.select(torch.tensor(rows))
        ids = torch.arange(len(rows)) + 10 * step + 4
        (logits, mine), (truth, theirs) = engine.step(ids, mine), twin.step(ids, theirs)
        torch.testing.assert_close(logits, truth, **TIGHT)
        assert isinstance(mine, JRTSteps) and isinstance(theirs, JRTState)
        assert mine.row_bytes() == theirs.row_bytes() and engine.window_bytes(mine) == twin.window_bytes(theirs)
    fork = mine.clone()
    engine.step(torch.tensor([9]), mine)
    torch.testing.assert_close(engine.prefill([[5, 6]], [0], fork)[0], twin.prefill([[5, 6]], [0], theirs)[0], **TIGHT)


def test_new_weights_count_from_the_next_batch_on() -> None:
    model = model_of(("prefix_linear",), feature_map="mlp")
    engine = JRTEngine(model)
    _, state = engine.prefill([[4, 5, 6]], [1])
    token = torch.tensor([7])
    before = engine.step(token, state)[0]
    model.blocks[0].mixer.feature_map.skip.mul_(-3.0)
    after = engine.step(token, state)[0]
    assert not torch.allclose(after, before)
    torch.testing.assert_close(after, model.step(token, state.inner)[0], **TIGHT)


def test_a_model_that_reads_everything_again_or_has_another_mixer_decodes_as_it_reads() -> None:
    again = load_pretrained(RELEASED / "jrt_tiny", filling="iterate")
    assert JRTEngine(again).one_token is None
    other = model_of(("conv",))
    other.blocks[0].mixer = torch.nn.Identity()
    assert not OneToken.fits(other)


def test_answers_on_real_rows_are_the_same() -> None:
    rows = list(factbook_rows())[::90][:10]
    asked = [
        Prompt(f"{row['text'][:900]}\n{stem}:", 0, 900, row["text"][:900])
        for row in rows
        for stem in ("Area", "Capital")
    ]
    lm = JRTRNN()
    requests = [SimpleNamespace(args=(prompt, {"until": ["\n"], "max_gen_toks": 16})) for prompt in asked]
    mine = lm.generate_until(requests, disable_tqdm=True)
    assert lm.engine.one_token is not None
    lm.engine.one_token = None
    assert [str(one) for one in lm.generate_until(requests, disable_tqdm=True)] == [str(one) for one in mine]
    assert any(mine)
