"""README, cards and tables say what the logs of the suite say, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jrt_lmeval.checkpoints.found import shipped_models
from jrt_lmeval.errors import JRTError
from jrt_lmeval.markdown import with_block
from jrt_lmeval.paper.claims import Logs
from jrt_lmeval.paper.plan import JRT_BYTES, SUITES, TEACHER, WINDOWED, plan, runs
from jrt_lmeval.paper.tables import paper_report
from jrt_lmeval.report.collect import collect
from jrt_lmeval.report.tables import WRITERS, Report
from jrt_lmeval.runner import stated_runs
from tools.front import BLOCK, FULL, card_rows, front, group_of, memory_picture, points, reading_twice

ROOT = Path(__file__).resolve().parents[2]
MEASURED = ROOT / "results" / "measured" / "bundled"
SUITE = SUITES["bundled"]
ENTRIES = plan(SUITE)


@pytest.fixture(scope="module")
def logs() -> Logs:
    return Logs(MEASURED)


@pytest.fixture(scope="module")
def report(logs: Logs) -> Report:
    return paper_report(ENTRIES, logs)


def test_the_readme_has_the_table_of_the_logs(logs: Logs) -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert with_block(page, BLOCK, front(logs, SUITE, collect([MEASURED.parent / "smollm2-600"]).cells)) == page
    block = page.partition("<!-- measured -->")[2].partition("<!-- /measured -->")[0]
    lines = [line for line in block.splitlines() if line.startswith("| ")]
    assert "`factbook`" in block and "most frequent answer" in block
    assert {line.split("|")[1].strip() for line in lines[2:]} == {
        "JRT-RNN", "Mamba-2", "Based", "Llama", "SmolLM2-135M, 124 questions",
    }  # fmt: skip
    assert len({line.count("|") for line in lines}) == 1


def test_the_page_on_reading_twice_has_the_comparisons_of_the_logs(report: Report) -> None:
    page = (ROOT / "docs" / "reading-twice.md").read_text(encoding="utf-8")
    assert with_block(page, BLOCK, reading_twice(report)) == page


def test_the_tables_are_those_of_the_logs(report: Report) -> None:
    for kind, (_, write) in WRITERS.items():
        assert (ROOT / "results" / f"tables.{kind}").read_text(encoding="utf-8") == write(report)


def test_every_card_has_the_figures_of_the_logs(logs: Logs) -> None:
    rows = card_rows(logs, SUITE)
    assert len(rows) >= 10
    for name, measured in rows.items():
        card = (shipped_models()[name].folder / "README.md").read_text(encoding="utf-8")
        for row in measured:
            assert f"| {' | '.join(map(str, row.values()))} |" in card


def test_every_run_that_is_kept_is_of_the_plan_and_lies_in_a_plain_folder() -> None:
    known = stated_runs(MEASURED)
    assert known.keys() <= {run.key for run in runs(ENTRIES)}, "a run that no table has"
    for path in MEASURED.parent.rglob("*"):
        assert re.fullmatch(r"[A-Za-z0-9._-]+", path.name), path


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(JRTError, match="the page has no <!-- measured -->"):
        with_block("# A page", BLOCK, "| a |")


def test_every_row_of_the_table_is_a_point_but_the_teacher(logs: Logs) -> None:
    rows = {entry.label for entry in ENTRIES if entry.table == "memory"} - {TEACHER}
    for benchmark in SUITE.benchmarks:
        found = points(ENTRIES, logs, benchmark)
        assert {point.label for point in found} == rows
        assert [point.size for point in found] == sorted(point.size for point in found)


@pytest.mark.parametrize("benchmark", SUITE.benchmarks)
def test_a_window_keeps_no_more_than_its_budget_and_nearly_all_of_it(logs: Logs, benchmark: str) -> None:
    sizes = {point.label: point.size for point in points(ENTRIES, logs, benchmark)}
    token = 6 * 2 * 128 * 4  # layers, keys and values, width, bytes of a number
    for budget in SUITE.budgets:
        kept = sizes[f"{WINDOWED}, {budget / 1000:,.0f} KB"]
        assert 0.95 * budget < kept <= budget  # the mean of texts of which a few are shorter than the widest window
    assert abs(sizes["Learnable MLP"] - JRT_BYTES) < token  # what the comparison at equal memory rests on


def test_the_picture_draws_each_family_in_its_colour(logs: Logs) -> None:
    assert [group_of(row) for row in (FULL, f"{WINDOWED}, 100 KB", "Based", "Mamba-2", "taylor")] == [
        "Llama, whole and windowed", "Llama, whole and windowed", "Based", "Mamba-2", "JRT-RNN, by feature map",
    ]  # fmt: skip
    picture = memory_picture(ENTRIES, logs, SUITE)
    assert len(picture.figure.axes) == len(SUITE.benchmarks)
    for axis, benchmark in zip(picture.figure.axes, SUITE.benchmarks, strict=True):
        drawn = [line for line in axis.get_lines() if line.get_marker() not in ("None", "", None)]
        assert len([line for line in drawn if line.get_marker() in "os^D"]) == len(points(ENTRIES, logs, benchmark))
        assert axis.get_title("left").startswith(benchmark)
    assert "documents of factbook" in picture.caption
