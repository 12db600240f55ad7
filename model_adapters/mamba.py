"""`--model mamba`: Mamba, Mamba-2 and FalconMamba through transformers, padding kept out of their state.

lm_eval's own `mamba_ssm` drops the attention mask, so that its answers change with the batch, and needs CUDA. This one
runs anywhere; where mamba-ssm and causal-conv1d are installed, transformers uses their kernels.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from jrt_lmeval.checkpoints.released.load import load_mamba, released_kind
from jrt_lmeval.checkpoints.resolve import resolve_model
from jrt_lmeval.checkpoints.tokenizers import find_tokenizer
from jrt_lmeval.errors import JRTError
from model_adapters.hf_recall import HFRecall
from model_adapters.loading import model_type, one_source, require_source

log = logging.getLogger("lm_eval.jrt")

KERNELS = ("mamba_ssm", "causal_conv1d")
MODEL_TYPES = ("mamba", "mamba2", "falcon_mamba")


class Mamba(HFRecall):
    """A Mamba model for lm_eval, in transformers' layout or in that of mamba-ssm (`state-spaces/mamba-*`, Hazy
    Research's). Arguments as `HFRecall`, GGUF files aside."""

    def __init__(
        self,
        pretrained: str | None = None,
        path: str | None = None,
        revision: str | None = None,
        device_map: Any = None,
        trust_remote_code: bool = False,
        **options: Any,
    ):
        source = require_source(
            one_source(pretrained, path), "mamba", "FOLDER (or a hub id such as state-spaces/mamba-130m-hf)"
        )
        named = {"pretrained": source, "revision": revision}
        if not Path(source).is_dir():  # only its files tell which layout it has
            source, revision = str(resolve_model(source, revision=revision)), None
        kind = None if released(source) else model_type(source)
        if kind is not None and kind not in MODEL_TYPES:
            raise JRTError(
                f"pretrained={source!r} has model_type {kind!r}, not one of {', '.join(MODEL_TYPES)}; "
                "other Hugging Face models run with --model hf_recall."
            )
        super().__init__(source, None, revision, None, device_map, trust_remote_code, **options)
        self.description.update(named)
        missing = [package for package in KERNELS if find_spec(package) is None]
        if self.device.type == "cuda" and missing:
            log.warning(
                "Mamba runs on CUDA without %s: transformers then scans token by token in Python, far slower than the "
                "fused kernels, with the same answers. 'pip install %s' gets them.",
                " and ".join(missing),
                " ".join(name.replace("_", "-") for name in missing),
            )

    def load_weights(self, source: str, **options: Any) -> torch.nn.Module:
        if not released(source):
            return super().load_weights(source, **options)
        if options.get("device_map") is not None:
            raise JRTError(
                f"device_map: {source} is in mamba-ssm's layout, which is loaded to one device. Convert it first: "
                "jrt-eval convert SRC DST"
            )
        return load_mamba(Path(source), options["dtype"], options["device"])

    def own_tokenizer(self, source: str, **options: Any) -> Any:
        return find_tokenizer(Path(source)) if released(source) else super().own_tokenizer(source, **options)


def released(source: str) -> bool:
    """Whether a folder holds a Mamba in mamba-ssm's layout."""
    return Path(source, "config.json").is_file() and released_kind(Path(source)) == "mamba"
