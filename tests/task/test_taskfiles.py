"""Task files that lm_eval would leave out without a word are named."""

from __future__ import annotations

import json
import logging
import sys
import types
from pathlib import Path

import pytest
from lm_eval.tasks import TaskManager
from recalling import make

from jrt_lmeval import cli, one_line
from jrt_lmeval.errors import JRTError
from jrt_lmeval.plugin import ours_only, register, tasks_ready
from jrt_lmeval.task.taskfiles import faults


def test_each_fault_names_its_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text("task: good\nclass: !function no.such.Thing\ninclude: base.yaml\n")
    (tmp_path / "base.yaml").write_text("tag: x\n")
    (tmp_path / "open.yaml").write_text("task: open\njrt: {layout: once\n")
    (tmp_path / "lost.yaml").write_text("task: lost\ninclude: [base.yaml, bsae.yaml]\n")
    (tmp_path / "bytes.yaml").write_bytes(b"task: \xff\xfe\n")
    found = list(faults(tmp_path))
    assert len(found) == 3
    assert "bytes.yaml: not readable as YAML" in found[0]
    assert "lost.yaml, line 2: include: bsae.yaml is no file beside it" in found[1]
    assert "open.yaml, line 3: not readable as YAML" in found[2]


def test_lm_eval_warns_of_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_line, "FAULTS", {})

    class Manager(TaskManager):
        pass

    tasks_ready(types.SimpleNamespace(TaskManager=Manager))  # type: ignore[arg-type]
    (tmp_path / "open.yaml").write_text("task: open\njrt: {layout: once\n")
    with caplog.at_level(logging.WARNING):
        Manager(include_path=str(tmp_path), include_defaults=False)
    assert "open.yaml, line 3" in caplog.text and "left out" in caplog.text


def test_a_task_given_by_its_path_reads_the_files_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, captain in ((tmp_path / "tasks" / "one", "Ilse"), (tmp_path / "two", "Oda"), (tmp_path / "cwd", "Bo")):
        folder.mkdir(parents=True)
        row = {"text": f"Captain: {captain}.", "key": "captain", "value": captain}
        (folder / "rows.jsonl").write_text(json.dumps(row) + "\n")
    yaml = (
        "class: !function jrt_lmeval.task.RecallTask\ndataset_path: json\ntest_split: test\n"
        "dataset_kwargs: {data_files: {test: rows.jsonl}}\n"
        'document: "{{text}}"\nquestion: "The {{key}} is"\ndoc_to_target: "{{value}}"\n'
    )
    (tmp_path / "tasks" / "one" / "mine.yaml").write_text(f"task: by_relative_path\n{yaml}")
    (tmp_path / "tasks" / "_shared.yaml").write_text(yaml)
    (tmp_path / "two" / "mine.yaml").write_text("task: by_absolute_path\ninclude: ../tasks/_shared.yaml\n")
    tasks = f"../tasks/one/mine.yaml,{tmp_path}/two/mine.yaml"
    monkeypatch.chdir(tmp_path / "cwd")
    arguments = ["run", "--model", "dummy", "--tasks", tasks, "--log_samples", "--output_path", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", sys.argv)  # lm_eval's parser reads it
    with ours_only():
        assert cli.main(arguments) == 0
    samples = {path.name.split("_2")[0]: path for path in (tmp_path / "out").rglob("samples_*.jsonl")}
    for name, captain in (("samples_by_relative_path", "Ilse"), ("samples_by_absolute_path", "Oda")):
        doc = json.loads(samples[name].read_text())["doc"]
        assert (doc["value"], doc["jrt"]["question"]) == (captain, "The captain is")
        assert doc["jrt"]["document_field"] == "text"
    (results,) = (tmp_path / "out").rglob("results_*.json")
    figures = json.loads(results.read_text())["results"]["by_relative_path"]
    assert "contains_stderr,none" in figures
    assert not [name for name in figures if "_stderr_stderr" in name], "an error of an error"


def test_a_relative_file_of_a_task_from_nowhere_is_not_looked_for_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "t", "key": "k", "value": "v"}\n')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(JRTError, match=r"'rows\.jsonl' stands beside a YAML file, and this task was not read from one"):
        make(tmp_path, metadata={"version": 1.0})
    absolute = {"data_files": {"test": str(tmp_path / "rows.jsonl")}}
    assert len(make(tmp_path, dataset_kwargs=absolute, metadata={"version": 1.0}).eval_docs) == 4


@pytest.mark.parametrize("by_path", [True, False])
def test_a_block_of_ours_without_a_class_is_named(tmp_path: Path, by_path: bool) -> None:
    register()
    (tmp_path / "mine.yaml").write_text("task: mine\ndataset_path: json\ndoc_to_text: a\njrt: {layout: flat}\n")
    manager = TaskManager(include_defaults=False, include_path=None if by_path else str(tmp_path))
    with pytest.raises(
        JRTError, match=r"mine\.yaml: task 'mine' has a 'jrt' block and no class.* Add the line 'class:"
    ):
        manager.load([str(tmp_path / "mine.yaml") if by_path else "mine"])


@pytest.mark.parametrize("file", ["mine.yaml", "_shared.yaml"])
def test_a_key_that_stands_twice_is_named(tmp_path: Path, file: str) -> None:
    register()
    yaml = {
        "mine.yaml": "task: mine\ninclude: _shared.yaml\njrt: {layout: flat}\n",
        "_shared.yaml": (
            "class: !function jrt_lmeval.task.RecallTask\ndataset_path: json\ntest_split: test\n"
            "dataset_kwargs: {data_files: {test: rows.jsonl}}\n"
            'document: "{{text}}"\nquestion: "The {{key}} is"\ndoc_to_target: "{{value}}"\n'
        ),
    }
    extra = {"mine.yaml": "jrt: {layout: once}\n", "_shared.yaml": "jrt_common:\n  lead: true\n  lead: false\n"}
    (tmp_path / "rows.jsonl").write_text('{"text": "Crew: 7.", "key": "crew", "value": "7"}\n')
    for name, text in yaml.items():
        (tmp_path / name).write_text(text)
    manager = TaskManager(include_defaults=False)
    assert manager.load([str(tmp_path / "mine.yaml")])["tasks"]["mine"].jrt.layout.layout == "flat"
    (tmp_path / file).write_text(yaml[file] + extra[file])
    key, line = ("jrt", 4) if file == "mine.yaml" else ("lead", 10)
    with pytest.raises(JRTError, match=rf"{file}, line {line}: the key '{key}' stands twice"):
        manager.load([str(tmp_path / "mine.yaml")])
