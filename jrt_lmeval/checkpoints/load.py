"""From a checkpoint to a model: every parameter filled and finite, every tensor used, or an error that lists them."""

from __future__ import annotations

import logging
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
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

from jrt_lmeval.checkpoints import released
from jrt_lmeval.checkpoints.found import (
    CONFIG,
    HAZY,
    MAMBA_SSM,
    MAMBAS,
    OURS,
    RETROFIT,
    TRANSFORMERS,
    Checkpoint,
    find,
    read_object,
)
from jrt_lmeval.checkpoints.packaged import PACKAGED, packaged_folder
from jrt_lmeval.checkpoints.tokenizers import suppress_beyond
from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.modeling.config import MODES, JRTConfig
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.modeling.retrofit import BACKBONES, RetrofitForCausalLM, read_backbone

BACKBONES[PACKAGED] = packaged_folder
log = logging.getLogger("lm_eval.jrt")

Model = TypeVar("Model", bound=PreTrainedModel)

OPTIONS = ("revision", "dtype", "device", "enc_length", *MODES)
DTYPES = {name: getattr(torch, name) for name in ("float32", "float16", "bfloat16", "float64")}
GENERATION = "generation_config.json"
HEAD = "lm_head.weight"
LISTED = 20
"""Names of parameters that an error lists at most."""

OWN_CLASSES = {"mamba": (MambaConfig, MambaForCausalLM), "mamba2": (Mamba2Config, Mamba2ForCausalLM)}
"""transformers' classes of types that other packages register anew: `import fla` puts its own in their place."""


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


def load_backbone(name: str, dtype: torch.dtype) -> PreTrainedModel:
    """The Transformer of a retrofitted model, by the names that `found.find` knows."""
    return read_backbone(find(name).folder, dtype)


def as_dtype(value: torch.dtype | str | None) -> torch.dtype | None:
    """A dtype from its name; None and `auto` stand for what the file has.

    Raises:
        JRTError: no floating-point dtype of that name.
    """
    if value is None or value == "auto":
        return None
    if isinstance(value, torch.dtype):
        return value
    if value not in DTYPES:
        raise unknown("dtype", value, DTYPES)
    return DTYPES[value]


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
        raise JRTError(f"{listed}: {checkpoint.title} has no linear attention; the option means nothing here.")
    if options and checkpoint.kind != TRANSFORMERS:
        raise JRTError(
            f"{', '.join(options)}: {checkpoint.name} is no model of transformers; the option means nothing here. To "
            "use it, convert the checkpoint first: jrt-eval convert SRC DST"
        )
    if checkpoint.kind == TRANSFORMERS:
        model = _transformers(checkpoint, dtype, device, options)
    elif checkpoint.kind == RETROFIT:
        backbone = load_backbone(checkpoint.fields["backbone"], dtype or torch.float32)
        model = RetrofitForCausalLM.from_pretrained(checkpoint.folder, dtype, backbone).to(device)
    elif checkpoint.kind == MAMBA_SSM:
        model = _mamba_ssm(checkpoint, dtype, device)
    else:
        model = _ours(checkpoint, dtype, device, modes)
    require_finite(checkpoint.name, model)
    return model


def _ours(
    checkpoint: Checkpoint, dtype: torch.dtype | None, device: str | torch.device, modes: Mapping[str, Any]
) -> PreTrainedModel:
    """One of our models, or a released JRT, Based or Transformer."""
    tensors = read_weights(checkpoint.folder)
    config = load_config(checkpoint, tensors)
    names = {name: [name] for name in tensors}
    if checkpoint.kind == HAZY:
        names = released.parameter_names(checkpoint.fields, tensors)
        log.info("%s: %s", checkpoint.title, config.describe())
    config.set_modes(**modes)
    source = str(checkpoint.folder)
    model = assemble(lambda: JRTForCausalLM(config), tensors, names, released.EMBEDDING, source, dtype, device)
    generation = checkpoint.folder / GENERATION
    if checkpoint.kind == OURS and generation.is_file():
        model.generation_config = GenerationConfig.from_dict(read_object(generation))
    return model


def _mamba_ssm(checkpoint: Checkpoint, dtype: torch.dtype | None, device: str | torch.device) -> PreTrainedModel:
    tensors, config = read_weights(checkpoint.folder), released.mamba_config(checkpoint.fields)
    names, embedding = released.mamba_parameter_names(tensors), released.MAMBA_EMBEDDING
    model = assemble(lambda: MambaForCausalLM(config), tensors, names, embedding, str(checkpoint.folder), dtype, device)
    suppress_beyond(model, config.token_count)
    log.info("%s: Mamba, %d layers of width %d", checkpoint.title, config.num_hidden_layers, config.hidden_size)
    return model


def _transformers(
    checkpoint: Checkpoint, dtype: torch.dtype | None, device: str | torch.device, options: Mapping[str, Any]
) -> PreTrainedModel:
    kind, given = checkpoint.model_type, dict(options)
    if kind is not None and kind not in CONFIG_MAPPING and "trust_remote_code" not in given:
        register_fla(checkpoint.name, kind, device)
    try:
        config, architecture = OWN_CLASSES.get(str(kind), (None, AutoModelForCausalLM))
        if kind in CONFIG_MAPPING and not ({"trust_remote_code", "gguf_file"} & given.keys()):
            given["config"] = (config or CONFIG_MAPPING[kind]).from_dict(dict(checkpoint.fields))
        model, report = architecture.from_pretrained(
            checkpoint.folder, dtype=dtype or "auto", output_loading_info=True, ignore_mismatched_sizes=True, **given
        )
    except pickle.UnpicklingError as error:
        raise refused(checkpoint.folder, error) from error
    except Exception as error:  # transformers checks fields and reads files with exceptions of many kinds
        raise JRTError(
            f"cannot load a causal language model from {checkpoint.name!r}: {' '.join(str(error).split())[:400]}"
        ) from error
    mismatched = [name if isinstance(name, str) else name[0] for name in report["mismatched_keys"]]
    require_whole(checkpoint.name, report["missing_keys"], report["unexpected_keys"], mismatched)
    return (model if "device_map" in options else model.to(device)).eval()


def register_fla(name: str, model_type: str, device: str | torch.device) -> None:
    """Let transformers know the models of flash-linear-attention: of types that it does not know itself.

    Raises:
        JRTError: flash-linear-attention is not installed, or the model is to run without a GPU, which its kernels need.
    """
    said = f"pretrained={name!r} has model_type {model_type!r}"
    try:
        import_module("fla")
    except ImportError as error:
        raise JRTError(
            f"{said}, which transformers does not know. If it is a model of flash-linear-attention, which cannot be "
            f"imported ({error}), install it: pip install 'jrt-lmeval[fla]'"
        ) from error
    on_cpu = torch.device(device).type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1"
    if model_type in CONFIG_MAPPING and on_cpu:
        raise JRTError(f"{said}: the kernels of flash-linear-attention run on a GPU alone, and this is a CPU.")


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


# ---------------------------------------------------------------- the configuration of our models


def load_config(checkpoint: Checkpoint, tensors: Mapping[str, Tensor] | None = None) -> JRTConfig:
    """The configuration of one of our models, or of a released JRT, Based or Transformer: the width of the latter's MLP
    shows in the tensors alone.

    Raises:
        JRTError: it is another kind of model; a field that is not known or of the wrong type.
    """
    if checkpoint.kind == HAZY:
        return released.jrt_config(checkpoint.fields, tensors or read_weights(checkpoint.folder))
    file = checkpoint.folder / CONFIG
    if checkpoint.kind != OURS:
        raise JRTError(
            f"{file}: model_type is {checkpoint.model_type!r}, not {JRTConfig.model_type!r}. "
            "Models of other kinds run with --model hf_recall (any Hugging Face causal LM) or --model mamba."
        )
    hints = get_type_hints(JRTConfig.__init__)
    written = {*WRITTEN, *JRTConfig().to_dict()}
    for name, value in checkpoint.fields.items():
        if name not in hints and name not in written:
            raise JRTError(f"{file}: {unknown('field', name, sorted(hints.keys() - {'kwargs', 'return'}))}")
        if name in hints and not _is_a(value, hints[name]):
            raise JRTError(f"{file}: {name} is {value!r}, which is no {getattr(hints[name], '__name__', hints[name])}.")
    try:
        config = JRTConfig(**{name: value for name, value in checkpoint.fields.items() if name != "model_type"})
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise JRTError(f"{file}: not a configuration of ours: {error}") from error
    layers = checkpoint.fields.get("num_hidden_layers", config.num_hidden_layers)
    if layers != config.num_hidden_layers:
        raise JRTError(f"{file}: num_hidden_layers is {layers!r}, but mixers names {config.num_hidden_layers}.")
    return config


WRITTEN = (
    "model_type architectures transformers_version dtype torch_dtype auto_map use_cache _name_or_path bos_token_id "
    "eos_token_id pad_token_id sep_token_id decoder_start_token_id"
).split()
"""Fields that transformers writes into the config.json of any model, beside those that it gives ours."""


def _is_a(value: Any, hint: Any) -> bool:
    """Whether a value read from JSON is of the type that an argument names; a whole number will do for a float."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    plain = {get_origin(kind) or kind for kind in kinds}
    return type(value) in plain or {int: float, list: Sequence}.get(type(value)) in plain


# ---------------------------------------------------------------- from tensors to a model


def assemble(
    build: Callable[[], Model],
    tensors: dict[str, Tensor],
    names: Mapping[str, Sequence[str]],
    embedding: str,
    source: str,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> Model:
    """The model that `build` makes without memory, whose parameters the tensors become: what is read is what is used.

    Args:
        build: makes the model; called on the meta device.
        tensors: what the files hold, by their names there. Emptied on the way, so that nothing is held twice.
        names: name in the file -> names in the model; a tensor may fill several of them.
        embedding: name in the model of the embedding, which the output matrix may share.
        source: for messages.
        dtype, device: of the floating-point parameters (None as in the file), and where to put them.
    """
    with torch.device("meta"):
        model = build()
    wanted = dict(model.state_dict())
    given = {
        new: tensors[old] if i == 0 else tensors[old].clone()
        for old, targets in names.items()
        for i, new in enumerate(targets)
    }
    if model.config.tie_word_embeddings:
        wanted.pop(HEAD, None)
        head, table = given.pop(HEAD, None), given.get(embedding)
        if head is not None and table is not None and not (head.shape == table.shape and torch.equal(head, table)):
            raise JRTError(
                f"{source}: tie_word_embeddings is true, but the output matrix in the file differs from the embedding."
            )
    fitting = {new: given[new] for new in given.keys() & wanted.keys() if _sizes(given[new]) == _sizes(wanted[new])}
    require_whole(
        source,
        not_filled=wanted.keys() - given.keys(),
        not_used=(tensors.keys() - names.keys()) | (given.keys() - wanted.keys()),
        misshapen=[
            f"{new} ({list(given[new].shape)}, wanted {list(wanted[new].shape)})"
            for new in (given.keys() & wanted.keys()) - fitting.keys()
        ],
    )
    given.clear()
    tensors.clear()
    for new in list(fitting):
        tensor = fitting.pop(new).reshape(wanted[new].shape)
        fitting[new] = tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)
    model.load_state_dict(fitting, strict=False, assign=True)
    model.tie_weights()
    left = [name for name, tensor in [*model.named_parameters(), *model.named_buffers()] if tensor.is_meta]
    require_whole(source, not_filled=left)
    return model.eval()


def _sizes(tensor: Tensor) -> list[int]:
    """The shape without dimensions of one, which a depthwise kernel may have or not."""
    return [size for size in tensor.shape if size != 1]


def require_whole(
    source: object, not_filled: Iterable[str] = (), not_used: Iterable[str] = (), misshapen: Iterable[str] = ()
) -> None:
    """Refuse a checkpoint that does not fit its configuration: a model that is partly random would still answer.

    Raises:
        JRTError: any of the three lists names something; all of it is named.
    """
    faults = {"not filled": not_filled, "not used": not_used, "of another shape": misshapen}
    found = {what: sorted(names) for what, names in faults.items()}
    if any(found.values()):
        listed = "; ".join(f"{what}: {_some(names)}" for what, names in found.items() if names)
        raise JRTError(
            f"{source}: the weights do not fit config.json ({listed}). A half-filled model is never evaluated: check "
            "that the checkpoint is complete and that its model_type is right."
        )


def require_finite(source: object, model: torch.nn.Module) -> None:
    """Refuse weights that hold NaN or infinity: every answer would be nonsense and score 0.

    Raises:
        JRTError: names them.
    """
    # a feature map's random projection is a buffer; what `device_map` left on disk is looked at when it answers
    held = [*model.named_parameters(), *model.named_buffers()]
    floats = ((name, tensor) for name, tensor in held if tensor.is_floating_point() and not tensor.is_meta)
    bad = [name for name, tensor in floats if not bool(tensor.isfinite().all())]
    if bad:
        raise JRTError(
            f"{source}: {len(bad)} of the tensors hold NaN or infinity ({_some(bad)}): the weights are damaged or "
            "their training diverged."
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


# ---------------------------------------------------------------- reading weights: tensors under names, nothing else


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, still on disk (memory-mapped) until they are used.

    A leading `model.` is taken off their names, and the counters of the training (`*metrics*`) are left out.

    Raises:
        JRTError: no weights, a damaged file, or a pickle that holds anything but tensors under names.
    """
    files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise JRTError(
            f"{folder}: holds neither model.safetensors nor pytorch_model.bin: the checkpoint is only half there."
        )
    tensors: dict[str, Tensor] = {}
    for file in files:
        held = _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickle(file)
        part = {name.removeprefix("model."): tensor for name, tensor in held.items() if "metrics" not in name}
        if twice := sorted(tensors.keys() & part.keys()):
            raise JRTError(f"{file}: {', '.join(twice[:10])} stood in an earlier file already.")
        tensors |= part
    return tensors


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        with safe_open(str(file), framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise JRTError(f"{file}: cannot be read ({error}); the file is damaged or incomplete.") from error


def _read_pickle(file: Path) -> dict[str, Tensor]:
    try:
        held = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        raise refused(file, error) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise JRTError(f"{file}: cannot be read ({_reason(error)}); the file is damaged or incomplete.") from error
    if not isinstance(held, dict) or not all(isinstance(name, str) for name in held):
        raise JRTError(f"{file}: holds a {type(held).__name__}, not tensors under names.")
    if other := sorted(name for name, value in held.items() if not isinstance(value, Tensor)):
        raise JRTError(f"{file}: {', '.join(other[:10])} are no tensors; a checkpoint of weights alone is needed.")
    return held


def refused(where: Path, error: pickle.UnpicklingError) -> JRTError:
    """The error for a pickle that holds anything but tensors; to be raised by the caller."""
    return JRTError(
        f"{where}: refused. It is a pickle that asks for more than tensors ({_reason(error)}), and loading that would "
        "run code from the file. Get the weights as safetensors from someone you trust."
    )


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    unsupported = re.search(r"(GLOBAL|Unsupported \w+|operand) [^.]*\S+\.\S+", text)
    return (unsupported.group(0) if unsupported else text)[:200]
