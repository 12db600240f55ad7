"""What can be had without a model, and that our own benchmark cannot be had by looking at its middle."""

from __future__ import annotations

from pathlib import Path

import pytest
from recalling import Echo, evaluate, make

from jrt_lmeval.data.shipped import factbook_rows
from jrt_lmeval.prompts import Prompt, Window, layout_spec
from jrt_lmeval.prompts.benchmarks import prompt_for
from jrt_lmeval.scoring import contains
from jrt_lmeval.task.reader import reader_of
from jrt_lmeval.task.rules import Rules, longest_match, middle

READER = reader_of("fda", {}, {})


def row(document: str, key: str, value: str) -> dict[str, str]:
    return {"doc_id": document, "text": f"{key}: {value}", "key": key, "value": value}


def test_the_majority_is_of_other_documents() -> None:
    rows = [row("a", "Flag", "red"), row("a", "flag ", "red"), row("a", "flag", "red"), row("b", "flag", "blue")]
    rows += [row("c", "flag", "blue"), row("d", "flag", "green"), row("d", "port", "Oslo")]
    rules = Rules(rows, READER)
    assert [rules.majority(one) for one in rows] == ["blue", "blue", "blue", "red", "red", "red", "red"]
    assert [rules.majority(one) for one in reversed(rows)] == ["red", "red", "red", "red", "blue", "blue", "blue"]
    # Nobody else is asked for the port, so that it is the most frequent answer of all; with one document, none.
    assert Rules(rows[:3], READER).majority(rows[0]) == ""
    # As many blue as green, once the row's own document is left out: the first in the alphabet.
    few = Rules(rows[3:6], READER)
    assert few.majority(rows[3]) == "blue" and few.majority(rows[4]) == "blue" and few.majority(rows[5]) == "blue"


def test_a_copy_of_the_question_is_a_rule() -> None:
    one = {"doc_id": "a", "text": "It was blue.", "key": "red or blue", "value": "blue"}
    prompt = Prompt("Which? It was blue. Red or blue:", 7, 19, "It was blue.")
    assert Rules([one], READER).scores(one, prompt)["echo"] == 1
    assert Rules([one], READER).scores({**one, "value": "It was"}, prompt)["echo"] == 0


@pytest.mark.parametrize(
    ("stem", "document", "guess"),
    [
        (" Home port:", "Port: Riga\nhome port: Oslo. Built: 1801\nPort: Kiel", "Oslo. Built: 1801"),
        (" Home port:", "Airport: Riga\nPort:\nOslo", "Oslo"),
        (" The master is", "He is old", "old"),
        ("Age:", "Page: 3", ""),
        ("", "text", ""),
    ],
)
def test_the_longest_ending_of_the_question_is_looked_up(stem: str, document: str, guess: str) -> None:
    assert longest_match(stem, document) == guess


def test_a_guess_is_no_longer_than_an_answer() -> None:
    words = " ".join(f"w{number}" for number in range(400))
    assert longest_match("at w10", words, 6) == "w11 w12 w13"
    assert middle("one two three four five six", 2) == " three four" and middle("one two", 48) == "one two"


def test_each_row_and_the_results_say_what_a_rule_would_have_scored(tmp_path: Path) -> None:
    rows = [
        {"doc_id": str(number), "text": f"Log. The flag is {flag}. End.", "key": "flag", "value": flag}
        for number, flag in enumerate(("red", "red", "red", "blue", "red"))
    ]
    results = evaluate(make(tmp_path, rows), Echo(), log_samples=True)
    found = results["configs"]["mine"]["metadata"]["jrt_found"]["without_a_model"]
    assert {name: value["contains"] for name, value in found.items()} == {
        "echo": 0.0, "majority": 0.8, "longest_match": 1.0, "blind_middle": 1.0,
    }  # fmt: skip
    assert found["majority"]["stderr"] == pytest.approx(0.2)
    samples = results["samples"]["mine"]
    assert [sample["doc"]["jrt"]["majority"] for sample in samples] == [1, 1, 1, 0, 1]
    blind = evaluate(make(tmp_path, rows, jrt={"control": "no_context"}), Echo())
    assert blind["configs"]["mine"]["metadata"]["jrt_found"]["without_a_model"] == {}


def test_the_middle_of_a_factbook_window_does_not_give_the_answer_away() -> None:
    def share(window: Window) -> float:
        rows = factbook_rows()[::12]
        prompts = [prompt_for("factbook", layout_spec({}), one, window) for one in rows]
        found = [contains(middle(p.document), [one["value"]]) for one, p in zip(rows, prompts, strict=True) if p]
        assert len(found) == len(rows) and all(isinstance(prompt, Prompt) for prompt in prompts)
        return sum(found) / len(found)

    assert share(Window("answer_at", 600, answer_at="random")) < 0.15 < 0.6 < share(Window("answer_centered", 600))
