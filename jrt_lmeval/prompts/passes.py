"""Passes over the levels of a document: segments ranked, trimmed to a budget and put in order."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from jrt_lmeval.prompts.gpt2 import count_tokens
from jrt_lmeval.prompts.ranking import by_information, by_question, spread
from jrt_lmeval.prompts.segments import LEVELS, Segment, most_tokens, segments
from jrt_lmeval.prompts.spec import LayoutSpec, Level
from jrt_lmeval.prompts.trimming import trim

OVERLAP_ROOM = 0.3
"""The budget sets room aside for this much overlap, so that any overlap up to it selects the same segments."""

Counters = dict[str, int | float]


@dataclass(frozen=True)
class _Pass:
    level: Level
    segments: tuple[Segment, ...]
    chosen: tuple[int, ...]

    def text(self) -> str:
        return "\n".join(self.segments[i].text for i in self.chosen)

    def tokens(self) -> int:
        """Tokens of all repeats, with a newline after each segment."""
        return self.level.repeats * sum(self.segments[i].tokens + 1 for i in self.chosen)


def hier_text(document: str, spec: LayoutSpec) -> tuple[str, Counters]:
    """The document written level by level; no question is looked at.

    A pass holds the segments of one level in document order, a line each; passes are lines too, and a pass is written
    as often as its level says. Where the budget cannot hold all, every level below the document gives up the same
    share of its tokens, as near as whole segments allow; which ones go, `select` says. Where their smallest segments
    fit into the budget together, every level keeps at least one. Nothing is selected by its overlap: see
    `OVERLAP_ROOM`.

    Args:
        document: the document, not blank.
        spec: a hierarchical layout.

    Returns:
        The text and its counters: see `_counters`.
    """
    assert spec.levels is not None and spec.budget is not None
    whole = [level for level in spec.levels if level.name == "document"]
    copies = sum(level.repeats for level in whole)
    tokens = count_tokens(document)
    found, counters = _passes(document, "", spec, (spec.budget - copies) * tokens, best_first=False)
    if not whole and not counters["segments"]:
        found, counters = _passes(document, "", spec, 0, best_first=True)
    passes = [_Pass(level, segments(document, "document"), (0,)) for level in whole] + found
    if spec.order == "fine_to_coarse":
        passes.reverse()
    text = "\n".join(one.text() for one in passes if one.chosen for _ in range(one.level.repeats))
    return text, counters


def passages_text(document: str, query: str, spec: LayoutSpec) -> tuple[str, Counters]:
    """The passages of the document that match the question, in document order, a line each: retrieval.

    They hold at most `spec.budget - 1` times the document's tokens. The best one is written also where it is longer
    than that (`over_budget`).

    Args:
        document: the document, not blank.
        query: what is asked.
        spec: a layout of passages.

    Returns:
        The text and its counters: those of `_counters`, and `no_question_match`, 1 if no word of the query stands in
        the document, so that the most informative segments were taken instead.
    """
    assert spec.budget is not None
    found, counters = _passes(document, query, spec, (spec.budget - 1) * count_tokens(document), best_first=True)
    return "\n".join(one.text() for one in found if one.chosen for _ in range(one.level.repeats)), counters


def _passes(document: str, query: str, spec: LayoutSpec, room: float, best_first: bool) -> tuple[list[_Pass], Counters]:
    """The passes below the document, coarse to fine, trimmed to so many tokens.

    With `best_first` the first segment of the coarsest level is written in any case, and what is left of the room is
    shared.
    """
    assert spec.levels is not None and spec.select is not None
    levels = sorted(
        (level for level in spec.levels if level.name != "document"), key=lambda level: LEVELS.index(level.name)
    )
    pieces = [segments(document, level.name, spec.overlap) for level in levels]
    matched = True
    ranked: list[list[int]] = []
    costs: list[list[int]] = []
    for level, level_pieces in zip(levels, pieces, strict=True):
        order = _rank(level.name, spec.select, level_pieces, query, document)
        matched = matched and bool(order)
        ranked.append(order or by_information([piece.core for piece in level_pieces], document))
        most = most_tokens(document, level.name, max(spec.overlap, OVERLAP_ROOM))
        costs.append([level.repeats * (most[i] + 1) for i in ranked[-1]])
    over = best_first and costs[0][0] > room
    if best_first:
        rest = trim([costs[0][1:], *costs[1:]], room - costs[0][0])
        kept = [[0, *(place + 1 for place in rest[0])], *rest[1:]]
    else:
        kept = trim(costs, room)
    found = [
        _Pass(level, level_pieces, tuple(sorted(order[i] for i in places)))
        for level, level_pieces, order, places in zip(levels, pieces, ranked, kept, strict=True)
    ]
    return found, _counters(found, [len(order) for order in ranked], spec, over, matched)


def _counters(found: Sequence[_Pass], wanted: Sequence[int], spec: LayoutSpec, over: bool, matched: bool) -> Counters:
    """What was written.

    Returns:
        `segments` (repeats not counted) and `segments_dropped`, both below the document; the same for each level
        (`sentence_segments`, `sentence_segments_dropped`) with its GPT-2 tokens, all repeats and overlap included
        (`sentence_tokens`); `levels_missing`, the number of levels of which nothing is left; `over_budget`, 1 if the
        one segment that stays is itself longer than the budget.
    """
    counters: Counters = {
        "segments": sum(len(one.chosen) for one in found),
        "segments_dropped": sum(wanted) - sum(len(one.chosen) for one in found),
    }
    for one, all_of_it in zip(found, wanted, strict=True):
        name = one.level.name
        counters[f"{name}_segments"] = len(one.chosen)
        counters[f"{name}_segments_dropped"] = all_of_it - len(one.chosen)
        counters[f"{name}_tokens"] = one.tokens()
    counters["levels_missing"] = sum(not one.chosen for one in found)
    counters["over_budget"] = int(over)
    if spec.select == "question":
        counters["no_question_match"] = int(not matched)
    return counters


def _rank(level: str, select: str, pieces: Sequence[Segment], query: str, document: str) -> list[int]:
    """Segments of a level, the first to stay first; by what they hold without their overlap."""
    if select == "all":
        return spread(len(pieces))
    if select == "random":
        order = list(range(len(pieces)))
        random.Random(hashlib.sha256(f"{level} {document}".encode()).hexdigest()).shuffle(order)
        return order
    cores = tuple(piece.core for piece in pieces)
    return by_question(cores, query) if select == "question" else by_information(cores, document)
