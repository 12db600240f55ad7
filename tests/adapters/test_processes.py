"""Several processes: documents are split among them, and answers are those of one process, byte for byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
from recalling import ROWS, TEMPLATES, make

from jrt_lmeval.task.base import ranks


def test_questions_on_one_document_go_to_one_process() -> None:
    assert ranks("aabbbc", [5, 5, 9, 9, 9, 1], 2) == [1, 1, 0, 0, 0, 1]
    assert ranks("abcd", [4, 3, 2, 1], 2) == [0, 1, 1, 0]
    assert ranks("aaaa", [7, 7, 7, 7], 1) == [0, 0, 0, 0]
    assert sorted(ranks("aaaab", [7, 7, 7, 7, 1], 4)) == [0, 0, 1, 2, 3], "no process is without rows"
    assert sorted(ranks("abc", [0, 0, 0], 3)) == [0, 1, 2], "whatever the lengths"
    assert ranks("ab", [1, 1], 3) == [0, 1] and ranks("", [], 2) == []


def test_a_task_gives_each_process_whole_documents(tmp_path: Path) -> None:
    task = make(tmp_path, rows=[*ROWS, *({**row, "doc_id": row["doc_id"] * 2} for row in ROWS)])
    parts = [[(number, dict(doc)["doc_id"]) for number, doc in task.doc_iterator(rank=r, world_size=2)] for r in (0, 1)]
    assert sorted(number for part in parts for number, _ in part) == list(range(8))
    assert not {document for _, document in parts[0]} & {document for _, document in parts[1]}
    limited = [number for r in (0, 1) for number, _ in task.doc_iterator(rank=r, world_size=2, limit=3)]
    assert sorted(limited) == [0, 1, 2]


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
ACCELERATE = [
    *("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"),
    *("--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"),
]


def run(folder: Path, launcher: list[str], *more: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Results and samples of the task in `folder`, by the bare command under a launcher."""
    out = folder / "-".join(["out", *launcher[1:2], *more])
    command = [
        sys.executable, *launcher, "-m", "jrt_lmeval", "run", "--model", "jrt_rnn", "--tasks", str(folder / "t.yaml"),
        "--model_args", f"pretrained={folder / 'model'},prefix=document", "--output_path", str(out), "--log_samples",
        *more,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1500)
    assert done.returncode == 0, done.stderr[-3000:]
    (results,), (samples,) = out.rglob("results_*.json"), out.rglob("samples_*.jsonl")
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    return json.loads(results.read_text()), sorted(rows, key=lambda row: row["doc_id"])


@pytest.mark.slow
def test_two_processes_give_the_answers_of_one(tmp_path: Path) -> None:
    tiny.save(tiny.jrt(), tmp_path / "model")
    rows = [
        {"doc_id": f"d{d}", "text": tiny.text(d, 30 + 9 * d), "key": word, "value": "42"}
        for d in range(3)
        for word in tiny.WORDS[: 3 + d]
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "t", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}},
        "test_split": "test", **TEMPLATES, "metadata": {"version": 1.0},
    }  # fmt: skip
    text = "".join(f"{key}: {json.dumps(value)}\n" for key, value in task.items())
    (tmp_path / "t.yaml").write_text("class: !function jrt_lmeval.task.RecallTask\n" + text)
    alone, rows_alone = run(tmp_path, [])

    def kept(row: dict[str, Any]) -> dict[str, Any]:
        doc = {**row["doc"], "jrt": {k: v for k, v in row["doc"]["jrt"].items() if k != "jrt_seconds"}}
        # the last request of a process is handed out again until all have as many: `resps` shows the answer twice
        return {**row, "doc": doc, "resps": row["resps"][0][:1]}

    for launcher in (TORCHRUN, ACCELERATE):
        both, rows_both = run(tmp_path, launcher)
        assert [kept(row) for row in rows_both] == [kept(row) for row in rows_alone]
        one, two = alone["config"]["jrt"], both["config"]["jrt"]
        for name in ("rows", "prompt_tokens", "prompt_tokens_computed", "prompt_tokens_reused", "new_tokens"):
            assert two[name] == one[name], name
        assert two["world_size"] == 2 and one["prompt_tokens_reused"] > 0
    # a process without a question of its own takes part, and counts for nothing
    few, (row,) = run(tmp_path, TORCHRUN, "--limit", "1")
    assert kept(row) == kept(rows_alone[0]) and few["n-samples"]["t"]["effective"] == 1


def test_a_process_without_rows_asks_one_that_is_not_scored(tmp_path: Path) -> None:
    task = make(tmp_path)
    task.build_all_requests(limit=1, rank=1, world_size=2)
    assert [request.doc_id for request in task.instances] == [0]
    assert list(task.doc_iterator(limit=1, rank=1, world_size=2)) == []
    assert [number for number, _ in task.doc_iterator(limit=1, rank=0, world_size=2)] == [0]
