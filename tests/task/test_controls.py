"""Controls: no document, another one, or one that says something else."""

from __future__ import annotations

from pathlib import Path

import pytest
from recalling import ROWS, Echo, evaluate, make

from jrt_lmeval.data.shipped import factbook_rows
from jrt_lmeval.errors import JRTError
from jrt_lmeval.prompts import layout_spec
from jrt_lmeval.prompts.window import Window
from jrt_lmeval.task.prompter import form, other_document
from jrt_lmeval.task.reader import reader_of


@pytest.mark.parametrize("recipe", ["fda", None])
def test_another_answer_is_written_into_the_document(tmp_path: Path, recipe: str | None) -> None:
    rows = [{**row, "text": row["text"] + f" So says {row['value'].upper()}."} for row in ROWS]
    jrt = {"layout": "flat", "control": "counterfactual", **({"recipe": recipe} if recipe else {})}
    results = evaluate(make(tmp_path, rows, jrt=jrt), Echo(), log_samples=True)
    samples = results["samples"]["mine"]
    assert [sample["target"] for sample in samples] == [["Oda Refsnes"], ["7"], ["19"], ["Ilse Maarten"]]
    for row, sample in zip(rows, samples, strict=True):
        prompt = sample["arguments"][0][0]
        assert row["value"].lower() not in prompt.lower() and prompt.count(sample["target"][0]) == 4
        assert sample["doc"]["jrt_true_answers"] == [row["value"]] and sample["doc"]["jrt"]["answer_outside"] == 0
    assert results["results"]["mine"]["alias"] == "mine [counterfactual]"
    assert results["configs"]["mine"]["metadata"]["jrt"]["rows"]["no_counterfactual"] == 0


def test_rows_that_cannot_say_something_else_are_dropped_and_counted(tmp_path: Path) -> None:
    related = {"doc_id": "c", "text": "Log. Captain: Oda.", "key": "captain", "value": "Oda"}
    absent = {"doc_id": "d", "text": "An empty log.", "key": "captain", "value": "Nils Berg"}
    task = make(tmp_path, [related, ROWS[3], absent], jrt={"control": "counterfactual"})
    # "Oda" is part of "Oda Refsnes", so each can only become "Nils Berg"; whose own document does not name him.
    assert [task.doc_to_target(doc) for doc in task.eval_docs] == [["Nils Berg"], ["Nils Berg"]]
    assert task.config.metadata["jrt"]["rows"] == {"read": 3, "dropped": 0, "no_counterfactual": 1}
    with pytest.raises(JRTError, match="control 'counterfactual' drops every row"):
        make(tmp_path, [related, ROWS[3]], jrt={"control": "counterfactual"})


def test_all_aliases_go_and_the_choice_is_repeatable(tmp_path: Path) -> None:
    rows = [
        {"text": "Berg and nils berg met.", "key": "who", "value": ["Berg", "Nils Berg"]},
        *({"text": f"It was {name}.", "key": "who", "value": name} for name in ("Ann Lie", "Bo Dahl", "Eli Moe")),
    ]
    one, two = (make(tmp_path, rows, jrt={"control": "counterfactual"}) for _ in range(2))
    prompts = [one.doc_to_text(doc) for doc in one.eval_docs]
    assert prompts == [two.doc_to_text(doc) for doc in two.eval_docs]
    (new,) = one.doc_to_target(one.eval_docs[0])
    assert prompts[0] == f"{new} and {new} met. The who is"
    assert rows[0]["text"] == "Berg and nils berg met."


def test_forms() -> None:
    assert [form(text) for text in ("1066", "1,200", "4 July 1776", "19 men", "Ilse Maarten", "red")] == [
        "year", "number", "date", "with a number, 2-3", "name, 2-3", "words, 1",
    ]  # fmt: skip


PAGES = [
    {
        "doc_id": name,
        "text": f"The {name} sailed in {year} from the port. Her captain was {man}. She carried salt and rope north.",
        "key": "captain",
        "value": man,
    }
    for name, year, man in (("Heron", 1801, "Ilse Moe"), ("Tern", 1822, "Oda Lie"), ("Gull", 1843, "Bo Dahl"))
]


@pytest.mark.parametrize("recipe", ["fda", None])
@pytest.mark.parametrize("lead", [True, False])
@pytest.mark.parametrize("form", ["flat", "hier", "focus"])
def test_control_layouts_are_as_long_as_the_layout(tmp_path: Path, recipe: str | None, lead: bool, form: str) -> None:
    common = {"lead": lead, "as_long_as": form, **({"budget": 2.5} if form != "flat" else {})}
    own = {"recipe": recipe} if recipe else {}

    def prompts(layout: str) -> list:
        task = make(tmp_path, PAGES, jrt_common=common, jrt={**own, "layout": layout})
        return [task.doc_to_text(doc) for doc in task.eval_docs]

    longer, noise, again = prompts(form), prompts("repeat_random"), prompts("repeat_question")
    assert noise == prompts("repeat_random")
    for row, *three in zip(PAGES, longer, noise, again, strict=True):
        lengths = [prompt.counters["prompt_tokens"] for prompt in three]
        assert max(lengths) - min(lengths) <= 2
        assert [prompt.count(row["value"]) for prompt in three[1:]] == [1, 1]
        assert three[0].count(row["value"]) == 2 or form != "flat"
        assert len({prompt[prompt.document_end :] for prompt in three}) == 1
        assert all(prompt[prompt.document_start :].startswith(row["text"]) for prompt in three)
        assert three[2].count("aptain") > 4 or form != "flat"
    with pytest.raises(JRTError, match="needs other documents"):
        task = make(tmp_path, PAGES[:1], jrt={"layout": "repeat_random"})
        task.doc_to_text(task.eval_docs[0])


def test_a_level_is_repeated_on_request(tmp_path: Path) -> None:
    jrt = {"layout": "hier", "repeat_level": "paragraph"}
    levels = make(tmp_path, PAGES, jrt=jrt).config.metadata["jrt"]["levels"]
    assert [level["repeats"] for level in levels] == [1, 2, 1]
    with pytest.raises(JRTError, match=r"unknown level to repeat \(repeat_level\) 'sentense'. Did you mean 'sentence'"):
        make(tmp_path, PAGES, jrt={**jrt, "repeat_level": "sentense"})


@pytest.mark.parametrize("recipe", ["fda", None])
def test_the_wrong_document_is_not_another_window_of_the_same(tmp_path: Path, recipe: str | None) -> None:
    long = f"Captain: Ilse Moe. {'The wind blew from the north all day. ' * 9}Home port: Bergen harbour."
    rows = [
        {"doc_id": "Heron", "text": long, "key": "captain", "value": "Ilse Moe"},
        {"doc_id": "Heron", "text": long, "key": "home port", "value": "Bergen harbour"},
        {"doc_id": "Tern", "text": "The Tern lay in the port of Riga.", "key": "home port", "value": "Riga"},
    ]
    jrt = {"control": "wrong_context", "window": {"context_length": 70}, **({"recipe": recipe} if recipe else {})}
    task = make(tmp_path, rows, jrt=jrt)
    prompts = [task.doc_to_text(doc) for doc in task.eval_docs]
    assert all("The Tern lay" in prompt for prompt in prompts[:2]) and "The Tern" not in prompts[2]


def test_no_wrong_document_of_the_factbook_is_the_right_one() -> None:
    rows = factbook_rows()[:120]
    reader, window = reader_of("factbook", {}, {}), Window(context_length=600)
    for at in range(0, 120, 7):
        parts = other_document(rows, at, reader, layout_spec({}), window)
        assert parts.document.strip(".")[:80] not in rows[at]["text"]
