"""Which segments of a level matter: by the question (BM25) or, without one, by information or by place."""

from __future__ import annotations

import logging
import re
import sys
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from math import log2
from types import ModuleType
from typing import Any

_TERM = re.compile(r"[^\W_]+")
_SHRINK_WORDS = 4


@lru_cache(maxsize=1)
def _bm25s() -> ModuleType:
    # Where JAX is installed bm25s would import and initialise it for a top-k that is not used here.
    hide = "jax" not in sys.modules
    if hide:
        sys.modules["jax"] = None  # type: ignore[assignment]
    try:
        import bm25s
        import bm25s.stopwords
    finally:
        if hide:
            del sys.modules["jax"]
    # It sets its own logger to DEBUG, which reaches every handler of the root logger, once for each index.
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
    # The "s" of a plural would hide "Director:" from a question about "directors".
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
    """The numbers below `count` in an order of which any start is spread evenly: the middle, the quarters, the rest."""
    order: dict[int, None] = {}
    size = 2
    while size < 2 * count:
        order |= dict.fromkeys(count * odd // size for odd in range(1, size, 2))
        size *= 2
    return list(order | dict.fromkeys(range(count)))


def by_information(texts: Sequence[str], document: str) -> list[int]:
    """Indices of all texts, most informative first, ties in the given order; no question is looked at.

    The score of a text is the sum over its words of log2(n / c), c being how often the word stands among the n words of
    the document, letter case aside; words with a digit or a capital (names, dates, amounts) count twice. The sum is
    divided by the number of words plus four, so that a lone rare word does not beat a rich sentence.
    """
    counts = Counter(word.lower() for word in document.split())
    total = sum(counts.values())
    scores = []
    for text in texts:
        words = text.split()
        sum_of_bits = sum(
            log2(total / counts.get(word.lower(), 1)) * (2 if any(c.isdigit() or c.isupper() for c in word) else 1)
            for word in words
        )
        scores.append(round(sum_of_bits / (len(words) + _SHRINK_WORDS), 9))
    return sorted(range(len(texts)), key=lambda i: (-scores[i], i))
