"""The first weights of a plain Llama and of Mamba-2: what they recall before they have learned anything."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, Mamba2Config, Mamba2ForCausalLM

from jrt_lmeval.errors import JRTError
from jrt_lmeval.training.models import start_recalling_llama, start_recalling_mamba2

VOCAB, ONCE = 1000, 30


def llama(heads: int = 4, width: int = 128) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=width,
            intermediate_size=width,
            num_hidden_layers=4,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
            tie_word_embeddings=True,
            attn_implementation="eager",
        )
    ).eval()


@torch.no_grad()
def attentions(model: LlamaForCausalLM, ids: Tensor) -> tuple[Tensor, ...]:
    return model(ids, output_attentions=True).attentions


def twice(colons: bool = False) -> Tensor:
    """Random tokens and all of them again `[8, 2 x ONCE]`; with `colons`, every fifth is the same."""
    ids = torch.randint(2, VOCAB, (8, ONCE), generator=torch.Generator().manual_seed(1))
    if colons:
        ids[:, 4::5] = 1
    return torch.cat([ids, ids], dim=1)


@pytest.mark.parametrize(("heads", "width"), [(4, 128), (2, 96)])
def test_heads_of_the_first_layer_look_one_two_and_more_tokens_back(heads: int, width: int) -> None:
    model = llama(heads, width)
    start_recalling_llama(model)
    for distance in (300, 2 * ONCE):  # a long row as well
        first = attentions(model, torch.randint(2, VOCAB, (2, distance)))[0]
        for head in range(heads):
            assert first[:, head].diagonal(-1 - head, 1, 2).mean() > 0.9


@pytest.mark.parametrize("colons", [False, True])
def test_heads_of_the_second_layer_find_what_followed_the_last_three_tokens(colons: bool) -> None:
    model, ids = llama(), twice(colons)
    at = torch.arange(ONCE + 4, 2 * ONCE)  # the second time, with three tokens of it read
    random = attentions(model, ids)[1][:, :, at, at - ONCE + 1].mean()
    start_recalling_llama(model)
    started = attentions(model, ids)[1][:, :, at, at - ONCE + 1].mean()
    assert started > 0.3 and random < 0.05


@torch.no_grad()
def test_what_is_found_is_written_and_what_all_have_in_common_is_not_seen_in_the_logits() -> None:
    model, ids = llama(), twice()
    start_recalling_llama(model)
    logits = model(ids).logits
    right = (logits[:, ONCE + 4 : -1].argmax(-1) == ids[:, ONCE + 5 :]).float().mean()
    assert right > 0.1  # of a thousand tokens
    shared = model.model.embed_tokens.weight @ model.model.embed_tokens.weight.mean(0)
    assert shared.std() < 0.1 * shared.mean()  # the same for every token: softmax does not see it


def mamba2(**sizes: int) -> Mamba2ForCausalLM:
    torch.manual_seed(0)
    given = {"hidden_size": 128, "num_heads": 4, "head_dim": 64, "state_size": 128, "n_groups": 1, "chunk_size": 16}
    given |= {"num_hidden_layers": 3, "vocab_size": VOCAB, "tie_word_embeddings": True}
    return Mamba2ForCausalLM(Mamba2Config(**{**given, **sizes})).eval()


@torch.no_grad()
def copied(model: Mamba2ForCausalLM, colons: bool = False) -> float:
    """Share of the tokens that are the likeliest the second time, three of it having been read."""
    ids = twice(colons)
    logits = model(ids).logits
    return (logits[:, ONCE + 3 : -1].argmax(-1) == ids[:, ONCE + 4 :]).float().mean().item()


@pytest.mark.parametrize("sizes", [{}, {"n_groups": 2, "state_size": 96}, {"num_hidden_layers": 1}, {"conv_kernel": 5}])
def test_mamba2_begins_as_an_induction_head(sizes) -> None:
    model = mamba2(**sizes)
    assert copied(model) < 0.05
    start_recalling_mamba2(model)
    assert copied(model) > 0.9 and copied(model, colons=True) > 0.75
    silent = [layer.mixer.out_proj.weight.abs().sum() == 0 for layer in model.backbone.layers]
    assert silent.count(False) == 1


def test_mamba2_of_other_shapes_is_refused() -> None:
    with pytest.raises(JRTError, match="expand=1, conv_kernel=4: begins as an induction head only with expand=2"):
        start_recalling_mamba2(mamba2(expand=1, num_heads=2))
    with pytest.raises(JRTError, match="conv_kernel=3"):
        start_recalling_mamba2(mamba2(conv_kernel=3))
