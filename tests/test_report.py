"""The report: from lm_eval's files to tables, with errors by document."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from reportlogs import write_run

from jrt_lmeval.errors import JRTError
from jrt_lmeval.report.cli import main
from jrt_lmeval.report.collect import collect
from jrt_lmeval.report.stats import clustered_stderr
from jrt_lmeval.report.tables import percent


def test_one_question_a_document_is_the_ordinary_standard_error() -> None:
    values = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0]
    mean = sum(values) / 7
    ordinary = math.sqrt(sum((v - mean) ** 2 for v in values) / 6 / 7)
    assert clustered_stderr(values, range(7)) == pytest.approx(ordinary)


def test_questions_that_fall_together_count_once() -> None:
    once = clustered_stderr([1.0, 0.0, 0.0, 1.0, 1.0, 0.0], range(6))
    tripled = clustered_stderr(
        [v for v in (1.0, 0.0, 0.0, 1.0, 1.0, 0.0) for _ in range(3)], [i // 3 for i in range(18)]
    )
    assert tripled == pytest.approx(once)


def test_too_few_documents_have_no_error() -> None:
    assert math.isnan(clustered_stderr([1.0, 0.0, 1.0, 0.0], [0, 0, 1, 1]))
    assert math.isnan(clustered_stderr([], []))


def test_the_command_writes_tables_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a", [float(i // 2 % 2) for i in range(12)])
    assert main([str(tmp_path / "a"), "--out", str(tmp_path / "t.md"), "--plot", str(tmp_path / "p.png")]) == 0
    assert "| swde | 12 | - | - | 50.0 ± 22.4 | - |" in capsys.readouterr().out
    assert "swde_jrt_hier" in (tmp_path / "t.md").read_text()
    assert (tmp_path / "p.png").stat().st_size > 5000


def test_nothing_found_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JRTError, match="no such file"):
        collect([tmp_path / "nowhere"])
    with pytest.raises(JRTError, match="--output_path"):
        collect([tmp_path])


def test_the_numbers_shown_are_those_of_the_logs(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parent.parent
    cells = collect([root / "results" / "measured"]).cells
    assert main([str(root / "results" / "measured"), "--out", str(tmp_path / "tables.md")]) == 0
    assert (root / "results" / "tables.md").read_text(encoding="utf-8") == (tmp_path / "tables.md").read_text("utf-8")
    shown = (root / "README.md").read_text(encoding="utf-8").replace("**", "")
    card = (root / "jrt_lmeval/checkpoints/weights/jrt-mlp/README.md").read_text(encoding="utf-8")
    for cell in cells:
        assert f" {percent(cell)} |" in shown and f" {percent(cell)} |" in card
