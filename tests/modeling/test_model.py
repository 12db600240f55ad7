"""The model as a whole: batches, padding, states, generation, Hugging Face folders."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.config import JRTConfig
from jrt_lmeval.modeling.feature_maps import FEATURE_MAPS
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.training.models import start_recalling

JRT = ["conv", "prefix_linear", "swa"]
BASED = ["conv", "linear", "swa"]
TRANSFORMER = ["attention", "attention"]
MIXERS = {"jrt": JRT, "based": BASED, "transformer": TRANSFORMER, "all": [*JRT, "attention", "linear"]}
TIGHT = {"rtol": 1e-9, "atol": 1e-10}


def tiny(mixers: list[str], feature_map: str = "mlp", **options: object) -> JRTForCausalLM:
    torch.manual_seed(0)
    config = JRTConfig(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_heads=2, feature_dim=4, window=6, mixers=mixers,
        feature_map=feature_map, **{"shifted_heads": 1, **options},
    )  # fmt: skip
    model = JRTForCausalLM(config).double().eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def ragged() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randint(1, 40, (4, 37)), torch.tensor([37, 20, 5, 1]), torch.tensor([12, 20, 0, 1])


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("kind", MIXERS)
def test_a_row_does_not_depend_on_its_batch(kind: str) -> None:
    model = tiny(MIXERS[kind])
    ids, lengths, prefixes = ragged()
    together, state = model.prefill(ids, lengths, prefixes)
    for row in range(len(ids)):
        alone, own = model.prefill(ids[row : row + 1, : lengths[row]], None, prefixes[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, **TIGHT)
        nxt = torch.tensor([7])
        torch.testing.assert_close(model.step(nxt, state.select([row]))[0], model.step(nxt, own)[0], **TIGHT)


@pytest.mark.parametrize("form", ["naive", "chunked"])
def test_forms_agree_through_the_whole_model(form: str) -> None:
    model = tiny(MIXERS["all"])
    ids, lengths, prefixes = ragged()
    truth, _ = model.prefill(ids, lengths, prefixes)
    model.linear_attention = form
    torch.testing.assert_close(model.prefill(ids, lengths, prefixes)[0], truth, **TIGHT)


@pytest.mark.parametrize("kind", MIXERS)
def test_prefill_then_steps_equals_reading_at_once(kind: str) -> None:
    model = tiny(MIXERS[kind])
    ids, lengths, prefixes = ragged()
    more = torch.randint(1, 40, (4, 15))
    _, state = model.prefill(ids, lengths, prefixes)
    in_one, _ = model.prefill(more, None, None, deepcopy(state))
    for t in range(more.shape[1]):
        logits, state = model.step(more[:, t], state)
    torch.testing.assert_close(logits, in_one, **TIGHT)
    for row in range(len(ids)):
        whole = torch.cat([ids[row, : lengths[row]], more[row]])[None]
        torch.testing.assert_close(
            logits[row : row + 1], model.prefill(whole, None, prefixes[row : row + 1])[0], **TIGHT
        )


def test_any_padding_side_gives_the_same_logits() -> None:
    model = tiny(MIXERS["all"])
    ids, lengths, prefixes = ragged()
    T = ids.shape[1]
    scattered = torch.zeros_like(ids)
    mask = torch.zeros_like(ids)
    generator = torch.Generator().manual_seed(0)
    for row, length in enumerate(lengths):
        places = (
            torch.randperm(T, generator=generator)[:length].sort().values if row == 1 else torch.arange(T - length, T)
        )
        scattered[row, places], mask[row, places] = ids[row, :length], 1
    logits = model(scattered, attention_mask=mask, prefix_lengths=prefixes).logits
    for row, length in enumerate(lengths):
        alone = model(ids[row : row + 1, :length], prefix_lengths=prefixes[row : row + 1]).logits[0]
        torch.testing.assert_close(logits[row][mask[row].bool()], alone, **TIGHT)


@pytest.mark.parametrize("M", [0, 1, 11, 22])
def test_a_future_token_moves_no_earlier_logit(M: int) -> None:
    model = tiny(JRT)
    ids = torch.randint(1, 40, (1, 23))
    logits = model(ids, prefix_lengths=torch.tensor([M])).logits
    for changed in range(M, 23):
        other = ids.clone()
        other[0, changed] = (other[0, changed] + 1) % 40
        moved = model(other, prefix_lengths=torch.tensor([M])).logits
        torch.testing.assert_close(moved[:, :changed], logits[:, :changed], rtol=0, atol=0)
    if M > 2:  # and the prefix does see its own future, else this test could not fail
        other = ids.clone()
        other[0, M - 1] = (other[0, M - 1] + 1) % 40
        assert (model(other, prefix_lengths=torch.tensor([M])).logits[:, 0] - logits[:, 0]).abs().max() > 1e-6


@pytest.mark.parametrize("feature_map", FEATURE_MAPS)
def test_ten_times_the_training_length_stays_finite(feature_map: str) -> None:
    model = tiny(JRT, feature_map, context_length=64).float()
    ids = torch.randint(1, 40, (1, 640))
    logits = model(ids, prefix_lengths=torch.tensor([320])).logits
    assert torch.isfinite(logits).all()
    assert logits[0, 320:].std() < 10 * logits[0, :64].std()


def test_the_state_can_be_forked_and_measured() -> None:
    model = tiny(MIXERS["all"])
    ids, lengths, prefixes = ragged()
    _, state = model.prefill(ids, lengths, prefixes)
    copy = deepcopy(state)
    copy.layers[0]["tail"].zero_()
    assert state.layers[0]["tail"].abs().sum() > 0
    forked = state.select([1, 1, 3])
    assert forked.lengths.tolist() == [20, 20, 1]
    kept = state.select([0])  # the longest row, which no padding stands beside
    assert kept.row_bytes() == [sum(t.numel() * 8 for layer in kept.layers for t in layer.values())]
    assert tiny(JRT).prefill(ids)[1].row_bytes() == tiny(JRT).prefill(ids[:, :9])[1].row_bytes()  # constant in length


def test_hugging_face_round_trip_and_generation(tmp_path: Path) -> None:
    model = tiny(MIXERS["all"], mask_token_id=39)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float64)
    ids, lengths, _ = ragged()
    torch.testing.assert_close(loaded(ids).logits, model(ids).logits, rtol=0, atol=0)
    mask = torch.arange(37) >= 37 - lengths[:, None]
    left = torch.zeros_like(ids)
    left[mask] = ids[torch.arange(37) < lengths[:, None]]
    batch = model.generate(left, attention_mask=mask.long(), max_new_tokens=7, do_sample=False)
    for row, length in enumerate(lengths):
        own = ids[row : row + 1, :length]
        alone = model.generate(own, attention_mask=torch.ones_like(own), max_new_tokens=7, do_sample=False)
        assert batch[row, -7:].tolist() == alone[0, -7:].tolist()
        logits, state = model.prefill(own, None, torch.tensor([length]))  # by default the whole prompt is the prefix
        for token in alone[0, -7:].tolist():
            assert int(logits.argmax()) == token != 39
            logits, state = model.step(torch.tensor([token]), state)


def test_labels_are_shifted_and_padding_ignored() -> None:
    model = tiny(BASED)
    ids = torch.randint(1, 40, (1, 9))
    expected = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1].float(), ids[0, 1:])
    torch.testing.assert_close(model(ids, labels=ids).loss, expected)


def test_bad_input_is_refused() -> None:
    with pytest.raises(JRTError, match="Did you mean 'swa'"):
        tiny(["conv", "sva"])
    with pytest.raises(JRTError, match="multiple of 2 x num_heads"):
        JRTConfig(hidden_size=20, num_heads=3)
    with pytest.raises(JRTError, match="no token at all"):
        tiny(BASED)(torch.ones(2, 3, dtype=torch.long), attention_mask=torch.tensor([[1, 1, 1], [0, 0, 0]]))


@pytest.mark.parametrize("feature_map", FEATURE_MAPS)
def test_every_map_survives_saving_and_loading(feature_map: str, tmp_path: Path) -> None:
    model = tiny(JRT, feature_map)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float64)
    ids, lengths, prefixes = ragged()
    assert torch.equal(loaded.prefill(ids, lengths, prefixes)[0], model.prefill(ids, lengths, prefixes)[0])


@pytest.mark.parametrize("shifted_heads", [0, 1, 2])
def test_shifted_heads_use_the_token_before(shifted_heads: int) -> None:
    """With shifted heads that start as a copy, one layer recalls what followed a token; without, it cannot."""
    torch.manual_seed(0)
    config = JRTConfig(
        vocab_size=64, hidden_size=256, intermediate_size=64, num_heads=2, mixers=["attention"],
        shifted_heads=shifted_heads, initializer_range=256**-0.5,
    )  # fmt: skip
    model = JRTForCausalLM(config)
    start_recalling(model)
    keys = torch.randperm(50)[:8] + 12
    values = torch.arange(4, 12)
    pairs = torch.stack([keys, values], 1).flatten()
    right = sum(
        int(model.prefill(torch.cat([pairs, key[None]])[None])[0][0, values].argmax()) == row
        for row, key in enumerate(keys)
    )
    assert right >= 7 if shifted_heads else right <= 4


def test_shifted_heads_beyond_the_heads_are_refused() -> None:
    with pytest.raises(JRTError, match="from 0 to num_heads=2"):
        JRTConfig(hidden_size=16, num_heads=2, shifted_heads=3)
