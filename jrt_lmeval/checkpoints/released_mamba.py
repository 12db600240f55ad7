"""Mamba, of Hazy Research and of state-spaces, as transformers' `MambaForCausalLM`."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from transformers import MambaConfig

from jrt_lmeval.checkpoints.released import Fields, must_be, positive
from jrt_lmeval.errors import JRTError, unknown

EMBEDDING = "backbone.embeddings.weight"

FRAME_NAMES = {
    "backbone.embedding.weight": EMBEDDING,
    "backbone.norm_f.weight": "backbone.norm_f.weight",
    "lm_head.weight": "lm_head.weight",
}

BLOCK_NAMES = {
    "norm.weight": "norm.weight",
    "mixer.A_log": "mixer.A_log",
    "mixer.D": "mixer.D",
    "mixer.in_proj.weight": "mixer.in_proj.weight",
    "mixer.in_proj.bias": "mixer.in_proj.bias",
    "mixer.conv1d.weight": "mixer.conv1d.weight",
    "mixer.conv1d.bias": "mixer.conv1d.bias",
    "mixer.x_proj.weight": "mixer.x_proj.weight",
    "mixer.dt_proj.weight": "mixer.dt_proj.weight",
    "mixer.dt_proj.bias": "mixer.dt_proj.bias",
    "mixer.out_proj.weight": "mixer.out_proj.weight",
    "mixer.out_proj.bias": "mixer.out_proj.bias",
}

SSM_FIELDS = {
    "d_state": "state_size",
    "d_conv": "conv_kernel",
    "expand": "expand",
    "dt_rank": "time_step_rank",
    "conv_bias": "use_conv_bias",
    "bias": "use_bias",
}

ONLY_FOR_TRAINING = ("dt_min", "dt_max", "dt_init", "dt_scale", "dt_init_floor", "use_fast_path", "layer")


def mamba_config(fields: Fields) -> MambaConfig:
    """transformers' configuration of a released model.

    Raises:
        JRTError: something in it that is not known or not supported.
    """
    ssm = fields.get("ssm_cfg") or {}
    if ssm.get("layer", "Mamba1") != "Mamba1":
        raise JRTError(
            f"config.json: ssm_cfg.layer is {ssm['layer']!r}; of mamba-ssm's layout only Mamba (1) is read. For "
            "Mamba-2 take a checkpoint in transformers' layout (config.json with model_type mamba2)."
        )
    for name in ssm:
        if name not in SSM_FIELDS and name not in ONLY_FOR_TRAINING:
            raise unknown("field in config.json, ssm_cfg:", name, [*SSM_FIELDS, *ONLY_FOR_TRAINING])
    must_be(
        fields,
        {"rms_norm": (True,), "d_intermediate": (0, None), "attn_layer_idx": ([], None), "attn_cfg": ({}, None)},
        "config.json",
    )
    width = positive(fields, "d_model", "config.json", fields.get("n_embd"))
    tokens = positive(fields, "vocab_size", "config.json", 50277)
    multiple = fields.get("pad_vocab_size_multiple", 8) or 1
    config = MambaConfig(
        vocab_size=-(-tokens // multiple) * multiple,
        hidden_size=width,
        num_hidden_layers=positive(fields, "n_layer", "config.json"),
        layer_norm_epsilon=fields.get("norm_epsilon", 1e-5),
        residual_in_fp32=fields.get("residual_in_fp32", True),
        tie_word_embeddings=fields.get("tie_embeddings", True),
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        **{ours: ssm[theirs] for theirs, ours in SSM_FIELDS.items() if theirs in ssm},
    )
    config.token_count = tokens
    return config


def parameter_names(fields: Fields, tensors: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Name in the file -> names in transformers' model."""
    known = dict(FRAME_NAMES)
    for i in range(fields["n_layer"]):
        known |= {f"backbone.layers.{i}.{old}": f"backbone.layers.{i}.{new}" for old, new in BLOCK_NAMES.items()}
    return {name: [known[name]] for name in tensors if name in known}
