"""Needles and lists of names: a rule that reads answers everything, one that is not asked is near chance."""

from __future__ import annotations

import random
import re
import sys
from collections import Counter, defaultdict
from importlib import metadata
from itertools import pairwise
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from jrt_lmeval.data import needles
from jrt_lmeval.data.making.names import middle_match, name_index
from jrt_lmeval.data.needles import FORMS, niah
from jrt_lmeval.errors import JRTError
from jrt_lmeval.paths import tasks_dir
from jrt_lmeval.prompts.tokens import count_tokens
from jrt_lmeval.scoring import string_match_all

Row = dict[str, Any]


def rows_of(form: str, **knobs: Any) -> list[Row]:
    return niah(form, tokenizer="gpt2", needles={"lengths": [700, 1024], "documents": 12, **knobs})["test"]


def hidden_in(row: Row) -> list[tuple[str, str]]:
    return re.findall(r"One of the special magic \w+ for (\S+) is: (\S+)\.", row["document"])


@pytest.mark.parametrize("form", FORMS)
def test_needles_are_found_by_reading_and_not_without_the_question(form: str) -> None:
    rng, guessed, what = random.Random(0), [], FORMS[form]
    for row in rows_of(form):
        hidden = hidden_in(row)
        asked = re.search(r"for (.+) mentioned", row["asked"])[1].replace(", and ", ", ").split(", ")  # type: ignore[index]
        found = [value for key, value in hidden if key in asked]
        assert sorted(found) == sorted(row["answer"]) and len(found) == what.values * what.queries
        assert string_match_all(" ".join(found), row["answer"]) == 1
        kept = what.queries * what.values
        blind = rng.sample([value for _, value in hidden], kept)
        guessed.append((string_match_all(" ".join(blind), row["answer"]), kept / len(hidden)))
        assert count_tokens(f"{row['document']}\n{row['asked']}") + 128 <= row["needle_length"]
    score, chance = (sum(column) / len(guessed) for column in zip(*guessed, strict=True))
    assert abs(score - chance) < 0.3  # all of few where nothing else is hidden


def test_depths_are_uniform_lengths_are_filled_and_draws_depend_on_length_and_seed_alone() -> None:
    depths = []
    for row in niah("single_1", tokenizer="gpt2", needles={"lengths": [1024], "documents": 200})["test"]:
        depths.append(row["document"].index(row["answer"][0]) / len(row["document"]))
    assert all(abs(sum(low <= depth < low + 0.25 for depth in depths) - 50) < 25 for low in (0, 0.25, 0.5, 0.75))
    for form in FORMS:
        last = rows_of(form)[-1]
        assert count_tokens(last["document"]) > 0.55 * (1024 - 128)
    alone = rows_of("multikey_2", lengths=[1024])
    assert [row for row in rows_of("multikey_2") if row["needle_length"] == 1024] == alone
    assert not {row["asked"] for row in rows_of("single_1")[::2]} & {row["asked"] for row in rows_of("single_1")[1::2]}
    assert alone == rows_of("multikey_2", lengths=[1024]) != rows_of("multikey_2", lengths=[1024], seed=1)
    assert [row["needle_length"] for row in rows_of("single_2")[:4]] == [700, 1024, 700, 1024]


def test_prose_starts_again_where_it_ends() -> None:
    sentences = needles._prose(40_000)
    assert sum(len(sentence.split()) for sentence in sentences) == 40_000
    assert sentences.count(sentences[0]) == 2


@pytest.fixture
def ruler(monkeypatch: pytest.MonkeyPatch) -> Any:
    """lm_eval's generator, with our words, prose and sentences in place of its own packages and downloads."""
    words = ModuleType("wonderwords")
    words.RandomWord = lambda: SimpleNamespace(_categories=defaultdict(list))  # type: ignore[attr-defined]
    nltk = ModuleType("nltk")
    nltk.sent_tokenize = lambda text: list(needles._prose(len(text.split())))  # type: ignore[attr-defined]
    nltk.data = SimpleNamespace(find=lambda name: name)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wonderwords", words)
    monkeypatch.setitem(sys.modules, "nltk", nltk)
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "9.9" if name == "nltk" else version(name))
    monkeypatch.delitem(sys.modules, "lm_eval.tasks.ruler.prepare_niah", raising=False)
    from lm_eval.tasks.ruler import prepare_niah

    monkeypatch.setattr(prepare_niah, "WORDS", list(needles.words()))
    yield prepare_niah
    sys.modules.pop("lm_eval.tasks.ruler.prepare_niah", None)


@pytest.mark.parametrize(
    ("form", "length"),
    [(form, length) for form in FORMS for length in (1024, 4096) if length == 4096 or FORMS[form].haystack != "essay"],
)
def test_prompts_are_those_of_lm_evals_ruler_with_the_same_seed_words_and_prose(
    ruler: Any, form: str, length: int
) -> None:
    from lm_eval.tasks.ruler.niah_utils import TEMPLATE

    from jrt_lmeval.checkpoints.tokenizers import gpt2

    what = FORMS[form]
    prose = " ".join(needles._prose(40_000)).split(" ")
    random.seed(3 + length)
    theirs = ruler.generate_samples(
        prose if what.haystack == "essay" else ruler.get_haystack(what.haystack),
        gpt2(),
        max_seq_length=length,
        type_haystack=what.haystack,
        type_needle_k=what.key,
        type_needle_v=what.value,
        template=TEMPLATE,
        num_samples=3,
        num_needle_k=what.keys,
        num_needle_v=what.values,
        num_needle_q=what.queries,
    )
    ours = niah(form, tokenizer="gpt2", needles={"lengths": [length], "documents": 3, "seed": 3})["test"]
    for their, our in zip(theirs, ours, strict=True):
        assert f"{our['document']}\n{our['asked']}" == their["input"]
        assert our["question"] == f"{our['asked']} {their['gen_prefix']}"
        assert our["answer"] == their["outputs"]


def test_a_wrong_knob_is_named() -> None:
    with pytest.raises(JRTError, match="gpt2 always works"):
        niah("single_1")
    with pytest.raises(JRTError, match=r"tokenizer '/no/folder' cannot be loaded.*tokenizer in --metadata"):
        niah("single_1", model="/no/folder")
    for knobs, message in (
        ({"length": [1024]}, "key of the needles block.*Did you mean 'lengths'"),
        ({"lengths": 1024}, "needles.lengths must be a list"),
        ({"lengths": [100]}, "each of needles.lengths must be a whole number of at least 129"),
        ({"lengths": [150]}, "150 tokens leave no room"),
        ({"threshold": "high"}, "needles.threshold must be a number"),
        ({"threshold": 856}, "needles.threshold must be a number from 0 to 100, not 856"),
        ({"seed": "a"}, "needles.seed must be a whole number"),
    ):
        with pytest.raises(JRTError, match=message):
            niah("multikey_1", tokenizer="gpt2", needles=knobs)


# ---------------------------------------------------------------- lists of names


def test_name_index_is_answered_by_counting_and_not_by_guessing() -> None:
    rng, rows = random.Random(0), name_index(name_index={"index": 0, "names": 23})["test"]
    right = 0
    for row in rows:
        names = re.fullmatch(r"Here's a list of names: (.*)\.", row["document"])[1].split(", ")  # type: ignore[index]
        place = int(re.match(r"What's the (\d+)(st|nd|rd|th) name\? Answer:", row["question"])[1])  # type: ignore[index]
        assert len(set(names)) == 23 and names[place - 1] == row["answer"]
        right += rng.choice(names) == row["answer"]
    assert abs(right / len(rows) - 1 / 23) < 4 * (1 / 23 / len(rows)) ** 0.5
    assert {row["question"] for row in name_index()["test"]} == {"What's the 25th name? Answer:"}
    assert {row["question"].split()[2] for row in rows} >= {"1st", "2nd", "3rd", "11th", "12th", "13th", "21st"}


def test_middle_match_is_answered_by_its_neighbours_and_not_by_guessing() -> None:
    rng, rows = random.Random(0), middle_match()["test"]
    right = 0
    for row in rows:
        names = re.search(r"of names: (.*)\.", row["document"])[1].split(", ")  # type: ignore[index]
        first, last = re.search(r"between (.*) and (.*)\? Answer:", row["question"]).groups()  # type: ignore[union-attr]
        between = {middle for (one, middle), (_, other) in pairwise(pairwise(names)) if (one, other) == (first, last)}
        assert between == {row["answer"]} and len(names) == 40
        others = sorted(set(names) - {first, last})
        right += rng.choice(others) == row["answer"]
    assert abs(right / len(rows) - 1 / 8) < 4 * (1 / 8 / len(rows)) ** 0.5


@pytest.mark.parametrize("make", [name_index, middle_match])
def test_the_padded_prompt_is_as_long_as_the_repeated_one(make: Any) -> None:
    from lm_eval.tasks import TaskManager

    name = make.__name__
    forms = ("once", "jrt", "repeated", "padded")
    manager = TaskManager(include_defaults=False, include_path=str(tasks_dir()), metadata={name: {"documents": 5}})
    tasks = manager.load([f"{name}_{form}" for form in forms])["tasks"]
    for number, row in enumerate(make(**{name: {"documents": 5}})["test"]):
        texts = {
            form: str(tasks[f"{name}_{form}"].doc_to_text(tasks[f"{name}_{form}"].eval_docs[number])) for form in forms
        }
        once = f"{row['document']} {row['question']}"
        assert texts["once"] == once and texts["repeated"] == f"{once}\n{once}"
        assert texts["jrt"] == f"{row['lead']}{row['document']}\n{once}"
        assert texts["padded"].endswith(f"\n{once}") and set(Counter(texts["padded"][41 : -len(once) - 1])) == {
            " ",
            ".",
        }
        assert abs(count_tokens(texts["padded"]) - count_tokens(texts["repeated"])) <= 2
