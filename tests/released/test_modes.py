"""Padding, decoding and filling as options: what they change, and what they must not."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
import torch
from released import FOLDERS

from jrt_lmeval.checkpoints import load_pretrained
from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.config import JRTConfig
from jrt_lmeval.modeling.model import JRTForCausalLM

TIGHT = {"rtol": 1e-9, "atol": 1e-10}


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


@lru_cache(maxsize=16)
def load(name: str = "jrt_tiny", **options: Any) -> JRTForCausalLM:
    return load_pretrained(FOLDERS[name], dtype="float64", **options)


def prompts() -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded; lengths short of, at and beyond enc_length = 32."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 500, (4, 40), generator=generator), torch.tensor([40, 32, 9, 1])


def continuation(model: JRTForCausalLM, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Logits of the prompt and of five more tokens, `[B, 6, V]`."""
    logits, state = model.prefill(ids, lengths, lengths if model.has_prefix else None)
    out = [logits]
    for i in range(5):
        logits, state = model.step(torch.full((len(ids),), 7 + i), state)
        out.append(logits)
    return torch.stack(out, 1)


MODES = [
    ("jrt_tiny", {}),
    ("jrt_tiny", {"padding": "published"}),
    ("jrt_tiny", {"filling": "read_twice"}),
    ("jrt_tiny", {"filling": "read_twice", "padding": "published"}),
    ("jrt_tiny", {"filling": "iterate"}),
    ("based_tiny", {}),
    ("based_tiny", {"decode": "published"}),
    ("based_decay_tiny", {}),
    ("based_decay_tiny", {"decode": "published"}),
    ("attn_tiny", {}),
    ("attn_tiny_oddrot", {}),
]


@pytest.mark.parametrize("name, options", MODES)
def test_no_row_depends_on_its_batch_in_any_mode(name: str, options: dict[str, str]) -> None:
    model = load(name, **options)
    ids, lengths = prompts()
    together = continuation(model, ids, lengths)
    for row, length in enumerate(lengths):
        alone = continuation(model, ids[row : row + 1, :length], length[None])
        torch.testing.assert_close(together[row : row + 1], alone, **TIGHT)


@pytest.mark.parametrize("name, options", MODES)
def test_generate_agrees_with_prefill_and_step_and_never_leaves_the_vocabulary(
    name: str, options: dict[str, str]
) -> None:
    model = load(name, **options)
    ids, lengths = prompts()
    order = torch.arange(ids.shape[1])
    left, mask = torch.zeros_like(ids), order >= ids.shape[1] - lengths[:, None]
    left[mask] = ids[order < lengths[:, None]]
    if options.get("padding") == "published":
        left, mask = left[:, -9:], mask[:, -9:]  # rows of nine tokens or fewer: all are filled
        ids, lengths = ids[2:], lengths[2:]
        left, mask = left[2:], mask[2:]
    batch = model.generate(left, attention_mask=mask.long(), max_new_tokens=5, do_sample=False)
    logits, state = model.prefill(ids, lengths, lengths if model.has_prefix else None)
    for i in range(5):
        token = logits.argmax(-1)
        assert bool((token < 509).all())
        assert torch.equal(token, batch[:, left.shape[1] + i])
        logits, state = model.step(token, state)


def test_ids_beyond_the_vocabulary_are_never_chosen() -> None:
    model = load_pretrained(FOLDERS["jrt_tiny"])
    model.embed_tokens.weight[509:] = 50 * model.embed_tokens.weight[:509].sum(
        0
    )  # the padded rows now win or lose by far
    ids = torch.randint(1, 500, (8, 12), generator=torch.Generator().manual_seed(1))
    assert bool((model(ids).logits[:, -1].argmax(-1) >= 509).any())  # comparable with the original: not masked here
    new = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)
    assert int(new.max()) < 509
    assert int(model.prefill(ids, None, torch.full((8,), 12))[0].argmax(-1).max()) < 509


def test_a_reset_padding_token_changes_nothing_where_padding_is_exact() -> None:
    model = load()
    ids = torch.randint(1, 500, (1, 9))
    alone = model(ids).logits
    for token in (0, 220):
        padded = torch.cat([torch.full((1, 23), token), ids], 1)
        mask = torch.cat([torch.zeros(1, 23), torch.ones(1, 9)], 1)
        torch.testing.assert_close(model(padded, attention_mask=mask).logits[:, 23:], alone, **TIGHT)


def test_published_padding_weighs_each_pad_and_exact_does_not() -> None:
    ids, lengths = prompts()
    exact, published = continuation(load(), ids, lengths), continuation(load(padding="published"), ids, lengths)
    long = lengths >= 32
    torch.testing.assert_close(exact[long], published[long], **TIGHT)
    assert float((exact - published)[~long].abs().max()) > 0.1


def test_published_padding_masks_nothing_beyond_enc_length() -> None:
    model = load(padding="published")
    ids = torch.randint(1, 500, (1, 40))
    mask = torch.ones_like(ids)
    mask[:, :5] = 0
    torch.testing.assert_close(model(ids, attention_mask=mask).logits, model(ids).logits, **TIGHT)


def test_reading_twice_is_the_prompt_before_itself() -> None:
    ids = torch.randint(1, 500, (2, 12))
    doubled, whole = torch.cat([ids, ids], 1), torch.tensor([24, 24])
    twice = load(filling="read_twice").prefill(ids, None, torch.tensor([12, 12]))[0]
    torch.testing.assert_close(twice, load().prefill(doubled, None, whole)[0], **TIGHT)
    filled = load(filling="read_twice", padding="published").prefill(ids, None, torch.tensor([12, 12]))[0]
    torch.testing.assert_close(filled, load(padding="published").prefill(doubled, None, whole)[0], **TIGHT)


def test_iterating_is_reading_all_again_for_every_token() -> None:
    model, plain = load(filling="iterate"), load()
    ids = torch.randint(1, 500, (2, 29))
    logits, state = model.prefill(ids, None, torch.tensor([29, 10]))
    for _ in range(5):  # beyond enc_length
        token = logits.argmax(-1)
        logits, state = model.step(token, state)
        ids = torch.cat([ids, token[:, None]], 1)
        again, _ = plain.prefill(ids, None, torch.tensor([ids.shape[1], 10]))  # a whole prompt's prefix grows
        torch.testing.assert_close(logits, again, **TIGHT)
    assert state.select([1]).row_bytes() < plain.prefill(ids)[1].select([1]).row_bytes()


def test_the_prefix_ends_at_enc_length_however_it_is_read() -> None:
    model = load()
    ids = torch.randint(1, 500, (1, 45))
    whole, state = model.prefill(ids, None, torch.tensor([45]))
    cut, _ = model.prefill(ids, None, torch.tensor([32]))
    torch.testing.assert_close(whole, cut, **TIGHT)
    _, state = model.prefill(ids[:, :40], None, torch.tensor([40]))
    more, _ = model.prefill(ids[:, 40:], None, torch.tensor([5]), state)  # nothing of it stands before enc_length
    torch.testing.assert_close(more, whole, **TIGHT)
    longer = load(enc_length=45)
    assert longer.config.prefix_length == longer.config.enc_length == 45
    assert float((longer(ids).logits - model(ids).logits).abs().max()) > 0.01


def test_continuing_a_text_is_not_decoding() -> None:
    model = load("based_tiny", decode="published")
    ids = torch.randint(1, 500, (1, 20))
    whole, _ = model.prefill(ids)
    for cut in (10, 19):
        _, state = model.prefill(ids[:, :cut])
        torch.testing.assert_close(model.prefill(ids[:, cut:], None, None, state)[0], whole, **TIGHT)
    _, state = model.prefill(ids[:, :19])
    assert float((model.step(ids[:, 19], state)[0] - whole).abs().max()) > 0.01


def test_modes_are_recorded_in_the_config(tmp_path) -> None:
    model = load_pretrained(FOLDERS["jrt_tiny"], padding="published", filling="read_twice", enc_length=20)
    model.save_pretrained(tmp_path)
    again = JRTConfig.from_pretrained(tmp_path)
    assert (again.padding, again.decode, again.filling, again.enc_length) == ("published", "exact", "read_twice", 20)
    assert load_pretrained(tmp_path, padding="exact").config.padding == "exact"


def test_a_model_without_enc_length_cannot_be_filled() -> None:
    with pytest.raises(JRTError, match="Give enc_length="):
        JRTConfig(padding="published")
    assert JRTConfig(padding="published", mixers=["linear"]).padding == "published"
