"""From a checkpoint to a model: every parameter filled and finite, every tensor used, or an error that lists them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pickle import UnpicklingError
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import torch
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    GenerationConfig,
    Mamba2Config,
    Mamba2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
)

from jrt_lmeval.checkpoints.assemble import assemble, require_finite, require_report
from jrt_lmeval.checkpoints.files import read_weights, refused
from jrt_lmeval.checkpoints.fla_models import FLA_TYPES, register_fla
from jrt_lmeval.checkpoints.found import CONFIG, HAZY, MAMBA_SSM, OURS, TRANSFORMERS, Checkpoint, read_object
from jrt_lmeval.checkpoints.released import gpt, mamba
from jrt_lmeval.checkpoints.tokenizers import suppress_beyond
from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.modeling.config import JRTConfig
from jrt_lmeval.modeling.model import JRTForCausalLM

log = logging.getLogger("lm_eval.jrt")

GENERATION = "generation_config.json"

OWN_CLASSES = {"mamba": (MambaConfig, MambaForCausalLM), "mamba2": (Mamba2Config, Mamba2ForCausalLM)}
"""transformers' classes of types that other packages register anew: `import fla` puts its own in their place."""


def load_model(
    checkpoint: Checkpoint,
    dtype: torch.dtype | None = torch.float32,
    device: str | torch.device = "cpu",
    modes: Mapping[str, Any] | None = None,
    **options: Any,
) -> PreTrainedModel:
    """The model of a checkpoint, in evaluation mode: a `JRTForCausalLM`, or one of transformers' own.

    Args:
        checkpoint: see `found.find`.
        dtype: of the parameters; None as in the file.
        device: where to put them, unless `device_map` among the options does.
        modes: `padding`, `decode`, `filling`, `enc_length` of our models; see `JRTConfig`.
        **options: for models of transformers: `device_map`, `gguf_file`, `trust_remote_code`.

    Raises:
        JRTError: weights missing or unreadable, parameters not filled or not finite, tensors not used or of another
            shape (all are named); a mode or option that means nothing for this kind.
    """
    modes = {name: value for name, value in (modes or {}).items() if value is not None}
    options = {name: value for name, value in options.items() if value not in (None, False)}
    if modes and checkpoint.kind not in (OURS, HAZY):
        listed = ", ".join(f"{name}={value}" for name, value in modes.items())
        raise JRTError(f"{listed}: {checkpoint.folder.name} has no linear attention; the option means nothing here.")
    if options and checkpoint.kind != TRANSFORMERS:
        raise JRTError(
            f"{', '.join(options)}: {checkpoint.name} is no model of transformers; the option means nothing here. To "
            "use it, convert the checkpoint first: jrt-eval convert SRC DST"
        )
    model = _LOADERS[checkpoint.kind](checkpoint, dtype, device, modes, options)
    require_finite(checkpoint.name, model)
    return model


def _ours(
    checkpoint: Checkpoint, dtype: torch.dtype | None, device: str | torch.device, modes: Mapping[str, Any], _: Any
) -> PreTrainedModel:
    config = load_config(checkpoint)
    config.set_modes(**modes)
    tensors = read_weights(checkpoint.folder)
    names = {name: [name] for name in tensors}
    source = str(checkpoint.folder)
    model = assemble(lambda: JRTForCausalLM(config), tensors, names, gpt.EMBEDDING, source, dtype, device)
    generation = checkpoint.folder / GENERATION
    if generation.is_file():
        model.generation_config = GenerationConfig.from_dict(read_object(generation))
    return model


def _hazy(
    checkpoint: Checkpoint, dtype: torch.dtype | None, device: str | torch.device, modes: Mapping[str, Any], _: Any
) -> PreTrainedModel:
    tensors = read_weights(checkpoint.folder)
    config = gpt.jrt_config(checkpoint.fields, tensors)
    config.set_modes(**modes)
    names = gpt.parameter_names(checkpoint.fields, tensors)
    source = str(checkpoint.folder)
    model = assemble(lambda: JRTForCausalLM(config), tensors, names, gpt.EMBEDDING, source, dtype, device)
    log.info("%s: %s", checkpoint.folder.name, config.describe())
    return model


def _mamba_ssm(
    checkpoint: Checkpoint, dtype: torch.dtype | None, device: str | torch.device, *_: Any
) -> PreTrainedModel:
    tensors, config = read_weights(checkpoint.folder), mamba.mamba_config(checkpoint.fields)
    names = mamba.parameter_names(checkpoint.fields, tensors)
    source = str(checkpoint.folder)
    model = assemble(lambda: MambaForCausalLM(config), tensors, names, mamba.EMBEDDING, source, dtype, device)
    suppress_beyond(model, config.token_count)
    log.info("%s: Mamba, %d layers of width %d", checkpoint.name, config.num_hidden_layers, config.hidden_size)
    return model


def _transformers(
    checkpoint: Checkpoint,
    dtype: torch.dtype | None,
    device: str | torch.device,
    _: Any,
    options: Mapping[str, Any],
) -> PreTrainedModel:
    kind, given = checkpoint.model_type, dict(options)
    if kind in FLA_TYPES and kind not in CONFIG_MAPPING:
        register_fla(checkpoint.name, kind, device)
    try:
        config, architecture = OWN_CLASSES.get(str(kind), (None, AutoModelForCausalLM))
        if kind in CONFIG_MAPPING and not ({"trust_remote_code", "gguf_file"} & given.keys()):
            given["config"] = (config or CONFIG_MAPPING[kind]).from_dict(dict(checkpoint.fields))
        model, report = architecture.from_pretrained(
            checkpoint.folder, dtype=dtype or "auto", output_loading_info=True, ignore_mismatched_sizes=True, **given
        )
    except UnpicklingError as error:
        raise refused(checkpoint.folder, error) from error
    except Exception as error:  # transformers checks fields and reads files with exceptions of many kinds
        reason = " ".join(str(error).split())[:400]
        raise JRTError(f"cannot load a causal language model from {checkpoint.name!r}: {reason}") from error
    require_report(checkpoint.name, report)
    return (model if "device_map" in options else model.to(device)).eval()


_LOADERS: dict[str, Callable[..., PreTrainedModel]] = {
    OURS: _ours,
    HAZY: _hazy,
    MAMBA_SSM: _mamba_ssm,
    TRANSFORMERS: _transformers,
}


def load_config(checkpoint: Checkpoint) -> JRTConfig:
    """The configuration of one of our models, or of a released JRT, Based or Transformer.

    Raises:
        JRTError: it is another kind of model; a field that is not known or of the wrong type.
    """
    if checkpoint.kind == HAZY:
        return gpt.jrt_config(checkpoint.fields, read_weights(checkpoint.folder))
    file = checkpoint.folder / CONFIG
    if checkpoint.kind != OURS:
        raise JRTError(
            f"{file}: model_type is {checkpoint.model_type!r}, not {JRTConfig.model_type!r}. "
            "Models of other kinds run with --model hf_recall (any Hugging Face causal LM) or --model mamba."
        )
    hints = get_type_hints(JRTConfig.__init__)
    for name, value in checkpoint.fields.items():
        if name not in hints and name not in _plain_fields():
            raise JRTError(f"{file}: {unknown('field', name, sorted(hints.keys() - {'kwargs', 'return'}))}")
        if name in hints and not _is_a(value, hints[name]):
            raise JRTError(f"{file}: {name} is {value!r}, which is no {_named(hints[name])}.")
    try:
        config = JRTConfig(**{name: value for name, value in checkpoint.fields.items() if name != "model_type"})
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise JRTError(f"{file}: not a configuration of ours: {error}") from error
    layers = checkpoint.fields.get("num_hidden_layers", config.num_hidden_layers)
    if layers != config.num_hidden_layers:
        raise JRTError(f"{file}: num_hidden_layers is {layers!r}, but mixers names {config.num_hidden_layers}.")
    return config


def _plain_fields() -> frozenset[str]:
    """Fields that transformers writes into the config.json of any model."""
    written = "model_type architectures transformers_version dtype torch_dtype auto_map use_cache _name_or_path".split()
    tokens = "bos_token_id eos_token_id pad_token_id sep_token_id decoder_start_token_id".split()
    return frozenset({*written, *tokens, *JRTConfig().to_dict()})


def _is_a(value: Any, hint: Any) -> bool:
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    for kind in kinds:
        plain = get_origin(kind) or kind
        if plain is float and isinstance(value, int) and not isinstance(value, bool):
            return True
        if plain is int and isinstance(value, bool):
            continue
        if isinstance(plain, type) and isinstance(value, plain) and not (isinstance(value, str) and plain is not str):
            return True
    return False


def _named(hint: Any) -> str:
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return " or ".join((get_origin(kind) or kind).__name__.replace("NoneType", "null") for kind in kinds)


def random_model(
    checkpoint: Checkpoint,
    feature_map: str | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> JRTForCausalLM:
    """An untrained model of a checkpoint's geometry, for tests of the machinery; `feature_map` replaces its own."""
    config = load_config(checkpoint)
    if feature_map is not None and feature_map != config.feature_map:
        config.feature_map, config.feature_map_options = feature_map, {}
    torch.manual_seed(seed)
    return JRTForCausalLM(config).to(device=device, dtype=dtype).eval()
