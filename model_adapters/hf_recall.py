"""`--model hf_recall`: any Hugging Face causal language model, with this package's batching, reuse and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from jrt_lmeval.checkpoints.released.load import released_kind
from jrt_lmeval.errors import JRTError
from model_adapters.engines.hf import HFEngine
from model_adapters.lm import RecallLM
from model_adapters.loading import load_model, load_tokenizer, model_type, one_source, require_source
from model_adapters.options import RunOptions

JRT_TYPE = "jrt"


class HFRecall(RecallLM):
    """A Llama-like (or any other) baseline for lm_eval.

    Args:
        pretrained: a folder or a hub id.
        path: the same as `pretrained`.
        revision: branch, tag or commit on the hub.
        gguf_file: name of a GGUF file in `pretrained`.
        device_map: passed to transformers, such as `auto` to spread a model over GPUs.
        trust_remote_code: run code that comes with the checkpoint. Only for checkpoints you have read.
        **options: see `model_adapters.options.RunOptions`.

    Raises:
        JRTError: for anything unknown or missing, and for a checkpoint that does not fill the model.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        path: str | None = None,
        revision: str | None = None,
        gguf_file: str | None = None,
        device_map: Any = None,
        trust_remote_code: bool = False,
        **options: Any,
    ):
        run = RunOptions.read(type(self).__init__, options)
        source = require_source(one_source(pretrained, path), "hf_recall", "FOLDER (or a hub id)")
        if Path(source, "config.json").is_file() and released_kind(Path(source)) == "jrt":
            raise JRTError(f"pretrained={source!r} is a released JRT, Based or attn checkpoint; use --model jrt_rnn.")
        if model_type(source) == JRT_TYPE:
            raise JRTError(f"pretrained={source!r} is a model of this package; use --model jrt_rnn or --model based.")
        place = run.place()
        hub: dict[str, Any] = {"revision": revision, "gguf_file": gguf_file}
        hub = {name: value for name, value in hub.items() if value is not None}
        model = self.load_weights(
            source,
            dtype=place.dtype,
            device=place.device,
            device_map=device_map,
            trust_remote_code=trust_remote_code,
            **hub,
        )
        if run.add_bos_token is not None:
            hub["add_bos_token"] = run.add_bos_token
        if run.tokenizer:
            tokenizer = load_tokenizer(run.tokenizer, trust_remote_code=trust_remote_code)
        else:
            tokenizer = self.own_tokenizer(source, trust_remote_code=trust_remote_code, **hub)
        description = {"pretrained": source, "revision": revision, "gguf_file": gguf_file, "init": "trained"}
        super().__init__(HFEngine(model), tokenizer, description=description, **run.run_arguments(place))

    def load_weights(self, source: str, **options: Any) -> torch.nn.Module:
        """The model; arguments of `model_adapters.loading.load_model`."""
        return load_model(source, **options)

    def own_tokenizer(self, source: str, **options: Any) -> Any:
        """The tokenizer that comes with the model."""
        return load_tokenizer(source, **options)
