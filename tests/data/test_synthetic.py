"""Made tasks: a rule that reads answers everything, a rule that does not know the question is near chance."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from jrt_lmeval.data.synthetic import MQAR, SetDisjointness, draw_facts, mqar, set_disjointness
from jrt_lmeval.errors import JRTError
from jrt_lmeval.paths import tasks_dir
from jrt_lmeval.task.recall import RecallTask

Row = dict[str, Any]


def facts_of(row: Row) -> dict[str, str]:
    return dict(re.findall(r"(\d+) = (\w+)", row["document"]))


def sets_of(row: Row) -> list[list[str]]:
    return [part.split() for part in re.fullmatch(r"A: ([\d ]+)\. B: ([\d ]+)\.", row["document"]).groups()]  # type: ignore[union-attr]


@pytest.mark.parametrize("knobs", [{}, {"facts": 64, "questions": 16}, {"facts": 400, "keys": 400, "distance": 7}])
def test_mqar_is_answered_by_reading_and_not_without_the_question(knobs: dict[str, Any]) -> None:
    rows = mqar(mqar=knobs)["test"]
    facts, rng = MQAR(**knobs).facts, random.Random(0)
    assert len(rows) == 100 * MQAR(**knobs).questions
    for row in rows:
        pairs = facts_of(row)
        assert len(pairs) == len(set(pairs.values())) == facts
        assert pairs[row["question"].removesuffix(" =")] == row["answer"]
        assert row["document"].upper().count(row["answer"]) == 1  # `contains` finds it nowhere else
    guessed = sum(rng.choice(list(facts_of(row).values())) == row["answer"] for row in rows) / len(rows)
    assert abs(guessed - 1 / facts) < 4 * (1 / facts / len(rows)) ** 0.5


@pytest.mark.parametrize("order", ["small_first", "large_first"])
@pytest.mark.parametrize(("small", "large"), [(4, 32), (16, 256), (1, 1)])
def test_set_disjointness_is_answered_by_both_sets_and_not_by_either(order: str, small: int, large: int) -> None:
    rows = set_disjointness(set_disjointness={"small": small, "large": large, "order": order})["test"]
    rng, right = random.Random(0), {small: 0, large: 0}
    for row in rows:
        first, second = sets_of(row)
        assert (len(first), len(second)) == ((small, large) if order == "small_first" else (large, small))
        assert set(first) & set(second) == {row["answer"]}
        for elements in (first, second):
            right[len(elements)] += rng.choice(elements) == row["answer"]
    for size, count in right.items() if small < large else ():
        assert abs(count / len(rows) - 1 / size) < 4 * (1 / size / len(rows)) ** 0.5


def test_draws_depend_on_the_seed_alone_and_questions_are_spread_over_the_document() -> None:
    assert mqar() == mqar(seed=3, pretrained="x")  # other metadata of the task is not ours
    assert mqar() != mqar(mqar={"seed": 1})
    assert set_disjointness() != set_disjointness(set_disjointness={"seed": 1})
    rng = random.Random(0)
    places = [place for _ in range(200) for place in draw_facts(rng, MQAR(facts=8, questions=2))[2]]
    assert all(abs(places.count(place) / 400 - 1 / 8) < 0.07 for place in range(8))


def test_knobs_do_what_they_say() -> None:
    (row, *_) = mqar(mqar={"facts": 3, "questions": 2, "distance": 5, "named": "all"})["test"]
    assert re.fullmatch(r"(\d{3} = [A-Z]{2}, ){3}([aeiou]{3}, ){4}[aeiou]{3}\.", row["document"])
    assert re.fullmatch(r"(\d{3} = \? ){2}", row["lead"]) and row["question"][:3] in row["lead"]
    few = {number for row in mqar(mqar={"facts": 4, "keys": 5})["test"] for number in facts_of(row)}
    assert len(few) == 5
    rows = set_disjointness(set_disjointness={"vocabulary": 40})["test"]
    drawn = {number for row in rows for number in sets_of(row)[0]}
    assert len(drawn) == 40


@pytest.mark.parametrize(
    ("make", "block", "message"),
    [
        (mqar, {"mqar": {"fact": 3}}, "key of the mqar block.*Did you mean 'facts'"),
        (mqar, {"mqar": {"facts": 500}}, "mqar.facts must be a whole number from 1 to 400, not 500"),
        (mqar, {"mqar": {"questions": 17}}, "mqar.questions must be a whole number from 1 to 16"),
        (mqar, {"mqar": {"named": "both"}}, "mqar.named"),
        (mqar, {"mqar": [3]}, "the mqar block must be a mapping"),
        (set_disjointness, {"set_disjointness": {"order": "small"}}, "Did you mean 'small_first'"),
        (set_disjointness, {"set_disjointness": {"small": 8, "large": 4}}, "set_disjointness.small .* from 1 to 4"),
        (set_disjointness, {"set_disjointness": {"large": 898}}, "set_disjointness.large .* from 1 to 897"),
    ],
)
def test_a_wrong_knob_is_named(make: Any, block: dict[str, Any], message: str) -> None:
    with pytest.raises(JRTError, match=message):
        make(**block)
    assert SetDisjointness(large=897).vocabulary == 900


FORMS = {
    "once": "{document} {question}",
    "lead_once": "{lead}{document} {question}",
    "jrt": "{lead}{document}\n{document} {question}",
    "jrt_no_lead": "{document}\n{document} {question}",
}


@pytest.mark.parametrize("benchmark", ["mqar", "set_disjointness"])
def test_tasks_lay_the_rows_out_as_their_names_say(benchmark: str) -> None:
    from lm_eval.tasks import TaskManager

    metadata = {benchmark: {"documents": 3}}
    manager = TaskManager(include_defaults=False, include_path=str(tasks_dir()), metadata=metadata)
    tasks = manager.load([f"{benchmark}_{form}" for form in FORMS])["tasks"]
    for form, text in FORMS.items():
        task = tasks[f"{benchmark}_{form}"]
        assert isinstance(task, RecallTask)
        made = {"mqar": mqar, "set_disjointness": set_disjointness}[benchmark](**metadata)
        assert len(task.eval_docs) == len(made["test"])
        for _, row in task.doc_iterator(limit=3):
            assert task.doc_to_text(row) == text.format(**row)
            assert task.doc_to_target(row) == [row["answer"]]
