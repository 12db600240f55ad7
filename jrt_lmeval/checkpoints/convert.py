"""`jrt-eval convert SRC DST`: a released checkpoint or a shipped model as an ordinary Hugging Face folder."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jrt_lmeval.checkpoints.found import CONFIG, HAZY, OURS, RETROFIT, find
from jrt_lmeval.errors import JRTError
from jrt_lmeval.paths import tokenizer_dir, weights_dir


def main(argv: Sequence[str]) -> int:
    """Run the command; returns exit status 0."""
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
    """Convert one checkpoint; arguments as the command's. Returns what there is to say about it, a line each.

    Raises:
        JRTError: no such model, one that does not load whole, or a target that holds a model already.
    """
    from safetensors import SafetensorError

    from jrt_lmeval.checkpoints.load import as_dtype, load_model
    from jrt_lmeval.checkpoints.tokenizers import find_tokenizer, limit_to, warn_of_misfit

    if (target / CONFIG).exists():
        raise JRTError(f"{target}: holds a model already; give another folder.")
    checkpoint = find(source, revision)
    shipped = checkpoint.folder.parent == weights_dir() and dtype is None and tokenizer is None
    try:
        if shipped:
            target.mkdir(parents=True, exist_ok=True)
            files = [*tokenizer_dir(checkpoint.folder).iterdir(), *checkpoint.folder.iterdir()]
            for file in sorted(files, key=lambda file: file.name == CONFIG):
                shutil.copyfile(file, target / file.name)
            return [f"{checkpoint.name} -> {target}", _how(str(checkpoint.family), checkpoint.kind == OURS, target)]
        if checkpoint.family == "hf_recall" or checkpoint.kind == RETROFIT:
            raise JRTError(
                f"{checkpoint.name}: is an ordinary Hugging Face model already; there is nothing to convert."
            )
        model = load_model(checkpoint, as_dtype(dtype))
        lines = [f"{type(model).__name__}, {sum(p.numel() for p in model.parameters()):,} parameters -> {target}"]
        try:
            found = find_tokenizer(checkpoint, tokenizer)
            warn_of_misfit(found, model.config.vocab_size)
            limit_to(model, found)
            _write_tokenizer(found, target)
        except JRTError as error:
            if tokenizer is not None:
                raise
            lines.append(f"without a tokenizer: {error}")
        model.save_pretrained(target)
    except (OSError, SafetensorError) as error:
        # without its config.json nothing takes the folder for a model, and the next attempt may use it
        (target / CONFIG).unlink(missing_ok=True)
        raise JRTError(f"{target}: cannot be written ({error}); what is there is not a whole model.") from error
    family = checkpoint.family or ("jrt_rnn" if model.has_prefix else "based")
    return [*lines, _how(family, checkpoint.kind in (OURS, HAZY), target)]


def _write_tokenizer(tokenizer: Any, target: Path) -> None:
    try:
        tokenizer.save_pretrained(target)
    except Exception as error:  # the tokenizers library raises bare exceptions
        raise OSError(str(error)) from error


def _how(family: str, ours: bool, target: Path) -> str:
    first = "import jrt_lmeval.modeling.model (it tells transformers of the model type), then " if ours else ""
    return (
        f"to load it: {first}AutoModelForCausalLM.from_pretrained; in lm_eval --model {family} or hf, "
        f"pretrained={target}"
    )
