"""Scores: the published rule on its golden rows, and the stricter metrics."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jrt_lmeval.errors import JRTError
from jrt_lmeval.scoring import contains, contains_normalised, contains_word, exact, f1

GOLDEN = Path(__file__).parents[1] / "fixtures" / "golden_prompts" / "scoring.jsonl"


def test_contains_is_the_published_metric() -> None:
    rows = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 64
    assert [contains(row["prediction"], row["labels"]) for row in rows] == [bool(row["contains"]) for row in rows]


@pytest.mark.parametrize(
    ("prediction", "label", "found"),
    [
        ("in 2015", "5", False),
        ("it is 5.", "5", True),
        ("it is 5, or so", "5", True),
        ("about 5.2 ml", "5", False),
        ("1,500 men", "500", False),
        ("$1,500", "$1,500", True),
        ("the Cat sat", "cat", True),
        ("concatenate", "cat", False),
        ("Foo bar", " foo ", True),
        ("anything", " ", False),
        ("C++ and Java", "C++", True),
    ],
)
def test_contains_word_wants_whole_words(prediction: str, label: str, found: bool) -> None:
    assert contains_word(prediction, [label]) is found


@pytest.mark.parametrize(
    ("prediction", "label"),
    [
        ("The answer is Rome", "Rome."),
        ("Rome.", "Rome"),
        ("1500 men", "1,500"),
        ("1,500", "1500"),
        ("1\u00a0500 men", "1,500"),
        ("1 500 men", "1500"),
        ("1'500", "1500"),
        ("1,50,000", "150000"),
        ("1,500.25", "1500.25"),
        ("5 million", "$5 million"),
        ("$5 million", "5 million"),
        ("5 €", "€5"),
        ("\u201cHi there\u201d", '"Hi there"'),
        ("``quoted''", '"quoted"'),
        ("O\u2019Neil", "O'Neil"),
        ("1990\u201395", "1990-95"),
        ("24-17", "24\u201317"),
        ("\u22125 degrees", "-5"),
        ("well\u2014known", "well-known"),
        ("Sao Paulo", "S\u00e3o Paulo"),
        ("Sa\u0303o Paulo", "S\u00e3o Paulo"),
        ("BEYONCE", "Beyonc\u00e9"),
        ("New  York\u00a0City", "new york city"),
        ("the Vikings won", "Vikings"),
        ("Vikings", "the Vikings"),
        ("Lord of Rings", "The Lord of the Rings"),
        ("vitamin A deficiency", "vitamin A"),
        ("grade A", "A"),
        ("5 %", "5%"),
        ("5 km away", "5 km"),
        ("U.S", "U.S."),
        ("2\u00bd", "2 1/2"),
        ("AT&T", "AT&T"),
        ("C++ and Java", "C++"),
        ("\u6771\u4eac\u3067\u3059", "\u6771\u4eac"),
        ("why ?", "?"),
    ],
)
def test_the_same_answer_written_otherwise_is_found(prediction: str, label: str) -> None:
    assert contains_normalised(prediction, [label])


@pytest.mark.parametrize(
    ("prediction", "label"),
    [
        ("12", "2"),
        ("12", "1"),
        ("21", "2"),
        ("5.2", "5"),
        ("1,500", "500"),
        ("1,500", "1"),
        ("1\u00a0500", "1"),
        ("10:30", "10"),
        ("2nd", "2"),
        ("-5", "5"),
        ("5", "-5"),
        ("5", "5%"),
        ("5", "5 km"),
        ("£5 million", "$5 million"),
        ("10\u00b2", "102"),
        ("C", "C++"),
        ("vitamin B", "vitamin A"),
        ("concatenate", "cat"),
        ("anything", " "),
        ("", "Rome"),
    ],
)
def test_another_answer_is_not_found(prediction: str, label: str) -> None:
    assert not contains_normalised(prediction, [label])


def test_any_label_counts() -> None:
    assert contains("Paris", ["London", "paris"])
    assert contains_word("Paris.", ["London", "paris"])
    assert contains_normalised("Paris", ["London", "the p\u00e1ris."])
    assert exact("The Paris!", ["London", "paris"])
    assert f1("in Paris", ["London", "Paris"]) == pytest.approx(2 / 3)


def test_exact_and_f1_normalise_as_squad_does() -> None:
    assert exact(" the  U.S. ", ["US"])
    assert not exact("US army", ["US"])
    assert f1("the cat sat", ["a cat"]) == pytest.approx(2 / 3)
    assert f1("dog", ["cat"]) == 0
    assert f1("the", ["a"]) == 1
    assert f1("the", ["cat"]) == 0


@pytest.mark.parametrize("metric", [contains, contains_word, contains_normalised, exact, f1])
def test_labels_must_be_a_filled_list(metric) -> None:
    with pytest.raises(JRTError, match="no labels"):
        metric("x", [])
    with pytest.raises(JRTError, match="list"):
        metric("x", "abc")
