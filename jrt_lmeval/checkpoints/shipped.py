"""The small trained models that come with the package. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path

from jrt_lmeval.paths import weights_dir

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def shipped_models() -> dict[str, Path]:
    """Name -> folder of every shipped model."""
    folders = sorted(weights_dir().glob("*")) if weights_dir().is_dir() else []
    return {folder.name: folder for folder in folders if (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()}


def shipped_for(feature_map: str) -> Path | None:
    """The shipped JRT-RNN that was trained with this feature map, or None."""
    for folder in shipped_models().values():
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if config.get("feature_map") == feature_map and "prefix_linear" in config.get("mixers", ()):
            return folder
    return None
