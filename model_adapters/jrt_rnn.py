"""`--model jrt_rnn`: prefix linear attention, with any feature map and any prefix policy."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from jrt_lmeval.checkpoints.load import load_config, load_model, load_tokenizer, random_model
from jrt_lmeval.checkpoints.released.load import describe, released_kind
from jrt_lmeval.checkpoints.resolve import resolve_model
from jrt_lmeval.checkpoints.shipped import shipped_models
from jrt_lmeval.checkpoints.tokenizers import find_tokenizer, limit_to
from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.modeling.feature_maps import FEATURE_MAPS
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.prefix import prefix_policy
from model_adapters.engines.jrt import JRTEngine
from model_adapters.lm import RecallLM
from model_adapters.loading import one_source
from model_adapters.options import Place, RunOptions

log = logging.getLogger("lm_eval.jrt")

DEFAULT_MAP = "mlp"


class JRTRNN(RecallLM):
    """A JRT-RNN for lm_eval.

    Args:
        pretrained: name of a shipped model, a folder, or a hub id; by default the shipped model of `feature_map`.
        path: the same as `pretrained`.
        feature_map: which shipped model (default `mlp`); with `pretrained` it must be the map of that model.
        prefix: prefix policy: `full`, `document`, `fixed`, `dynamic` or `none`.
        prefix_length, prefix_step, entropy_high, entropy_low: see `jrt_lmeval.prefix.PrefixPolicy`.
        init: `random` for untrained weights of the same shape: a chance-level control, never a default.
        revision: branch, tag or commit of a hub id.
        padding, decode, filling, enc_length: the published ways of a released model, see
            `jrt_lmeval.modeling.config.JRTConfig`. By default everything is exact.
        **options: see `model_adapters.options.RunOptions`.

    Raises:
        JRTError: for anything unknown, missing or contradictory.
    """

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
        init: str | None = None,
        revision: str | None = None,
        padding: str | None = None,
        decode: str | None = None,
        filling: str | None = None,
        enc_length: int | None = None,
        **options: Any,
    ):
        run = RunOptions.read(type(self).__init__, options)
        policy = prefix_policy(
            prefix,
            prefix_length=prefix_length,
            prefix_step=prefix_step,
            entropy_high=entropy_high,
            entropy_low=entropy_low,
        )
        source = one_source(pretrained, path)
        folder = jrt_folder(source, feature_map, init, revision=revision)
        # a released baseline may be named here too; an explicit prefix would be a misunderstanding
        if not has_prefix(folder) and (released_kind(folder) is None or prefix not in ("full", "none", None)):
            raise JRTError(
                f"{folder.name} has no prefix linear attention: a prefix would change nothing. Use --model based."
            )
        place = run.place()
        modes = {"padding": padding, "decode": decode, "filling": filling, "enc_length": enc_length}
        model = jrt_model(folder, feature_map, init, place, modes)
        tokenizer = jrt_tokenizer(folder, run.tokenizer, model)
        super().__init__(
            JRTEngine(model),
            tokenizer,
            policy=policy,
            description=jrt_description(folder, model, init, source, revision),
            **run.run_arguments(place),
        )


def jrt_folder(
    source: str | None,
    feature_map: str | None,
    init: str | None,
    family: str = "jrt_rnn",
    revision: str | None = None,
) -> Path:
    """The folder of the model that the arguments mean.

    Raises:
        JRTError: unknown names, no such model, or a feature map that is not the checkpoint's.
    """
    if init not in (None, "random"):
        raise unknown("init", init, ["random"])
    if feature_map is not None and feature_map not in FEATURE_MAPS:
        raise unknown("feature map", feature_map, FEATURE_MAPS)
    if source is not None:
        folder = resolve_model(source, family=family, revision=revision)
        own = load_config(folder).feature_map
        if feature_map not in (None, own) and init is None:
            raise JRTError(
                f"feature_map={feature_map}, but {source} was trained with {own!r}; weights mean nothing under another "
                f"map. Leave feature_map out, or train one: jrt-eval train --feature-map {feature_map} --out DIR"
            )
        return folder
    if init == "random" and family == "jrt_rnn":
        shipped = [folder for folder in shipped_models().values() if has_prefix(folder)]
        if shipped:  # an untrained model needs a shape and a tokenizer, not the weights of its map
            return shipped[0]
    return resolve_model(None, feature_map or DEFAULT_MAP, family)


def has_prefix(folder: Path) -> bool:
    """Whether the model in a folder has a layer that gives the prefix a head start."""
    return "prefix_linear" in load_config(folder).mixers


def jrt_model(
    folder: Path,
    feature_map: str | None,
    init: str | None,
    place: Place,
    modes: dict[str, Any],
) -> JRTForCausalLM:
    """The trained model in a folder, or an untrained one of its shape if that was asked for by name."""
    modes = {name: value for name, value in modes.items() if value is not None}
    if init is None:
        return load_model(folder, dtype=place.dtype, device=place.device, **modes)
    log.warning("init=random: the weights of this run are untrained; expect scores at chance level.")
    model = random_model(folder, feature_map, dtype=place.dtype, device=place.device)
    model.config.set_modes(**modes)
    return model


def jrt_tokenizer(folder: Path, given: str | None, model: JRTForCausalLM) -> PreTrainedTokenizerBase:
    """The tokenizer that was given, the folder's own, or the one a released model was trained with."""
    if released_kind(folder) is None and (given is None or Path(given).is_dir()):
        return load_tokenizer(Path(given or folder), model.config.vocab_size)
    tokenizer = find_tokenizer(folder, given)
    limit_to(model, tokenizer)
    return tokenizer


def jrt_description(
    folder: Path, model: JRTForCausalLM, init: str | None, source: str | None, revision: str | None
) -> dict[str, Any]:
    """Facts about one of our models for the results file."""
    config = model.config
    name = folder.name if folder in shipped_models().values() else source or str(folder)
    modes = {mode: getattr(config, mode) for mode in ("padding", "decode", "filling", "enc_length")}
    facts = {
        "pretrained": name,
        "revision": revision,
        "feature_map": config.feature_map,
        "init": init or "trained",
        "modes": modes,
    }
    return {**facts, "released": describe(config)} if released_kind(folder) else facts
