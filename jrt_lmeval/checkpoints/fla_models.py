"""Checkpoints of flash-linear-attention: its models register themselves with transformers once `fla` is imported."""

from __future__ import annotations

import os
from importlib import import_module

import torch

from jrt_lmeval.errors import JRTError

FLA_TYPES = frozenset(
    "abc cat comba cyclic_flow_attention delta_net deltaformer forgetting_transformer gated_deltanet "
    "gated_deltaproduct gla gsa hgrn hgrn2 kda lightnet linear_attn log_linear_mamba2 mamba3 mesa_net mla moba mom nsa "
    "parallax path_attn precond_gated_deltanet precond_kda raven retnet rodimus rwkv6 rwkv7 samba stickbreaking_attn "
    "transformer wall_transformer yoco".split()
)
"""Its `model_type`s (0.6.0), those that transformers has as well left out."""


def register_fla(name: str, model_type: str, device: str | torch.device) -> None:
    """Let transformers know fla's models.

    Raises:
        JRTError: flash-linear-attention is not installed, or the model is to run without a GPU, which its kernels need.
    """
    try:
        import_module("fla")
    except ImportError as error:
        raise JRTError(
            f"pretrained={name!r} has model_type {model_type!r}, a model of flash-linear-attention, which cannot be "
            f"imported ({error}). Install it: pip install 'jrt-lmeval[fla]'"
        ) from error
    if torch.device(device).type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        raise JRTError(
            f"pretrained={name!r} has model_type {model_type!r}: the kernels of flash-linear-attention run on a GPU "
            "alone, and this is a CPU."
        )
