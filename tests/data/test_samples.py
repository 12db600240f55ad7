"""The shipped samples are what their generators make, and have the shape of the real rows."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from itertools import islice
from statistics import fmean
from typing import Any

import pytest
import yaml

from jrt_lmeval.data.making.pages import generate_pages
from jrt_lmeval.data.making.values import pool
from jrt_lmeval.data.rowfiles import read_rows
from jrt_lmeval.errors import JRTError
from jrt_lmeval.paths import samples_dir, tasks_dir
from jrt_lmeval.prompts.benchmarks import benchmark_of, prompt_for
from jrt_lmeval.prompts.layouts import layout_spec
from jrt_lmeval.prompts.tokens import count_tokens
from jrt_lmeval.prompts.window import Window, window_spec
from tools.clinical import ATTRIBUTES, CONCLUSION, LABELING, generate_summaries
from tools.make_samples import FDA_TOKENS, MAKERS, SEEDS, SWDE_TOKENS, write_sample
from tools.passages import generate_passages

KEY_VALUE = ["doc_id", "file_name", "key", "value", "text"]
CLOZE = ["context", "question", "orig_question", "answers"]
FIELDS = {
    "swde": KEY_VALUE,
    "swde_uniform": KEY_VALUE,
    "fda": KEY_VALUE,
    "squadv2": ["doc_id", "text", "value", "title", "context", "question"],
    "nq_512": [*CLOZE, "tok_pos"],
    "nq_1024": [*CLOZE, "tok_pos"],
    "nq_2048": [*CLOZE, "tok_pos"],
    "triviaqa": [*CLOZE, "doc_id"],
    "drop": CLOZE,
}


@cache
def sample(name: str) -> list[dict[str, Any]]:
    return read_rows(samples_dir() / str(benchmark_of(name).sample))


def window_of(name: str) -> Window:
    text = next(tasks_dir().glob(f"*/_{name}.yaml")).read_text(encoding="utf-8")
    block = yaml.safe_load(re.search(r"^jrt_common: (.*)$", text, re.M)[1])  # type: ignore[index]
    return window_spec(block["window"])


def document(row: dict[str, Any]) -> str:
    return row["context"] if "context" in row else row["text"]


@pytest.mark.parametrize("name", MAKERS)
def test_a_sample_can_be_made_again(name: str, tmp_path: Any) -> None:
    made = write_sample(name, tmp_path)
    shipped = samples_dir() / made.name
    # What gzip makes of the same bytes may differ between its versions.
    assert read_rows(made) == read_rows(shipped)
    assert made.suffix == ".gz" or made.read_bytes() == shipped.read_bytes()
    assert f"| `{made.name}` | {len(sample(name))} questions" in (samples_dir() / "README.md").read_text()
    assert f" | {SEEDS[name]} | **Synthetic sample**" in (samples_dir() / "README.md").read_text()


def test_an_unknown_sample_is_named(tmp_path: Any) -> None:
    with pytest.raises(JRTError, match=r"unknown sample 'fdb'\. Did you mean 'fda'"):
        write_sample("fdb", tmp_path)


@pytest.mark.parametrize("name", MAKERS)
def test_rows_have_the_published_fields_and_prompts_hold_the_answer(name: str) -> None:
    assert 48 <= len(sample(name)) <= 96
    for row in sample(name):
        assert list(row) == FIELDS[name]
        labels = benchmark_of(name).labels(row)
        assert labels[0] in document(row) and all(len(label) > 1 for label in labels)
        for layout in ("once", "flat", "hier"):
            prompt = prompt_for(name, layout_spec({"layout": layout}), row, window_of(name))
            assert prompt is not None and labels[0] in prompt and prompt.counters["answer_outside"] == 0


def test_all_samples_are_small() -> None:
    assert sum(file.stat().st_size for file in samples_dir().iterdir()) < 2_000_000


@pytest.mark.parametrize("name", MAKERS)
def test_names_are_not_those_of_training(name: str) -> None:
    capitals = set(re.findall(r"\b[A-Z][a-z]{5,}\b", " ".join({document(row) for row in sample(name)})))
    used = {kind: capitals & set(pool(kind, "test")) for kind in ("first", "last", "town", "brand")}
    assert sum(map(len, used.values())) > 20
    assert not {word for kind in used for word in capitals & set(pool(kind, "train"))}


def test_pages_have_the_shape_of_swde() -> None:
    rows = sample("swde")
    assert set(Counter(row["doc_id"] for row in rows).values()) == {6}
    for row in rows:
        page, mark, tail = row["text"].partition("Summary of information above... ")
        assert mark and tail == f"{row['key']}:"
        assert row["value"] in page
        assert SWDE_TOKENS[0] - 5 <= count_tokens(page) <= SWDE_TOKENS[1] + 5


def test_facts_of_the_uniform_sample_stand_anywhere() -> None:
    def places(name: str) -> list[float]:
        texts = [(row["text"].partition("Summary of information above")[0], row["value"]) for row in sample(name)]
        return [text.rindex(value) / len(text) for text, value in texts]

    assert fmean(places("swde")) < 0.45 < 0.5 < fmean(places("swde_uniform")) < 0.6
    pages = islice(generate_pages("test", 5, facts=(8, 22), words=(150, 480), anywhere=True), 300)
    found = [page.text.index(value) / len(page.text) for page in pages for _, value in page.facts if len(value) > 5]
    quarters = [sum(low <= place < low + 0.25 for place in found) / len(found) for low in (0, 0.25, 0.5, 0.75)]
    assert min(quarters) > 0.15 and max(quarters) < 0.35, quarters


def test_summaries_have_the_shape_of_fda() -> None:
    rows = sample("fda")
    assert set(Counter(row["doc_id"] for row in rows).values()) == {8}
    assert {row["key"] for row in rows} == set(ATTRIBUTES) and len(ATTRIBUTES) == 16
    assert any("\u2010" in row["text"] or "\u2011" in row["text"] for row in rows)
    for row in rows:
        text = row["text"]
        assert text.endswith(f" {row['key'][0].upper()}{row['key'][1:]}:")
        assert "\n" not in text and "  " not in text
        places = [text.index(f" {letter}. ") for letter in "ABCDEFGHIJKLMNO"]
        assert places == sorted(places)
        assert FDA_TOKENS[0] <= count_tokens(text) <= FDA_TOKENS[1] + 10
        if row["key"] in ("proposed labeling", "conclusion"):
            assert row["value"] in (*LABELING, CONCLUSION)


@pytest.mark.parametrize("tokens", [512, 1024, 2048])
def test_articles_have_the_length_of_nq(tokens: int) -> None:
    for row in sample(f"nq_{tokens}"):
        assert tokens - 28 <= count_tokens(row["context"]) <= tokens
        before = row["context"][: row["context"].index(row["answers"][0])]
        assert row["tok_pos"] == count_tokens(before)
        assert row["orig_question"].endswith("?") and not row["question"].endswith("?")


def test_passages_of_squad_end_in_their_stem() -> None:
    for row in sample("squadv2"):
        assert row["text"].startswith(row["context"] + " ") and 150 <= count_tokens(row["context"]) <= 300


def test_triviaqa_has_marks_in_half_of_its_evidence() -> None:
    marked = [all(mark in row["context"] for mark in ("[DOC]", "[TLE]", "[PAR]")) for row in sample("triviaqa")]
    assert sum(marked) * 2 == len(marked)


@pytest.mark.parametrize("make", [generate_summaries, generate_passages])
def test_the_generators_refuse_what_they_cannot_make(make: Any) -> None:
    with pytest.raises(JRTError, match="unknown split 'tset'"):
        make("tset", 0)


def test_what_generators_are_told_is_checked() -> None:
    with pytest.raises(JRTError, match="tokens="):
        generate_summaries("test", 0, tokens=(100, 200))
    with pytest.raises(JRTError, match=r"unknown topic 'towns'\. Did you mean 'town'"):
        generate_passages("test", 0, topics=("towns",))
    with pytest.raises(JRTError, match=r"sentences=\(3, 2\)"):
        generate_passages("test", 0, sentences=(3, 2))
