"""What `--model jrt_rnn` and `--model based` share: a model of this package, found, loaded and described."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar

from jrt_lmeval.checkpoints.found import HAZY, OURS, RETROFIT, Checkpoint, find, no_revisions, shipped_for
from jrt_lmeval.checkpoints.load import load_config, load_model, random_model
from jrt_lmeval.checkpoints.tokenizers import find_tokenizer, limit_to
from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.modeling.config import MODES
from jrt_lmeval.modeling.feature_maps import FEATURE_MAPS, FeatureMap
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.prefix import PrefixPolicy
from model_adapters.engines.jrt import JRTEngine
from model_adapters.lm import RecallLM
from model_adapters.options import Hardware, RunOptions

log = logging.getLogger("lm_eval.jrt")


class OurLM(RecallLM):
    """What `jrt_rnn` and `based` share: one of our models, found, loaded and described.

    Args:
        source: name of a shipped model, a folder, or a hub id; None for the shipped model.
        feature_map: which shipped model; with `source` it must be the map of that model.
        init: `random` for untrained weights of the same shape: a chance-level control, never a default.
        revision: branch, tag or commit of a hub id.
        policy: how prefix lengths are chosen.
        modes: the published ways, see `jrt_lmeval.modeling.config.JRTConfig`.
        run: what all models take.

    Raises:
        JRTError: for anything unknown, missing or contradictory.
    """

    family: ClassVar[str]
    default_map: ClassVar[str | None]

    def __init__(
        self,
        source: str | None,
        feature_map: str | None,
        init: str | None,
        revision: str | None,
        policy: PrefixPolicy,
        modes: Mapping[str, Any],
        run: RunOptions,
    ):
        if init not in (None, "random"):
            raise unknown("init", init, ["random"])
        if feature_map is not None and feature_map not in FEATURE_MAPS:
            raise unknown("feature map", feature_map, FEATURE_MAPS)
        checkpoint = self._checkpoint(source, feature_map, init, revision)
        self.check_family(checkpoint)
        hardware = run.hardware()
        model = _model(checkpoint, feature_map, init, hardware, modes)
        own = model.config.feature_map
        if feature_map not in (None, own):
            raise JRTError(
                f"feature_map={feature_map}, but {checkpoint.name} was trained with {own!r}; weights mean nothing "
                f"under another map. Leave feature_map out, or train one: jrt-eval train --feature-map {feature_map} "
                "--out DIR"
            )
        self.check_prefix(checkpoint, model, policy)
        tokenizer = find_tokenizer(checkpoint, run.tokenizer)
        limit_to(model, tokenizer)
        engine = JRTEngine(model)
        super().__init__(
            engine,
            tokenizer,
            policy=policy,
            description=_described(checkpoint, model, init, revision),
            **run.run_arguments(hardware),
        )

    def _checkpoint(
        self, source: str | None, feature_map: str | None, init: str | None, revision: str | None
    ) -> Checkpoint:
        if source is not None:
            return find(source, revision)
        if revision is not None:
            raise JRTError(f"revision={revision}: {no_revisions('the shipped model')}")
        # an untrained model needs a shape and a tokenizer, not the weights of its map
        return shipped_for(self.family, None if init == "random" else feature_map or self.default_map)

    def check_family(self, checkpoint: Checkpoint) -> None:
        """Raise JRTError where another adapter runs the checkpoint, and name it."""
        if checkpoint.kind not in (OURS, RETROFIT, HAZY):
            load_config(checkpoint)  # says which model it is and what runs it

    def check_prefix(self, checkpoint: Checkpoint, model: JRTForCausalLM, policy: PrefixPolicy) -> None:
        """Raise JRTError where the model has prefix layers and this adapter no prefix, or the other way round."""
        raise NotImplementedError


def _model(
    checkpoint: Checkpoint, feature_map: str | None, init: str | None, hardware: Hardware, modes: Mapping[str, Any]
) -> JRTForCausalLM:
    """The trained model, or an untrained one of its shape if that was asked for by name."""
    if init is None:
        return load_model(checkpoint, hardware.dtype, hardware.device, modes)
    log.warning("init=random: the weights of this run are untrained; expect scores at chance level.")
    model = random_model(checkpoint, feature_map, dtype=hardware.dtype, device=hardware.device)
    model.config.set_modes(**{name: value for name, value in modes.items() if value is not None})
    return model


def _described(checkpoint: Checkpoint, model: JRTForCausalLM, init: str | None, revision: str | None) -> dict[str, Any]:
    """Facts about one of our models for the results file."""
    config = model.config
    facts = {
        "pretrained": checkpoint.name,
        "revision": revision,
        "architecture": config.describe(),
        "feature_map": config.feature_map,
        "features_per_head": features_per_head(model),
        "init": init or "trained",
        "modes": {mode: getattr(config, mode) for mode in (*MODES, "enc_length")},
    }
    return {**facts, "released": config.describe()} if checkpoint.kind == HAZY else facts


def features_per_head(model: JRTForCausalLM) -> int | None:
    """F of the linear attention layers; None where there are none."""
    return next((part.feature_dim for part in model.modules() if isinstance(part, FeatureMap)), None)
