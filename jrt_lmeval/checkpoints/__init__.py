"""Where weights come from: the shipped models, local folders and the hub; loaded whole or not at all.

from jrt_lmeval.checkpoints import load_pretrained
model = load_pretrained("hazyresearch/JRT-1B-50B")  # or a folder, or the name of a shipped model
logits = model(input_ids).logits
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jrt_lmeval.checkpoints.load import load_pretrained

__all__ = ["load_pretrained"]


def __getattr__(name: str) -> Any:
    # resolving a name needs no torch, so importing this package must not either
    if name == "load_pretrained":
        from jrt_lmeval.checkpoints.load import load_pretrained

        return load_pretrained
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
