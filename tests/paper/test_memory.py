"""Recall against memory: the table's rows, and the picture that is made of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from jrt_lmeval.paper.plan import JRT_BYTES, SUITES, TEACHER, THRESHOLDS, WINDOWED, plan
from tools.front import FULL, group_of, memory_picture, points

LOGS = Path(__file__).resolve().parents[2] / "results" / "measured" / "bundled"
SUITE = SUITES["bundled"]
ENTRIES = plan(SUITE, THRESHOLDS)


def test_every_row_of_the_table_is_a_point_but_the_teacher() -> None:
    rows = {entry.label for entry in ENTRIES if entry.table == "memory"} - {TEACHER}
    for benchmark in SUITE.benchmarks:
        found = points(ENTRIES, LOGS, benchmark)
        assert {point.label for point in found} == rows
        assert [point.size for point in found] == sorted(point.size for point in found)


@pytest.mark.parametrize("benchmark", SUITE.benchmarks)
def test_a_window_keeps_no_more_than_its_budget_and_nearly_all_of_it(benchmark: str) -> None:
    sizes = {point.label: point.size for point in points(ENTRIES, LOGS, benchmark)}
    token = 6 * 2 * 128 * 4  # layers, keys and values, width, bytes of a number
    for budget in SUITE.budgets:
        kept = sizes[f"{WINDOWED}, {budget / 1000:,.0f} KB"]
        assert 0.95 * budget < kept <= budget  # the mean of texts of which a few are shorter than the widest window
    assert abs(sizes["Learnable MLP"] - JRT_BYTES) < token  # what the comparison at equal memory rests on


def test_the_picture_draws_each_family_in_its_colour() -> None:
    assert [group_of(row) for row in (FULL, f"{WINDOWED}, 100 KB", "Based", "Mamba-2", "taylor")] == [
        "Llama, whole and windowed", "Llama, whole and windowed", "Based", "Mamba-2", "JRT-RNN, by feature map",
    ]  # fmt: skip
    picture = memory_picture(ENTRIES, LOGS, SUITE)
    assert len(picture.figure.axes) == len(SUITE.benchmarks)
    for axis, benchmark in zip(picture.figure.axes, SUITE.benchmarks, strict=True):
        drawn = [line for line in axis.get_lines() if line.get_marker() not in ("None", "", None)]
        assert len([line for line in drawn if line.get_marker() in "os^D"]) == len(points(ENTRIES, LOGS, benchmark))
        assert axis.get_title("left").startswith(benchmark)
    assert "documents of factbook" in picture.caption
