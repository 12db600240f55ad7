"""A document cut into paragraphs and sentences, neighbours overlapping.

Every segment is a slice of the document, and the slices without their overlap cover every word of it once, in order.

* A sentence is what the `sentencex` splitter says within one line: a newline always ends it. Pieces of one or two
  words ("J.", "No!") go with the piece that follows on their line, and a piece of more than `SENTENCE_WORDS` words
  (flattened tables and menus) is cut after a comma or semicolon, or where there is none, between words.
* A paragraph is gathered from whole sentences. Blank lines separate paragraphs; consecutive short lines (fact sheets,
  menus, a heading and its text) go together until about `PARAGRAPH_WORDS` words, in a document under three times that
  length a third of its words, are reached. A line of up to twice that stays whole. A longer one, and the only line of a
  flattened page, becomes windows of consecutive sentences.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from jrt_lmeval.errors import one_of, whole_number
from jrt_lmeval.prompts.tokens import count_tokens, gpt2_tokenizer

LEVELS = ("document", "paragraph", "sentence")
"""Names of the levels, coarse to fine."""

MOST_REPEATS = 100
"""Most copies of a document or of a pass: a prompt of more would fill the memory before any model reads it."""

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
    """One piece of a level.

    Attributes:
        text: what is sent to the model, overlap in front included; never blank, no white space at its ends.
        core: the piece without the overlap.
        tokens: GPT-2 tokens of `text`.
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
    """Lengths of the sentences of one line; they add up to the length of the line."""
    from sentencex import segment

    pieces = segment("en", line)
    return [len(piece) for piece in pieces] if "".join(pieces) == line else [len(line)]


def _cut_long(text: str, words: list[Span]) -> Iterator[list[Span]]:
    """Cuts of at most SENTENCE_WORDS words, after the last comma of the second half of the room if there is one."""
    while len(words) > SENTENCE_WORDS:
        # Two even halves, rather than forty words and a stump of three.
        room = min(SENTENCE_WORDS, (len(words) + 1) // 2)
        clause = [i for i in range(room // 2, room) if text[words[i][0] : words[i][1]].endswith(_CLAUSE_ENDS)]
        cut = clause[-1] + 1 if clause else room
        yield words[:cut]
        words = words[cut:]
    yield words


def _line_pieces(text: str, start: int, end: int) -> list[list[Span]]:
    """Sentences of the line text[start:end], as the spans of their words."""
    words = [(start + m.start(), start + m.end()) for m in _WORD.finditer(text[start:end])]
    pieces: list[list[Span]] = []
    held: list[Span] = []
    boundary, done = start, 0
    for length in _sentences_of_line(text[start:end]):
        boundary += length
        # A word astride a boundary goes with the sentence it ends in: words are never cut.
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
    """The sentences of a document, each knowing whether a line or a block of lines ends with it."""
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
    """Sentences gathered into paragraphs; see the head of this module for the rule."""
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
        level: one of `LEVELS`; the document level is one segment, the document as it stands.
        overlap: share of the preceding segment's words (0 to below 1) that each segment but the first repeats in front,
            `round(overlap * words)` whole words, counted in the preceding segment without its own overlap.

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
    """For each segment of a level, the most GPT-2 tokens it can have with any overlap from 0 to `overlap`.

    More overlap is not always more tokens: a word costs more where a segment starts with it than behind a blank.
    """
    found: list[int] = []
    before: list[Span] = []
    for words in _level_words(document)[level]:
        shared = round(overlap * len(before))
        starts = [*(before[-shared:] if shared else []), words[0]]
        origin = starts[0][0]
        ends = gpt2_tokenizer().encode(document[origin : words[-1][1]], add_special_tokens=False).offsets
        # Behind a word, the tokens are the same wherever the text starts.
        found.append(
            max(count_tokens(document[start:end]) + sum(at >= end - origin for at, _ in ends) for start, end in starts)
        )
        before = words
    return tuple(found)
