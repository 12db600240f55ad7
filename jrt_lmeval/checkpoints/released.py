"""Checkpoints of Hazy Research (JRT, Based and the Transformer, as tables old name -> new name) and of mamba-ssm.

Nothing in a downloaded file is ever run: class names in a configuration are looked up in `CLASSES` and refused if they
are not there, and weights are read as tensors and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import MambaConfig

from jrt_lmeval.errors import JRTError, unknown, whole_number
from jrt_lmeval.modeling.config import JRTConfig

Fields = Mapping[str, Any]

EMBEDDING = "embed_tokens.weight"

FRAME_NAMES = {
    "transformer.embeddings.word_embeddings.weight": EMBEDDING,
    "transformer.ln_f.weight": "norm.weight",
    "lm_head.weight": "lm_head.weight",
}

BLOCK_NAMES = {
    "norm1.weight": "mixer_norm.weight",
    "norm2.weight": "mlp_norm.weight",
    "mlp.fc1.weight": "mlp.up_gate.weight",
    "mlp.fc2.weight": "mlp.down.weight",
}

DECAY = "transformer.decay.decay"

SUPPORTED = {
    "activation_function": ("swiglu",),
    "rms_norm": (True,),
    "prenorm": (True,),
    "parallel_block": (False,),
    "mlp_type": ("base", None),
    "mlp_fc1_bias": (False,),
    "mlp_fc2_bias": (False,),
    "lm_head_bias": (False,),
    "word_embed_proj_dim": (None,),
}


@dataclass(frozen=True)
class ReleasedMixer:
    """A mixer class of the released code.

    Attributes:
        kind: the name of ours, a key of `jrt_lmeval.modeling.mixers.MIXERS`.
        names: parameter of theirs -> parameter of ours.
        settings: from the mixer's fields and the whole configuration to fields of `JRTConfig`.
    """

    kind: str
    names: Mapping[str, str]
    settings: Callable[[Fields, Fields], dict[str, Any]]


def must_be(fields: Fields, allowed: Mapping[str, tuple[Any, ...]], where: str = "config.json") -> None:
    """Raise JRTError where a field would change the mathematics in a way that no released model has."""
    for name, values in allowed.items():
        if name in fields and fields[name] not in values:
            wanted = " or ".join(repr(value) for value in dict.fromkeys(values))
            raise JRTError(f"{where}: {name} is {fields[name]!r}; only {wanted} is supported.")


def positive(fields: Fields, name: str, where: str = "config.json", default: int | None = None) -> int:
    """A field that must be a whole number of at least 1, or JRTError."""
    return whole_number(f"{where}: {name}", fields.get(name, default))


# ---------------------------------------------------------------- mixers

ATTENTION_NAMES = {"Wqkv.weight": "qkv_proj.weight", "out_proj.weight": "out_proj.weight"}


def attention_settings(mixer: Fields, config: Fields) -> dict[str, Any]:
    """Heads and rotary positions. They come from the whole model's fields, whatever the mixer's own say."""
    heads = positive(config, "n_head")
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
    )
    return {
        "attention_heads": heads,
        "rotary_fraction": config.get("rotary_emb_fraction", 0.0),
        "rotary_base": config.get("rotary_emb_base", 10000.0),
    }


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
    must_be(config, {"decay_denom": (False, None)})
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
    """Our name of the mixer's feature map, which must be known and made for the mixer's dimension."""
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


ATTENTION = ReleasedMixer("attention", ATTENTION_NAMES, attention_settings)
"""What a layer without a mixer of its own is."""
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


# ---------------------------------------------------------------- the whole model


def layer_mixers(fields: Fields) -> list[tuple[ReleasedMixer, Fields]]:
    """The mixer of each layer and its fields, by the precedence of the published code.

    Raises:
        JRTError: a class that is not known, or a layer number beyond the last layer.
    """
    layers = positive(fields, "n_layer")
    tags = ["mixer"] * layers
    for tag in ("alt_mixer", "alt_mixer_2"):  # the second wins where both name a layer
        for layer in fields.get(f"{tag}_layers") or ():
            if not isinstance(layer, int) or not 0 <= layer < layers:
                raise JRTError(f"config.json: {tag}_layers names layer {layer!r}; there are layers 0 to {layers - 1}.")
            tags[layer] = tag
    found: list[tuple[ReleasedMixer, Fields]] = []
    for tag in tags:
        mixer: Any = fields.get(tag)
        name: Any = mixer.get("_target_") if isinstance(mixer, Mapping) else mixer
        if mixer is not None and name not in CLASSES:
            raise unknown(f"mixer class in config.json, {tag}:", name, CLASSES)
        found.append((ATTENTION, {}) if mixer is None else (CLASSES[name], mixer))
    return found


def padded(size: int, multiple: int) -> int:
    """`size` rounded up to a multiple."""
    return -(-size // multiple) * multiple


def mlp_width(fields: Fields, tensors: Mapping[str, Tensor]) -> int:
    """Width of the gated MLP: `n_inner` (or 8/3 of the model's) rounded up as the released code does.

    Hybrids round to 256. The Transformers were trained with two versions of the code, one of which rounds to 128;
    which one shows in the weights alone. Weights of neither width raise JRTError.
    """
    size = fields.get("n_inner") or int(8 * fields["n_embd"] / 3)
    known = dict.fromkeys(padded(size, multiple) for multiple in (256, 128))
    widths = {tensor.shape[-1] for name, tensor in tensors.items() if name.endswith(".mlp.fc2.weight")}
    if len(widths) == 1 and widths <= known.keys():
        return widths.pop()
    if not widths:  # the layers will be listed as not filled
        return next(iter(known))
    raise JRTError(
        f"config.json: n_inner={fields.get('n_inner')} gives an MLP of {' or '.join(map(str, known))}, but the weights "
        f"have {', '.join(map(str, sorted(widths)))}."
    )


def jrt_config(fields: Fields, tensors: Mapping[str, Tensor]) -> JRTConfig:
    """Our configuration of a released model; raises JRTError for what is not known or not supported."""
    must_be(fields, SUPPORTED)
    settings: dict[str, Any] = {"num_heads": positive(fields, "n_head")}
    layers = layer_mixers(fields)
    merged: dict[str, Any] = {}
    for mixer, own in layers:
        for name, value in mixer.settings(own, fields).items():
            if merged.setdefault(name, value) != value:
                raise JRTError(
                    f"config.json: layers differ in {name} ({merged[name]} and {value}); that is not supported."
                )
    tokens = positive(fields, "vocab_size")
    trained = max((int(own.get("l_max") or 0) for _, own in layers), default=0) or fields.get("n_positions") or 2048
    return JRTConfig(
        vocab_size=padded(tokens, fields.get("pad_vocab_size_multiple") or 1),
        token_count=tokens,
        hidden_size=positive(fields, "n_embd"),
        intermediate_size=mlp_width(fields, tensors),
        mixers=[mixer.kind for mixer, _ in layers],
        norm_eps=fields.get("layer_norm_epsilon", 1e-5),
        context_length=trained,
        tie_word_embeddings=fields.get("tie_word_embeddings", True),
        **{**settings, "feature_map": "taylor", **merged},
    )


def parameter_names(fields: Fields, tensors: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Name in the file -> names in our model; names that are left out have no place in it."""
    layers = layer_mixers(fields)
    known = {old: [new] for old, new in FRAME_NAMES.items()}
    for i, (mixer, _) in enumerate(layers):
        names = {**BLOCK_NAMES, **{f"mixer.{old}": f"mixer.{new}" for old, new in mixer.names.items()}}
        known |= {f"transformer.layers.{i}.{old}": [f"blocks.{i}.{new}"] for old, new in names.items()}
    known[DECAY] = [f"blocks.{i}.mixer.decay" for i, (mixer, _) in enumerate(layers) if mixer.kind == "linear"]
    newer = {name: name.replace("conv1", "conv") for name in tensors}  # how older releases spell it
    return {name: known[new] for name, new in newer.items() if known.get(new)}


# ---------------------------------------------------------------- Mamba, of Hazy Research and of state-spaces

MAMBA_EMBEDDING = "backbone.embeddings.weight"

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
    """transformers' configuration of a released Mamba; raises JRTError for what is not known or not supported."""
    ssm = fields.get("ssm_cfg") or {}
    if ssm.get("layer", "Mamba1") != "Mamba1":
        raise JRTError(
            f"config.json: ssm_cfg.layer is {ssm['layer']!r}; of mamba-ssm's layout only Mamba (1) is read. For "
            "Mamba-2 take a checkpoint in transformers' layout (config.json with model_type mamba2)."
        )
    for name in ssm:
        if name not in SSM_FIELDS and name not in ONLY_FOR_TRAINING:
            raise unknown("field in config.json, ssm_cfg:", name, [*SSM_FIELDS, *ONLY_FOR_TRAINING])
    must_be(fields, {"rms_norm": (True,), "d_intermediate": (0, None)})
    must_be(fields, {"attn_layer_idx": ([], None), "attn_cfg": ({}, None)})
    width = positive(fields, "d_model", default=fields.get("n_embd"))
    tokens = positive(fields, "vocab_size", default=50277)
    config = MambaConfig(
        vocab_size=padded(tokens, fields.get("pad_vocab_size_multiple", 8) or 1),
        hidden_size=width,
        num_hidden_layers=positive(fields, "n_layer"),
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


def mamba_parameter_names(tensors: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Name in the file -> name in transformers' `MambaForCausalLM`, which differs in the embedding alone."""
    return {name: [name.replace("backbone.embedding.", "backbone.embeddings.")] for name in tensors}
