"""Tiny random models of flash-linear-attention's families."""

from __future__ import annotations

from typing import Any

import tiny
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

BASE = {
    "vocab_size": tiny.VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "num_heads": 2, "intermediate_size": 64,
    "bos_token_id": None, "eos_token_id": 0, "pad_token_id": None, "fuse_norm": False, "fuse_cross_entropy": False,
    "fuse_swiglu": False, "max_position_embeddings": 512,
}  # fmt: skip

SHAPES: dict[str, dict[str, Any]] = {
    "gla": {},
    "linear_attn": {},
    "retnet": {},
    "hgrn": {},
    "rwkv7": {
        "head_dim": 16,
        "decay_low_rank_dim": 8,
        "gate_low_rank_dim": 8,
        "a_low_rank_dim": 8,
        "v_low_rank_dim": 8,
    },
    "raven": {"num_slots": 8, "topk": 4},
}


def model(kind: str) -> Any:
    """A tiny model in float32, the same at every call."""
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](**{**BASE, **SHAPES[kind]})
    found = AutoModelForCausalLM.from_config(config).float()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in found.parameters():
            if weight.dim() == 2:
                weight.normal_(0.0, 0.2, generator=generator)
    return found.eval()
