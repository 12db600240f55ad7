"""Whether a prediction holds the answer: the published rule, and rules that are stricter or fairer.

Every function takes the text that a model generated and the accepted answers ("labels"), takes the best over the
labels (`string_match_all` excepted), and raises `JRTError` for an empty list of labels.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence

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


def contains_normalised(prediction: str, labels: Sequence[str]) -> bool:
    """As `contains`, in whole words and whole numbers, with the ways of writing the same answer made alike.

    "12" is no "2", "5.2" and "1,500" hold no "5", and "2nd" holds no "2". These make no difference: letter case,
    accents, the shape of quotes and dashes, the kind and number of spaces, the grouping of digits ("1,500", "1 500"),
    punctuation, an article that is left out, and a currency sign that is left out ("5 million" for "$5 million", but
    not "£5 million"). A unit that the label has is asked for: "5 km" is not found in "5", nor "5%" in "5". A label
    without a letter, digit or symbol is compared as `contains_word` does; a blank one is never found.
    """
    read = list(_tokens(prediction))
    for label in _some(labels):
        wanted = list(_tokens(label))
        if _runs(wanted, read) if wanted else stands_as_words(label, prediction):
            return True
    return False


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


def string_match_all(prediction: str, labels: Sequence[str]) -> float:
    """The share of the labels that occur in the prediction, letter case aside, 0 to 1: RULER's score.

    Here all labels are asked for; everywhere else any of them will do.
    """
    return sum(contains(prediction, [label]) for label in _some(labels)) / len(labels)


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


_Token = tuple[str, str]
"""A word, number or symbol, and the currency sign of a number, empty where it has none."""

_SHAPES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "-") | {"\u00ad": None})
"""Hyphens, the en dash and the minus sign; a longer dash, as all other punctuation, only separates words."""
_RAISED = re.compile(r"(?<=\d)(?=[\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u208e\u2150-\u215e])")
_ACCENTS = re.compile("[\u0300-\u036f]")
_GROUPED = re.compile(r"(?<![\w.,])\d{1,3}(?:(?:,\d{2,3})*,\d{3}|(?:[ ']\d{3})+)(?!\w|[,']\d)")
_CURRENCY = "$\u00a2-\u00a5\u20a0-\u20c0"
# A separator between digits belongs to the number, and a sign to a number that no word or number comes before.
_TOKEN = re.compile(
    rf"(?:(?P<before>[{_CURRENCY}]) ?)?"
    r"(?P<word>(?:(?<![^\W_])-(?=\d))?(?:[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+(?:(?<=\d)[.,:/](?=\d)[^\W_]+)*))"
    rf"(?: ?(?P<after>[{_CURRENCY}])(?! ?\d))?|[^\w\s]"
)


def _tokens(text: str) -> Iterator[_Token]:
    text = unicodedata.normalize("NFKD", _RAISED.sub(" ", text.translate(_SHAPES)))
    text = " ".join(_ACCENTS.sub("", text).replace("\u2019", "'").replace("\u2044", "/").casefold().split())
    text = _GROUPED.sub(lambda match: re.sub("[ ,']", "", match[0]), text)
    for match in _TOKEN.finditer(text):
        if match["word"]:
            yield match["word"], match["before"] or match["after"] or ""
        elif (unicodedata.category(match[0]).startswith("S") and match[0] not in "`\u00b4") or match[0] in "%&#@":
            yield match[0], ""


def _runs(wanted: Sequence[_Token], read: Sequence[_Token]) -> bool:
    """Whether the wanted tokens follow each other in what was read, articles on either side aside.

    The last token is asked for even where it is an article: "vitamin A" is not found in "vitamin B".
    """
    articles = ("a", "an", "the")
    ends = set(range(len(read)))
    for place, want in enumerate(wanted):
        after: set[int] = set()
        for end in ends:
            if want[0] in articles and place < len(wanted) - 1:
                after.add(end)
            skipped = end + 1 if place and end < len(read) and read[end][0] in articles else end
            after |= {at + 1 for at in (end, skipped) if at < len(read) and _same(want, read[at])}
        ends = after
    return bool(ends)


def _same(want: _Token, token: _Token) -> bool:
    return want[0] == token[0] and (not want[1] or not token[1] or want[1] == token[1])
