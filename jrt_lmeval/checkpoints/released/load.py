"""A released folder as a model."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from transformers import MambaForCausalLM, PreTrainedModel

from jrt_lmeval.checkpoints.released import gpt, mamba
from jrt_lmeval.checkpoints.released.assemble import assemble
from jrt_lmeval.checkpoints.released.files import read_config, read_weights
from jrt_lmeval.modeling.config import JRTConfig
from jrt_lmeval.modeling.model import JRTForCausalLM

log = logging.getLogger("lm_eval.jrt")


def released_kind(folder: Path) -> str | None:
    """`jrt` (JRT, Based, Transformer) or `mamba` where a folder holds one of the released layouts; None for others,
    such as ordinary Hugging Face ones."""
    fields = read_config(folder)
    return "mamba" if mamba.is_mamba(fields) else "jrt" if gpt.is_gpt(fields) else None


def released_config(folder: Path) -> JRTConfig:
    """Our configuration of a released JRT, Based or Transformer. Looks at the weights' shapes, reads none of them."""
    return gpt.jrt_config(read_config(folder), read_weights(folder))


def load_jrt(
    folder: Path,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    enc_length: int | None = None,
    **modes: str,
) -> JRTForCausalLM:
    """A released JRT, Based or Transformer, in evaluation mode.

    Args:
        folder: with config.json and pytorch_model.bin.
        dtype: of the parameters; None as in the file.
        device: where to put them.
        enc_length: longest prefix in tokens, in place of the one in config.json.
        **modes: `padding`, `decode`, `filling`; see `JRTConfig`.

    Raises:
        JRTError: anything unknown, unsupported, missing or left over.
    """
    fields, tensors = read_config(folder), read_weights(folder)
    config = gpt.jrt_config(fields, tensors)
    config.set_modes(enc_length=enc_length, **modes)
    names = gpt.parameter_names(fields, tensors)
    model = assemble(lambda: JRTForCausalLM(config), tensors, names, gpt.EMBEDDING, str(folder), dtype, device)
    log.info("%s: %s", folder.name, describe(config))
    return model


def load_mamba(folder: Path, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> MambaForCausalLM:
    """A Mamba in mamba-ssm's layout, as transformers' model; arguments and errors as `load_jrt`."""
    fields, tensors = read_config(folder), read_weights(folder)
    config = mamba.mamba_config(fields)
    names = mamba.parameter_names(fields, tensors)
    model = assemble(lambda: MambaForCausalLM(config), tensors, names, mamba.EMBEDDING, str(folder), dtype, device)
    suppress_beyond(model, config.token_count, config.vocab_size)
    log.info("%s: Mamba, %d layers of width %d", folder.name, config.num_hidden_layers, config.hidden_size)
    return model


def suppress_beyond(model: PreTrainedModel, tokens: int, rows: int) -> None:
    """Keep `generate` from choosing ids that only pad the embedding."""
    if tokens < rows:
        model.generation_config.suppress_tokens = list(range(tokens, rows))


def describe(config: JRTConfig) -> str:
    """What a model is made of, for the log."""
    counts = Counter(config.mixers)
    name = "JRT-RNN" if counts["prefix_linear"] else "Based" if counts["linear"] else "Transformer"
    layers = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    modes: dict[str, Any] = {name: getattr(config, name) for name in ("padding", "decode", "filling")}
    linear = f"; {config.feature_map} of {config.feature_dim}" if counts["prefix_linear"] or counts["linear"] else ""
    prefix = f"; prefixes of up to {config.enc_length} tokens" if config.enc_length else ""
    shape = f"width {config.hidden_size}, {len(config.mixers)} layers ({layers}){linear}{prefix}"
    return f"{name}, {shape}; {', '.join(f'{key}={value}' for key, value in modes.items())}"
