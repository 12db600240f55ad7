"""The hierarchical layout: levels, repeats, order, and what a budget leaves of them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from museum import DOCUMENT, LINES, PARTS

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prompts import LayoutSpec, Parts, build, layout_spec
from jrt_lmeval.prompts.passes import OVERLAP_ROOM, spread, trim
from jrt_lmeval.prompts.segments import most_tokens, segments
from jrt_lmeval.prompts.tokens import count_tokens

PAGE = "\n".join(f"Fact {n}: {line}" for n, line in enumerate(LINES * 12))


def hier(**changes) -> LayoutSpec:
    return layout_spec({"layout": "hier", "overlap": 0.0, "budget": 9, **changes})


def test_passes_levels_and_repeats() -> None:
    levels = [{"name": "sentence", "repeats": 2}, "document"]
    assert build(PARTS, hier(levels=levels)) == "\n".join([DOCUMENT] * 3) + " Keeper:"
    parts = Parts("One is here. Two is there.", "Q:")
    both = "One is here.\nTwo is there."
    assert build(parts, hier(levels=levels)) == f"One is here. Two is there.\n{both}\n{both} Q:"
    backwards = build(parts, hier(levels=levels, order="fine_to_coarse"))
    assert backwards == f"{both}\n{both}\nOne is here. Two is there. Q:"
    assert build(PARTS, hier(levels=["sentence"])) == DOCUMENT + " Keeper:"
    led = build(PARTS, hier(levels=["document"], lead=True))
    assert led == f"Information about Keeper. {DOCUMENT} Keeper:"
    assert led.document_start == len("Information about Keeper. ")


def test_overlap_repeats_the_end_of_the_neighbour() -> None:
    prompt = build(Parts("\n".join(LINES[:2]), "Q:"), hier(levels=["sentence"], overlap=0.25))
    assert prompt == f"{LINES[0]}\nold ships.\n{LINES[1]} Q:"


def test_question_and_lead_leave_no_trace_before_the_question() -> None:
    for select in ("all", "information", "random"):
        spec = layout_spec({"layout": "hier", "select": select})
        prompts = [build(Parts(PAGE, q, lead=q, query=q), spec) for q in ("Keeper:", "Boats:")]
        assert len({prompt[: prompt.document_end] for prompt in prompts}) == 1


def test_every_level_appears_by_default_and_their_repeats_differ() -> None:
    """The old default lost the sentences of every row; one of two documents was the flat prompt."""
    prompt = build(Parts(PAGE, "Q:"), layout_spec({"layout": "hier"}))
    counters = prompt.counters
    assert counters["levels_missing"] == 0
    assert prompt.startswith(PAGE + "\n")
    rest = prompt[len(PAGE) + 1 : prompt.document_end]
    for level, repeats in (("paragraph", 1), ("sentence", 2)):
        assert 0 < counters[f"{level}_segments"] < counters[f"{level}_segments"] + counters[f"{level}_segments_dropped"]
        chosen = [one.text for one in segments(PAGE, level, 0.2) if one.text in rest]
        assert len(chosen) >= counters[f"{level}_segments"]
        whole = repeats * sum(one.tokens + 1 for one in segments(PAGE, level, 0.2))
        counters[f"share_{level}"] = counters[f"{level}_tokens"] / whole
    assert counters["share_paragraph"] == pytest.approx(counters["share_sentence"], abs=0.1)
    assert build(Parts(PAGE, "Q:"), layout_spec({"layout": "hier", "repeat_level": "document"})).count(PAGE) == 2


def test_what_all_drops_is_spread_over_the_document_and_information_drops_the_poor() -> None:
    levels = ["document", "sentence"]
    cut = build(Parts(PAGE, "Q:"), hier(levels=levels, budget=1.5))
    left = [int(line.split()[1][:-1]) for line in cut[len(PAGE) + 1 : cut.document_end].splitlines()]
    gaps = [after - before for before, after in itertools.pairwise(left)]
    assert set(gaps) <= {1, 2, 3} and left[0] < 4 and left[-1] > 43
    rich = build(PARTS, hier(levels=levels, select="information", budget=1.5))
    assert rich == f"{DOCUMENT}\n{LINES[1]} Keeper:"
    assert rich.counters["segments_dropped"] == 3


def test_copies_of_the_document_fit_a_budget_of_as_many() -> None:
    prompt = build(PARTS, hier(levels=[{"name": "document", "repeats": 2}], budget=2))
    assert prompt == f"{DOCUMENT}\n{DOCUMENT} Keeper:"
    assert prompt.counters["over_budget"] == 0


def test_one_segment_stays_when_none_fits() -> None:
    prompt = build(Parts("One single line of text.", "Q:"), hier(levels=["sentence"], budget=0.1))
    assert prompt == "One single line of text. Q:"
    assert prompt.counters["over_budget"] == 1


def test_a_level_that_vanishes_is_counted() -> None:
    prompt = build(Parts("One single line of text.", "Q:"), hier(budget=1.1))
    assert prompt == "One single line of text. Q:"
    assert prompt.counters["levels_missing"] == 2
    assert prompt.counters["segments_dropped"] == 2


TEXTS = st.lists(
    st.sampled_from(
        ["It is so.", "Ida Moen runs it, they say", "A: b", "K170149 (5.2 ml)", "Liechtenstein 日本", "\n"]
    ),
    min_size=1,
    max_size=60,
).map("\n".join)
SELECTS = st.sampled_from(["all", "random", "information"])


@settings(max_examples=80, deadline=None)
@given(TEXTS, st.sampled_from([1.1, 1.3, 2.0, 4.0]), SELECTS, st.sampled_from([0.0, 0.2, 0.3, 0.7]))
def test_the_budget_holds(document: str, budget: float, select: str, overlap: float) -> None:
    if not document.strip():
        with pytest.raises(JRTError, match="empty document"):
            build(Parts(document, "A:"), hier())
        return
    document = document.strip()
    prompt = build(Parts(document, "A:"), hier(budget=budget, select=select, overlap=overlap))
    body = prompt[prompt.document_start : prompt.document_end]
    assert body.startswith(document)
    assert count_tokens(body) <= budget * count_tokens(document)
    assert prompt.counters["document_tokens"] == count_tokens(document)
    assert prompt.counters["prompt_tokens"] == count_tokens(str(prompt))


@settings(max_examples=40, deadline=None)
@given(TEXTS.filter(str.strip), st.sampled_from([1.3, 2.0, 3.0]), SELECTS)
def test_overlap_does_not_change_what_is_selected(document: str, budget: float, select: str) -> None:
    def counted(overlap: float) -> dict:
        spec = hier(budget=budget, select=select, overlap=overlap)
        counters = build(Parts(document, "A:"), spec).counters
        return {name: count for name, count in counters.items() if not name.endswith("tokens")}

    assert counted(0.0) == counted(0.1) == counted(0.2) == counted(OVERLAP_ROOM)


@settings(max_examples=60, deadline=None)
@given(TEXTS.filter(str.strip), st.sampled_from(["paragraph", "sentence"]), st.sampled_from([0.1, 0.3, 0.6]))
def test_no_overlap_needs_more_tokens_than_were_set_aside(document: str, level: str, room: float) -> None:
    most = most_tokens(document, level, room)
    found = [[one.tokens for one in segments(document, level, part * room / 6)] for part in range(7)]
    for at, limit in enumerate(most):
        assert max(tokens[at] for tokens in found) <= limit


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=12), min_size=1, max_size=3), st.integers(0, 200))
def test_trimming_fills_the_room_in_proportion(costs: list[list[int]], room: int) -> None:
    kept = trim(costs, room)
    used = [sum(costs[level][place] for place in places) for level, places in enumerate(kept)]
    assert sum(used) <= room
    left = room - sum(used)
    for level, places in enumerate(kept):
        assert places == sorted(set(places))
        assert all(costs[level][place] > left for place in range(len(costs[level])) if place not in places)
    if sum(min(one) for one in costs) <= room:
        assert all(kept)
    if sum(map(sum, costs)) <= room:
        assert used == [sum(one) for one in costs]


def test_trimming_by_hand() -> None:
    assert trim([[10, 10, 10, 10], [5, 5, 5, 5]], 30) == [[0, 1], [0, 1]]  # half of each
    assert trim([[40], [4, 4]], 41) == [[], [0, 1]]  # both cannot be had
    assert trim([[40, 3], [4, 4]], 41) == [[1], [0, 1]]


@given(st.integers(0, 70), st.integers(1, 70))
def test_any_start_of_a_spread_is_even(count: int, size: int) -> None:
    order = spread(count)
    assert sorted(order) == list(range(count))
    start = sorted(order[:size])
    gaps = [after - before for before, after in itertools.pairwise([-1, *start, count])]
    assert max(gaps, default=0) <= 1 + 2 * count / (len(start) + 1) + 1
