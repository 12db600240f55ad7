"""Streams of fact sheets: every fact can be found by a rule that reads, and none without reading."""

from __future__ import annotations

import re

import pytest

from jrt_lmeval.data.streams import DISTANCES, stream
from jrt_lmeval.errors import JRTError
from jrt_lmeval.prompts.tokens import encoded, token_span

SMALL = {"tokens": 9_000, "distances": [100, 1_000, 5_000, 100_000], "cuts": 3}


def by_reading(document: str, question: str) -> str:
    """The line asked for on the last sheet of the country asked for."""
    country, key = re.fullmatch(r"In (.+?), (.+):", question, re.S).groups()  # type: ignore[union-attr]
    sheet = f"\n\n{document}".rpartition(f"\n\n{country}\n")[2]
    return sheet.partition(f"\n{key}: ")[2].partition("\n")[0]


def test_a_rule_that_reads_answers_all_and_one_that_does_not_next_to_none() -> None:
    rows = stream()["test"]
    assert len(rows) == 4 * len(DISTANCES) and len({row["question"] for row in rows}) == len(rows)
    found = [by_reading(row["document"], row["question"]) for row in rows]
    assert all(value.startswith(row["answer"]) for value, row in zip(found, rows, strict=True))
    answers = [row["answer"] for row in rows]
    assert max(map(answers.count, answers)) <= 2, "an answer that is given always is almost never right"


def test_distances_are_tokens_before_the_end_and_close_to_those_asked_for() -> None:
    rows = stream(stream=SMALL)["test"]
    assert len(rows) == 3 * 3, "no fact can stand further away than the stream is long"
    for row, distance in zip(rows, [100, 1_000, 5_000] * 3, strict=True):
        document = row["document"]
        start = document.rindex(f": {row['answer']}") + 2
        length = len(encoded(document))
        near = [
            length - token_span(document, at.start() + 2, at.end())[0]
            for at in re.finditer(re.escape(document[start - 2 : start + len(row["answer"])]), document)
        ]
        assert row["distance"] in near
        assert distance == 100 or abs(row["distance"] / distance - 1) < 0.6, "the last sheet may have few facts"
    assert rows[0]["document"] == rows[-1]["document"][: len(rows[0]["document"])], "one stream, cut at several places"


def test_knobs_are_checked() -> None:
    assert stream(stream=SMALL) == stream(stream=SMALL, pretrained="x") != stream(stream={**SMALL, "seed": 1})
    for knobs, message in (
        ({"token": 3}, "key of the stream block.*Did you mean 'tokens'"),
        ({"tokens": 0}, "stream.tokens must be a whole number"),
        ({"tokens": 10_000_000}, "all 124 sheets together have"),
        ({"distances": [0]}, "an entry of stream.distances"),
    ):
        with pytest.raises(JRTError, match=message):
            stream(stream=knobs)
