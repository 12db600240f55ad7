"""How long a text a model may read: no cap without positions, the user's word with them, a table's end as it is."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTJConfig,
    GPTJForCausalLM,
    JambaConfig,
    LlamaConfig,
    LlamaForCausalLM,
    RwkvConfig,
    RwkvForCausalLM,
)

from jrt_lmeval.errors import JRTError
from model_adapters.engines.hf import HFEngine, context_length
from model_adapters.models import HFRecall

torch.set_num_threads(1)

SMALL = {"vocab_size": tiny.VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "bos_token_id": None, "eos_token_id": 0}


def rwkv(folder: Path) -> str:
    config = RwkvConfig(**SMALL)
    assert config.max_position_embeddings == 1024, "transformers' name for a context length that it does not heed"
    return tiny.save(RwkvForCausalLM(config), folder)


def test_a_recurrent_model_reads_as_long_a_text_as_there_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lm = HFRecall(pretrained=rwkv(tmp_path), device="cpu")
    assert lm.max_length is None
    short, long = ([5 + i % 300 for i in range(n)] for n in (16, 8192))
    _, small = lm.engine.prefill([short], [0])
    logits, state = lm.engine.prefill([long], [0])
    assert bool(logits.isfinite().all())
    assert state.row_bytes() == small.row_bytes()
    assert HFRecall(pretrained=str(tmp_path), device="cpu", max_length=4096).max_length == 4096
    assert "max_length" not in caplog.text


def test_attention_without_positions_has_no_cap() -> None:
    from transformers import JambaForCausalLM

    config = JambaConfig(
        **SMALL, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, attn_layer_period=2,
        attn_layer_offset=1, num_experts=1, mamba_d_state=4, mamba_dt_rank=4, max_position_embeddings=64,
    )  # fmt: skip
    engine = HFEngine(JambaForCausalLM(config).eval())
    assert not engine.constant_state and engine.max_length is None


def test_the_user_goes_beyond_computed_positions_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tiny.save(tiny.llama(), tmp_path)  # rotary positions, made for 512
    assert HFRecall(folder, device="cpu").max_length == 512
    requests = [tiny.ask(tiny.text(3, 400))]
    with pytest.raises(JRTError, match="context of 512 tokens"):
        HFRecall(folder, device="cpu").generate_until(requests, disable_tqdm=True)
    with caplog.at_level(logging.WARNING, logger="lm_eval.jrt"):
        lm = HFRecall(folder, device="cpu", max_length=4096)
    (warned,) = [record.getMessage() for record in caplog.records if "max_length" in record.getMessage()]
    assert warned.startswith("max_length=4096 is more than the 512 tokens that th")
    (answer,) = lm.generate_until(requests, disable_tqdm=True)
    assert answer.stats["jrt_prompt_tokens"] > 512
    assert HFRecall(folder, device="cpu", kv_window=16, max_length=4096).max_length == 4096


TABLE = {"vocab_size": tiny.VOCAB, "n_embd": 32, "n_layer": 1, "n_head": 4, "n_positions": 64}


@pytest.mark.parametrize(
    "model",
    [GPT2LMHeadModel(GPT2Config(**TABLE)), GPTJForCausalLM(GPTJConfig(**TABLE, rotary_dim=4))],
    ids=["learned", "precomputed"],
)
def test_there_is_nothing_beyond_a_table_of_positions(model: Any, tmp_path: Path) -> None:
    folder = tiny.save(model, tmp_path)
    assert HFRecall(folder, device="cpu", max_length=40).max_length == 40
    with pytest.raises(JRTError, match=r"max_length=65: .* each of 64 positions"):
        HFRecall(folder, device="cpu", max_length=65)
    with pytest.raises(JRTError, match=r"max_length=65: .* each of 64 positions"):
        HFRecall(folder, device="cpu", kv_window=8, max_length=65)


@pytest.mark.parametrize(
    ("rope", "expected"),
    [
        ({"rope_type": "default"}, 64),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}, 256),
        ({"rope_type": "linear", "factor": 2.0}, 128),
        ({"rope_type": "dynamic", "factor": 4.0}, 256),
        (
            {
                "rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 64, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
            },
            512,
        ),
        (
            {
                "rope_type": "longrope", "factor": 32.0, "original_max_position_embeddings": 64,
                "short_factor": [1.0] * 4, "long_factor": [2.0] * 4,
            },
            2048,
        ),
    ],
    ids=lambda value: value.get("rope_type") if isinstance(value, dict) else None,
)  # fmt: skip
def test_scaled_positions_count_with_their_factor(rope: dict[str, Any], expected: int) -> None:
    config = LlamaConfig(
        **SMALL, intermediate_size=48, num_attention_heads=4, max_position_embeddings=64,
        rope_parameters={**rope, "rope_theta": 1e4},
    )  # fmt: skip
    assert context_length(config) == expected
    engine = HFEngine(LlamaForCausalLM(config).eval())
    assert engine.max_length == expected
    logits, _ = engine.prefill([[7] * (expected - 1)], [0])
    assert bool(logits.isfinite().all())


def test_a_length_that_is_scaled_already_counts_once() -> None:
    rope = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 64, "low_freq_factor": 1.0}
    config = LlamaConfig(
        **SMALL, max_position_embeddings=1024, rope_parameters={**rope, "high_freq_factor": 4.0, "rope_theta": 1e4}
    )
    assert context_length(config) == 1024
