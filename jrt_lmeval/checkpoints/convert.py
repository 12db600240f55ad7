"""`jrt-eval convert SRC DST`: a released checkpoint or a shipped model as an ordinary Hugging Face folder."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from jrt_lmeval.checkpoints.found import CONFIG, Checkpoint, find
from jrt_lmeval.errors import JRTError
from jrt_lmeval.paths import tokenizer_dir, weights_dir

HOW = {
    "jrt": "import jrt_lmeval.modeling.model (it tells transformers of the model type), then "
    "AutoModelForCausalLM.from_pretrained; in lm_eval --model {name} or hf",
    "mamba": "AutoModelForCausalLM.from_pretrained; in lm_eval --model mamba or hf",
    "mamba2": "AutoModelForCausalLM.from_pretrained; in lm_eval --model mamba or hf",
    "llama": "AutoModelForCausalLM.from_pretrained; in lm_eval --model hf_recall or hf",
}
"""What loads the result, by its model type."""


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments.

    Returns:
        Exit status 0.

    Raises:
        JRTError: no such model, one that does not load whole, or a target that holds a model already.
    """
    parser = argparse.ArgumentParser(
        prog="jrt-eval convert",
        description="Write a released checkpoint (JRT, Based, attn or Mamba) or a shipped model as an ordinary Hugging "
        "Face model: config.json, model.safetensors and, if it can be had, the tokenizer.",
    )
    parser.add_argument(
        "source", metavar="SRC", help="a folder, a hub id (hazyresearch/JRT-360M-30B), or a shipped model"
    )
    parser.add_argument("target", metavar="DST", type=Path, help="the folder to write")
    parser.add_argument("--revision", help="branch, tag or commit of a hub id")
    parser.add_argument("--dtype", help="float32, bfloat16 or float16; by default as in the file")
    parser.add_argument("--tokenizer", help="a folder or hub id to take the tokenizer from")
    arguments = parser.parse_args(argv)
    lines = convert(arguments.source, arguments.target, arguments.revision, arguments.dtype, arguments.tokenizer)
    print("\n".join(lines))
    return 0


def convert(
    source: str,
    target: Path,
    revision: str | None = None,
    dtype: str | None = None,
    tokenizer: str | None = None,
) -> list[str]:
    """Convert one checkpoint; arguments as `main`'s.

    Returns:
        What there is to say about it, a line each.
    """
    from safetensors import SafetensorError

    from jrt_lmeval.checkpoints.load import as_dtype, load_model
    from jrt_lmeval.checkpoints.tokenizers import find_tokenizer, limit_to

    if (target / CONFIG).exists():
        raise JRTError(f"{target}: holds a model already; give another folder.")
    checkpoint = find(source, revision)
    if checkpoint.folder.parent == weights_dir() and dtype is None and tokenizer is None:
        return _copied(checkpoint, target)
    if checkpoint.family == "hf_recall":
        raise JRTError(f"{checkpoint.name}: is an ordinary Hugging Face model already; there is nothing to convert.")
    model = load_model(checkpoint, as_dtype(dtype))
    lines = [f"{type(model).__name__}, {sum(p.numel() for p in model.parameters()):,} parameters -> {target}"]
    found = None
    try:
        found = find_tokenizer(checkpoint, tokenizer)
        limit_to(model, found)
    except JRTError as error:
        if tokenizer is not None:
            raise
        found = None
        lines.append(f"without a tokenizer: {error}")
    try:
        model.save_pretrained(target)
        if found is not None:
            found.save_pretrained(target)
    except (OSError, SafetensorError) as error:
        # without its config.json nothing takes the folder for a model, and the next attempt may use it
        (target / CONFIG).unlink(missing_ok=True)
        raise JRTError(f"{target}: cannot be written ({error}); what is there is not a whole model.") from error
    return [*lines, _how(model.config.model_type, getattr(model, "has_prefix", False), target)]


def _copied(shipped: Checkpoint, target: Path) -> list[str]:
    """Write a shipped model with the tokenizer that all shipped models share."""
    target.mkdir(parents=True, exist_ok=True)
    files = [*tokenizer_dir(shipped.folder).iterdir(), *shipped.folder.iterdir()]
    try:
        for file in sorted(files, key=lambda file: file.name == CONFIG):  # without it nothing takes this for a model
            shutil.copyfile(file, target / file.name)
    except OSError as error:
        raise JRTError(f"{target}: cannot be written ({error}); what is there is not a whole model.") from error
    return [f"{shipped.name} -> {target}", _how(str(shipped.model_type), shipped.family == "jrt_rnn", target)]


def _how(model_type: str, has_prefix: bool, target: Path) -> str:
    how = HOW[model_type].format(name="jrt_rnn" if has_prefix else "based")
    return f"to load it: {how}, pretrained={target}"
