"""The positive control of reading twice on a real Transformer: the page shows the logs, and the logs the effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.reading_twice import WHOLE, name_of, reader_of, table
from jrt_lmeval.paper.claims import METRIC
from jrt_lmeval.report.cells import Cell
from jrt_lmeval.report.collect import collect

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cells() -> tuple[Cell, ...]:
    return tuple(collect([ROOT / "results" / "measured" / "smollm2"]).cells)


def test_the_page_shows_the_logs(cells: tuple[Cell, ...]) -> None:
    page = (ROOT / "docs" / "reading-twice.md").read_text(encoding="utf-8")
    assert f"<!-- smollm2 -->\n{table(cells)}<!-- /smollm2 -->" in page


def test_a_second_copy_is_worth_fifty_points_where_the_first_is_seen(cells: tuple[Cell, ...]) -> None:
    found = {(reader_of(cell), name_of(cell)): 100 * (cell.mean(METRIC) or 0.0) for cell in cells}
    gains = {reader: found[reader, "read twice (JRT)"] - found[reader, "read once"] for reader, _ in found}
    assert len(gains) == 4
    assert gains[WHOLE] > 50 and gains["the last 400 tokens and 4 sinks"] > 40
    assert gains["the last 256 tokens and 4 sinks"] < 10 and gains["the last 64 tokens and 4 sinks"] < 10
    assert found[WHOLE, "read twice (JRT), another document"] < 5
