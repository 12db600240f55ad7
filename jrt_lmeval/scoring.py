"""Whether a prediction holds the answer: the published rule and its stricter kin.

Every function takes the text that a model generated and the accepted answers ("labels"), takes the best over the
labels, and raises `JRTError` for an empty list of labels.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from jrt_lmeval.answers import find, stands_as_words
from jrt_lmeval.errors import JRTError

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def contains(prediction: str, labels: Sequence[str]) -> bool:
    """Whether any label occurs in the prediction, letter case aside: the published metric.

    Nothing is stripped or normalised: "5" is found in "2015", spaces of a label count, an empty label is always found.
    """
    return any(find(label, prediction) for label in _some(labels))


def contains_word(prediction: str, labels: Sequence[str]) -> bool:
    """As `contains`, but the label must stand as whole words: "5" is not found in "2015", nor in "5.2" or "1,500".

    White space at the ends of a label is ignored; a blank label is never found.
    """
    return any(stands_as_words(label, prediction) for label in _some(labels))


def exact(prediction: str, labels: Sequence[str]) -> bool:
    """SQuAD's exact match: equal after lower-casing and dropping punctuation, articles and extra white space."""
    words = _words(prediction)
    return any(_words(label) == words for label in _some(labels))


def f1(prediction: str, labels: Sequence[str]) -> float:
    """SQuAD's F1 over the words that prediction and label share, 0 to 1, after the same normalisation as `exact`.

    Where either has no words left, it is 1 if both have none and 0 otherwise.
    """
    words = _words(prediction)
    return max(_f1(words, _words(label)) for label in _some(labels))


def _some(labels: Sequence[str]) -> Sequence[str]:
    if isinstance(labels, str):
        raise JRTError(f"labels must be a list of accepted answers, not the string {labels!r}.")
    if not labels:
        raise JRTError("no labels: a row needs at least one accepted answer to be scored against.")
    return labels


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _f1(prediction: list[str], label: list[str]) -> float:
    if not prediction or not label:
        return float(prediction == label)
    shared = sum((Counter(prediction) & Counter(label)).values())
    return 2 * shared / (len(prediction) + len(label))
