"""Layouts: once, flat and hier on documents small enough to check by eye."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prompts import LayoutSpec, Level, Parts, Prompt, build, layout_spec
from jrt_lmeval.prompts.gpt2 import count_tokens

LINES = [
    "The museum in Oslo keeps nine old ships.",
    "Its keeper is Ida Moen of Bergen.",
    "The harbor office counts four hundred boats.",
    "The library lists all of the maps.",
]
DOCUMENT = "\n".join(LINES)
PARTS = Parts(DOCUMENT, "Keeper:", lead="Information about Keeper. ", query="keeper")


def hier(**changes) -> LayoutSpec:
    return layout_spec({"layout": "hier", "lead": False, "overlap": 0.0, "budget": 9, **changes})


def test_once() -> None:
    prompt = build(PARTS, layout_spec({"layout": "once"}))
    assert prompt == DOCUMENT + " Keeper:"
    assert (prompt.document_start, prompt.document_end, prompt.document) == (0, len(DOCUMENT), DOCUMENT)
    assert build(PARTS, layout_spec({})) == prompt


def test_flat() -> None:
    prompt = build(PARTS, layout_spec({"layout": "flat"}))
    assert prompt == f"Information about Keeper. {DOCUMENT}\n{DOCUMENT} Keeper:"
    assert prompt[prompt.document_start : prompt.document_end] == f"{DOCUMENT}\n{DOCUMENT}"
    three = build(PARTS, layout_spec({"layout": "flat", "repeats": 3, "lead": False}))
    assert three == "\n".join([DOCUMENT] * 3) + " Keeper:"
    assert build(PARTS, layout_spec({"layout": "flat", "repeats": 1, "lead": False})) == DOCUMENT + " Keeper:"


def test_a_first_copy_of_its_own_is_for_flat_only() -> None:
    parts = Parts("cut", "Q:", first_document="uncut")
    assert build(parts, layout_spec({"layout": "flat"})) == "uncut\ncut Q:"
    assert build(parts, layout_spec({"layout": "once"})) == "cut Q:"


def test_hier_passes_levels_and_repeats() -> None:
    levels = [{"name": "sentence", "repeats": 2, "select": "question"}, "document"]
    assert build(PARTS, hier(levels=levels)) == f"{DOCUMENT}\n{LINES[1]}\n{LINES[1]} Keeper:"
    backwards = build(PARTS, hier(levels=levels, order="fine_to_coarse"))
    assert backwards == f"{LINES[1]}\n{LINES[1]}\n{DOCUMENT} Keeper:"
    assert build(PARTS, hier(levels=["sentence"])) == DOCUMENT + " Keeper:"
    led = build(PARTS, hier(levels=["document"], lead=True))
    assert led == f"Information about Keeper. {DOCUMENT} Keeper:"
    assert led.document_start == len("Information about Keeper. ")


def test_selected_segments_keep_the_order_of_the_document() -> None:
    parts = Parts(DOCUMENT, "Q:", query="library museum maps")
    assert build(parts, hier(levels=["sentence"], select="question")) == f"{LINES[0]}\n{LINES[3]} Q:"


def test_overlap_repeats_the_end_of_the_neighbour() -> None:
    levels = [{"name": "sentence", "select": "question"}]
    assert build(PARTS, hier(levels=levels, overlap=0.25)) == f"old ships.\n{LINES[1]} Keeper:"


def test_keep_caps_a_level_but_leaves_one() -> None:
    for keep, lines in ((0.01, 1), (0.5, 2), (0.8, 3), (1.0, 4)):
        prompt = build(PARTS, hier(levels=[{"name": "sentence", "select": "information", "keep": keep}]))
        assert len(prompt.splitlines()) == lines
        assert prompt.counters["segments"] == lines
        assert prompt.counters["segments_dropped"] == 0


def test_all_segments_and_a_cap_contradict_each_other() -> None:
    with pytest.raises(JRTError, match=r"level sentence: select: all with keep: 0\.5"):
        hier(levels=[{"name": "sentence", "keep": 0.5}])
    every = layout_spec({"layout": "hier", "select": "all"})  # the defaults cap two levels; asking for all lifts that
    assert [level.keep for level in every.levels] == [1.0, 1.0, 1.0]
    assert [level.keep for level in layout_spec({"layout": "hier", "select": "information"}).levels] == [1.0, 0.5, 0.2]


def test_budget_drops_the_finest_and_least_first() -> None:
    levels = ["document", "sentence"]
    whole = build(PARTS, hier(levels=levels))
    assert whole.counters["segments"] == 5
    cut = build(PARTS, hier(levels=levels, budget=1.6))
    assert cut.counters["segments"] == 3
    assert cut.counters["segments_dropped"] == 2
    assert cut.startswith(DOCUMENT + "\n")
    assert LINES[1] in cut[len(DOCUMENT) : cut.document_end]
    only = build(PARTS, hier(levels=levels, budget=1))
    assert only == DOCUMENT + " Keeper:"
    with pytest.raises(JRTError, match="at least 1"):
        hier(levels=levels, budget=0.9)
    with pytest.raises(JRTError, match="at least 3"):
        hier(levels=[{"name": "document", "repeats": 3}], budget=2)


def test_copies_of_the_document_fit_a_budget_of_as_many() -> None:
    prompt = build(PARTS, hier(levels=[{"name": "document", "repeats": 2}], budget=2))
    assert prompt == f"{DOCUMENT}\n{DOCUMENT} Keeper:"
    assert prompt.counters["over_budget"] == 0


def test_the_best_segment_stays_when_none_fits() -> None:
    prompt = build(Parts("One single line of text.", "Q:"), hier(levels=["sentence"], budget=0.1))
    assert prompt == "One single line of text. Q:"
    assert prompt.counters["over_budget"] == 1


def test_a_question_that_matches_nothing_is_counted() -> None:
    parts = Parts(DOCUMENT, "Price:", query="price")
    prompt = build(parts, hier(levels=["document", {"name": "sentence", "select": "question", "keep": 0.3}]))
    assert prompt.counters["no_question_match"] == 1
    informed = build(parts, hier(levels=["document", {"name": "sentence", "select": "information", "keep": 0.3}]))
    assert informed == prompt
    assert informed.counters["no_question_match"] == 0


def test_without_lead_and_question_the_context_is_the_same_for_all_questions() -> None:
    spec = layout_spec({"layout": "hier", "lead": False, "select": "information"})
    prompts = [build(Parts(DOCUMENT, q, lead=q), spec) for q in ("Keeper:", "Boats:")]
    contexts = {prompt[: prompt.document_end] for prompt in prompts}
    assert len(contexts) == 1


def test_defaults() -> None:
    spec = layout_spec({"layout": "hier"})
    assert spec == LayoutSpec(
        "hier",
        lead=True,
        levels=(
            Level("document"),
            Level("paragraph", 1, "question", 0.5),
            Level("sentence", 2, "question", 0.2),
        ),
        overlap=0.2,
        order="coarse_to_fine",
        budget=2.0,
    )
    assert layout_spec({"layout": "flat"}).lead is True
    assert layout_spec({"layout": "once"}).lead is False
    assert {level.select for level in layout_spec({"layout": "hier", "select": "all"}).levels} == {"all"}
    assert layout_spec({"levels": ["document", "paragraph"]}).levels == (Level("document"), Level("paragraph"))


sentences = st.lists(
    st.sampled_from(["It is so.", "Ida Moen runs it, they say", "A: b", "K170149 (5.2 ml)", "\n"]), min_size=1
)


@settings(max_examples=60, deadline=None)
@given(
    sentences.map("\n".join), st.sampled_from([1.0, 1.3, 2.0, 4.0]), st.sampled_from(["all", "question", "information"])
)
def test_the_budget_holds(document: str, budget: float, select: str) -> None:
    if not document.strip():
        with pytest.raises(JRTError, match="empty document"):
            build(Parts(document, "A:"), hier())
        return
    document = document.strip()
    prompt = build(Parts(document, "A:"), layout_spec({"layout": "hier", "budget": budget, "select": select}))
    body = prompt[prompt.document_start : prompt.document_end]
    assert body.startswith(document)
    assert count_tokens(body) <= budget * count_tokens(document)
    assert prompt.counters["document_tokens"] == count_tokens(document)
    assert prompt.counters["prompt_tokens"] == count_tokens(str(prompt))


def test_a_prompt_survives_pickling_and_copying() -> None:
    prompt = build(PARTS, layout_spec({"layout": "flat"}))
    for twin in (pickle.loads(pickle.dumps(prompt)), copy.deepcopy(prompt)):
        assert isinstance(twin, Prompt)
        assert twin == prompt
        assert vars(twin) == vars(prompt)


def test_blank_texts() -> None:
    with pytest.raises(JRTError, match="empty document"):
        build(Parts(" \n", "Q:"), layout_spec({}))
    assert build(Parts("a", ""), layout_spec({})).counters["question_missing"] == 1


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"layout": "hire"}, "Did you mean 'hier'"),
        ({"layuot": "hier"}, "Did you mean 'layout'"),
        ({"order": "fine_to_corse"}, "Did you mean 'fine_to_coarse'"),
        ({"levels": ["documnet"]}, "Did you mean 'document'"),
        ({"levels": [{"name": "sentence", "repeat": 2}]}, "Did you mean 'repeats'"),
        ({"levels": [{"repeats": 2}]}, "has no name"),
        ({"levels": [3]}, "a level must be"),
        ({"levels": "document"}, "must be a list"),
        ({"levels": []}, "levels is empty"),
        ({"levels": ["sentence", "sentence"]}, "each level may stand once"),
        ({"select": "questions"}, "Did you mean 'question'"),
        ({"repeats": 0}, "repeats must be a whole number"),
        ({"repeats": True}, "repeats must be a whole number"),
        ({"overlap": 1}, "overlap must be a number"),
        ({"overlap": "20%"}, "overlap must be a number"),
        ({"budget": 0}, "budget must be a number"),
        ({"budget": float("nan")}, "budget must be a number"),
        ({"lead": "Information about"}, "lead must be true or false"),
        ({"levels": [{"name": "sentence", "keep": 0}]}, "keep of level sentence"),
        ({"levels": [{"name": "sentence", "repeats": 1.5}]}, "repeats of level sentence"),
    ],
)
def test_bad_blocks_are_named(mapping: dict, message: str) -> None:
    with pytest.raises(JRTError, match=message):
        layout_spec({"layout": "hier", **mapping})
