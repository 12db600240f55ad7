"""`--model mamba`: Mamba, Mamba-2 and FalconMamba through transformers, padding kept out of their state.

lm_eval's own `mamba_ssm` drops the attention mask, so that its answers change with the batch, and needs CUDA. This one
runs anywhere; where mamba-ssm and causal-conv1d are installed, transformers uses their kernels.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import Any

from jrt_lmeval.checkpoints.found import MAMBA_SSM, MAMBAS, Checkpoint
from jrt_lmeval.errors import JRTError
from model_adapters.hf_recall import HFRecall

log = logging.getLogger("lm_eval.jrt")

KERNELS = ("mamba_ssm", "causal_conv1d")


class Mamba(HFRecall):
    """A Mamba model for lm_eval, in transformers' layout or in that of mamba-ssm (`state-spaces/mamba-*`, Hazy
    Research's). Arguments as `HFRecall`, GGUF files aside; by default the shipped Mamba."""

    family = "mamba"

    def __init__(
        self,
        pretrained: str | None = None,
        path: str | None = None,
        revision: str | None = None,
        device_map: Any = None,
        trust_remote_code: bool = False,
        **options: Any,
    ):
        super().__init__(pretrained, path, revision, None, device_map, trust_remote_code, **options)
        missing = [package for package in KERNELS if find_spec(package) is None]
        if self.device.type == "cuda" and missing:
            log.warning(
                "Mamba runs on CUDA without %s: transformers then scans token by token in Python, far slower than the "
                "fused kernels, with the same answers. 'pip install %s' gets them.",
                " and ".join(missing),
                " ".join(name.replace("_", "-") for name in missing),
            )

    def check_family(self, checkpoint: Checkpoint) -> None:
        """Raise JRTError where the checkpoint is no Mamba."""
        if checkpoint.kind != MAMBA_SSM and checkpoint.model_type not in MAMBAS:
            raise JRTError(
                f"pretrained={checkpoint.name!r} has model_type {checkpoint.model_type!r}, not one of "
                f"{', '.join(MAMBAS)}; other Hugging Face models run with --model hf_recall."
            )
