"""How a document is cut to a context length, by default in GPT-2 tokens whatever model reads it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jrt_lmeval.answers import find, readable, stands
from jrt_lmeval.errors import JRTError, one_of, unknown, whole_number
from jrt_lmeval.prompts.tokens import GPT2, encoded, token_span, tokenizer_named, tokens_before

POLICIES = ("answer_centered", "head", "tail", "none", "answer_at")
WINDOW_KEYS = ("policy", "context_length", "answer_length", "clean_up_spaces", "answer_at", "seed", "tokenizer")
RANDOM = "random"

_CLOSED_UP = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


@dataclass(frozen=True)
class Window:
    """How much of a document is read, and where.

    Attributes:
        policy: answer_centered (the published window: it knows where the answer stands), head, tail, none, or
            answer_at, which places the answer at a chosen depth.
        context_length: tokens of one document copy plus `answer_length`; None leaves every document whole.
        answer_length: tokens set aside for the answer, 50 as published. Question and lead are not counted.
        clean_up_spaces: close up spaces before punctuation in a cut document, as the tokenizers of the published
            release's time did when decoding (" ." becomes ".").
        answer_at: with policy answer_at, the depth of the answer, 0 to 1. The answer is the first place where a label
            stands, the labels tried in order. With w tokens in the window and n in the answer, round(depth * (w - n))
            tokens of the window lie before it: at 0 the window starts with the answer, at 1 it ends with it. The window
            keeps its size: where the document has too little text on one side, it is moved, and the row is counted.
            `random`: each of the windows that hold the answer is as likely as the others; which one is drawn depends on
            `seed`, the text and the answers alone, so that all layouts and models read the same.
        seed: of `answer_at: random`.
        tokenizer: in whose tokens all this is counted: gpt2, or a folder or hub name of a model.
    """

    policy: str = "answer_centered"
    context_length: int | None = None
    answer_length: int = 50
    clean_up_spaces: bool = False
    answer_at: float | str | None = None
    seed: int = 0
    tokenizer: str = GPT2

    def __post_init__(self) -> None:
        one_of("window policy", self.policy, POLICIES)
        if not isinstance(self.tokenizer, str) or not self.tokenizer:
            raise JRTError(f"window tokenizer must be {GPT2!r} or the name of a model, not {self.tokenizer!r}.")
        if (self.policy == "answer_at") != (self.answer_at is not None):
            raise JRTError(
                "window policy 'answer_at' needs the depth of the answer, 0 to 1, such as {answer_at: 0.5}, or random."
                if self.answer_at is None
                else f"window answer_at: {self.answer_at!r} needs policy 'answer_at', not {self.policy!r}."
            )
        depth = self.answer_at
        if depth not in (None, RANDOM) and (
            isinstance(depth, bool) or not isinstance(depth, (int, float)) or not 0 <= depth <= 1
        ):
            raise JRTError(
                f"window answer_at must be a depth from 0 (start) to 1 (end of the window), or random, not {depth!r}."
            )
        whole_number("window seed", self.seed, least=0)
        whole_number("window answer_length", self.answer_length, least=0)
        if (
            self.context_length is not None
            and whole_number("window context_length", self.context_length, least=0) <= self.answer_length
        ):
            raise JRTError(
                f"window context_length {self.context_length} leaves nothing for the document: "
                f"it must be above answer_length, {self.answer_length}."
            )

    @property
    def cuts(self) -> bool:
        """Whether documents are tokenised and cut at all."""
        return self.policy != "none" and self.context_length is not None

    @property
    def published(self) -> bool:
        """Whether it is one of the published code's: the answer-centred one, or none."""
        return self.policy == "answer_centered" or not self.cuts

    def drops(self, sought: Sequence[str]) -> bool:
        """Whether a row is left out, as the published code does where a string that places the window is too short."""
        return self.cuts and self.policy == "answer_centered" and any(len(string) <= 1 for string in sought)


@dataclass(frozen=True)
class Cut:
    """A document as it will be read.

    Attributes:
        text: the text, or None if the row is dropped, as the published code does where a sought string is too short.
        counters: each 0 or 1. `document_cut`: tokens were left out; `answer_outside`: no accepted answer stands in
            the text; `dropped`: there is no text; with policy answer_at also `answer_displaced`: the answer stands
            at another depth than asked for, or nowhere.
    """

    text: str | None
    counters: dict[str, int | float]


def window_spec(mapping: Mapping[str, Any]) -> Window:
    """The window that a YAML mapping with the fields of `Window` describes.

    `answer_at` alone stands for its policy too.

    Raises:
        JRTError: unknown key or policy (with the nearest valid one), a value out of range, or a setting that the window
            does not read.
    """
    for key in mapping:
        if key not in WINDOW_KEYS:
            raise unknown("key of the window", key, WINDOW_KEYS)
    given = {key: value for key, value in mapping.items() if value is not None}
    policy = {"policy": "answer_at"} if "answer_at" in given and "policy" not in given else {}
    window = Window(**{**mapping, **policy})
    for key in given:
        if window.policy == "none" and key != "policy":
            raise JRTError(f"window.{key}: {given[key]} has no effect with policy 'none', which cuts nothing.")
        if not window.cuts and window.policy != "none":
            raise JRTError(f"window.{key}: {given[key]} has no effect: it needs context_length, the tokens to cut to.")
        if key == "seed" and window.answer_at != RANDOM:
            raise JRTError(f"window.seed: {window.seed} has no effect: it needs answer_at: random.")
    return window


def overlaid(below: Any, above: Any) -> Any:
    """A YAML mapping of a window laid over another: what it says of the place puts out of use what the other says."""
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    if above.get("policy") == "none" or ("context_length" in above and above["context_length"] is None):
        return dict(above)
    out: set[str] = set()
    if above.get("answer_at") is not None:
        out = {"policy"} if above["answer_at"] == RANDOM else {"policy", "seed"}
    elif above.get("policy") is not None:
        out = {"answer_at", "seed"}
    return {key: value for key, value in below.items() if key not in out} | dict(above)


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
    `sought` string stands; else around the first `alternatives` entry that stands anywhere; else at
    `token_position` if the document is longer than the window; else at the end. Nothing sought means the head. Half
    of the window lies before the place, and near the end of a document it is not moved back, so it can be half empty.

    Args:
        text: the whole field, ends not stripped.
        window: where and how much.
        labels: the accepted answers, only for the counter `answer_outside`.
        sought: strings that place the answer-centred window.
        alternatives: tried in order where no sought string is found.
        token_position: where the answer is said to be, in tokens.
    """
    if not window.cuts:
        return _counted(text, False, labels)
    assert window.context_length is not None
    if window.drops(sought):
        return Cut(None, {"document_cut": 0, "answer_outside": 0, "dropped": 1})
    size = window.context_length - window.answer_length
    text = text.strip()
    ids = encoded(text, window.tokenizer).ids
    start = 0
    displaced: dict[str, int | float] = {}
    if window.policy == "tail":
        start = max(0, len(ids) - size)
    elif window.policy == "answer_at":
        start, displaced = _start_at(text, window, len(ids), size, (*labels, *alternatives))
    elif window.policy == "answer_centered":
        place = _place(text, window.tokenizer, size, sought, alternatives, token_position)
        start = max(0, place - size // 2)
    end = min(len(ids), start + size)
    was_cut = start > 0 or end < len(ids)
    own = _decoded(text, window.tokenizer, start, end) if was_cut else text
    # As published, a text that spells a special token, such as <|endoftext|>, loses it.
    read = tokenizer_named(window.tokenizer).decode(ids[start:end]) if window.published else own
    if window.published and read != own:
        was_cut = was_cut or _without_space(read) != _without_space(own)
    if window.clean_up_spaces:
        read = _close_up(read)
    cut_out = _counted(read, was_cut, labels)
    return Cut(cut_out.text, {**cut_out.counters, **displaced})


def _place(
    text: str,
    tokenizer: str,
    size: int,
    sought: Sequence[str],
    alternatives: Sequence[str],
    token_position: int | None,
) -> int:
    """The token around which the published window lies."""
    if not sought:
        return 0
    found = [span[0] for string in sought if (span := find(string, text))]
    if not found:
        found = [span[0] for string in alternatives if (span := find(string, text))][:1]
    if found:
        return tokens_before(text, min(found), tokenizer)
    # The published code slices up to position -1 here, which leaves out the last character.
    end = tokens_before(text, max(0, len(text) - 1), tokenizer)
    return token_position if token_position is not None and end > size else end


def _start_at(
    text: str, window: Window, length: int, size: int, answers: Sequence[str]
) -> tuple[int, dict[str, int | float]]:
    """First token of the window that has the answer at its depth, or as near to it as the document allows."""
    span = next((span for answer in readable(answers) if (span := find(answer, text))), None)
    if span is None:
        return 0, {"answer_displaced": 1}
    first, last = token_span(text, *span, window.tokenizer)
    size = min(size, length)
    if window.answer_at == RANDOM:
        lowest, highest = max(0, last - size), min(first, length - size)
        draw = random.Random(f"{window.seed}|{list(answers)}|{text}")
        # An answer longer than the window is read from its start.
        return (draw.randint(lowest, highest) if lowest <= highest else first), {"answer_displaced": 0}
    assert isinstance(window.answer_at, (int, float))
    wanted = first - round(window.answer_at * max(0, size - (last - first)))
    start = min(max(0, wanted), length - size)
    return start, {"answer_displaced": int(start != wanted)}


def _decoded(text: str, tokenizer: str, start: int, end: int) -> str:
    """The text of some of its tokens; only those that the tokenizer added, such as a BOS, are left out."""
    encoding = encoded(text, tokenizer)
    added = encoding.special_tokens_mask[start:end]
    ids = [token for token, is_added in zip(encoding.ids[start:end], added, strict=True) if not is_added]
    return tokenizer_named(tokenizer).decode(ids, skip_special_tokens=False)


def _without_space(text: str) -> str:
    return "".join(text.split())


def _close_up(text: str) -> str:
    for mark in _CLOSED_UP:
        text = text.replace(mark, mark.strip())
    return text


def _counted(text: str, was_cut: bool, labels: Sequence[str]) -> Cut:
    return Cut(text, {"document_cut": int(was_cut), "answer_outside": int(not stands(labels, text)), "dropped": 0})
