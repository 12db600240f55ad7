"""The shipped SWDE sample is what its generator makes, and has the shape of the real rows."""

from __future__ import annotations

from collections import Counter

from jrt_lmeval.data.make_samples import SWDE_TOKENS, write_sample
from jrt_lmeval.data.rowfiles import read_rows
from jrt_lmeval.paths import samples_dir
from jrt_lmeval.prompts.gpt2 import count_tokens


def test_the_sample_can_be_made_again(tmp_path) -> None:
    assert write_sample("swde", tmp_path).read_bytes() == (samples_dir() / "swde.jsonl").read_bytes()


def test_the_sample_has_the_shape_of_the_real_rows() -> None:
    rows = read_rows(samples_dir() / "swde.jsonl")
    assert len(rows) == 72
    assert set(Counter(row["doc_id"] for row in rows).values()) == {6}
    for row in rows:
        page, mark, tail = row["text"].partition("Summary of information above... ")
        assert mark and tail == f"{row['key']}:"
        assert row["value"] in page
        assert SWDE_TOKENS[0] - 5 <= count_tokens(page) <= SWDE_TOKENS[1] + 5
        assert list(row) == ["doc_id", "file_name", "key", "value", "text"]
