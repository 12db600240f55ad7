"""Text cut to a number of tokens, for controls that are as long as another prompt."""

from __future__ import annotations

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prompts.gpt2 import count_tokens, gpt2_tokenizer


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
