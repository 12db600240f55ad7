"""Lists of words and phrases of our own, from which pages and needles are made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def words(text: str) -> tuple[str, ...]:
    """The entries of a list written as text: between `;` if there are any, else between spaces."""
    return tuple(text.split(";" if ";" in text else None))


def read_yaml(file: str) -> dict[str, Any]:
    """A YAML file of the folder `making`."""
    return yaml.safe_load((Path(__file__).parent / "making" / file).read_text(encoding="utf-8"))


def read_lists(file: str) -> dict[str, Any]:
    """A YAML file of the folder `making`, in which a text stands for the list of its words."""
    return {name: words(entry) if isinstance(entry, str) else entry for name, entry in read_yaml(file).items()}


LISTS = read_lists("words.yaml")
"""Name -> words or phrases."""
