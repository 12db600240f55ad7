"""Recall against bytes: the page says what the logs say, and answers before a window are told from those in it."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np

from experiments.bytes_page import BLOCK, Measured, curve, others, picture, read, table
from experiments.recall_by_bytes import CONTROL, SHIPPED, WHOLE, rounds, settings, spread
from jrt_lmeval.markdown import with_block

ROOT = Path(__file__).resolve().parents[2]
LOGS, PAGE = ROOT / "results" / "measured" / "kv-window", ROOT / "docs" / "recurrent-models.md"
QUESTIONS = 12


def made(name: str, window: float, state: float, right: list[int]) -> Measured:
    """Answers 20, 40, ... tokens from the end of prompts of 300 tokens, two on a document."""
    far = np.arange(1, QUESTIONS + 1) * 20.0
    return Measured(
        name,
        name,
        "bfloat16",
        window,
        state,
        np.full(QUESTIONS, 300.0),
        far,
        np.array(right, dtype=float),
        np.arange(QUESTIONS) // 2,
        {"majority": np.zeros(QUESTIONS)},
    )


def example() -> dict[str, Measured]:
    near = [1, 1, 1] + [0] * 9
    every = [1, 1, 1, 1, 0, 0] * 2
    return {
        "w100": made("w100", 100, 1e6, [1, 1, 1, 1] + [0] * 8),
        "w60": made("w60", 60, 6e5, near),
        WHOLE: made(WHOLE, 0, 3e6, every),
        CONTROL: made(CONTROL, 0, 1e4, [0] * QUESTIONS),
        "jrt-mlp": made("jrt-mlp", math.nan, 8e5, near),
    }


def test_answers_in_the_window_are_told_from_those_before_it() -> None:
    found = example()
    assert [one.name for one in curve(found)] == ["w60", "w100", WHOLE]
    assert [one.name for one in others(found)] == ["jrt-mlp"]
    lines = table(found).splitlines()
    (row,) = [line for line in lines if line.startswith("| W = 60 ")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:3] == ["600", "20"]  # KB, and the share of a prompt of 300 tokens
    assert cells[3].startswith("25.0") and cells[5].startswith("100.0") and cells[5].endswith("(n = 3)")
    assert cells[6].startswith("100.0") and cells[7].startswith("0.0") and cells[7].endswith("(n = 9)")
    (row,) = [line for line in lines if line.startswith("| whole cache ")]
    assert row.rstrip(" |").endswith("-") and "| 66.7" in row and "| yes |" in row
    assert lines[0].startswith("12 questions on 6 documents; the prompt is 300 ")


def test_the_picture_is_drawn() -> None:
    assert picture(example()).saved("png").startswith(b"\x89PNG")


def test_the_page_has_the_table_of_the_logs() -> None:
    found, page = read(LOGS), PAGE.read_text(encoding="utf-8")
    assert with_block(page, BLOCK, table(found)) == page
    asked = {tuple(one.documents.tolist()) for one in found.values()}
    assert len(asked) == 1, "all settings were asked the same questions"
    assert {WHOLE, CONTROL} <= set(found) and len(curve(found)) == 6


def test_settings_say_what_differs() -> None:
    found = {one.name: one for one in settings({"pretrained": "DIR"}, (16, 32, 64), 4)}
    assert found["w32"].arguments == {"pretrained": "DIR", "kv_window": 32, "kv_sinks": 4}
    assert found[WHOLE].arguments == found[CONTROL].arguments and found[CONTROL].block == {"control": "no_context"}
    assert list(found) == [*(one.name for one in SHIPPED), WHOLE, CONTROL, "w32", "w16", "w64"]


def test_rows_are_spread_evenly_after_every_round() -> None:
    chosen = spread(200, 985)
    parts = rounds(chosen, 4)
    assert [len(part) for part in parts] == [50, 100, 150, 200] and parts[-1] == chosen
    for part, more in pairwise(parts):
        assert set(part) < set(more)
    for part in parts:
        gaps = [after - before for before, after in pairwise(part)]
        assert max(gaps) <= 4 * 5 and part[0] < 20 and part[-1] > 960
