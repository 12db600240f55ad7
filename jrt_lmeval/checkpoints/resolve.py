"""From what a user wrote behind `pretrained=` to a folder on disk. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path

from jrt_lmeval.checkpoints.shipped import CONFIG, shipped_for, shipped_models
from jrt_lmeval.errors import JRTError, unknown

FEATURE_MAP_NAMES = ("taylor", "linear", "relu", "gelu", "elu", "square", "poly", "gaussian", "mlp", "hybrid")

PLAIN = ("*.json", "*.safetensors", "*.txt", "*.model")
PICKLED = ("pytorch_model*.bin",)
"""Files of a hub model that are fetched."""


def resolve_model(
    pretrained: str | None, feature_map: str = "mlp", family: str = "jrt_rnn", revision: str | None = None
) -> Path:
    """The folder of a model.

    Args:
        pretrained: name of a shipped model, a folder, or a hub id; None for the shipped model of `feature_map`.
        feature_map: only looked at when `pretrained` is None.
        family: `jrt_rnn` or `based`, for the message where nothing is shipped.
        revision: branch, tag or commit of a hub id.

    Raises:
        JRTError: unknown feature map; no shipped model for it; a folder that is not there or holds no model; a hub id
            that cannot be fetched.
    """
    if pretrained is None:
        return _shipped(feature_map, family)
    if pretrained in shipped_models():
        return shipped_models()[pretrained]
    folder = Path(pretrained).expanduser()
    if folder.is_dir():
        _check_folder(folder)
        return folder
    if folder.is_absolute() or pretrained.startswith((".", "~")) or pretrained.count("/") != 1:
        names = ", ".join(shipped_models()) or "none"
        raise JRTError(
            f"pretrained={pretrained}: no such folder. Give a folder that 'jrt-eval train' wrote, a hub id "
            f"(owner/name), or the name of a shipped model ({names})."
        )
    return _from_hub(pretrained, revision)


def _shipped(feature_map: str, family: str) -> Path:
    if feature_map not in FEATURE_MAP_NAMES:
        raise unknown("feature map", feature_map, FEATURE_MAP_NAMES)
    folder = shipped_for(feature_map) if family == "jrt_rnn" else None
    if folder is None:
        names = ", ".join(shipped_models()) or "none"
        wanted = f"feature_map={feature_map}" if family == "jrt_rnn" else family
        raise JRTError(
            f"no trained weights for {wanted} come with the package (shipped: {names}). "
            f"Train them with 'jrt-eval train --feature-map {feature_map} --out DIR' and give pretrained=DIR, "
            "or ask for untrained weights by name with init=random (chance level, for tests of the machinery only)."
        )
    return folder


def _check_folder(folder: Path) -> None:
    config = folder / CONFIG
    if not config.is_file():
        raise JRTError(
            f"{folder}: holds no {CONFIG}; a model folder has {CONFIG}, model.safetensors and tokenizer.json."
        )
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise JRTError(f"{config}: not readable as JSON ({error}).") from error
    if not isinstance(content, dict):
        raise JRTError(
            f"{config}: holds a JSON {type(content).__name__}; a configuration is an object of names and values."
        )


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(PLAIN)))
        if not any(folder.glob("model*.safetensors")):  # pickles only where there is nothing better
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*PLAIN, *PICKLED]))
    except Exception as error:  # no network, no such repository, no rights: to the user they are the same
        raise JRTError(
            f"pretrained={name}: neither a folder here nor to be had from the hub ({type(error).__name__}: {error}). "
            "Check the spelling, download the model beforehand and give its folder, or unset HF_HUB_OFFLINE."
        ) from error
    _check_folder(folder)
    return folder
