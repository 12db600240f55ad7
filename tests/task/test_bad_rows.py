"""Bad rows: one clear error that names file, row and field, or a count, and nothing else."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from recalling import ROWS, make

from jrt_lmeval.errors import JRTError
from jrt_lmeval.task.recall import RecallTask

CLOZE = {
    "context": "Rome is old. It has 7 hills.",
    "question": "The hills number",
    "orig_question": "How many hills?",
    "answers": ["seven", "7"],
}


@pytest.mark.parametrize("recipe", ["fda", None])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": ""}, "is empty"),
        ({"text": None}, "is None: it must be a string"),
        ({"text": ["a"]}, r"is \['a'\]: it must be a string"),
        ({"key": " "}, "is empty"),
        ({"value": []}, r"is \[\]: it must hold the accepted answer"),
        ({"value": {"text": "19"}}, "it must hold the accepted answer or a list"),
        ({"value": ["", "  "]}, "not all of them empty"),
        ({"text": "Log \ud800 of the Heron"}, "character 5: half of a surrogate pair"),
        ({"value": "19\udc00"}, "character 3: half of a surrogate pair"),
    ],
)
def test_a_bad_value_names_file_row_and_field(
    tmp_path: Path, recipe: str | None, change: dict[str, Any], message: str
) -> None:
    (field,) = change
    field = field if recipe else {"text": "document", "key": "question", "value": "doc_to_target"}[field]
    question = {} if recipe else {"question": "{{key}}"}
    with pytest.raises(JRTError, match=rf"task mine: .*rows.jsonl, line 2 \(doc_id 'a'\): .*'{field}' .*{message}"):
        make(tmp_path, [ROWS[0], {**ROWS[1], **change}], jrt={"recipe": recipe} if recipe else {}, **question)


@pytest.mark.parametrize("field", ["context", "question", "answers"])
def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    row = {name: value for name, value in CLOZE.items() if name != field}
    with pytest.raises(JRTError, match=rf"rows.jsonl, line 2: field '{field}' is missing.* The row has: "):
        make(tmp_path, [CLOZE, row], jrt={"recipe": "drop"})


def test_a_blank_alias_is_dropped_or_counted_as_published(tmp_path: Path) -> None:
    rows = [{**CLOZE, "answers": ["", "seven"]}, {**CLOZE, "answers": ["seven hills", ""]}]
    published = make(tmp_path, rows, jrt={"recipe": "nq_512", "window": {"context_length": 100}})
    assert published.config.metadata["jrt"]["rows"] == {"read": 2, "dropped": 1, "blank_answer": 1}
    whole = make(tmp_path, rows, jrt={"recipe": "nq_512"})
    assert whole.config.metadata["jrt"]["rows"] == {"read": 2, "dropped": 0, "blank_answer": 2}
    assert whole.doc_to_text(whole.eval_docs[1]).counters["answer_outside"] == 1


def test_bytes_that_are_no_utf8_name_the_line(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(json.dumps(ROWS[0]).encode() + b'\n{"text": "caf\xe9"}\n')
    config = {
        "task": "mine", "dataset_path": "json", "test_split": "test", "jrt": {"recipe": "fda"},
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
    }  # fmt: skip
    with pytest.raises(JRTError, match=r"rows.jsonl, line 2: byte 14 is not UTF-8"):
        RecallTask(config=config)


def test_a_document_of_five_megabytes_is_cut_and_counted(tmp_path: Path) -> None:
    filler = "The crew sang and the wind was fair for days. " * 60_000
    rows = [
        {"text": filler + "The captain was Ilse Maarten. " + filler, "key": key, "value": "Ilse Maarten"}
        for key in ("captain", "skipper")
    ]
    assert len(rows[0]["text"]) > 5e6
    started = time.process_time()
    task = make(tmp_path, rows, jrt={"recipe": "fda", "window": {"context_length": 300}})
    prompts = [task.doc_to_text(doc) for doc in task.eval_docs]
    assert all("Ilse Maarten" in prompt and prompt.counters["document_cut"] == 1 for prompt in prompts)
    assert all(prompt.counters["prompt_tokens"] < 300 for prompt in prompts)
    assert time.process_time() - started < 60


@pytest.mark.parametrize(
    ("change", "templates", "message"),
    [
        ({"key": None}, {}, r"'question' is 'The {{key}} is': field 'key' is None; it must hold a text"),
        ({"key": ""}, {}, r"'question' is 'The {{key}} is': field 'key' is ''; it must hold a text"),
        ({"key": None}, {"question": "{{key}}"}, "'question' is None: it must be a string"),
        ({"more": None}, {"document": "{{text}} {{more}}"}, r"'document' is .*: field 'more' is None"),
        ({"key": None}, {"question": "What?", "lead": "{{key}}"}, "'lead' is None: it must be a string"),
        ({"value": None}, {}, "'doc_to_target' is None: it must hold the accepted answer"),
        ({"value": None}, {"doc_to_target": "the {{value}}"}, "field 'value' is None"),
        ({"value": True}, {}, "'doc_to_target' is True: it must hold the accepted answer"),
        ({"doc_id": ""}, {}, "field 'doc_id' is '': it must tell the document from others"),
        ({"doc_id": None}, {}, "field 'doc_id' is None: it must tell"),
    ],
)
def test_null_and_empty_are_not_asked(
    tmp_path: Path, change: dict[str, Any], templates: dict[str, str], message: str
) -> None:
    rows = [{**row, "more": "."} for row in ROWS]
    with pytest.raises(JRTError, match=rf"rows.jsonl, line 2 .*{message}"):
        make(tmp_path, [rows[0], {**rows[1], **change}], **templates)
    if not templates and not {"key", "value"} & change.keys():
        with pytest.raises(JRTError, match=rf"rows.jsonl, line 2 .*{message}"):
            make(tmp_path, [rows[0], {**rows[1], **change}], jrt={"recipe": "fda"})


def test_an_optional_field_of_a_document_may_be_empty(tmp_path: Path) -> None:
    rows = [{**row, "title": ""} for row in ROWS]
    task = make(tmp_path, rows, document="{{title}}{{text}}", question="{{key or 'x'}} is", lead="{{title}}")
    assert str(task.doc_to_text(task.eval_docs[0])) == f"{ROWS[0]['text']} captain is"


def test_text_of_a_csv_file_stays_text(tmp_path: Path) -> None:
    text = 'doc_id,text,key,value\r\n007,"Code 007, ""Bond""\nLine two.",code,007\r\n1e3,Rate: 1.50.,rate,1.50\r\n'
    (tmp_path / "rows.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (tmp_path / "rows.tsv").write_text("text\tkey\tvalue\nCrew: NA.\tcrew\tNA\n")
    task = make(tmp_path, dataset_path="csv", dataset_kwargs={"data_files": {"test": "rows.csv"}})
    assert [task.doc_to_target(doc) for doc in task.eval_docs] == [["007"], ["1.50"]]
    assert [doc["doc_id"] for doc in task.eval_docs] == ["007", "1e3"]
    assert task.eval_docs[0]["text"] == 'Code 007, "Bond"\nLine two.'
    tabs = {"data_files": {"test": "rows.tsv"}, "sep": "\t"}
    task = make(tmp_path, dataset_path="csv", dataset_kwargs=tabs)
    assert task.doc_to_target(task.eval_docs[0]) == ["NA"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,key,value\nCrew: 19.,crew\n", "rows.csv, line 2: 2 values for 3 columns"),
        ("text,key,value\na,b,c\na,b,c,d\n", "rows.csv, line 3: 4 values for 3 columns"),
        ("text,text,value\na,b,c\n", "every column needs a name of its own"),
        ("text,,value\na,b,c\n", "every column needs a name of its own"),
        ("text,key,value\n", "rows.csv: no rows"),
        ("", "rows.csv: no rows"),
        ('text,key,value\n"a,b,c\n', "rows.csv, line 2: not CSV"),
    ],
)
def test_a_bad_csv_file_names_the_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "rows.csv").write_text(content)
    with pytest.raises(JRTError, match=message):
        make(tmp_path, dataset_path="csv", dataset_kwargs={"data_files": {"test": "rows.csv"}})


def test_answers_that_stand_in_no_document_are_a_warning_with_the_cause(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [
        ("Port: Sa\u0303o Tome.", "S\u00e3o Tome"),
        ("Port: New\nYork.", "New York"),
        ("Men: 1,500.", "1500"),
        ("3 men and 4 boys.", "7"),
        ("Port: Oslo.", "Oslo"),
    ]
    rows = [{"text": text, "key": f"k{at}", "value": value} for at, (text, value) in enumerate(texts)]
    task = make(tmp_path, rows)
    task.build_all_requests()
    (warning,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert "mine: in 4 of 5 rows no accepted answer stands in the whole document: 1 are written in another" in warning
    assert "1 have other white space" in warning and "1 have other quotes, dashes, accents or digit grouping" in warning
    assert "1 are computed, or stand in another document" in warning
    assert task.config.metadata["jrt"]["rows"]["answer_nowhere"] == 4
    caplog.clear()
    make(tmp_path).build_all_requests()
    assert not [one for one in caplog.records if one.levelname == "WARNING"]
