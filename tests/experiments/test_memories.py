"""The table of docs/retrofit.md says what the logs say."""

from __future__ import annotations

from pathlib import Path

from experiments import memories
from jrt_lmeval.markdown import with_block
from jrt_lmeval.report.collect import collect

ROOT = Path(__file__).parents[2]
LOGS = [ROOT / "results" / "measured" / name for name in ("smollm2", "memories")]


def test_the_page_is_made_from_the_logs() -> None:
    page, table = (ROOT / "docs" / "retrofit.md").read_text(encoding="utf-8"), memories.table(collect(LOGS).cells)
    assert with_block(page, memories.BLOCK, table) == page
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| the ")]
    once = {row[0].strip(): float(row[2].split()[0]) for row in rows}
    windows = once["the last 64 tokens and 4 sinks"]
    assert all(score > windows + 40 for name, score in once.items() if "memories" in name)
