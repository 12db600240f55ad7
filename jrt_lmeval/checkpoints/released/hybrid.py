"""JRT and Based: gated short convolutions, linear attention with or without a prefix, sliding windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jrt_lmeval.checkpoints.released.attn import ATTENTION_NAMES, attention_settings
from jrt_lmeval.checkpoints.released.mixers import ReleasedMixer, must_be, positive
from jrt_lmeval.errors import JRTError, unknown

Fields = Mapping[str, Any]

CONV_NAMES = {
    "in_proj.weight": "in_proj.weight",
    "in_proj.bias": "in_proj.bias",
    "conv.conv.weight": "conv_weight",
    "out_proj.weight": "out_proj.weight",
    "out_proj.bias": "out_proj.bias",
}

LINEAR_NAMES = {
    "proj_q.weight": "q_proj.weight",
    "proj_k.weight": "k_proj.weight",
    "proj_v.weight": "v_proj.weight",
    "out_proj.weight": "out_proj.weight",
    "decay_proj.weight": "decay_proj.weight",
}

PREFIX_NAMES = {
    **LINEAR_NAMES,
    "proj_k_enc.weight": "k_prefix_proj.weight",
    "proj_v_enc.weight": "v_prefix_proj.weight",
}

FEATURE_MAPS = {
    "based.models.mixers.linear_attention.TaylorExp": "taylor",
    "src.models.mixers.linear_attention.TaylorExp": "taylor",
    "taylor_exp": "taylor",
}


def conv_settings(mixer: Fields, config: Fields) -> dict[str, Any]:
    must_be(mixer, {"use_bias": (True,)}, "BaseConv")
    expand = positive(mixer, "expand_proj", "BaseConv", 2)
    if expand % 2:
        raise JRTError(f"BaseConv: expand_proj is {expand}; it must be even (half convolved, half gate).")
    # kernel_sizes is swallowed by the published code; kernel_size is what counts there
    return {"conv_expand": expand // 2, "conv_kernel": positive(mixer, "kernel_size", "BaseConv", 3)}


def linear_settings(mixer: Fields, config: Fields, where: str = "LinearAttention") -> dict[str, Any]:
    heads = positive(mixer, "num_heads", where, 16)
    feature_dim = positive(mixer, "feature_dim", where, 16)
    must_be(mixer, {"head_dim": (None, config["n_embd"] / heads)}, where)
    decays = bool(mixer.get("use_decay_proj")), bool(config.get("fixed_decay"))
    if any(decays) and not all(decays):
        raise JRTError(
            f"{where}: use_decay_proj={decays[0]} with fixed_decay={decays[1]}. The published code reads a text "
            "without decay then and decodes with it; no released model is like that. Both or neither are supported."
        )
    must_be(config, {"decay_denom": (False, None)}, "config.json")
    return {
        "num_heads": heads,
        "feature_map": feature_map(mixer, feature_dim, where),
        "feature_dim": feature_dim,
        "normaliser_eps": mixer.get("eps", 1e-12),
        "decay": all(decays),
    }


def prefix_settings(mixer: Fields, config: Fields) -> dict[str, Any]:
    where = "PrefixLinearAttention"
    must_be(mixer, {"scale_dim": (None, mixer.get("feature_dim", 16)), "use_mask": (True,)}, where)
    length = positive(mixer, "enc_length", where, config.get("enc_length"))
    plain = {name: value for name, value in config.items() if name != "fixed_decay"}  # it has no decay
    return {**linear_settings(mixer, plain, where), "enc_length": length, "prefix_length": length}


def feature_map(mixer: Fields, feature_dim: int, where: str) -> str:
    """Our name of the mixer's feature map.

    Raises:
        JRTError: a map that is not known, or one made for another dimension.
    """
    given = mixer.get("feature_map") or mixer.get("feature_name") or "taylor_exp"
    if isinstance(given, Mapping):
        must_be(given, {"input_dim": (feature_dim,)}, f"{where}: feature_map")
        given = given.get("_target_")
    if given not in FEATURE_MAPS:
        raise unknown(f"feature map in {where}", given, FEATURE_MAPS)
    return FEATURE_MAPS[given]


def window_settings(mixer: Fields, config: Fields) -> dict[str, Any]:
    size = positive(mixer, "window_size", "SlidingAttention", 128)
    if size == 4096:
        raise JRTError("SlidingAttention: window_size 4096 means other windows in some layers; it is not supported.")
    return {"window": size // 2 + 1, **attention_settings(mixer, config)}


CONV = ReleasedMixer("conv", CONV_NAMES, conv_settings)
LINEAR = ReleasedMixer("linear", LINEAR_NAMES, linear_settings)
PREFIX = ReleasedMixer("prefix_linear", PREFIX_NAMES, prefix_settings)
WINDOW = ReleasedMixer("swa", ATTENTION_NAMES, window_settings)

CLASSES = {
    "based.models.mixers.convolution.BaseConv": CONV,
    "based.models.mixers.base_conv.BaseConv": CONV,
    "src.models.mixers.base_conv.BaseConvWithSiLU4": CONV,
    "based.models.mixers.linear_attention.LinearAttention": LINEAR,
    "based.models.mixers.linear_attn.LinearAttention": LINEAR,
    "src.models.mixers.linear_attention.LinearAttention": LINEAR,
    "based.models.mixers.prefix_linear_attention.PrefixLinearAttention": PREFIX,
    "based.models.mixers.slide_attention.SlidingAttention": WINDOW,
    "src.models.mixers.slide_fa2.SlidingsMHA": WINDOW,
}
"""Class names in released configurations. A name is only ever looked up here."""
