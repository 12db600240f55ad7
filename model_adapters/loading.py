"""Loading checkpoints without surprises: every weight comes from the file, or it is an error that names the weight."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from jrt_lmeval.errors import JRTError

log = logging.getLogger("lm_eval.jrt")


def one_source(pretrained: str | None, path: str | None) -> str | None:
    """`pretrained` and its alias `path` as one; None if neither is given.

    Raises:
        JRTError: the two differ.
    """
    if pretrained is not None and path is not None and str(pretrained) != str(path):
        raise JRTError(f"pretrained={pretrained!r} and path={path!r} name the same thing; give one of them.")
    source = path if pretrained is None else pretrained
    return None if source is None else os.path.expanduser(str(source))


def require_source(source: str | None, model: str, example: str) -> str:
    """The source, or a JRTError that shows how to give one; a path that leads nowhere is one as well."""
    if source is None:
        raise JRTError(f"--model {model} needs a checkpoint: --model_args pretrained={example}")
    check_folder(source)
    return source


def check_folder(source: str) -> None:
    """Raise JRTError if `source` is meant as a path but is no folder. What reads `owner/name` may be a hub id."""
    path = Path(source)
    if path.is_dir():
        return
    if path.is_file():
        raise JRTError(f"pretrained={source!r} is a file; give the folder it lies in (and gguf_file= for a GGUF file).")
    if not (source.startswith((".", "/", "\\")) or path.is_absolute() or len(path.parts) > 2):
        return
    siblings = [entry.name for entry in path.parent.iterdir() if entry.is_dir()] if path.parent.is_dir() else []
    near = get_close_matches(path.name, siblings, n=1)
    hint = f" Did you mean {str(path.parent / near[0])!r}?" if near else ""
    raise JRTError(f"pretrained={source!r}: no such folder.{hint}")


def model_type(source: str) -> str | None:
    """The `model_type` of a local checkpoint's config.json; None where there is none to read."""
    config = Path(source) / "config.json"
    if not config.is_file():
        return None
    try:
        return json.loads(config.read_text(encoding="utf-8")).get("model_type")
    except ValueError as error:
        raise JRTError(f"{config}: not valid JSON ({error}).") from error


def load_model(
    source: str, *, dtype: torch.dtype, device: torch.device, device_map: Any = None, **kwargs: Any
) -> torch.nn.Module:
    """Load a causal language model and insist that the checkpoint fills it exactly.

    Args:
        source: a folder or a hub id.
        dtype: number format of the weights.
        device: where to put the model, unless `device_map` does.
        device_map: passed on to transformers.
        **kwargs: passed on (revision, gguf_file, trust_remote_code, ...).

    Raises:
        JRTError: it cannot be read, or weights are missing, left over or of another shape; the message lists them.
    """
    if device_map is not None:
        kwargs["device_map"] = device_map
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs
        )
    except (OSError, ValueError, KeyError) as error:
        raise JRTError(f"cannot load a causal language model from {source!r}: {_first_lines(error)}") from error
    require_filled(source, report)
    return model if device_map is not None else model.to(device)


def require_filled(source: str, report: dict[str, Collection[Any]]) -> None:
    """Raise JRTError if transformers' loading report names any weight.

    A model with weights that were not in its file is partly random and would still answer.
    """
    kinds = {"missing_keys": "missing", "unexpected_keys": "unexpected", "mismatched_keys": "of another shape"}
    faults = []
    for key, what in kinds.items():
        names = sorted(str(name[0] if isinstance(name, (tuple, list)) else name) for name in report.get(key) or ())
        if names:
            more = f" and {len(names) - 10} more" if len(names) > 10 else ""
            faults.append(f"{len(names)} {what} ({', '.join(names[:10])}{more})")
    if faults:
        raise JRTError(
            f"the checkpoint {source!r} does not fit its config.json: {'; '.join(faults)}. It would run partly with "
            "random weights. Check that it is complete and that its model_type is right."
        )


def load_tokenizer(source: str, **kwargs: Any) -> Any:
    """Load a tokenizer.

    Raises:
        JRTError: there is none.
    """
    try:
        return AutoTokenizer.from_pretrained(source, **kwargs)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise JRTError(
            f"no tokenizer in {source!r}: {_first_lines(error)} Give tokenizer= a folder that has one (tokenizer.json)."
        ) from error


def _first_lines(error: Exception) -> str:
    return " ".join(str(error).split())[:400]
