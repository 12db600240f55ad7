"""Where the files that come with the package lie, in a checkout and in a wheel."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from jrt_lmeval.errors import JRTError

OUTPUT: ContextVar[str | None] = ContextVar("OUTPUT", default=None)
"""`--output_path` of the run of lm_eval that was started last."""

MODEL: ContextVar[tuple[Mapping[str, Any], Any] | None] = ContextVar("MODEL", default=None)
"""`--model_args` and the tokenizer of the model of ours that lm_eval made last."""

_PACKAGE = Path(__file__).resolve().parent


def _top_level(*parts: str) -> Path:
    """A folder that stands beside the package in a checkout and inside it in a wheel."""
    inside = _PACKAGE.joinpath(*parts)
    return inside if inside.is_dir() else _PACKAGE.parent.joinpath(*parts)


def tasks_dir() -> Path:
    """The folder with the task YAML files, a sub-folder a benchmark."""
    return _top_level("tasks")


def published_dir() -> Path:
    """The folder with published numbers as YAML files."""
    return _top_level("results", "published")


def samples_dir() -> Path:
    """The folder with the small rows shipped for use without a network."""
    return _PACKAGE / "data" / "samples"


def weights_dir() -> Path:
    """The folder with the shipped trained models, a sub-folder a model."""
    return _PACKAGE / "checkpoints" / "weights"


def memories_dir() -> Path:
    """The folder with the shipped memory layers for Transformers, a sub-folder a model."""
    return _PACKAGE / "checkpoints" / "memories"


def tokenizer_dir(model: Path) -> Path:
    """The folder with a model's tokenizer: the model's own, or for a shipped model the one that all of them share."""
    return weights_dir() / "tokenizer" if model.parent == weights_dir() else model


def require_writable_output() -> None:
    """Raise JRTError where the `--output_path` of this run cannot be written; to be called before a model is loaded."""
    output = OUTPUT.get()
    if not output:
        return
    folder = Path(output).parent if Path(output).suffix == ".json" else Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise JRTError(
            f"--output_path {output}: results cannot be written there ({error.strerror or error}). Give a folder that "
            "can be written; nothing has run yet."
        ) from error
