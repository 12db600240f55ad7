"""What the samples log says of a prompt, what the results count, and how readable the table is."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from pathlib import Path

import pytest
from lm_eval.utils import make_table
from recalling import ROWS, Echo, evaluate, make

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prompts import Prompt
from jrt_lmeval.prompts.tokens import count_tokens
from jrt_lmeval.scoring import contains
from jrt_lmeval.stats import clustered_stderr
from jrt_lmeval.task.log import answer_places
from jrt_lmeval.task.reader import document_id, reader_of

HEAD = {"policy": "head", "context_length": 60}


def test_a_sample_says_where_its_answer_stands_in_the_prompt(tmp_path: Path) -> None:
    results = evaluate(make(tmp_path, jrt={"layout": "flat"}), Echo(), log_samples=True)
    sample = results["samples"]["mine"][0]
    prompt, facts = sample["arguments"][0][0], sample["doc"]["jrt"]
    first, last = prompt.find("Ilse"), prompt.rfind("Ilse")
    assert first < last
    assert facts["answer_first_token"] == count_tokens(prompt[: first - 1])
    assert facts["answer_last_token"] == count_tokens(prompt[: last - 1])
    assert facts["prompt_tokens"] == count_tokens(str(prompt))
    assert facts["answer_first"] == pytest.approx(facts["answer_first_token"] / facts["prompt_tokens"], abs=1e-4)
    assert facts["answer_position"] == pytest.approx(27 / 50, abs=0.01)
    assert facts["doc_id"] == "a" and facts["window"] == "none"
    assert facts["document_cut"] == facts["answer_outside"] == 0
    assert facts["jrt_seconds"] == 0.5
    json.dumps(sample["doc"])


def test_the_log_changes_neither_rows_nor_their_hash(tmp_path: Path) -> None:
    task = make(tmp_path)
    samples = evaluate(task, Echo(), log_samples=True)["samples"]["mine"]
    assert task.eval_docs == ROWS and [sample["doc"] for sample in samples] != ROWS
    other = evaluate(make(tmp_path, jrt={"layout": "flat"}), Echo(), log_samples=True)["samples"]["mine"]
    assert [sample["doc_hash"] for sample in samples] == [sample["doc_hash"] for sample in other]


def test_the_answer_is_looked_for_in_the_document_alone() -> None:
    prompt = Prompt("Rome? It is Paris. Rome", 6, 18, "It is Paris.", {"prompt_tokens": 8})
    assert set(answer_places(prompt, ["Rome", ""]).values()) == {None}
    assert answer_places(prompt, ["paris", "It"]) == {
        "answer_first_token": 3, "answer_first": 0.375, "answer_last_token": 5, "answer_last": 0.625,
    }  # fmt: skip


def test_documents_without_an_id_are_told_apart_by_their_text() -> None:
    text = hashlib.sha256(b"text").hexdigest()[:16]
    assert document_id({"doc_id": 7}, "doc_id", "text") == "7"
    assert document_id({}, "doc_id", "text") == text
    # TriviaQA's doc_id names the question as well.
    row = {"doc_id": "tc_1--Oslo.txt", "context": "text", "question": "q", "answers": ["a"]}
    assert reader_of("triviaqa", {}, {}).document_id(row) == text


def test_what_was_cut_is_in_the_results_and_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    long = {**ROWS[0], "text": "The log of the Heron. " * 9 + ROWS[0]["text"]}
    blank = {**ROWS[1], "value": ["", "19"]}
    jrt = {"recipe": "fda", "window": {"context_length": 70}}
    with caplog.at_level(logging.INFO, logger="lm_eval.jrt"):
        results = evaluate(make(tmp_path, [long, blank, *ROWS], jrt={**jrt, "window": HEAD}), Echo())
        published = evaluate(make(tmp_path, [blank, *ROWS], jrt=jrt), Echo(), limit=2)
    rows = results["configs"]["mine"]["metadata"]["jrt"]["rows"]
    assert rows == {
        "read": 6, "dropped": 0, "blank_answer": 1, "asked": 6, "document_cut": 6, "answer_outside": 6,
    }  # fmt: skip
    # As published: the first accepted answer places the window, and a blank one drops the row.
    rows = published["configs"]["mine"]["metadata"]["jrt"]["rows"]
    assert rows == {"read": 5, "dropped": 2, "asked": 2, "document_cut": 1, "answer_outside": 0}
    said = [record.getMessage() for record in caplog.records if record.name == "lm_eval.jrt"]
    lines = [line for line in said if "without a model" not in line]
    assert len(said) == 4 and "mine: without a model echo 0.0 %, majority 0.0 %, longest_match 100.0 %" in said[3]
    assert lines == [
        "mine: 6 rows (files), 1 with a blank accepted answer, found in whatever is generated, 6 asked, "
        "6 with the document cut, 6 with no answer in what is read.",
        "mine: 5 rows (files), 2 dropped (an answer or key of one character cannot place the window), 2 asked, "
        "1 with the document cut.",
    ]


def test_a_depth_is_counted_where_it_cannot_be_had(tmp_path: Path) -> None:
    task = make(tmp_path, jrt={"window": {"answer_at": 0, "context_length": 58}})
    results = evaluate(task, Echo(), log_samples=True)
    rows = results["configs"]["mine"]["metadata"]["jrt"]["rows"]
    samples = [sample["doc"]["jrt"] for sample in results["samples"]["mine"]]
    assert rows["answer_displaced"] == 2 == sum(facts["answer_displaced"] for facts in samples)
    assert all(facts["window"] == "answer_at" for facts in samples)


def test_the_table_is_short(tmp_path: Path) -> None:
    table = make_table(evaluate(make(tmp_path), Echo()))
    lines = table.splitlines()
    metrics = ["contains", "contains_normalised", "contains_word", "exact", "f1"]
    assert [line.split("|")[5].strip() for line in lines[2:]] == metrics


def test_errors_in_lm_evals_own_table_are_by_document(tmp_path: Path) -> None:
    rows = [
        {"doc_id": str(number), "text": f"Ship {number}. Captain: {name}.", "key": key, "value": name}
        for number, name in enumerate(("Ilse Moe", "Oda Lie", "Bo Dahl", "Eli Berg", "Ann Vik", "Kai Lund"))
        for key in ("captain", "master")
    ]

    class Half(Echo):
        def generate_until(self, requests: list, disable_tqdm: bool = False) -> list[str]:
            return [request.doc["value"] if int(request.doc["doc_id"]) % 2 else "?" for request in requests]

    results = evaluate(make(tmp_path, rows), Half(), log_samples=True)
    scores = results["results"]["mine"]
    samples = results["samples"]["mine"]
    values, documents = [s["contains"] for s in samples], [s["doc"]["doc_id"] for s in samples]
    # Both questions on a document are answered or neither: there are 6 answers to learn from, and not 12.
    assert scores["contains_stderr,none"] == pytest.approx(clustered_stderr(values, documents))
    assert scores["contains_stderr,none"] == pytest.approx(math.sqrt(0.25 / 5))
    assert scores["contains_stderr,none"] > 1.4 * math.sqrt(0.25 / 11)
    assert "0.2236" in make_table(results).splitlines()[2]
    json.dumps(samples, default=str)


def test_only_the_scores_that_the_yaml_names_are_shown(tmp_path: Path) -> None:
    results = evaluate(make(tmp_path, metric_list=[{"metric": "f1"}, {"metric": "contains"}]), Echo())
    assert [line.split("|")[5].strip() for line in make_table(results).splitlines()[2:]] == ["contains", "f1"]


def test_a_sample_holds_what_is_needed_to_score_it_again(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "value": ["Ilse Maarten", "I. M."]}, *ROWS[1:]]
    samples = evaluate(make(tmp_path, rows), Echo(), log_samples=True)["samples"]["mine"]
    assert samples[0]["doc"]["jrt"]["answers"] == ["Ilse Maarten", "I. M."]
    for sample in json.loads(json.dumps(samples, default=str)):
        answer, accepted = sample["filtered_resps"][0], sample["doc"]["jrt"]["answers"]
        assert sample["contains"] == contains(answer, accepted) and len(sample["prompt_hash"]) == 64


def test_a_model_tokenizer_is_named_and_not_guessed(tmp_path: Path) -> None:
    window = {"policy": "head", "context_length": 60, "tokenizer": "model"}
    source = {"config_source": str(tmp_path / "mine.yaml")}
    with pytest.raises(JRTError, match=r"task mine: window\.tokenizer 'model' needs to know whose: .*tokenizer="):
        make(tmp_path, jrt={"window": window}, metadata=source)
    task = make(tmp_path, jrt={"window": window}, metadata={**source, "tokenizer": "gpt2", "pretrained": "other"})
    assert task.config.metadata["jrt"]["window"]["tokenizer"] == "gpt2"
    head = make(tmp_path, jrt={"window": {**window, "tokenizer": "gpt2"}})
    assert [task.doc_to_text(doc) for doc in task.eval_docs] == [head.doc_to_text(doc) for doc in head.eval_docs]


class Narrow(Echo):
    """Skips the prompts about the crew, and reads the others without their first words."""

    def generate_until(self, requests: list, disable_tqdm: bool = False) -> list[str]:
        answers = super().generate_until(requests, disable_tqdm)
        for request, answer in zip(requests, answers, strict=True):
            text = str(request.args[0])
            if "crew" in text:
                answer.stats = {"jrt_skipped": 1}
            else:
                answer.stats |= {"jrt_truncated_tokens": 9, "jrt_truncated_characters": text.index("Crew:")}
        return answers


def test_skipped_rows_are_in_no_mean_and_the_table_counts_them(tmp_path: Path) -> None:
    found = evaluate(make(tmp_path), Narrow(), log_samples=True)
    whole = evaluate(make(tmp_path, rows=[row for row in ROWS if row["key"] != "crew"]), Echo())
    assert found["results"]["mine"]["contains,none"] == whole["results"]["mine"]["contains,none"] > 0
    assert found["results"]["mine"]["alias"] == "mine [2 skipped] [2 truncated]"
    assert "mine [2 skipped] [2 truncated]" in make_table(found)
    counted = found["configs"]["mine"]["metadata"]["jrt_found"]
    assert (counted["skipped"], counted["truncated"], counted["medians"]["jrt_seconds"]) == (2, 2, 0.5)


def test_after_a_cut_the_log_describes_what_was_read(tmp_path: Path) -> None:
    task = make(tmp_path, rows=[ROWS[0], ROWS[3]], description="Read this.\n")
    sample = evaluate(task, Narrow(), log_samples=True)["samples"]["mine"][0]
    sent, facts = sample["arguments"][0][0], sample["doc"]["jrt"]
    read = sent[facts["jrt_truncated_characters"] :]
    assert sent.startswith("Read this.") and read.startswith("Crew: 19.") and "Ilse" not in read
    assert facts["prompt_tokens"] == count_tokens(read)
    assert facts["answer_last_token"] is None and facts["document_cut"] == 1
