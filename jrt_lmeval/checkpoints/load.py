"""From a folder to a model: every parameter filled and every tensor used, or an error that lists them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import PreTrainedTokenizerFast

from jrt_lmeval.checkpoints.shipped import CONFIG
from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.config import JRTConfig
from jrt_lmeval.modeling.model import JRTForCausalLM


def load_config(folder: Path) -> JRTConfig:
    """The configuration in a folder.

    Raises:
        JRTError: it is another kind of model.
    """
    kind = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("model_type")
    if kind != JRTConfig.model_type:
        raise JRTError(
            f"{folder / CONFIG}: model_type is {kind!r}, not {JRTConfig.model_type!r}. "
            "Models of other kinds run with --model hf_recall (any Hugging Face causal LM) or --model mamba."
        )
    try:
        return JRTConfig.from_pretrained(folder)
    except (TypeError, ValueError) as error:
        raise JRTError(f"{folder / CONFIG}: not a configuration of ours: {error}") from error


def load_model(folder: Path, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu") -> JRTForCausalLM:
    """The trained model in a folder, in evaluation mode.

    Raises:
        JRTError: weights missing or unreadable, parameters not filled, tensors not used or of another shape (all are
            named).
    """
    config = load_config(folder)
    if not any(folder.glob("*.safetensors")):
        raise JRTError(
            f"{folder}: has {CONFIG} but no .safetensors file with weights: the checkpoint is only half there."
        )
    try:
        model, info = JRTForCausalLM.from_pretrained(
            folder, config=config, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except (SafetensorError, OSError) as error:
        raise JRTError(f"{folder}: the weights cannot be read ({error}); the file is damaged or incomplete.") from error
    faults = {
        "not filled": sorted(info["missing_keys"]),
        "not used": sorted(info["unexpected_keys"]),
        "of another shape": sorted(str(key[0] if isinstance(key, tuple) else key) for key in info["mismatched_keys"]),
    }
    if any(faults.values()):
        listed = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in faults.items() if names)
        raise JRTError(f"{folder}: the weights do not fit {CONFIG} ({listed}). A half-filled model is never evaluated.")
    return model.to(device).eval()


def random_model(
    folder: Path,
    feature_map: str | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> JRTForCausalLM:
    """An untrained model of a folder's geometry, for tests of the machinery; ``feature_map`` replaces the folder's."""
    config = load_config(folder)
    if feature_map is not None and feature_map != config.feature_map:
        config.feature_map, config.feature_map_options = feature_map, {}
    torch.manual_seed(seed)
    return JRTForCausalLM(config).to(device=device, dtype=dtype).eval()


def load_tokenizer(folder: Path, vocab_size: int) -> PreTrainedTokenizerFast:
    """The tokenizer in a model's folder.

    Raises:
        JRTError: there is none, or it has more tokens than the model has embeddings.
    """
    if not (folder / "tokenizer.json").is_file():
        raise JRTError(f"{folder}: holds no tokenizer.json; copy the tokenizer that the model was trained with there.")
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    except Exception as error:  # the tokenizers library raises bare exceptions
        raise JRTError(f"{folder / 'tokenizer.json'}: not readable as a tokenizer ({error}).") from error
    if len(tokenizer) > vocab_size:
        raise JRTError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens, the model embeds {vocab_size}: "
            "it is not the tokenizer this model was trained with."
        )
    return tokenizer
