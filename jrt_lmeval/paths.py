"""Where the files that come with the package lie, in a checkout and in a wheel."""

from __future__ import annotations

from pathlib import Path

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
