"""`--model mamba`: Mamba, Mamba-2 and FalconMamba through transformers, padding kept out of their state.

lm_eval's own `mamba_ssm` drops the attention mask, so that its answers change with the batch, and needs CUDA. This one
runs anywhere; where mamba-ssm and causal-conv1d are installed, transformers uses their kernels.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import Any

from jrt_lmeval.errors import JRTError
from model_adapters.hf_recall import HFRecall
from model_adapters.loading import model_type, one_source, require_source

log = logging.getLogger("lm_eval.jrt")

MODEL_TYPES = ("mamba", "mamba2", "falcon_mamba")


class Mamba(HFRecall):
    """A Mamba model for lm_eval. Arguments as :class:`~model_adapters.hf_recall.HFRecall`, GGUF files aside."""

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
        kind = model_type(source)
        if kind is not None and kind not in MODEL_TYPES:
            raise JRTError(
                f"pretrained={source!r} has model_type {kind!r}, not one of {', '.join(MODEL_TYPES)}; "
                "other Hugging Face models run with --model hf_recall."
            )
        super().__init__(source, None, revision, None, device_map, trust_remote_code, **options)
        kernels = self.device.type == "cuda" and find_spec("mamba_ssm") is not None
        log.info("Mamba runs on %s.", "mamba-ssm's CUDA kernels" if kernels else "PyTorch operations (slower)")
