"""The report: from lm_eval's files to tables, with errors by document."""

from __future__ import annotations

from pathlib import Path

import pytest
from reportlogs import write_run

from jrt_lmeval.errors import JRTError
from jrt_lmeval.report.cli import main
from jrt_lmeval.report.collect import collect


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
