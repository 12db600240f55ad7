"""The published prompts, byte for byte."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import pytest

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prompts import Window, layout_spec, prompt_for, render
from jrt_lmeval.prompts.benchmarks import read_row

SHIPPED = Path(__file__).parents[1] / "fixtures" / "golden_prompts"
ELSEWHERE = os.environ.get("JRT_LMEVAL_FIXTURES")
FOLDERS = [SHIPPED, *([Path(ELSEWHERE) / "golden_prompts"] if ELSEWHERE else [])]
FILES = [file for folder in FOLDERS for file in sorted(folder.glob("based_*.jsonl"))]
TASKS = ["swde", "fda", "squadv2", "nq_512", "nq_1024", "nq_2048", "triviaqa", "drop"]
LAYOUTS = {"default": "once", "twice": "flat"}

PAGE = "Site\nDirector: Zora Lindqvist. Runtime: 82 min"
ROWS = {
    "swde": {
        "doc_id": "a",
        "key": "director",
        "value": "Zora Lindqvist",
        "text": PAGE + "\nSummary of information above... director:",
    },
    "fda": {"doc_id": "a", "key": "director", "value": "Zora Lindqvist", "text": PAGE},
    "factbook": {"doc_id": "a", "key": "director", "value": "Zora Lindqvist", "text": PAGE},
    "squadv2": {
        "doc_id": "a",
        "value": "Rome",
        "context": "Rome is old. Its river is the Tiber.",
        "text": "Rome is old. Its river is the Tiber.\nQuestion: What is old?\nAnswer:",
        "question": "What is old?",
    },
    "drop": {
        "context": "Rome is old. It has 7 hills",
        "question": "The hills number",
        "orig_question": "How many hills?",
        "answers": ["seven", "7"],
    },
}
ROWS |= dict.fromkeys(("nq_512", "nq_1024", "nq_2048", "triviaqa"), ROWS["drop"])


def task_of(file: Path) -> str:
    name = file.stem.removeprefix("based_")
    return "squadv2" if name == "squad" else name


def test_every_task_has_golden_prompts() -> None:
    assert {task_of(file) for file in FILES} == set(TASKS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parts[-3]}-{file.stem}")
def test_prompts_are_the_published_ones(file: Path) -> None:
    task = task_of(file)
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        golden = json.loads(line)
        row, length = copy.deepcopy(golden["doc"]), golden["context_length"]
        where = f"{file.name}:{number} {golden['variant']} {length} {golden['note']}"
        layout = LAYOUTS[golden["variant"]]
        assert render(task, layout, row, length) == golden["prompt"], where
        assert row == golden["doc"], where
        if "prompt_cleanup" in golden:
            window = Window(context_length=length, clean_up_spaces=True)
            assert prompt_for(task, layout_spec({"layout": layout}), row, window) == golden["prompt_cleanup"], where


@pytest.mark.parametrize("layout", ["once", "flat", "hier", "focus", "passages"])
@pytest.mark.parametrize("task", sorted(ROWS))
def test_spans_tell_where_the_document_is(task: str, layout: str) -> None:
    prompt = prompt_for(task, layout_spec({"layout": layout}), ROWS[task], Window())
    parts = read_row(task, layout, ROWS[task], Window())[0]
    assert prompt is not None
    assert parts is not None
    if layout != "passages":
        assert prompt[prompt.document_start :].startswith(parts.first_document or prompt.document)
    assert prompt[prompt.document_end :] == parts.joiner + parts.question
    assert (prompt.document_start > 0) is (layout not in ("once", "hier"))
    if layout in ("once", "flat"):
        assert prompt[: prompt.document_end].endswith(prompt.document)
    assert prompt.counters["answer_outside"] == 0


def test_factbook_is_asked_as_fda_is() -> None:
    assert render("factbook", "flat", ROWS["factbook"]) == render("fda", "flat", ROWS["fda"])


def test_squad_stem_is_found_apart_from_the_passage() -> None:
    parts = read_row("squadv2", "once", ROWS["squadv2"], Window())[0]
    assert parts is not None
    assert parts.question == "Question: What is old?\nAnswer:"
    assert parts.document == ROWS["squadv2"]["context"]
    cloze = {**ROWS["squadv2"], "text": "Rome is old. Its river is the Tiber. The old one is"}
    for layout in ("hier", "focus", "passages"):
        for window in (Window(), Window("head", context_length=55)):
            parts = read_row("squadv2", layout, cloze, window)[0]
            assert parts is not None
            assert (parts.joiner, parts.question) == (" ", "The old one is")
    assert parts.document == "Rome is old."
    parts = read_row("squadv2", "hier", ROWS["squadv2"], Window())[0]
    assert parts is not None
    assert (parts.joiner, parts.question) == ("\n", "Question: What is old?\nAnswer:")
    with pytest.raises(JRTError, match="a passage and the words to complete"):
        read_row("squadv2", "hier", {**ROWS["squadv2"], "text": "Rome"}, Window())[0]


def test_the_stem_survives_every_window_but_the_published() -> None:
    for policy in ("head", "tail"):
        for task in ("swde", "squadv2"):
            prompt = prompt_for(task, layout_spec({"layout": "once"}), ROWS[task], Window(policy, context_length=54))
            assert prompt is not None
            assert prompt.endswith(("Answer:", "Director:"))
            assert "Summary" not in prompt
            assert prompt.counters["document_cut"] == 1


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("fda", {"key": ""}, "'key' is empty"),
        ("fda", {"key": None}, "'key' must be a string"),
        ("fda", {"value": None}, "row 'a': field 'value' must hold"),
        ("swde", {"text": PAGE}, "Summary of information above"),
        ("nq_512", {"question": " \n"}, "'question' is empty"),
        ("drop", {"question": ""}, "'question' is empty"),
        ("triviaqa", {"question": ""}, "'question' is empty"),
        ("drop", {"answers": []}, "'answers' must hold at least one"),
        ("squadv2", {"text": "  "}, "empty document"),
    ],
)
@pytest.mark.parametrize("length", [None, 100])
def test_bad_rows_are_named(task: str, change: dict, message: str, length: int | None) -> None:
    with pytest.raises(JRTError, match=message):
        render(task, "flat", {**ROWS[task], **change}, length)


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(JRTError, match="Did you mean 'squadv2'"):
        render("squad", "once", {})
    with pytest.raises(JRTError, match="Did you mean 'flat'"):
        render("fda", "flatt", ROWS["fda"])
