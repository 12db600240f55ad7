"""The Transformer baseline, and what sliding windows share with it: softmax attention with rotary positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jrt_lmeval.checkpoints.released.mixers import ReleasedMixer, must_be, positive

ATTENTION_NAMES = {
    "Wqkv.weight": "qkv_proj.weight",
    "out_proj.weight": "out_proj.weight",
}


def attention_settings(mixer: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Heads and rotary positions. They come from the whole model's fields, whatever the mixer's own say."""
    heads = positive(config, "n_head", "config.json")
    must_be(
        config,
        {
            "scale_attn_weights": (True,),
            "scale_attn_by_inverse_layer_idx": (False,),
            "rotary_emb_interleaved": (False,),
            "rotary_emb_scale_base": (None,),
            "attn_dwconv": (False,),
            "n_head_kv": (None, heads),
            "num_head_kv": (None, heads),
            "head_dim": (None, config["n_embd"] / heads),
            "qkv_proj_bias": (False,),
            "out_proj_bias": (False,),
        },
        "config.json",
    )
    return {
        "attention_heads": heads,
        "rotary_fraction": config.get("rotary_emb_fraction", 0.0),
        "rotary_base": config.get("rotary_emb_base", 10000.0),
    }


ATTENTION = ReleasedMixer("attention", ATTENTION_NAMES, attention_settings)
"""What a layer without a mixer of its own is."""
