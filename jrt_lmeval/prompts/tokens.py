"""Texts cut into tokens once for all questions that are asked on them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from jrt_lmeval.prompts.gpt2 import gpt2_tokenizer

if TYPE_CHECKING:
    from tokenizers import Encoding

# After one of these GPT-2 always starts a new token at a blank, whatever follows: there a text can be counted in parts.
_ENDS_A_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;)")


@lru_cache(maxsize=8)
def encoded(text: str) -> Encoding:
    """``text`` in GPT-2 tokens, kept for the next question on the same document."""
    return gpt2_tokenizer().encode(text, add_special_tokens=False)


def tokens_before(text: str, end: int) -> int:
    """Number of GPT-2 tokens of ``text[:end]`` standing alone; only its last word is cut into tokens anew."""
    blank = text.rfind(" ", 0, end)
    while blank > 0 and text[blank - 1] not in _ENDS_A_WORD:
        blank = text.rfind(" ", 0, blank)
    blank = max(blank, 0)
    rest = gpt2_tokenizer().encode(text[blank:end], add_special_tokens=False)
    return ((encoded(text).char_to_token(blank) or 0) if blank else 0) + len(rest)
