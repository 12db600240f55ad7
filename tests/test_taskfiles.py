"""Task files that lm_eval would leave out without a word are named."""

from __future__ import annotations

import logging
import types
from pathlib import Path

import pytest
from lm_eval.tasks import TaskManager

from jrt_lmeval.plugin import tasks_ready
from jrt_lmeval.recall.taskfiles import faults


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


def test_lm_eval_warns_of_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Manager(TaskManager):
        pass

    tasks_ready(types.SimpleNamespace(TaskManager=Manager))  # type: ignore[arg-type]
    (tmp_path / "open.yaml").write_text("task: open\njrt: {layout: once\n")
    with caplog.at_level(logging.WARNING):
        Manager(include_path=str(tmp_path), include_defaults=False)
    assert "open.yaml, line 3" in caplog.text and "left out" in caplog.text
