"""Prefix policies against lengths worked out by hand."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from itertools import chain
from pathlib import Path

import pytest

from jrt_lmeval.data.shipped import factbook_rows
from jrt_lmeval.errors import JRTError
from jrt_lmeval.prefix import (
    ENTROPY_HIGH,
    ENTROPY_LOW,
    THRESHOLDS,
    LearnedPrefix,
    PrefixPolicy,
    choose_prefix,
    features,
    passages,
    prefix_policy,
    unigram_entropy,
)

ROOT = Path(__file__).parents[2]
VARIED = [1, 2, 3, 4]  # H = 1
EVEN = [1, 1, 2, 2]  # 1 bit of log2(4) = 2: H = 0.5
REPEATED = [7, 7, 7, 7]  # H = 0


def experiment(name):
    """The module of a script in experiments/."""
    spec = spec_from_file_location(name, ROOT / f"experiments/{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("ids", "entropy"),
    [
        ([], 0.0),
        ([5], 0.0),
        (REPEATED, 0.0),
        (EVEN, 0.5),
        (VARIED, 1.0),
        ([1, 1, 2], 0.91829583405449 / 1.58496250072116),
        ([1, 1, 1, 1, 2, 2, 3, 4], 1.75 / 3.0),
    ],
)
def test_entropy_by_hand(ids, entropy):
    assert unigram_entropy(ids) == pytest.approx(entropy, abs=1e-12)


def dynamic(**changes):
    return PrefixPolicy(**{"policy": "dynamic", "entropy_high": 0.8, "entropy_low": 0.4, **changes})


@pytest.mark.parametrize(
    ("policy", "prompt", "document_end", "ids", "length"),
    [
        (PrefixPolicy("full"), 100, 90, EVEN, 100),
        (PrefixPolicy("none"), 100, 90, EVEN, 0),
        (PrefixPolicy("document"), 100, 90, EVEN, 90),
        (PrefixPolicy("document"), 100, 0, EVEN, 1),  # clipped to at least one token
        (PrefixPolicy("document"), 100, 130, EVEN, 100),
        (PrefixPolicy("fixed", prefix_length=64), 100, 90, EVEN, 64),
        (PrefixPolicy("fixed", prefix_length=640), 100, 90, EVEN, 100),  # clipped to the prompt
        (PrefixPolicy("fixed", prefix_length=0.5), 100, 90, EVEN, 45),  # of the document, not of the prompt
        (PrefixPolicy("fixed", prefix_length=1.0), 100, 90, EVEN, 90),  # to the document's end, as `document`
        (PrefixPolicy("fixed"), 100, 90, EVEN, 90),
        (PrefixPolicy("fixed", prefix_length=0.5), 100, 130, EVEN, 50),
        (PrefixPolicy("fixed", prefix_length=0.5), 9, 9, EVEN, 5),  # 4.5 rounds half up
        (PrefixPolicy("fixed", prefix_length=0.35), 12, 10, EVEN, 4),  # 3.5; 0.35 * 10 is 3.499... in binary
        (PrefixPolicy("fixed", prefix_length=0.5), 3, 3, EVEN, 2),  # 1.5 rounds up
        (PrefixPolicy("fixed", prefix_length=0.1), 3, 3, EVEN, 1),  # 0.3 rounds to 0, clipped to 1
        (dynamic(prefix_length=100), 1000, 900, VARIED, 110),  # H = 1: +10 %
        (dynamic(prefix_length=100), 1000, 900, REPEATED, 90),  # H = 0: -10 %
        (dynamic(prefix_length=100), 1000, 900, EVEN, 100),  # H = 0.5: between the thresholds
        (dynamic(prefix_length=100, entropy_high=0.5), 1000, 900, EVEN, 110),  # a threshold belongs to its side
        (dynamic(prefix_length=100, entropy_low=0.5), 1000, 900, EVEN, 90),
        (dynamic(prefix_length=15), 1000, 900, VARIED, 17),  # 16.5 rounds up
        (dynamic(prefix_length=0.8), 200, 100, VARIED, 88),
        (dynamic(prefix_length=0.8, prefix_step=0.20), 200, 100, VARIED, 96),
        (dynamic(prefix_length=0.8, prefix_step=0.05), 200, 100, REPEATED, 76),
        (dynamic(prefix_length=0.95, prefix_step=0.20), 110, 100, VARIED, 110),  # 114, clipped
        (dynamic(prefix_length=0.8, prefix_step=0.0), 200, 100, VARIED, 80),
        (dynamic(), 105, 100, VARIED, 105),  # 110: the question too, and no more than there is
        (dynamic(), 105, 100, REPEATED, 90),
    ],
)
def test_length_by_hand(policy, prompt, document_end, ids, length):
    choice = choose_prefix(policy, prompt, document_end, ids)
    assert choice.length == length
    assert choice.entropy == unigram_entropy(ids)


def test_each_passage_changes_its_own_share_of_the_prefix():
    document = VARIED * 25 + REPEATED * 25 + [1, 2, 3, 4] * 2  # 100 varied, 100 repeated, a rest of 8
    assert [len(part) for part in passages(document, 50)] == [50, 50, 50, 58]
    assert [len(part) for part in passages(document, 105)] == [208] and passages(document, None) == [document]
    assert list(chain(*passages(document, 7))) == document
    policy = dynamic(prefix_length=208, entropy_window=50, entropy_low=0.2, entropy_high=0.3)
    choice = choose_prefix(policy, 1000, 900, document)
    entropies = [unigram_entropy(part) for part in passages(document, 50)]
    assert [entropy >= 0.3 for entropy in entropies] == [True, True, False, False] and entropies[2] == 0.0
    # 100 tokens +10 %, 50 tokens -10 %, the last passage by its own entropy
    last = 1.1 if entropies[3] >= 0.3 else 0.9 if entropies[3] <= 0.2 else 1.0
    assert choice.length == round(100 * 1.1 + 50 * 0.9 + 58 * last)
    assert choice.entropy == pytest.approx(sum(e * n for e, n in zip(entropies, [50, 50, 50, 58], strict=True)) / 208)
    # H of the whole document would have changed all of it alike
    assert choose_prefix(replace(policy, entropy_window=None), 1000, 900, document).length in (229, 208, 187)


@pytest.mark.parametrize("window", [None, 2, 3, 7, 64])
def test_a_document_without_tokens_has_a_prefix_of_one(window):
    assert choose_prefix(dynamic(entropy_window=window), 5, 0, []).length == 1


def test_passages_have_thresholds_of_their_own():
    for window, (low, high) in THRESHOLDS.items():
        policy = prefix_policy("dynamic", entropy_window=window)
        assert (policy.entropy_low, policy.entropy_high) == (low, high)
        assert prefix_policy("dynamic", entropy_window=window, entropy_low=0.1).entropy_high == high
    with pytest.raises(JRTError, match="default thresholds for 64, 128, 256 tokens; for another window give"):
        prefix_policy("dynamic", entropy_window=100, entropy_low=0.5)
    assert prefix_policy("dynamic", entropy_window=100, entropy_low=0.5, entropy_high=0.6).entropy_window == 100
    assert "entropy_window" not in prefix_policy("dynamic").parameters


def test_every_policy_stays_inside_the_prompt():
    for name in ("full", "document", "fixed", "dynamic"):
        for prompt in range(1, 40):
            for document_end in (0, prompt // 2, prompt, prompt + 5):
                assert 1 <= choose_prefix(PrefixPolicy(name), prompt, document_end, VARIED).length <= prompt


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"prefix": "dinamic"}, "Did you mean 'dynamic'"),
        ({"prefix": "fixed", "prefix_lenght": 4}, "Did you mean 'prefix_length'"),
        ({"prefix": "fixed", "prefix_length": 0}, "at least 1 token"),
        ({"prefix": "fixed", "prefix_length": -3}, "at least 1 token"),
        ({"prefix": "fixed", "prefix_length": -3.0}, "prefix_length=-3: must be at least 1 token"),
        ({"prefix": "fixed", "prefix_length": 1.01}, "between 0 and 1"),
        ({"prefix": "dynamic", "entropy_window": 1}, "at least 2 tokens"),
        ({"prefix": "dynamic", "entropy_window": 0.5}, "at least 2 tokens"),
        ({"prefix": "fixed", "entropy_window": 64}, "use it with prefix=dynamic"),
        ({"prefix": "fixed", "prefix_length": -0.5}, "between 0 and 1"),
        ({"prefix": "fixed", "prefix_length": True}, "must be a number"),
        ({"prefix": "fixed", "prefix_length": "long"}, "prefix_length='long'"),
        ({"prefix": "dynamic", "prefix_step": 1.0}, r"\[0, 1\)"),
        ({"prefix": "dynamic", "prefix_step": -0.1}, r"\[0, 1\)"),
        ({"prefix": "dynamic", "entropy_high": 1.5}, "lies in"),
        ({"prefix": "dynamic", "entropy_high": float("nan")}, "must be a number"),
        ({"prefix": "dynamic", "entropy_low": 0.9, "entropy_high": 0.3}, "entropy_low=0.9 is above"),
        ({"prefix": "full", "prefix_length": 256}, "no effect with prefix=full; use it with prefix=fixed or"),
        ({"prefix": "fixed", "prefix_step": 0.1}, "use it with prefix=dynamic"),
        ({"prefix": "answer", "prefix_chunk": 0}, "at least 1 token"),
        ({"prefix": "answer", "prefix_sure": 0.0}, "above 0"),
        ({"prefix": "fixed", "prefix_sure": 0.5}, "use it with prefix=answer"),
        ({"prefix": "learned"}, "needs a fitted policy"),
        ({"prefix": "learned", "prefix_policy": "/no/such.json"}, "cannot be read"),
    ],
)
def test_mistakes_are_named(kwargs, message):
    with pytest.raises(JRTError, match=message):
        prefix_policy(**kwargs)


def test_a_value_not_given_takes_the_default():
    assert prefix_policy("dynamic", prefix_step=None) == PrefixPolicy("dynamic")
    # lm_eval's command line turns the word "none" into None before a model sees it.
    assert prefix_policy(None).policy == "none"


def test_prefix_longer_than_the_context_of_the_model():
    policy = PrefixPolicy("fixed", prefix_length=4096)
    policy.check_context(4096)
    policy.check_context(None)
    PrefixPolicy("full", prefix_length=4096).check_context(10)
    with pytest.raises(JRTError, match="longer than the model's context of 2048"):
        policy.check_context(2048)


def test_features_by_hand():
    assert features([]) == {"entropy": 0.0, "length": 0.0, "repeats": 0.0, "rare": 0.5}
    known = features([1, 2, 3, 4, 1, 2, 3, 4, 9])
    # of six 4-grams one stood before; 9 alone stands once, at the end
    assert known["repeats"] == pytest.approx(1 / 6) and known["rare"] == 1.0
    assert known["length"] == pytest.approx(3.169925) and known["entropy"] == unigram_entropy([1, 2, 3, 4] * 2 + [9])


LEARNED = LearnedPrefix(
    shares=(0.0, 0.35, 1.0),
    features=("entropy",),
    mean=(0.5,),
    scale=(0.25,),
    intercepts=(0.0, 0.1, 0.0),
    weights=((-1.0,), (0.0,), (1.0,)),
    about={"weights": "none"},
)


@pytest.mark.parametrize(("ids", "length"), [(REPEATED, 0), (EVEN, 4), (VARIED, 10)])
def test_a_learned_prefix_takes_the_best_share(ids, length, tmp_path):
    LEARNED.write(tmp_path / "policy.json")
    policy = prefix_policy("learned", prefix_policy=str(tmp_path / "policy.json"))
    # 0.35 of 10 tokens rounds up; a share of 0 is no prefix
    assert choose_prefix(policy, 12, 10, ids).length == length
    assert policy.prefix_policy == LEARNED and policy.parameters == {"prefix_policy": LEARNED.digest}
    assert replace(LEARNED, intercepts=(0.0, 0.2, 0.0)).digest != LEARNED.digest
    assert replace(LEARNED, about={}).digest == LEARNED.digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shares": (0.5, 0.35, 1.0)}, "ascending shares"),
        ({"shares": (0.0, 0.5, 1.5)}, "ascending shares"),
        ({"scale": (0.0,)}, "no scale of 0"),
        ({"features": ("entropi",)}, "Did you mean 'entropy'"),
        ({"intercepts": (0.0,)}, "an intercept and weights a share"),
    ],
)
def test_a_learned_prefix_that_does_not_fit_together(changes, message, tmp_path):
    with pytest.raises(JRTError, match=message):
        replace(LEARNED, **changes)
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(JRTError, match="is no policy of"):
        LearnedPrefix.read(tmp_path / "other.json")


def test_an_empty_prompt_has_no_prefix():
    with pytest.raises(JRTError, match="0 tokens"):
        choose_prefix(PrefixPolicy(), 0, 0, [])


def test_defaults_are_ordered():
    assert 0 < ENTROPY_LOW < ENTROPY_HIGH < 1


def test_the_default_thresholds_are_quartiles_of_training_documents():
    entropy = experiment("entropy")
    kinds = entropy.documents()
    encode = entropy.encoder(None)
    page = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    for window in (None, 256):
        found = entropy.quartiles(encode, window, kinds)
        assert THRESHOLDS[window] == pytest.approx((found["both"][1], found["both"][3]), abs=0.0051)
        shown = " | ".join(f"{value:.3f}" for value in found["both"])
        assert f"| {window or 'document'} | both | {shown} |" in page


def test_no_test_document_decides_a_threshold():
    tested = "\n".join(dict.fromkeys(row["text"] for row in factbook_rows()))
    used = experiment("entropy").documents()["fact sheets"]
    assert len(used) == 400 and not any(text in tested for text in used)


def test_needs_no_torch():
    code = "import sys, jrt_lmeval.prefix; assert not {'torch', 'lm_eval', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
