"""The frame that JRT, Based and the Transformer share: embedding, blocks of norm, mixer, norm and gated MLP, output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from jrt_lmeval.checkpoints.released.attn import ATTENTION
from jrt_lmeval.checkpoints.released.hybrid import CLASSES
from jrt_lmeval.checkpoints.released.mixers import ReleasedMixer, must_be, positive
from jrt_lmeval.errors import JRTError, unknown
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


def layer_mixers(fields: Fields) -> list[tuple[ReleasedMixer, Fields]]:
    """The mixer of each layer and its fields, by the precedence of the published code.

    Raises:
        JRTError: a class that is not known, or a layer number beyond the last layer.
    """
    layers = positive(fields, "n_layer", "config.json")
    tags = ["mixer"] * layers
    for tag in ("alt_mixer", "alt_mixer_2"):  # the second wins where both name a layer
        for layer in fields.get(f"{tag}_layers") or ():
            if not isinstance(layer, int) or not 0 <= layer < layers:
                raise JRTError(f"config.json: {tag}_layers names layer {layer!r}; there are layers 0 to {layers - 1}.")
            tags[layer] = tag
    return [_mixer(tag, fields.get(tag)) for tag in tags]


def _mixer(tag: str, mixer: Any) -> tuple[ReleasedMixer, Fields]:
    if mixer is None:
        return ATTENTION, {}
    name = mixer.get("_target_") if isinstance(mixer, Mapping) else mixer
    if name not in CLASSES:
        raise unknown(f"mixer class in config.json, {tag}:", name, CLASSES)
    return CLASSES[name], mixer


def padded(size: int, multiple: int) -> int:
    """`size` rounded up to a multiple."""
    return -(-size // multiple) * multiple


def mlp_width(fields: Fields, tensors: Mapping[str, Tensor]) -> int:
    """Width of the gated MLP: `n_inner` (or 8/3 of the model's) rounded up as the released code does.

    Hybrids round to 256. The Transformers were trained with two versions of the code, one of which rounds to 128;
    which one shows in the weights alone.

    Raises:
        JRTError: the weights have neither width.
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
    """Our configuration of a released model.

    Raises:
        JRTError: something in it that is not known or not supported.
    """
    must_be(fields, SUPPORTED, "config.json")
    settings: dict[str, Any] = {"num_heads": positive(fields, "n_head", "config.json")}
    layers = layer_mixers(fields)
    merged: dict[str, Any] = {}
    for mixer, own in layers:
        for name, value in mixer.settings(own, fields).items():
            if merged.setdefault(name, value) != value:
                raise JRTError(
                    f"config.json: layers differ in {name} ({merged[name]} and {value}); that is not supported."
                )
    tokens = positive(fields, "vocab_size", "config.json")
    trained = max((int(own.get("l_max") or 0) for _, own in layers), default=0) or fields.get("n_positions") or 2048
    return JRTConfig(
        vocab_size=padded(tokens, fields.get("pad_vocab_size_multiple") or 1),
        token_count=tokens,
        hidden_size=positive(fields, "n_embd", "config.json"),
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
