"""README, cards and tables say what the logs of the suite say, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jrt_lmeval.checkpoints.found import shipped_models
from jrt_lmeval.errors import JRTError
from jrt_lmeval.markdown import with_block
from jrt_lmeval.paper.cli import write_tables
from jrt_lmeval.paper.plan import SUITES, THRESHOLDS, plan, runs
from jrt_lmeval.runner import stated_runs
from tools.front import BLOCK, card_rows, front, reading_twice

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / "results" / "measured" / "bundled"


def test_the_readme_has_the_table_of_the_logs() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert with_block(page, BLOCK, front(LOGS, SUITES["bundled"])) == page
    block = page.partition("<!-- measured -->")[2].partition("<!-- /measured -->")[0]
    lines = [line for line in block.splitlines() if line.startswith("| ")]
    assert "`factbook`" in block and "most frequent answer" in block
    assert {line.split("|")[1].strip() for line in lines[2:]} == {
        "JRT-RNN", "Mamba-2", "Based", "Llama", "Llama, as many bytes",
    }  # fmt: skip
    assert {line.count("|") for line in lines} == {5}, "four columns"


def test_the_page_on_reading_twice_has_the_comparisons_of_the_logs() -> None:
    page = (ROOT / "docs" / "reading-twice.md").read_text(encoding="utf-8")
    assert with_block(page, BLOCK, reading_twice(LOGS, plan(SUITES["bundled"], THRESHOLDS))) == page


def test_the_tables_are_those_of_the_logs(tmp_path: Path) -> None:
    for file in write_tables(plan(SUITES["bundled"], THRESHOLDS), LOGS, tmp_path):
        assert (ROOT / "results" / file.name).read_bytes() == file.read_bytes()


def test_every_card_has_the_figures_of_the_logs() -> None:
    rows = card_rows(LOGS, SUITES["bundled"])
    assert len(rows) >= 10
    for name, measured in rows.items():
        card = (shipped_models()[name].folder / "README.md").read_text(encoding="utf-8")
        for row in measured:
            assert f"| {' | '.join(map(str, row.values()))} |" in card


def test_every_run_of_the_plan_is_measured_and_lies_in_a_plain_folder() -> None:
    known = stated_runs(LOGS)
    assert {run.key for run in runs(plan(SUITES["bundled"], THRESHOLDS))} == known.keys()
    for path in LOGS.parent.rglob("*"):
        assert re.fullmatch(r"[A-Za-z0-9._-]+", path.name), path


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(JRTError, match="the page has no <!-- measured -->"):
        with_block("# A page", BLOCK, "| a |")
