"""The report: from lm_eval's files to tables, with errors by document."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from recalling import ROWS, Echo, evaluate, make
from reportlogs import write_run

from jrt_lmeval.errors import JRTError
from jrt_lmeval.report.cli import main
from jrt_lmeval.report.collect import collect
from jrt_lmeval.report.compare import main as compare
from jrt_lmeval.report.samples import Sample


def test_the_command_writes_tables_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a", [float(i // 2 % 2) for i in range(12)])
    assert (
        main([str(tmp_path / "a"), "--out", str(tmp_path / "t.md"), "--plot", str(tmp_path / "recall_swde.png")]) == 0
    )
    assert "| jrt_rnn | swde | 50.0 [" in capsys.readouterr().out
    assert "swde_jrt_hier" in (tmp_path / "t.md").read_text()
    assert (tmp_path / "recall_swde.png").stat().st_size > 5000


def test_nothing_found_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JRTError, match="no such file"):
        collect([tmp_path / "nowhere"])
    with pytest.raises(JRTError, match="--output_path"):
        collect([tmp_path])


def test_a_locale_without_utf8_prints_the_table(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [float(i // 4 % 2) for i in range(40)], facts={"pretrained": "модель"})
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "jrt_lmeval", "report", str(tmp_path / "a"), "--out", str(tmp_path / "r")]
    for locale in ({"LC_ALL": "C"}, {"PYTHONIOENCODING": "latin-1"}):
        done = subprocess.run(command, env=environment | locale, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        told = done.stdout.decode("latin-1" if "PYTHONIOENCODING" in locale else "utf-8")
        assert "50.0 ± " in told and ("\\u043c" if "PYTHONIOENCODING" in locale else "модель") in told
    assert "±" in (tmp_path / "r" / "report.md").read_text(encoding="utf-8")


def samples_of(folder: Path) -> list[Sample]:
    return list(collect([folder]).cells[0].first.samples())


@pytest.mark.parametrize("document", ["{{page}}", "{{page}} (end of the page)"])
def test_a_task_with_names_of_its_own_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], document: str
) -> None:
    rows = [{"page": row["text"], "what": row["key"], "ans": row["value"]} for row in ROWS]
    templates = {"document": document, "question": "The {{what}} is", "lead": "", "doc_to_target": "{{ans}}"}
    made = evaluate(make(tmp_path, rows, **templates), Echo(), log_samples=True)
    lines: list[dict[str, Any]] = json.loads(json.dumps(made["samples"]["mine"], default=str))
    for line in lines:
        line["arguments"] = {"gen_args_0": {"arg_0": line["arguments"][0][0]}}
        line["f1"] = line["contains"]  # as `write_run` says
    for name in ("a", "b"):
        write_run(tmp_path / name, lines=lines, task="mine", facts={"pretrained": name}, block={"layout": "once"})
    first = samples_of(tmp_path / "a")[0]
    assert (first.question, first.gold) == ("The captain is", ("Ilse Maarten",))
    from jrt_lmeval.report.misses import document_of

    bare = Sample({**first.line, "arguments": None})
    assert document_of(bare) == rows[0]["page"] + document.removeprefix("{{page}}")
    assert len({sample.document for sample in samples_of(tmp_path / "a")}) == 2
    lines[0]["f1"] = lines[0]["contains"] = 1.0 - lines[0]["contains"]
    write_run(tmp_path / "b", lines=lines, task="mine", facts={"pretrained": "b"}, block={"layout": "once"})
    assert compare([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    out = capsys.readouterr().out
    assert ": The captain is" in out and "names no question" not in out
