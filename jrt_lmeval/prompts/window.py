"""How a document is cut to a context length, in GPT-2 tokens whatever model reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.prompts.gpt2 import gpt2_tokenizer
from jrt_lmeval.prompts.tokens import encoded, tokens_before
from jrt_lmeval.scoring import contains

POLICIES = ("answer_centered", "head", "tail", "none")
WINDOW_KEYS = ("policy", "context_length", "answer_length", "clean_up_spaces")

_CLOSED_UP = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


@dataclass(frozen=True)
class Window:
    """How much of a document is read, and where.

    Attributes:
        policy: answer_centered (the published window: it knows where the answer stands), head, tail or none.
        context_length: tokens of one document copy plus ``answer_length``; None leaves every document whole.
        answer_length: tokens set aside for the answer, 50 as published. Question and lead are not counted.
        clean_up_spaces: close up spaces before punctuation in a cut document, as the tokenizers of the published
            release's time did when decoding (" ." becomes ".").
    """

    policy: str = "answer_centered"
    context_length: int | None = None
    answer_length: int = 50
    clean_up_spaces: bool = False

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise unknown("window policy", self.policy, POLICIES)
        for name in ("context_length", "answer_length"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise JRTError(f"window {name} must be a whole number of tokens, not {value!r}.")
        if self.answer_length is None:
            raise JRTError("window answer_length must be a whole number of tokens, not None.")
        if self.context_length is not None and self.context_length <= self.answer_length:
            raise JRTError(
                f"window context_length {self.context_length} leaves nothing for the document: "
                f"it must be above answer_length, {self.answer_length}."
            )

    @property
    def cuts(self) -> bool:
        """Whether documents are tokenised and cut at all."""
        return self.policy != "none" and self.context_length is not None


@dataclass(frozen=True)
class Cut:
    """A document as it will be read.

    Attributes:
        text: the text, or None if the row is dropped, as the published code does where a sought string is too short.
        counters: each 0 or 1. ``document_cut``: tokens were left out; ``answer_outside``: no accepted answer stands in
            the text; ``dropped``: there is no text.
    """

    text: str | None
    counters: dict[str, int | float]


def window_spec(mapping: Mapping[str, Any]) -> Window:
    """The window that a YAML mapping with the fields of ``Window`` describes.

    Raises:
        JRTError: unknown key or policy (with the nearest valid one), or a length out of range.
    """
    for key in mapping:
        if key not in WINDOW_KEYS:
            raise unknown("key of the window", key, WINDOW_KEYS)
    return Window(**mapping)


def cut(
    text: str,
    window: Window,
    labels: Sequence[str],
    sought: Sequence[str] = (),
    alternatives: Sequence[str] = (),
    token_position: int | None = None,
) -> Cut:
    """Cut a document to its window.

    The answer-centred window is the published one. It is placed around the first place, letter case aside, at which any
    ``sought`` string stands; else around the first ``alternatives`` entry that stands anywhere; else at
    ``token_position`` if the document is longer than the window; else at the end. Nothing sought means the head. Half
    of the window lies before the place, and near the end of a document it is not moved back, so it can be half empty.

    Args:
        text: the whole field, ends not stripped.
        window: where and how much.
        labels: the accepted answers, only for the counter ``answer_outside``.
        sought: strings that place the answer-centred window.
        alternatives: tried in order where no sought string is found.
        token_position: where the answer is said to be, in tokens.
    """
    if not window.cuts:
        return _counted(text, False, labels)
    assert window.context_length is not None
    size = window.context_length - window.answer_length
    text = text.strip()
    ids = encoded(text).ids
    if window.policy == "head":
        start = 0
    elif window.policy == "tail":
        start = max(0, len(ids) - size)
    else:
        if any(len(string) <= 1 for string in sought):
            return Cut(None, {"document_cut": 0, "answer_outside": 0, "dropped": 1})
        start = max(0, _place(text, size, sought, alternatives, token_position) - size // 2)
    end = min(len(ids), start + size)
    read = gpt2_tokenizer().decode(ids[start:end], skip_special_tokens=True)
    if window.clean_up_spaces:
        read = _close_up(read)
    return _counted(read, start > 0 or end < len(ids), labels)


def _place(text: str, size: int, sought: Sequence[str], alternatives: Sequence[str], token_position: int | None) -> int:
    """The token around which the window lies."""
    if not sought:
        return 0
    found = [match.start() for string in sought if (match := _find(string, text))]
    if not found:
        found = [match.start() for string in alternatives if (match := _find(string, text))][:1]
    if found:
        return tokens_before(text, min(found))
    # The published code slices up to position -1 here, which leaves out the last character.
    end = tokens_before(text, max(0, len(text) - 1))
    return token_position if token_position is not None and end > size else end


def _find(string: str, text: str) -> re.Match[str] | None:
    return re.search(re.escape(string), text, re.IGNORECASE)


def _close_up(text: str) -> str:
    for mark in _CLOSED_UP:
        text = text.replace(mark, mark.strip())
    return text


def _counted(text: str, was_cut: bool, labels: Sequence[str]) -> Cut:
    outside = not contains(text, labels)
    return Cut(text, {"document_cut": int(was_cut), "answer_outside": int(outside), "dropped": 0})
