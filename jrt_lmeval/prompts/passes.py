"""Writes passes over the levels of a document: segments are ranked, cut to a budget and put in order."""

from __future__ import annotations

import hashlib
import logging
import random
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log2
from types import ModuleType
from typing import Any

from jrt_lmeval.prompts.prompt import Counters, LayoutSpec
from jrt_lmeval.prompts.segments import LEVELS, Level, Segment, most_tokens, segments
from jrt_lmeval.prompts.tokens import count_tokens

OVERLAP_ROOM = 0.3
"""The overlap for which the budget reserves tokens, so that any overlap up to it selects the same segments."""


@dataclass(frozen=True)
class _Pass:
    level: Level
    segments: tuple[Segment, ...]
    chosen: tuple[int, ...]

    def text(self) -> str:
        return "\n".join(self.segments[i].text for i in self.chosen)

    def tokens(self) -> int:
        """The tokens of all repeats, counting a newline after each segment."""
        return self.level.repeats * sum(self.segments[i].tokens + 1 for i in self.chosen)


def hier_text(document: str, spec: LayoutSpec) -> tuple[str, Counters]:
    """Write the document level by level, without regard to the question.

    A pass has the segments of one level in document order, one on each line, and is written as often as its level
    says. If the budget cannot hold all of them, every level below the document loses the same share of its tokens, as
    nearly as whole segments allow, and `select` decides which segments stay. Every level keeps at least one segment if
    the smallest segments of all levels fit into the budget together. The overlap does not change what is selected:
    see `OVERLAP_ROOM`.

    Args:
        document: a text that is not blank.
        spec: a hierarchical layout.

    Returns:
        The text and its counters: see `_counters`.
    """
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
    """Retrieve the passages of the document that match the question, in document order, one on each line.

    Together they have at most `spec.budget - 1` times the document's tokens. The best passage is written even if it is
    longer than that, and `over_budget` is 1 then.

    Args:
        document: the document, not blank.
        query: what is asked.
        spec: a layout of passages.

    Returns:
        The text and its counters: those of `_counters`, and `no_question_match`, 1 if no word of the query stands in
        the document, so that the most informative segments were taken instead.
    """
    found, counters = _passes(document, query, spec, (spec.budget - 1) * count_tokens(document), best_first=True)
    return "\n".join(one.text() for one in found if one.chosen for _ in range(one.level.repeats)), counters


def _passes(document: str, query: str, spec: LayoutSpec, room: float, best_first: bool) -> tuple[list[_Pass], Counters]:
    """The passes below the document, from coarse to fine, cut to `room` tokens.

    With `best_first` the first segment of the coarsest level is always written, and all levels share the remaining
    tokens.
    """
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
    """The indices of a level's segments, most worth keeping first; their overlap does not count."""
    if select == "all":
        return spread(len(pieces))
    if select == "random":
        order = list(range(len(pieces)))
        random.Random(hashlib.sha256(f"{level} {document}".encode()).hexdigest()).shuffle(order)
        return order
    cores = tuple(piece.core for piece in pieces)
    if select == "learned":
        return by_learned(cores, document)
    return by_question(cores, query) if select == "question" else by_information(cores, document)


_TERM = re.compile(r"[^\W_]+")
_SHRINK_WORDS = 4


@lru_cache(maxsize=1)
def _bm25s() -> ModuleType:
    # If JAX is installed, bm25s imports and initialises it for a top-k search that is not used here.
    hide = "jax" not in sys.modules
    if hide:
        sys.modules["jax"] = None  # type: ignore[assignment]
    try:
        import bm25s
        import bm25s.stopwords
    finally:
        if hide:
            del sys.modules["jax"]
    # bm25s sets its logger to DEBUG, so that every index would send messages to the handlers of the root logger.
    logging.getLogger("bm25s").setLevel(logging.WARNING)
    return bm25s


@lru_cache(maxsize=256)
def _index(texts: tuple[str, ...]) -> Any:
    index = _bm25s().BM25()
    index.index([_terms(text) or [""] for text in texts], show_progress=False)
    return index


@lru_cache(maxsize=1)
def _stop_words() -> frozenset[str]:
    return frozenset(_terms(" ".join(_bm25s().stopwords.STOPWORDS_EN)))


def _terms(text: str) -> list[str]:
    # Without this, a question about "directors" would not match "Director:".
    return [term[:-1] if len(term) > 3 and term.endswith("s") else term for term in _TERM.findall(text.lower())]


def by_question(texts: Sequence[str], query: str) -> list[int]:
    """Indices of the texts that share a word with the query, best BM25 score first, ties in the given order.

    Words are compared without letter case and plural "s"; English stop words of the query count only if it has no other
    words. The list is empty if no word matches.
    """
    stop_words = _stop_words()
    terms = _terms(query)
    terms = [term for term in terms if term not in stop_words] or terms
    if not terms or not texts:
        return []
    index = _index(tuple(texts))
    ids = index.get_tokens_ids(terms)
    if not ids:
        return []
    scores = index.get_scores_from_ids(ids).tolist()
    return sorted((i for i, score in enumerate(scores) if score > 0), key=lambda i: (-scores[i], i))


def spread(count: int) -> list[int]:
    """The numbers below `count`, ordered so that the first of them, however many, are spread evenly over the range."""
    order: dict[int, None] = {}
    size = 2
    while size < 2 * count:
        order |= dict.fromkeys(count * odd // size for odd in range(1, size, 2))
        size *= 2
    return list(order | dict.fromkeys(range(count)))


def by_information(texts: Sequence[str], document: str) -> list[int]:
    """Indices of all texts, most informative first and ties in the given order, without regard to the question.

    The score of a text is the sum over its words of log2(n / c), c being how often the word stands among the n words of
    the document, letter case aside; words with a digit or a capital (names, dates, amounts) count twice. The sum is
    divided by the number of words plus four, so that a lone rare word does not beat a rich sentence.
    """
    return _best_first(_information(texts, document))


def _information(texts: Sequence[str], document: str) -> list[float]:
    counts = Counter(word.lower() for word in document.split())
    total = sum(counts.values())
    scores = []
    for text in texts:
        words = text.split()
        sum_of_bits = sum(
            log2(total / counts.get(word.lower(), 1)) * (2 if any(c.isdigit() or c.isupper() for c in word) else 1)
            for word in words
        )
        scores.append(sum_of_bits / (len(words) + _SHRINK_WORDS))
    return scores


def _best_first(scores: Sequence[float]) -> list[int]:
    rounded = [round(score, 9) for score in scores]
    return sorted(range(len(rounded)), key=lambda i: (-rounded[i], i))


LEARNED = {
    "information": 0.0051,
    "words": -0.0085,
    "digits": 0.1539,
    "capitals": -0.0345,
    "keys": 0.2517,
    "lists": -0.1527,
    "lines": 0.0332,
}
"""Weights of `segment_features`: what `python -m experiments.future_work select` found on development documents."""


def segment_features(texts: Sequence[str], document: str) -> list[dict[str, float]]:
    """What is known of each segment of a level before a question is.

    Returns:
        `information`, the score of `by_information`; `words`, log2 of their number; the shares of the words with a
        digit, with a capital and with a colon at the end; `lists`, the semicolons a word; and `lines`, a word.
    """
    found = []
    for text, information in zip(texts, _information(texts, document), strict=True):
        words = text.split()
        n = max(1, len(words))
        found.append(
            {
                "information": information,
                "words": log2(n),
                "digits": sum(any(c.isdigit() for c in word) for word in words) / n,
                "capitals": sum(word[:1].isupper() for word in words) / n,
                "keys": sum(word.endswith(":") for word in words) / n,
                "lists": text.count(";") / n,
                "lines": (text.count("\n") + 1) / n,
            }
        )
    return found


def by_learned(texts: Sequence[str], document: str) -> list[int]:
    """Indices of all texts, those first that a linear model expects most questions a word of, ties in the given order.

    The model knows the text alone (`segment_features`, `LEARNED`) and not the question. It was fitted to fact sheets.
    """
    return _best_first([sum(LEARNED[name] * x for name, x in one.items()) for one in segment_features(texts, document)])


def trim(costs: Sequence[Sequence[int]], room: float) -> list[list[int]]:
    """Choose what to keep of each level if not everything fits.

    All levels lose the same share of their tokens, as nearly as whole segments allow. First each level gets one
    segment, if the smallest segments of all levels fit together. Then the level with the smallest share written so far
    gets its next segment, until none is left. A segment that does not fit is skipped.

    Args:
        costs: for each level, from coarse to fine, the tokens of its segments, most worth keeping first.
        room: the number of tokens for all levels together.

    Returns:
        For each level, the places in its list of costs that are kept, ascending.
    """
    if sum(map(sum, costs)) <= room:
        return [list(range(len(level))) for level in costs]
    kept: list[list[int]] = [[] for _ in costs]
    left = room

    def keep(level: int, place: int) -> None:
        nonlocal left
        kept[level].append(place)
        left -= costs[level][place]

    for level, one in enumerate(costs):
        others = [min(later) for later in costs[level + 1 :] if later and min(later) <= room]
        first = next((place for place, cost in enumerate(one) if cost + sum(others) <= left), None)
        if first is not None:
            keep(level, first)
    waiting = [[place for place in range(len(one)) if place not in kept[level]] for level, one in enumerate(costs)]
    while any(waiting):
        level = min(
            (level for level, places in enumerate(waiting) if places),
            key=lambda level: sum(costs[level][place] for place in kept[level]) / sum(costs[level]),
        )
        place = waiting[level].pop(0)
        if costs[level][place] <= left:
            keep(level, place)
    return [sorted(places) for places in kept]
