"""Cuts a document into paragraphs and sentences, of which neighbours may overlap.

Every segment is a slice of the document. Without their overlap the segments cover every word of it once, in order.

* A sentence is what the `sentencex` splitter finds within one line; a newline always ends a sentence. A piece of one or
  two words ("J.", "No!") is joined to the piece that follows on its line. A piece of more than `SENTENCE_WORDS` words,
  as flattened tables and menus have, is cut after a comma or semicolon, or between words if there is none.
* A paragraph consists of whole sentences. Blank lines separate paragraphs. Consecutive short lines, such as those of a
  fact sheet, a menu, or a heading and its text, are joined until they have about `PARAGRAPH_WORDS` words, or a third of
  the document's words if that is less. A line of up to twice that length stays whole. A longer line, and the only line
  of a flattened page, is cut into windows of consecutive sentences.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from jrt_lmeval.errors import one_of, whole_number
from jrt_lmeval.prompts.tokens import count_tokens, gpt2_tokenizer

LEVELS = ("document", "paragraph", "sentence")
"""The names of the levels, from coarse to fine."""

MOST_REPEATS = 100
"""The most copies of a document or of a pass. A prompt of more would fill the memory before any model reads it."""

SENTENCE_WORDS = 40
SHORT_WORDS = 3
PARAGRAPH_WORDS = 60
HEADING_WORDS = 12

_WORD = re.compile(r"\S+")
_CLAUSE_ENDS = (",", ";", ',"', ';"')

Span = tuple[int, int]


@dataclass(frozen=True)
class Level:
    """One level of a document.

    Attributes:
        name: document, paragraph or sentence.
        repeats: how often the pass over this level is written.
    """

    name: str
    repeats: int = 1

    def __post_init__(self) -> None:
        one_of("level", self.name, LEVELS)
        whole_number(f"repeats of level {self.name}", self.repeats, most=MOST_REPEATS)


@dataclass(frozen=True)
class Segment:
    """One segment of a level.

    Attributes:
        text: the text that is sent to the model, including the overlap in front of it. It is not blank and has no
            white space at its ends.
        core: the text without the overlap.
        tokens: the number of GPT-2 tokens of `text`.
    """

    text: str
    core: str
    tokens: int


@dataclass(frozen=True)
class _Piece:
    words: tuple[Span, ...]
    ends_line: bool
    ends_block: bool


def _sentences_of_line(line: str) -> list[int]:
    """The lengths of the sentences of one line, which add up to the length of the line."""
    from sentencex import segment

    pieces = segment("en", line)
    return [len(piece) for piece in pieces] if "".join(pieces) == line else [len(line)]


def _cut_long(text: str, words: list[Span]) -> Iterator[list[Span]]:
    """Cut words into pieces of at most `SENTENCE_WORDS`, if possible after a comma in the second half of a piece."""
    while len(words) > SENTENCE_WORDS:
        # Two halves of equal length are better than forty words and a rest of three.
        room = min(SENTENCE_WORDS, (len(words) + 1) // 2)
        clause = [i for i in range(room // 2, room) if text[words[i][0] : words[i][1]].endswith(_CLAUSE_ENDS)]
        cut = clause[-1] + 1 if clause else room
        yield words[:cut]
        words = words[cut:]
    yield words


def _line_pieces(text: str, start: int, end: int) -> list[list[Span]]:
    """The sentences of the line `text[start:end]`, each as the spans of its words."""
    words = [(start + m.start(), start + m.end()) for m in _WORD.finditer(text[start:end])]
    pieces: list[list[Span]] = []
    held: list[Span] = []
    boundary, done = start, 0
    for length in _sentences_of_line(text[start:end]):
        boundary += length
        # Words are never cut: one that lies across a boundary belongs to the sentence in which it ends.
        while done < len(words) and words[done][1] <= boundary:
            held.append(words[done])
            done += 1
        if len(held) >= SHORT_WORDS:
            pieces.append(held)
            held = []
    held += words[done:]
    if held and pieces and len(held) < SHORT_WORDS:
        pieces[-1] = pieces[-1] + held
    elif held:
        pieces.append(held)
    return [part for piece in pieces for part in _cut_long(text, piece)]


def _pieces(text: str) -> list[_Piece]:
    """The sentences of a document, with whether a line or a block of lines ends with each."""
    found: list[_Piece] = []
    position = 0
    for line in text.splitlines(keepends=True):
        parts = _line_pieces(text, position, position + len(line))
        position += len(line)
        if parts:
            found += [_Piece(tuple(part), ends_line=False, ends_block=False) for part in parts[:-1]]
            found.append(_Piece(tuple(parts[-1]), ends_line=True, ends_block=False))
        elif found:
            found[-1] = _Piece(found[-1].words, ends_line=True, ends_block=True)
    return found


def _paragraphs(pieces: list[_Piece]) -> list[list[_Piece]]:
    """Join sentences to paragraphs by the rule in the docstring of this module."""
    enough = max(HEADING_WORDS, min(PARAGRAPH_WORDS, _length(pieces) // 3))
    lines: list[list[_Piece]] = [[]]
    for piece in pieces:
        lines[-1].append(piece)
        if piece.ends_line:
            lines.append([])
    lines = [line for line in lines if line]
    groups: list[list[_Piece]] = []
    group: list[_Piece] = []

    def close() -> None:
        nonlocal group
        if group:
            groups.append(group)
        group = []

    for line in lines:
        length = _length(line)
        windowed = len(lines) == 1 or length > 2 * enough
        if group and _length(group) >= HEADING_WORDS and _length(group) + length > 2 * enough:
            close()
        for piece in line:
            group.append(piece)
            if windowed and _length(group) >= enough:
                close()
        if _length(group) >= (HEADING_WORDS if line[-1].ends_block else enough):
            close()
    if groups and _length(group) < HEADING_WORDS:
        groups[-1] = groups[-1] + group
    else:
        close()
    return groups


def _length(pieces: list[_Piece]) -> int:
    return sum(len(piece.words) for piece in pieces)


@lru_cache(maxsize=64)
def _level_words(document: str) -> dict[str, list[list[Span]]]:
    pieces = _pieces(document)
    return {
        "sentence": [list(piece.words) for piece in pieces],
        "paragraph": [[word for piece in group for word in piece.words] for group in _paragraphs(pieces)],
    }


@lru_cache(maxsize=256)
def segments(document: str, level: str, overlap: float = 0.0) -> tuple[Segment, ...]:
    """The segments of one level, in document order.

    Args:
        document: any text that is not blank.
        level: one of `LEVELS`. The level `document` has one segment, which is the unchanged document.
        overlap: the share of the preceding segment's words, 0 to below 1, that a segment repeats in front of its own.
            These are `round(overlap * words)` whole words, where `words` does not count the overlap of that segment.

    Raises:
        JRTError: unknown level.
    """
    one_of("level", level, LEVELS)
    if level == "document":
        return (Segment(document, document, count_tokens(document)),)
    found: list[Segment] = []
    before: list[Span] = []
    for words in _level_words(document)[level]:
        shared = round(overlap * len(before))
        start, end = words[0][0], words[-1][1]
        text = document[before[-shared][0] if shared else start : end]
        found.append(Segment(text, document[start:end], count_tokens(text)))
        before = words
    return tuple(found)


@lru_cache(maxsize=256)
def most_tokens(document: str, level: str, overlap: float) -> tuple[int, ...]:
    """For each segment of a level, the most GPT-2 tokens that it can have with any overlap from 0 to `overlap`.

    More overlap does not always mean more tokens: a word has more tokens at the start of a segment than after a space.
    """
    found: list[int] = []
    before: list[Span] = []
    for words in _level_words(document)[level]:
        shared = round(overlap * len(before))
        starts = [*(before[-shared:] if shared else []), words[0]]
        origin = starts[0][0]
        ends = gpt2_tokenizer().encode(document[origin : words[-1][1]], add_special_tokens=False).offsets
        # After its first word, a text has the same tokens wherever it starts.
        found.append(
            max(count_tokens(document[start:end]) + sum(at >= end - origin for at, _ in ends) for start, end in starts)
        )
        before = words
    return tuple(found)
