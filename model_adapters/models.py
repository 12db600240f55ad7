"""The models that `--model` names: `jrt_rnn` and `based`, which are ours, and transformers' as `hf_recall` and `mamba`.

What a user wrote becomes a checkpoint, and the checkpoint an engine and a tokenizer. `lm` does the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, ClassVar

from jrt_lmeval.checkpoints.found import (
    HAZY,
    MAMBA_SSM,
    MAMBAS,
    OURS,
    RETROFIT,
    Checkpoint,
    find,
    no_revisions,
    shipped_for,
)
from jrt_lmeval.checkpoints.load import load_config, load_model, random_model
from jrt_lmeval.checkpoints.tokenizers import find_tokenizer, limit_to
from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.modeling.config import MODES
from jrt_lmeval.modeling.feature_maps import FEATURE_MAPS, FeatureMap
from jrt_lmeval.modeling.scans import SCANNED
from jrt_lmeval.prefix import PrefixPolicy
from jrt_lmeval.prefix import prefix_policy as policy_of
from model_adapters.engines.hf import HFEngine
from model_adapters.engines.jrt import JRTEngine
from model_adapters.engines.kv_window import WindowEngine, WindowOptions
from model_adapters.lm import RecallLM
from model_adapters.options import RunOptions

log = logging.getLogger("lm_eval.jrt")

KERNELS = ("mamba_ssm", "causal_conv1d")
POLICY_FILE = "prefix_policy.json"
"""File in a model's folder with the policy of `prefix=learned`."""


def checkpoint_of(
    family: str,
    pretrained: str | None,
    path: str | None,
    revision: str | None,
    extra: Sequence[str] = (),
    feature_map: str | None = None,
) -> Checkpoint:
    """What `pretrained` or its alias `path` names; by default the shipped model of the family and feature map.

    Raises:
        JRTError: the two differ, there is no such model, or a revision of what has none.
    """
    if pretrained is not None and path is not None and str(pretrained) != str(path):
        raise JRTError(f"pretrained={pretrained!r} and path={path!r} name the same thing; give one of them.")
    source = path if pretrained is None else pretrained
    if source is not None:
        return find(str(source), revision, extra)
    if revision is not None:
        raise JRTError(f"revision={revision}: {no_revisions('the shipped model')}")
    return shipped_for(family, feature_map)


class OurLM(RecallLM):
    """What `jrt_rnn` and `based` share: a model of this package, found, loaded and described."""

    family: ClassVar[str]
    default_map: ClassVar[str | None] = None

    def __init__(
        self,
        pretrained: str | None,
        path: str | None,
        feature_map: str | None,
        init: str | None,
        revision: str | None,
        policy: PrefixPolicy,
        modes: Mapping[str, Any],
        options: dict[str, Any],
    ):
        run = RunOptions.read(type(self).__init__, options)
        if init not in (None, "random"):
            raise unknown("init", init, ["random"])
        if feature_map is not None and feature_map not in FEATURE_MAPS:
            raise unknown("feature map", feature_map, FEATURE_MAPS)
        # an untrained model needs a shape and a tokenizer, not the weights of its map
        wanted = None if init == "random" else feature_map or self.default_map
        checkpoint = checkpoint_of(self.family, pretrained, path, revision, feature_map=wanted)
        if checkpoint.kind not in (OURS, RETROFIT, HAZY):
            load_config(checkpoint)  # raises, and says which model it is and what runs it
        place = run.place()
        if init is None:
            model: Any = load_model(checkpoint, place.dtype, place.device, modes)
        else:
            log.warning("init=random: the weights of this run are untrained; expect scores at chance level.")
            model = random_model(checkpoint, feature_map, dtype=place.dtype, device=place.device)
            model.config.set_modes(**{name: value for name, value in modes.items() if value is not None})
        config = model.config
        if feature_map not in (None, config.feature_map):
            raise JRTError(
                f"feature_map={feature_map}, but {checkpoint.name} was trained with {config.feature_map!r}; weights "
                "mean nothing under another map. Leave feature_map out, or train one: "
                f"jrt-eval train --feature-map {feature_map} --out DIR"
            )
        if self.family == "based" and model.has_prefix:
            raise JRTError(
                f"{checkpoint.name} is a JRT-RNN: it has prefix linear attention. Use --model jrt_rnn, "
                "with prefix=none to run it without a prefix."
            )
        # a released baseline may run as jrt_rnn, but not under a prefix of the user's
        asks = checkpoint.kind in (OURS, RETROFIT) or policy not in (PrefixPolicy(), PrefixPolicy("none"))
        if self.family == "jrt_rnn" and not model.has_prefix and asks:
            raise JRTError(
                f"{checkpoint.name} has no prefix linear attention: a prefix would change nothing. Use --model based."
            )
        tokenizer = find_tokenizer(checkpoint, run.tokenizer)
        limit_to(model, tokenizer)
        maps = (part for part in model.modules() if isinstance(part, FeatureMap))
        description = {
            "pretrained": checkpoint.name,
            "revision": revision,
            "architecture": config.describe(),
            "feature_map": config.feature_map,
            "features_per_head": next((part.feature_dim for part in maps), None),
            "init": init or "trained",
            "modes": {mode: getattr(config, mode) for mode in (*MODES, "enc_length")},
            **({"released": config.describe()} if checkpoint.kind == HAZY else {}),
        }
        super().__init__(JRTEngine(model), tokenizer, policy=policy, place=place, description=description, run=run)


class JRTRNN(OurLM):
    """`--model jrt_rnn`: prefix linear attention, with any feature map and any prefix policy.

    Args:
        pretrained: name of a shipped model, a folder, or a hub id; by default the shipped model of `feature_map`.
        path: the same as `pretrained`.
        feature_map: which shipped model (default `mlp`); with `pretrained` it must be the map of that model.
        prefix: prefix policy: `full`, `document`, `fixed`, `dynamic`, `answer`, `learned` or `none`.
        prefix_length, prefix_step, entropy_high, entropy_low, entropy_window, prefix_chunk, prefix_sure: see
            `jrt_lmeval.prefix.PrefixPolicy`.
        prefix_policy: file of a learned policy; by default `prefix_policy.json` in the model's folder.
        init: `random` for untrained weights of the same shape: a chance-level control, never a default.
        revision: branch, tag or commit of a hub id.
        padding, decode, filling, enc_length: the published ways of a released model, see
            `jrt_lmeval.modeling.config.JRTConfig`. By default everything is exact.
        **options: see `model_adapters.options.RunOptions`.

    Raises:
        JRTError: for anything unknown, missing or contradictory.
    """

    family = "jrt_rnn"
    default_map = "mlp"

    def __init__(
        self,
        pretrained: str | None = None,
        path: str | None = None,
        feature_map: str | None = None,
        prefix: str | None = "full",
        prefix_length: int | float | None = None,
        prefix_step: float | None = None,
        entropy_high: float | None = None,
        entropy_low: float | None = None,
        entropy_window: int | None = None,
        prefix_chunk: int | None = None,
        prefix_sure: float | None = None,
        prefix_policy: str | None = None,
        init: str | None = None,
        revision: str | None = None,
        padding: str | None = None,
        decode: str | None = None,
        filling: str | None = None,
        enc_length: int | None = None,
        **options: Any,
    ):
        if prefix == "learned" and prefix_policy is None:
            checkpoint = checkpoint_of(self.family, pretrained, path, revision, (), feature_map or self.default_map)
            file = checkpoint.folder / POLICY_FILE
            prefix_policy = str(file) if file.is_file() else None
        policy = policy_of(
            prefix,
            prefix_length=prefix_length,
            prefix_step=prefix_step,
            entropy_high=entropy_high,
            entropy_low=entropy_low,
            entropy_window=entropy_window,
            prefix_chunk=prefix_chunk,
            prefix_sure=prefix_sure,
            prefix_policy=prefix_policy,
        )
        modes = {"padding": padding, "decode": decode, "filling": filling, "enc_length": enc_length}
        super().__init__(pretrained, path, feature_map, init, revision, policy, modes, options)


class Based(OurLM):
    """`--model based`: the same family without a prefix: causal linear attention, sliding windows, convolutions.

    Arguments as `JRTRNN`, without a prefix and the ways of reading one. `feature_map` must be the map of the model, and
    `decode=published` is as the released Based code, which adds a decoded token's k v^T twice.
    """

    family = "based"

    def __init__(
        self,
        pretrained: str | None = None,
        path: str | None = None,
        feature_map: str | None = None,
        init: str | None = None,
        revision: str | None = None,
        decode: str | None = None,
        **options: Any,
    ):
        policy = PrefixPolicy("none")
        super().__init__(pretrained, path, feature_map, init, revision, policy, {"decode": decode}, options)


class HFRecall(RecallLM):
    """`--model hf_recall`: any Hugging Face causal language model, with this package's batching, reuse and figures.

    Args:
        pretrained: a folder, a hub id or the name of a shipped model; by default the shipped Llama.
        path: the same as `pretrained`.
        revision: branch, tag or commit on the hub.
        gguf_file: name of a GGUF file in `pretrained`.
        device_map: passed to transformers, such as `auto` to spread a model over GPUs.
        trust_remote_code: run code that comes with the checkpoint. Only for checkpoints you have read.
        kv_window: every token sees itself, the `kv_window - 1` tokens before it and the first `kv_sinks` tokens, and
            the state keeps no more; positions stay those of the whole text. For plain softmax attention only.
        kv_sinks: first tokens that stay; 4 with a window.
        kv_bytes: instead of `kv_window`, the bytes that the state of a row may take, sinks included.
        peft: folder or hub id of an adapter of the package peft (LoRA and the like), put into the model.
        **options: see `model_adapters.options.RunOptions`.

    Raises:
        JRTError: for anything unknown or missing, and for a checkpoint that does not fill the model.
    """

    family: ClassVar[str] = "hf_recall"

    def __init__(
        self,
        pretrained: str | None = None,
        path: str | None = None,
        revision: str | None = None,
        gguf_file: str | None = None,
        device_map: Any = None,
        trust_remote_code: bool = False,
        kv_window: int | None = None,
        kv_sinks: int | None = None,
        kv_bytes: int | None = None,
        peft: str | None = None,
        **options: Any,
    ):
        restriction = WindowOptions(kv_window, kv_sinks, kv_bytes)
        run = RunOptions.read(type(self).__init__, options)
        extra = [*([gguf_file] if gguf_file else []), *(["*.py"] if trust_remote_code else [])]
        checkpoint = checkpoint_of(self.family, pretrained, path, revision, extra)
        self.check_family(checkpoint)
        place = run.place()
        loading: dict[str, Any] = {"gguf_file": gguf_file, "trust_remote_code": trust_remote_code or None}
        model: Any = load_model(checkpoint, place.dtype, place.device, device_map=device_map, **loading)
        if peft is not None:
            model = with_adapter(model, str(peft))
        reading = {} if run.tokenizer else {**loading, "add_bos_token": run.add_bos_token}
        tokenizer = find_tokenizer(checkpoint, run.tokenizer, **reading)
        description: dict[str, Any] = {"pretrained": checkpoint.name, "revision": revision, "gguf_file": gguf_file}
        description |= {"init": "trained", **({"peft": str(peft)} if peft is not None else {})}
        engine = WindowEngine(model, restriction) if restriction.given else HFEngine(model)
        if isinstance(engine, WindowEngine):
            description |= {"kv_window": engine.kv_window.size, "kv_sinks": engine.kv_window.sinks}
        super().__init__(engine, tokenizer, place=place, description=description, run=run)
        missing = [package for package in KERNELS if find_spec(package) is None]
        if isinstance(model, SCANNED) and self.device.type == "cuda" and missing:
            log.warning(
                "Mamba runs on CUDA without %s: transformers then scans token by token in Python, far slower than the "
                "fused kernels, with the same answers. 'pip install %s' gets them.",
                " and ".join(missing),
                " ".join(name.replace("_", "-") for name in missing),
            )

    def check_family(self, checkpoint: Checkpoint) -> None:
        """Raise JRTError where another adapter runs the checkpoint, and name it."""
        if checkpoint.kind == HAZY:
            raise JRTError(
                f"pretrained={checkpoint.name!r} is a released JRT, Based or attn checkpoint; use --model jrt_rnn."
            )
        if checkpoint.kind in (OURS, RETROFIT):
            raise JRTError(
                f"pretrained={checkpoint.name!r} is a model of this package; use --model {checkpoint.family}."
            )


class Mamba(HFRecall):
    """`--model mamba`: Mamba, Mamba-2 and FalconMamba through transformers, padding kept out of their state.

    In transformers' layout or in that of mamba-ssm (`state-spaces/mamba-*`, Hazy Research's); arguments as `HFRecall`,
    by default the shipped Mamba. lm_eval's own `mamba_ssm` drops the attention mask, so that its answers change with
    the batch, and needs CUDA. This one runs anywhere; where mamba-ssm and causal-conv1d are installed, transformers
    uses their kernels.
    """

    family = "mamba"

    def check_family(self, checkpoint: Checkpoint) -> None:
        """Raise JRTError where the checkpoint is no Mamba."""
        if checkpoint.kind != MAMBA_SSM and checkpoint.model_type not in MAMBAS:
            raise JRTError(
                f"pretrained={checkpoint.name!r} has model_type {checkpoint.model_type!r}, not one of "
                f"{', '.join(MAMBAS)}; other Hugging Face models run with --model hf_recall."
            )


def with_adapter(model: Any, source: str) -> Any:
    """The model with an adapter of the package peft in its layers.

    Raises:
        JRTError: peft is not installed, the adapter cannot be read or is of another model, or it puts learned vectors
            before the prompt instead of changing layers.
    """
    try:
        from peft import PeftModel
    except ImportError as error:
        raise JRTError(f"peft={source} needs the package peft: pip install peft") from error
    try:
        adapted = PeftModel.from_pretrained(model, source)
    except Exception as error:  # what peft, the hub and torch raise has no common class
        reason = " ".join(str(error).split())[:300]
        raise JRTError(f"peft={source} cannot be put into {type(model).__name__}: {reason}") from error
    if adapted.active_peft_config.is_prompt_learning:
        raise JRTError(
            f"peft={source} puts learned vectors before the prompt, and a state that prompts share cannot hold them; "
            "lm_eval's own --model hf runs it."
        )
    return adapted.get_base_model().eval()
