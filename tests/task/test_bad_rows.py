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
        for key in ("captain", "skipper", "master")
    ]
    assert len(rows[0]["text"]) > 5e6
    started = time.process_time()
    task = make(tmp_path, rows, jrt={"recipe": "fda", "window": {"context_length": 300}})
    prompts = [task.doc_to_text(doc) for doc in task.eval_docs]
    assert all("Ilse Maarten" in prompt and prompt.counters["document_cut"] == 1 for prompt in prompts)
    assert all(prompt.counters["prompt_tokens"] < 300 for prompt in prompts)
    assert time.process_time() - started < 60
