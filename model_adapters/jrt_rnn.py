"""`--model jrt_rnn`: prefix linear attention, with any feature map and any prefix policy."""

from __future__ import annotations

from typing import Any

from jrt_lmeval.checkpoints.found import OURS, RETROFIT, Checkpoint
from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.prefix import PrefixPolicy, prefix_policy
from model_adapters.options import RunOptions, one_source
from model_adapters.ours import OurLM


class JRTRNN(OurLM):
    """A JRT-RNN for lm_eval.

    Args:
        pretrained: name of a shipped model, a folder, or a hub id; by default the shipped model of `feature_map`.
        path: the same as `pretrained`.
        feature_map: which shipped model (default `mlp`); with `pretrained` it must be the map of that model.
        prefix: prefix policy: `full`, `document`, `fixed`, `dynamic` or `none`.
        prefix_length, prefix_step, entropy_high, entropy_low, entropy_window: see `jrt_lmeval.prefix.PrefixPolicy`.
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
            entropy_window=entropy_window,
        )
        modes = {"padding": padding, "decode": decode, "filling": filling, "enc_length": enc_length}
        super().__init__(one_source(pretrained, path), feature_map, init, revision, policy, modes, run)

    def check_prefix(self, checkpoint: Checkpoint, model: JRTForCausalLM, policy: PrefixPolicy) -> None:
        """A model without a prefix is refused; a released baseline may run here, but not under another prefix."""
        if not model.has_prefix and (
            checkpoint.kind in (OURS, RETROFIT) or policy not in (PrefixPolicy(), PrefixPolicy("none"))
        ):
            raise JRTError(
                f"{checkpoint.name} has no prefix linear attention: a prefix would change nothing. Use --model based."
            )
