"""`--model based`: the same family without a prefix: causal linear attention, sliding windows, convolutions."""

from __future__ import annotations

from typing import Any

from jrt_lmeval.checkpoints.found import Checkpoint
from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.prefix import PrefixPolicy
from model_adapters.options import RunOptions, one_source
from model_adapters.ours import OurLM


class Based(OurLM):
    """A Based model (or another of ours without prefix layers) for lm_eval.

    Args:
        pretrained: name of a shipped model, a folder, or a hub id; by default the shipped Based.
        path: the same as `pretrained`.
        feature_map: must be the map of that model; there is no need to give it.
        init: `random` for untrained weights of the same shape.
        revision: branch, tag or commit of a hub id.
        decode: `exact`, or `published`: as the released Based code, which adds a decoded token's k v^T twice.
        **options: see `model_adapters.options.RunOptions`.

    Raises:
        JRTError: for anything unknown, missing or contradictory.
    """

    family = "based"
    default_map = None

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
        run = RunOptions.read(type(self).__init__, options)
        modes = {"decode": decode}
        source, policy = one_source(pretrained, path), PrefixPolicy("none")
        super().__init__(source, feature_map, init, revision, policy, modes, run)

    def check_prefix(self, checkpoint: Checkpoint, model: JRTForCausalLM, policy: PrefixPolicy) -> None:
        """A JRT-RNN is refused: it runs without a prefix as `jrt_rnn`."""
        if model.has_prefix:
            raise JRTError(
                f"{checkpoint.name} is a JRT-RNN: it has prefix linear attention. Use --model jrt_rnn, "
                "with prefix=none to run it without a prefix."
            )
