"""Tiny random models of flash-linear-attention's families."""

from __future__ import annotations

from typing import Any

import fla  # noqa: F401 - it registers its models
import tiny
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from model_adapters.engines import hf
from model_adapters.engines.hf import HFEngine

TOKENS = 9

BASE = {
    "vocab_size": tiny.VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "num_heads": 2, "intermediate_size": 64,
    "bos_token_id": None, "eos_token_id": 0, "pad_token_id": None, "fuse_norm": False, "fuse_cross_entropy": False,
    "fuse_swiglu": False, "max_position_embeddings": 512,
}  # fmt: skip

ONE_LAYER = {"num_hidden_layers": 1, "head_dim": 16}
"""Of families whose kernels take the interpreter long."""

SHAPES: dict[str, dict[str, Any]] = {
    "abc": {"num_hidden_layers": 1, "num_slots": 8, "gate_low_rank_dim": 8},
    "comba": {**ONE_LAYER, "expand_v": 1.0},
    "delta_net": {"num_hidden_layers": 1},
    "gated_deltanet": {**ONE_LAYER, "expand_v": 1.0},
    "gated_deltaproduct": ONE_LAYER,
    "gla": {},
    "gsa": {"num_hidden_layers": 1, "num_slots": 8},
    "hgrn": {},
    "hgrn2": {"num_hidden_layers": 1, "num_heads": None, "expand_ratio": 16},
    "kda": ONE_LAYER,
    "lightnet": {"num_hidden_layers": 1, "num_heads": None, "expand_ratio": 32, "gate_low_rank_dim": 8},
    "linear_attn": {},
    "mesa_net": ONE_LAYER,
    "raven": {"num_slots": 8, "topk": 4},
    "retnet": {},
    "rwkv7": {
        "head_dim": 16,
        "decay_low_rank_dim": 8,
        "gate_low_rank_dim": 8,
        "a_low_rank_dim": 8,
        "v_low_rank_dim": 8,
    },
    "samba": {"state_size": 4, "attn": {"layers": [1], "num_heads": 2, "num_kv_heads": 2, "window_size": 16}},
    "transformer": {},
}

NEEDS_FLASH = "its attention layers cannot be made without the package flash-attn, which needs CUDA to be built"
NOT_RIGHT = {
    **{kind: f"refused: {hf.REFUSED[kind]}" for kind in ("abc", "mesa_net")},
    **dict.fromkeys(("samba", "transformer"), f"untested: {NEEDS_FLASH}"),
}
"""Families of which no test says that they are right, and what the page says of them instead."""

RIGHT = sorted(set(SHAPES) - set(NOT_RIGHT))


def model(kind: str) -> Any:
    """A tiny model in float32, or in float16 where its kernels accept no float32; the same at every call."""
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](**{**BASE, **SHAPES[kind]})
    found = AutoModelForCausalLM.from_config(config).float()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in found.parameters():
            if weight.dim() == 2:
                weight.normal_(0.0, 0.2, generator=generator)
    return found.to(torch.float16 if kind in hf.NOT_IN_FLOAT32 else torch.float32).eval()


def page_row(kind: str, engine: HFEngine | None = None) -> str:
    """A family's line in docs/recurrent-models.md; `engine` is of its `model`, where it is right."""
    if kind in NOT_RIGHT:
        return f"| `{kind}` | {NOT_RIGHT[kind]} | |"
    assert engine is not None and engine.constant_state and engine.padding == "left"
    _, state = engine.prefill([list(range(1, TOKENS + 1))], [0])
    verdict = "right in float16, float32 refused" if kind in hf.NOT_IN_FLOAT32 else "right"
    return f"| `{kind}` | {verdict}: padded, masked | {state.row_bytes()[0]:,} |"
