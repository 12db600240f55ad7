"""The positive control of reading twice: rows, first weights, and what the page says of the log."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from experiments.capacity import (
    ASKS,
    BEGINS,
    KINDS,
    LAYOUTS,
    LOG,
    VOCABULARY,
    answers,
    batch,
    cells,
    picture,
    recall,
    runs,
    starts,
    state_bytes,
    table,
)

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "capacity.md"
COPIES = {"once": 1, "lead_once": 1, "flat": 2, "flat_no_lead": 2}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_end_in_the_keys_asked_for_and_hold_their_values(layout: str) -> None:
    facts, asked = 12, 3
    ids, wanted = batch(random.Random(1), layout, 4, facts, asked)
    again, _ = batch(random.Random(1), layout, 4, facts, asked)
    assert torch.equal(ids, again)
    for row, values in zip(ids.tolist(), wanted.tolist(), strict=True):
        keys = row[-2 * asked :: 2]
        assert row[-2 * asked + 1 :: 2] == [ASKS] * asked
        begins = row.index(BEGINS)
        document = row[begins + 1 : begins + 1 + 2 * facts]
        pairs = dict(zip(document[::2], document[1::2], strict=True))
        assert [pairs[key] for key in keys] == values
        assert row[:begins] == (row[-2 * asked :] if layout in ("lead_once", "flat") else [])
        assert len(row) == begins + COPIES[layout] * (2 * facts + 1) + 1 + 2 * asked
        assert all(row.count(value) == COPIES[layout] and value >= 4 + VOCABULARY for value in values)


@pytest.mark.parametrize("name", KINDS)
def test_an_answer_depends_on_what_was_read_and_state_bytes_on_the_size(name: str) -> None:
    kind = KINDS[name]
    torch.manual_seed(0)
    model = kind.make(kind.sizes[0]).eval()
    with torch.no_grad():
        kind.start(model, "select")
        ids, _wanted = batch(random.Random(0), "lead_once", 2, 8, 2)
        assert answers(model, kind, ids, 2).shape == (2, 2, 4 + 2 * VOCABULARY)
    sizes = [state_bytes(name, size, 16) for size in kind.sizes]
    assert sizes == sorted(sizes)


def test_first_weights_select_and_without_the_flag_they_do_not() -> None:
    gaps = {}
    for start in ("select", "induction"):
        torch.manual_seed(0)
        model = KINDS["mamba2"].make(16)
        with torch.no_grad():
            KINDS["mamba2"].start(model, start)
        found = recall(model, KINDS["mamba2"], (64,), 64, 0)
        gaps[start] = found["lead_once"]["64"] - found["once"]["64"]
    assert gaps["select"] > 0.3 and abs(gaps["induction"]) < 0.15


# ---------------------------------------------------------------- the log and the page


@pytest.fixture(scope="module")
def found() -> list[dict]:
    return runs(ROOT / LOG)


def test_the_page_shows_the_log(found: list[dict]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert f"<!-- capacity -->\n{table(found)}<!-- /capacity -->" in text
    assert f"<!-- starts -->\n{starts(found)}<!-- /starts -->" in text
    assert (PAGE.parent / "capacity.png").read_bytes()[:4] == picture(found).saved("png")[:4]


def test_the_log_shows_the_effect_where_facts_exceed_the_state_and_none_where_all_is_kept(found: list[dict]) -> None:
    features = KINDS["mamba2"].features
    assert features is not None
    exceeding = [cell for cell in cells(found) if cell.model == "mamba2" and cell.facts >= 4 * features(cell.size)]
    assert len(exceeding) == 10
    for cell in exceeding:
        assert min(cell.gaps) >= 20
    kept = [cell for cell in cells(found) if cell.model == "llama"]
    assert len(kept) == 5
    assert all(abs(sum(cell.gaps)) / len(cell.gaps) <= 3 for cell in kept)
