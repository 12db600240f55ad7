"""Tiny random models of every causal family in the installed transformers that has a recurrent or linear layer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import tiny
import torch
import transformers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.configuration_auto import model_type_to_module_name
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from model_adapters.engines import hf
from model_adapters.engines.hf import HFEngine

STATEFUL = re.compile("create_recurrent_attention_mask|update_conv_state|update_recurrent_state|_is_stateful = True")
"""What the source of a family with a recurrent or linear layer says: it hides padding from such a layer, fills its part
of the cache, or keeps a state that cannot be cut."""

BASE = {
    "vocab_size": tiny.VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": None,
    "eos_token_id": 0, "pad_token_id": None,
}  # fmt: skip
LINEAR = {"layer_types": ["linear_attention", "full_attention"]}
DELTA = {
    **LINEAR, "head_dim": 8, "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}  # fmt: skip
EXPERTS = {
    "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2,
}  # fmt: skip
MAMBA2 = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 8}
KDA = {
    **LINEAR, "num_key_value_heads": 4, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8,
    "v_head_dim": 8, "linear_head_dim": 8, "linear_num_heads": 4, "num_experts": 4, "num_experts_per_token": 2,
    "moe_intermediate_size": 16, "mlp_layer_types": ["dense", "sparse"],
}  # fmt: skip
INKLING = {
    "layer_types": ["hybrid_sliding", "hybrid"], "head_dim": 8, "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 2, "swa_head_dim": 8, "sliding_window_size": 16, "d_rel": 4, "rel_extent": 64,
    "moe_intermediate_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2,
}  # fmt: skip

SHAPES: dict[str, dict[str, Any]] = {
    "bailing_hybrid": {**KDA, "num_expert_group": 1, "topk_group": 1, "num_nextn_predict_layers": 0},
    "bamba": {**MAMBA2, "attn_layer_indices": [1]},
    "deepseek_v4": {
        "layer_types": ["compressed_sparse_attention", "heavily_compressed_attention"], "num_key_value_heads": 1,
        "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 8}, "sliding_window": 16,
        "head_dim": 8, "q_lora_rank": 8, "o_lora_rank": 8, "o_groups": 2, "index_n_heads": 2, "index_head_dim": 8,
        "index_topk": 4, "moe_intermediate_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2,
        "qk_rope_head_dim": 4, "mlp_layer_types": ["moe", "moe"],
    },
    "falcon_h1": {**MAMBA2, "mamba_d_ssm": 64, "head_dim": 8},
    "falcon_mamba": {"state_size": 4},
    "granitemoehybrid": {
        **MAMBA2, "layer_types": ["mamba", "attention"], "num_local_experts": 4, "num_experts_per_tok": 2,
        "shared_intermediate_size": 16,
    },
    "inkling_text": {**INKLING, "mlp_layer_types": ["dense", "sparse"], "n_shared_experts": 1},
    "inkling2_text": {**INKLING, "unpadded_vocab_size": tiny.VOCAB},
    "inkling2_loop_text": {
        **INKLING, "unpadded_vocab_size": tiny.VOCAB, "num_hidden_layers": 3,
        "layer_types": ["hybrid_sliding", "hybrid_sliding", "hybrid"], "loop_layer_index_start": 1,
        "loop_layer_index_end": 2, "loop_num_passes": 2, "loop_gate_rank": 4, "n_layers_per_attn_res_block": 1,
    },
    "jamba": {
        "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1,
        "num_experts": 4, "num_experts_per_tok": 2, "mamba_d_state": 4, "mamba_dt_rank": 4, "use_mamba_kernels": False,
    },
    "kimi_linear": KDA,
    "lara_mini": {**DELTA, **EXPERTS, "layer_types": ["linear_attention", "sliding_attention"], "sliding_window": 16},
    "lfm2": {"layer_types": ["conv", "full_attention"], "full_attn_idxs": [1]},
    "lfm2_moe": {
        "layer_types": ["conv", "full_attention"], "num_experts": 4, "num_experts_per_tok": 2, "num_dense_layers": 1,
        "moe_intermediate_size": 16,
    },
    "lfm3": {"layer_types": ["conv", "full_attention"], "head_dim": 8, "sliding_window": 16},
    "mamba": {"state_size": 4},
    "mamba2": {"state_size": 16, "num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 8},
    "minimax": {**LINEAR, "block_size": 8, "num_local_experts": 4, "head_dim": 8},
    "nemotron_h": {
        "layers_block_type": ["linear_attention", "full_attention", "mlp"], "num_hidden_layers": 3, "head_dim": 8,
        "ssm_state_size": 8, "mamba_num_heads": 4, "mamba_head_dim": 16, "n_groups": 1, "chunk_size": 8,
    },
    "olmo_hybrid": {
        **LINEAR, "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 4,
        "linear_num_value_heads": 4,
    },
    "qwen3_5_text": DELTA,
    "qwen3_5_moe_text": {**DELTA, **EXPERTS},
    "qwen3_next": {**DELTA, **EXPERTS},
    "qwen4_exp_text": {
        **DELTA, **EXPERTS, "hc_lowrank": 4, "indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 8,
        "indexer_budget": 16, "indexer_compress_ratio": 4,
    },
    "recurrent_gemma": {"block_types": ["recurrent", "attention"], "attention_window_size": 16, "lru_width": 32},
    "rwkv": {"attention_hidden_size": 32},
    "xlstm": {
        "hidden_size": 64, "num_blocks": 2, "num_heads": 2, "qk_dim_factor": 1.0,
        "ffn_round_up_to_multiple_of": 8, "chunk_size": 8,
        "autocast_kernel_dtype": "float32",
    },
    "zamba": {
        "num_hidden_layers": 3, "layers_block_type": ["linear_attention", "hybrid", "hybrid"], "mamba_d_state": 4,
        "mamba_dt_rank": 4, "n_mamba_heads": 2, "use_mamba_kernels": False, "num_key_value_heads": 4,
    },
    "zamba2": {
        "num_hidden_layers": 2, "layers_block_type": ["mamba", "hybrid"], "mamba_d_state": 8, "mamba_ngroups": 1,
        "n_mamba_heads": 4, "mamba_headdim": 16, "chunk_size": 8, "num_key_value_heads": 4,
    },
    "zaya": {"head_dim": 8},
}  # fmt: skip

COMPOSITE = {"qwen3_5": "qwen3_5_text", "qwen3_5_moe": "qwen3_5_moe_text", "qwen4_exp": "qwen4_exp_text"}
"""Families whose language model is another one's."""

REFUSED = {
    **hf.REFUSED,
    "qwen4_exp_text": "its cache keeps the positions of indexed tokens with the rows second, where none is told apart",
}
"""Families that the engine refuses, and why."""

TOKENS = 23


def discovered() -> list[str]:
    """Model types of the installed transformers with a recurrent or linear layer, by their configurations."""
    root = Path(transformers.__file__).parent / "models"
    found = []
    for kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        module = model_type_to_module_name(kind)
        source = root / module / f"modeling_{module}.py"
        if kind in CONFIG_MAPPING and source.is_file() and STATEFUL.search(source.read_text(encoding="utf-8")):
            found.append(kind)
    return found


def model(kind: str) -> Any:
    """A tiny model with weights so large that every token matters, the same at every call."""
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](**{**BASE, **SHAPES[kind]})
    found = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in found.parameters():
            if weight.dim() > 1:
                weight.normal_(0.0, 0.2, generator=generator)
    return found.eval()


def page_row(kind: str) -> str:
    """A family's line in docs/recurrent-models.md."""
    if kind in REFUSED:
        return f"| `{kind}` | refused: {REFUSED[kind]} | | | |"
    engine = HFEngine(model(kind))
    sizes = []
    for length in (TOKENS, TOKENS + 1):
        _, state = engine.prefill([list(range(1, length + 1))], [0])
        sizes.append(state.row_bytes()[0])
    read = "padded, masked" if engine.padding == "left" else "rows of one length"
    shared = "yes" if engine.can_continue else "no"
    return f"| `{kind}` | right: {read} | {shared} | {sizes[0]:,} | {sizes[1] - sizes[0]:,} |"


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    print("\n".join(page_row(kind) for kind in sorted(SHAPES)))
