"""Texts cut into tokens once for all questions that are asked on them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from jrt_lmeval.errors import JRTError
from jrt_lmeval.paths import weights_dir
from jrt_lmeval.prompts.gpt2 import gpt2_tokenizer
from jrt_lmeval.prompts.tokenizer_files import read_tokenizer

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

GPT2 = "gpt2"

# After one of these GPT-2 always starts a new token at a blank, whatever follows: there a text can be counted in parts.
_ENDS_A_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;)")


@lru_cache(maxsize=8)
def tokenizer_named(name: str) -> Tokenizer:
    """GPT-2's tokenizer, or that of a model: its folder, its name on the Hugging Face hub, or that of a shipped one.

    Raises:
        JRTError: no tokenizer there, or one that does not say which characters its tokens stand for.
    """
    if name == GPT2:
        return gpt2_tokenizer()
    shipped = weights_dir() / name
    why = (
        f"window tokenizer {name!r} cannot be loaded: it must be {GPT2!r}, a folder with a tokenizer.json, a shipped "
        "model or one of the Hugging Face hub"
    )
    tokenizer = read_tokenizer(str(shipped) if shipped.is_dir() else name, why, "name that folder as window.tokenizer")
    if not tokenizer.is_fast:
        raise JRTError(f"window tokenizer {name!r} has no tokenizer.json: windows need a fast tokenizer.")
    return tokenizer.backend_tokenizer


# Two: rows on one document follow each other, and one of five megabytes takes hundreds.
@lru_cache(maxsize=2)
def encoded(text: str, tokenizer: str = GPT2) -> Encoding:
    """`text` in tokens, kept for the next question on the same document.

    As published, special tokens (a BOS) that a tokenizer adds are counted; GPT-2 adds none.
    """
    return tokenizer_named(tokenizer).encode(text)


def tokens_before(text: str, end: int, tokenizer: str = GPT2) -> int:
    """Number of tokens of `text[:end]` standing alone; with GPT-2, only its last word is cut into tokens anew."""
    if tokenizer != GPT2:
        return len(tokenizer_named(tokenizer).encode(text[:end]))
    blank = text.rfind(" ", 0, end)
    while blank > 0 and text[blank - 1] not in _ENDS_A_WORD:
        blank = text.rfind(" ", 0, blank)
    blank = max(blank, 0)
    rest = gpt2_tokenizer().encode(text[blank:end], add_special_tokens=False)
    return ((encoded(text).char_to_token(blank) or 0) if blank else 0) + len(rest)


def token_span(text: str, start: int, end: int, tokenizer: str = GPT2) -> tuple[int, int]:
    """First token of `text`, and token after the last, that hold characters of `text[start:end]`, not empty."""
    found = [at for i in (start, end - 1) if (at := encoded(text, tokenizer).char_to_token(i)) is not None]
    # Some tokenizers keep no token for a blank; an answer that is all blanks is no answer.
    return (found[0], found[-1] + 1) if found else (0, 0)
