"""The public entry: whatever was released, shipped or trained, as a module with `forward(input_ids).logits`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from jrt_lmeval.checkpoints.found import HAZY, MAMBAS, OURS, find
from jrt_lmeval.checkpoints.load import load_model
from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.modeling.config import MODES, JRTConfig

OPTIONS = ("revision", "dtype", "device", "enc_length", *MODES)


def load_pretrained(path_or_id: str | Path, **options: Any) -> PreTrainedModel:
    """Load a model whole or not at all.

    Args:
        path_or_id: a folder, a hub id (`hazyresearch/JRT-1B-50B`, `state-spaces/mamba-130m`), or the name of a
            shipped model.
        revision: branch, tag or commit on the hub.
        dtype: of the parameters, a `torch.dtype` or its name; by default as in the file.
        device: where to put them; default `cpu`.
        padding: `exact` (default): padded tokens never enter a state. `published`: as the released JRT code.
        decode: `exact` (default), or `published`: as the released Based code, which adds k v^T twice.
        filling: `left_pad` (default), `read_twice` or `iterate`: how prompts short of `enc_length` are read.
        enc_length: longest prefix in tokens, in place of the checkpoint's own.

    Returns:
        A model in evaluation mode: a `JRTForCausalLM`, whose `config` records the
        modes, or for Mamba one of transformers' own. Either generates no id beyond the vocabulary.

    Raises:
        JRTError: an option or mode that does not exist; no such model; a pickle that holds more than tensors; a
            configuration that names unknown classes; parameters not filled or tensors not used (all are named).
    """
    for name in options:
        if name not in OPTIONS:
            raise unknown("option of load_pretrained", name, OPTIONS)
    device, dtype = options.get("device") or "cpu", as_dtype(options.get("dtype"))
    modes = {name: options[name] for name in (*MODES, "enc_length") if options.get(name) is not None}
    checkpoint = find(path_or_id, options.get("revision"))
    if checkpoint.kind not in (OURS, HAZY):  # naming the default asks for nothing
        modes = {name: value for name, value in modes.items() if name not in MODES or value != MODES[name][0]}
    if checkpoint.family == "hf_recall":
        raise JRTError(
            f"{checkpoint.folder}: model_type is {checkpoint.model_type!r}, which is neither ours "
            f"({JRTConfig.model_type}), nor a Mamba ({', '.join(MAMBAS)}), nor a released JRT, Based or attn "
            "checkpoint. Other Hugging Face models run with --model hf_recall."
        )
    return load_model(checkpoint, dtype, device, modes)


def as_dtype(value: torch.dtype | str | None) -> torch.dtype | None:
    """A dtype from its name; None and `auto` stand for what the file has.

    Raises:
        JRTError: no floating-point dtype of that name.
    """
    known = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}
    if value is None or value == "auto":
        return None
    if isinstance(value, torch.dtype):
        return value
    if value not in known:
        raise unknown("dtype", value, known)
    return known[value]
