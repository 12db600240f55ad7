"""The passes of the hierarchical layout: levels selected, capped and put in order."""

from __future__ import annotations

from dataclasses import dataclass

from jrt_lmeval.prompts.gpt2 import count_tokens
from jrt_lmeval.prompts.ranking import by_information, by_question
from jrt_lmeval.prompts.segments import LEVELS, Segment, segments
from jrt_lmeval.prompts.spec import LayoutSpec, Level


@dataclass
class _Selected:
    level: Level
    segments: tuple[Segment, ...]
    ranked: list[int]

    def tokens(self) -> int:
        """Tokens of all repeats: segments, the newlines between them and one newline after each repeat."""
        return self.level.repeats * sum(self.segments[i].tokens + 1 for i in self.ranked)

    def text(self) -> str:
        return "\n".join(self.segments[i].text for i in sorted(self.ranked))


def hier_text(document: str, query: str, spec: LayoutSpec) -> tuple[str, dict[str, int | float]]:
    """The document written level by level.

    A pass holds the selected segments of one level in document order, a line each; passes are lines too. What the
    budget drops is dropped from the finest level first, lowest rank first, whole segments; the document level, and the
    best segment of the coarsest level, always stay.

    Args:
        document: the document, not blank.
        query: what the question asks, for `select: question`.
        spec: a hierarchical layout.

    Returns:
        The text and its counters: `segments` written (repeats not counted), `segments_dropped` by the budget,
        `no_question_match` 1 if no word of the query stands in the document and the most informative segments were
        taken instead, `over_budget` 1 if the one segment that stays is itself longer than the budget.
    """
    document_tokens = count_tokens(document)
    selected: list[_Selected] = []
    unmatched = False
    for level in sorted(spec.levels, key=lambda level: LEVELS.index(level.name)):
        pieces = segments(document, level.name, spec.overlap)
        ranked, matched = _rank(level, pieces, query, document)
        unmatched = unmatched or not matched
        selected.append(_Selected(level, pieces, _kept(level, pieces, ranked, document_tokens)))

    copies = selected[0].level.repeats if selected[0].level.name == "document" else 0
    # The newlines between whole copies are free, as they are in the flat layout.
    cap = max(spec.budget * document_tokens, copies * document_tokens + copies - 1)
    # Of the newlines counted by tokens() the very last one is not written.
    total = sum(one.tokens() for one in selected) - 1
    dropped = 0
    while total > cap:
        finest = next((one for one in reversed(selected) if one.ranked and one is not selected[0]), selected[0])
        if finest is selected[0] and len(finest.ranked) == 1:
            break
        total -= finest.tokens()
        finest.ranked.pop()
        total += finest.tokens()
        dropped += 1

    if spec.order == "fine_to_coarse":
        selected.reverse()
    text = "\n".join(one.text() for one in selected if one.ranked for _ in range(one.level.repeats))
    counters: dict[str, int | float] = {
        "segments": sum(len(one.ranked) for one in selected),
        "segments_dropped": dropped,
        "no_question_match": int(unmatched),
        "over_budget": int(total > cap),
    }
    return text, counters


def _rank(level: Level, pieces: tuple[Segment, ...], query: str, document: str) -> tuple[list[int], bool]:
    """Segments of a level best first, and whether the question (if it was to choose) matched any."""
    if level.name == "document":
        return [0], True
    texts = tuple(piece.text for piece in pieces)
    ranked = by_question(texts, query) if level.select == "question" else []
    if ranked:
        return ranked, True
    return by_information(texts, document), level.select != "question"


def _kept(level: Level, pieces: tuple[Segment, ...], ranked: list[int], document_tokens: int) -> list[int]:
    """The ranked segments that fit into the level's share of the document, best first, at least one."""
    if level.keep >= 1.0 or level.name == "document":
        return ranked
    room = level.keep * document_tokens
    kept: list[int] = []
    for i in ranked:
        if not kept or pieces[i].tokens <= room:
            kept.append(i)
            room -= pieces[i].tokens
    return kept
