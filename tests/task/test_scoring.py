"""Scores: the published rule on its golden rows, and the stricter metrics."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jrt_lmeval.errors import JRTError
from jrt_lmeval.scoring import contains, contains_word, exact, f1

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


def test_any_label_counts() -> None:
    assert contains("Paris", ["London", "paris"])
    assert contains_word("Paris.", ["London", "paris"])
    assert exact("The Paris!", ["London", "paris"])
    assert f1("in Paris", ["London", "Paris"]) == pytest.approx(2 / 3)


def test_exact_and_f1_normalise_as_squad_does() -> None:
    assert exact(" the  U.S. ", ["US"])
    assert not exact("US army", ["US"])
    assert f1("the cat sat", ["a cat"]) == pytest.approx(2 / 3)
    assert f1("dog", ["cat"]) == 0
    assert f1("the", ["a"]) == 1
    assert f1("the", ["cat"]) == 0


@pytest.mark.parametrize("metric", [contains, contains_word, exact, f1])
def test_labels_must_be_a_filled_list(metric) -> None:
    with pytest.raises(JRTError, match="no labels"):
        metric("x", [])
    with pytest.raises(JRTError, match="list"):
        metric("x", "abc")
