"""`--model based`: the same family without a prefix: causal linear attention, sliding windows, convolutions."""

from __future__ import annotations

from typing import Any

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prefix import PrefixPolicy
from model_adapters.engines.jrt import JRTEngine
from model_adapters.jrt_rnn import has_prefix, jrt_description, jrt_folder, jrt_model, jrt_tokenizer
from model_adapters.lm import RecallLM
from model_adapters.loading import one_source
from model_adapters.options import RunOptions


class Based(RecallLM):
    """A Based model (or another of ours without prefix layers) for lm_eval.

    Args:
        pretrained: name of a shipped model, a folder, or a hub id.
        path: the same as `pretrained`.
        feature_map: must be the map of that model; there is no need to give it.
        init: `random` for untrained weights of the same shape.
        revision: branch, tag or commit of a hub id.
        decode: `exact`, or `published`: as the released Based code, which adds a decoded token's k v^T twice.
        **options: see `model_adapters.options.RunOptions`.

    Raises:
        JRTError: for anything unknown, missing or contradictory.
    """

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
        source = one_source(pretrained, path)
        folder = jrt_folder(source, feature_map, init, "based", revision)
        if has_prefix(folder):
            raise JRTError(
                f"{folder.name} is a JRT-RNN: it has prefix linear attention. Use --model jrt_rnn, "
                "with prefix=none to run it without a prefix."
            )
        place = run.place()
        model = jrt_model(folder, feature_map, init, place, {"decode": decode})
        tokenizer = jrt_tokenizer(folder, run.tokenizer, model)
        super().__init__(
            JRTEngine(model),
            tokenizer,
            policy=PrefixPolicy("none"),
            description=jrt_description(folder, model, init, source, revision),
            **run.run_arguments(place),
        )
