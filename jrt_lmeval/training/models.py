"""The model that a recipe describes, with random weights: ours, or a transformers baseline of the same size."""

from __future__ import annotations

from typing import Any

from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Mamba2Config,
    Mamba2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from jrt_lmeval.errors import unknown
from jrt_lmeval.modeling.config import JRTConfig
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.training.recipes import Recipe


def model_config(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> JRTConfig:
    """The configuration that a recipe describes."""
    return JRTConfig(
        **{
            "vocab_size": len(tokenizer),
            "hidden_size": recipe.hidden_size,
            "intermediate_size": recipe.intermediate_size,
            "mixers": recipe.mixers,
            "num_heads": recipe.num_heads,
            "feature_map": recipe.feature_map,
            "feature_map_options": dict(recipe.feature_map_options),
            "feature_dim": recipe.feature_dim,
            "shifted_heads": recipe.shifted_heads,
            "window": recipe.window,
            "normaliser": recipe.normaliser,
            "initializer_range": recipe.hidden_size**-0.5,
            "context_length": max(stage.max_tokens for stage in recipe.curriculum),
            "mask_token_id": tokenizer.mask_token_id,
            **_special(tokenizer),
            **recipe.config,
        }
    )


def _ours(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    return JRTForCausalLM(model_config(recipe, tokenizer))


def _llama(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.hidden_size,
            intermediate_size=recipe.intermediate_size,
            num_hidden_layers=len(recipe.mixers),
            num_attention_heads=recipe.num_heads,
            num_key_value_heads=recipe.num_heads,
            max_position_embeddings=max(stage.max_tokens for stage in recipe.curriculum),
            rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
            tie_word_embeddings=True,
            **_special(tokenizer),
        )
    )


def _mamba(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    return MambaForCausalLM(
        MambaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.hidden_size,
            num_hidden_layers=len(recipe.mixers),
            initializer_range=recipe.hidden_size**-0.5 / 2,
            tie_word_embeddings=True,
            **_special(tokenizer),
        )
    )


def _mamba2(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    head_dim = int(recipe.config.get("head_dim", 64))  # type: ignore[call-overload]
    return Mamba2ForCausalLM(
        Mamba2Config(
            **{
                "vocab_size": len(tokenizer),
                "hidden_size": recipe.hidden_size,
                "num_hidden_layers": len(recipe.mixers),
                "num_heads": 2 * recipe.hidden_size // head_dim,
                "head_dim": head_dim,
                "n_groups": 1,
                "initializer_range": recipe.hidden_size**-0.5 / 2,
                "tie_word_embeddings": True,
                **_special(tokenizer),
                **recipe.config,
            }
        )
    )


def _special(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {name: getattr(tokenizer, name) for name in names}


MODELS = {"jrt_rnn": _ours, "based": _ours, "llama": _llama, "mamba": _mamba, "mamba2": _mamba2}
"""What `jrt-eval train --model` builds. Of a transformers model's recipe, `mixers` gives only the number of layers."""


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """The recipe's model with random weights.

    Raises:
        JRTError: no such kind of model.
    """
    if recipe.model not in MODELS:
        raise unknown("model to train", recipe.model, MODELS)
    return MODELS[recipe.model](recipe, tokenizer)
