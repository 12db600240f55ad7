"""From a folder to a model: every parameter filled and every tensor used, or an error that lists them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedTokenizerFast

from jrt_lmeval.checkpoints.released.files import read_config
from jrt_lmeval.checkpoints.released.load import load_jrt, released_config, released_kind
from jrt_lmeval.checkpoints.shipped import CONFIG
from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.config import JRTConfig
from jrt_lmeval.modeling.model import JRTForCausalLM


def load_config(folder: Path) -> JRTConfig:
    """The configuration in a folder, ours or of a released JRT, Based or Transformer.

    Raises:
        JRTError: it is another kind of model.
    """
    if released_kind(folder) == "jrt":
        return released_config(folder)
    kind = read_config(folder).get("model_type")
    if kind != JRTConfig.model_type:
        raise JRTError(
            f"{folder / CONFIG}: model_type is {kind!r}, not {JRTConfig.model_type!r}. "
            "Models of other kinds run with --model hf_recall (any Hugging Face causal LM) or --model mamba."
        )
    try:
        return JRTConfig.from_pretrained(folder)
    except (TypeError, ValueError) as error:
        raise JRTError(f"{folder / CONFIG}: not a configuration of ours: {error}") from error


def load_model(
    folder: Path,
    dtype: torch.dtype | None = torch.float32,
    device: str | torch.device = "cpu",
    enc_length: int | None = None,
    **modes: str,
) -> JRTForCausalLM:
    """The trained model in a folder, in evaluation mode; released JRT, Based and Transformer checkpoints included.

    Args:
        folder: that holds it.
        dtype: of the parameters; None as in the file.
        device: where to put them.
        enc_length: longest prefix in tokens, in place of the checkpoint's own.
        **modes: `padding`, `decode`, `filling`; see `JRTConfig`.

    Raises:
        JRTError: weights missing or unreadable, parameters not filled, tensors not used or of another shape (all are
            named); no such mode.
    """
    if released_kind(folder) == "jrt":
        return load_jrt(folder, dtype, device, enc_length, **modes)
    config = load_config(folder)
    config.set_modes(enc_length=enc_length, **modes)
    if not any(folder.glob("*.safetensors")):
        raise JRTError(
            f"{folder}: has {CONFIG} but no .safetensors file with weights: the checkpoint is only half there."
        )
    try:
        model, info = JRTForCausalLM.from_pretrained(
            folder, config=config, dtype=dtype or "auto", output_loading_info=True, ignore_mismatched_sizes=True
        )
    except (SafetensorError, OSError) as error:
        raise JRTError(f"{folder}: the weights cannot be read ({error}); the file is damaged or incomplete.") from error
    refuse_partial(folder, info)
    return model.to(device).eval()


def refuse_partial(folder: Path, info: dict[str, Any]) -> None:
    """Raise JRTError if transformers' report on loading names any parameter."""
    faults = {
        "not filled": sorted(info["missing_keys"]),
        "not used": sorted(info["unexpected_keys"]),
        "of another shape": sorted(str(key[0] if isinstance(key, tuple) else key) for key in info["mismatched_keys"]),
    }
    if any(faults.values()):
        listed = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in faults.items() if names)
        raise JRTError(f"{folder}: the weights do not fit {CONFIG} ({listed}). A half-filled model is never evaluated.")


def random_model(
    folder: Path,
    feature_map: str | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> JRTForCausalLM:
    """An untrained model of a folder's geometry, for tests of the machinery; `feature_map` replaces the folder's."""
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
