"""The page generator: reproducible, true to its facts, and with test names that training never shows."""

from __future__ import annotations

import re
from itertools import islice

import pytest

from jrt_lmeval.data.making.pages import ASKED, Page, generate_pages
from jrt_lmeval.data.making.values import pool
from jrt_lmeval.data.rowfiles import read_rows
from jrt_lmeval.errors import JRTError
from jrt_lmeval.paths import samples_dir

PROPER = {"name", "title", "director", "studio", "website"}


def take(count: int, *args: object, **kwargs: object) -> list[Page]:
    return list(islice(generate_pages(*args, **kwargs), count))


@pytest.mark.parametrize("split", ["train", "test"])
def test_same_seed_same_pages(split: str) -> None:
    assert take(20, split, 3) == take(20, split, 3)
    assert take(20, split, 3) != take(20, split, 4)


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_value_stands_in_the_text_and_keys_are_distinct(split: str) -> None:
    for page in take(300, split, 0):
        keys = [key for key, _ in page.facts]
        assert keys and len(set(keys)) == len(keys)
        assert all(value and value in page.text for _, value in page.facts), page.doc_id


def test_no_test_name_is_seen_in_training() -> None:
    names = {value for page in take(300, "test", 0) for key, value in page.facts if key in PROPER and len(value) > 6}
    names |= {part for name in names for part in re.split(r", | \| | and ", name) if len(part) > 6}
    seen = "\n".join(page.text for page in take(2000, "train", 0)).lower()
    assert len(names) > 300
    leaked = [
        name for name in map(str.lower, names) if name in seen and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", seen)
    ]
    assert not leaked


@pytest.mark.parametrize("kind", ["first", "last", "town", "brand", "noun"])
def test_name_pools_are_disjoint_and_rich(kind: str) -> None:
    train, test = pool(kind, "train"), pool(kind, "test")
    assert not {name.lower() for name in train} & {name.lower() for name in test}
    assert len(train) > (200 if kind == "noun" else 4000) and len(test) > 30


def test_test_pages_ask_the_keys_of_the_benchmark() -> None:
    asked = {key for page in take(200, "test", 0) for key, _ in page.facts}
    assert asked == set(ASKED["university"]) | set(ASKED["movie"])


def test_training_is_varied() -> None:
    pages = take(1500, "train", 0)
    assert len({page.doc_id.split("-")[0] for page in pages}) >= 12
    assert len({key for page in pages for key, _ in page.facts}) > 1000
    assert len({value for page in pages for _, value in page.facts}) > 10_000
    flat = sum("\n" not in page.text for page in pages) / len(pages)
    assert 0.2 < flat < 0.32


@pytest.mark.parametrize(("facts", "words"), [((1, 2), (10, 30)), ((4, 24), (60, 600)), ((20, 60), (500, 900))])
def test_length_hints(facts: tuple[int, int], words: tuple[int, int]) -> None:
    pages = take(200, "train", 5, facts=facts, words=words)
    lengths = sorted(len(page.text.split()) for page in pages)
    assert lengths[-1] < 1.3 * words[1] + 30
    assert lengths[0] <= 2 * words[0]
    assert max(len(page.facts) for page in pages) <= facts[1]


def test_bad_arguments_are_named() -> None:
    with pytest.raises(JRTError, match="unknown split 'tset'"):
        generate_pages("tset", 0)
    with pytest.raises(JRTError, match=r"words=\(9, 3\)"):
        generate_pages("train", 0, words=(9, 3))


def test_the_page_on_samples_says_how_many_answers_training_pages_hold_too() -> None:
    answers = {row["value"] for row in read_rows(samples_dir() / "swde.jsonl")}
    trained = {value for page in islice(generate_pages("train", 0), 2000) for _, value in page.facts}
    said = f"of the {len(answers)} different answers of `swde.jsonl`, {len(answers & trained)} ("
    assert said in (samples_dir() / "README.md").read_text(encoding="utf-8")
