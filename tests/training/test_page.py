"""The tables of docs/training.md are what the logs say."""

from __future__ import annotations

from pathlib import Path

from jrt_lmeval.markdown import with_block
from tools.training_page import bakeoff_table, draw, judged_models, lines_of, page, suite_table

ROOT = Path(__file__).parents[2]
BAKEOFF = ROOT / "results" / "training" / "bakeoff.jsonl"


def test_the_page_is_up_to_date() -> None:
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    assert page(text, lines_of(BAKEOFF)) == text
    assert all(f"| `{name}` |" in text for name in judged_models())


def test_a_stopped_run_says_so() -> None:
    run = {
        "what": "a",
        "finished": False,
        "planned_tokens": 900,
        "curve": [{"tokens": 80, "seconds": 90, "short": 0.125, "long": 0}],
    }
    assert bakeoff_table([run]).splitlines()[2] == "| a | 80 (stopped; planned: 900) | 1.5 | 12.5 | 0.0 |"


def test_a_model_is_told_with_its_start_and_its_end() -> None:
    line = suite_table(judged_models()).splitlines()[-1]
    assert line.startswith("| `softmax-teacher` | 1,477,760 | induction heads | 2,400,877 |")


def test_only_what_stands_between_the_markers_changes() -> None:
    text = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n<!-- y -->\nkept\n<!-- /y -->\n"
    assert with_block(text, "x", r"new \1") == text.replace("old", r"new \1")


def test_curves_are_drawn(tmp_path) -> None:
    draw(lines_of(BAKEOFF), judged_models(), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000
