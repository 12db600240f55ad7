"""Rows, a model that repeats what it reads, and tasks made of both, for tests of `RecallTask`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lm_eval.api.model import LM
from lm_eval.evaluator import simple_evaluate
from lm_eval.tasks import TaskManager

from jrt_lmeval.task.recall import RecallTask

ROWS = [
    {
        "doc_id": "a",
        "text": "Log of the Heron. Captain: Ilse Maarten. Crew: 19.",
        "key": "captain",
        "value": "Ilse Maarten",
    },
    {"doc_id": "a", "text": "Log of the Heron. Captain: Ilse Maarten. Crew: 19.", "key": "crew", "value": "19"},
    {"doc_id": "b", "text": "Log of the Tern. Captain: Oda Refsnes. Crew: 7.", "key": "crew", "value": "7"},
    {
        "doc_id": "b",
        "text": "Log of the Tern. Captain: Oda Refsnes. Crew: 7.",
        "key": "captain",
        "value": "Oda Refsnes",
    },
]
TEMPLATES = {
    "document": "{{text}}",
    "question": "The {{key}} is",
    "lead": "About {{key}}. ",
    "doc_to_target": "{{value}}",
}


class Answer(str):
    stats: dict[str, float]


class Echo(LM):
    """Answers with the first words of the document; keeps what it was asked."""

    tokenizer_name = "echo"

    def generate_until(self, requests: list, disable_tqdm: bool = False) -> list[str]:
        self.requests = requests
        answers = []
        for request in requests:
            answer = Answer(f"I read {request.args[0].document[-40:]}")
            answer.stats = {"jrt_prefix_tokens": 3.0, "jrt_seconds": 0.5}
            answers.append(answer)
        return answers

    def loglikelihood(self, requests: list, disable_tqdm: bool = False) -> list:
        raise AssertionError("nothing is scored by likelihood")

    loglikelihood_rolling = loglikelihood

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        turns = "".join(f"<{turn['role']}>{turn['content'].strip()}</s>" for turn in chat_history)
        return turns + ("<assistant>" if add_generation_prompt else "")


def make(tmp_path: Path, rows: list[dict[str, Any]] = ROWS, **config: Any) -> RecallTask:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = {
        "task": "mine",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}},
        "test_split": "test",
        "metadata": {"version": 1.0, "config_source": str(tmp_path / "mine.yaml")},
    }
    templates = {} if "recipe" in (config.get("jrt") or {}) else TEMPLATES
    return RecallTask(config={**base, **templates, **config})


def evaluate(task: RecallTask, model: LM, **arguments: Any) -> dict[str, Any]:
    manager = TaskManager(include_defaults=False)
    return simple_evaluate(model=model, tasks=[task], task_manager=manager, bootstrap_iters=100, **arguments)
