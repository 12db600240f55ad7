"""The registry of layouts, what once, flat and the retrieval layouts write, and prompts as objects."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path

import pytest
import yaml
from museum import DOCUMENT, LINES, PARTS

from jrt_lmeval import paths
from jrt_lmeval.errors import JRTError
from jrt_lmeval.prompts import LAYOUTS, LayoutSpec, Parts, Prompt, build, layout_spec
from jrt_lmeval.prompts.layouts import Laid, Layout
from jrt_lmeval.prompts.segments import Level
from jrt_lmeval.prompts.tokens import count_tokens


def focus(layout: str = "focus", **changes) -> LayoutSpec:
    levels = {"levels": ["sentence"]} if "levels" not in changes else {}
    return layout_spec({"layout": layout, "lead": False, "overlap": 0.0, **levels, **changes})


# ---------------------------------------------------------------- the registry


def test_a_layout_is_added_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def lay(parts: Parts, spec: LayoutSpec, lead: str, after: str) -> Laid:
        return Laid(lead, parts.document[::-1], {"turned": 1})

    monkeypatch.setitem(LAYOUTS, "backwards", Layout("backwards", "_back", "read backwards", ("lead",), lay))
    prompt = build(Parts("abc", "Q:", lead="L "), layout_spec({"layout": "backwards"}))
    assert prompt == "L cba Q:"
    assert prompt.counters["turned"] == 1
    again = build(Parts("abc", "Q:"), layout_spec({"layout": "repeat_question", "as_long_as": "backwards"}))
    assert (
        abs(
            again.counters["prompt_tokens"]
            - build(Parts("abc", "Q:"), layout_spec({"layout": "backwards"})).counters["prompt_tokens"]
        )
        <= 2
    )
    with pytest.raises(JRTError, match="Did you mean 'backwards'"):
        layout_spec({"layout": "backward"})


def test_every_layout_with_an_ending_has_a_leaf_for_every_benchmark() -> None:
    folders = [
        path
        for path in paths.tasks_dir().iterdir()
        if path.name not in ("groups", "recall_ppl", "capacity", "recall_stream", "needles", "names")
    ]
    benchmarks = [
        file.stem[1:]
        for folder in folders
        for file in folder.glob("_*.yaml")
        if file.stem not in ("_nq", "_swde_uniform")
    ]
    assert len(benchmarks) == 11
    for layout in LAYOUTS.values():
        if not layout.ending:
            continue
        for benchmark in benchmarks:
            (leaf,) = paths.tasks_dir().glob(f"*/{benchmark}{layout.ending}.yaml")
            content = yaml.safe_load(leaf.read_text(encoding="utf-8"))
            assert (content["task"], content["jrt"]) == (f"{benchmark}{layout.ending}", {"layout": layout.name})
        for group in ("recall", "recall_paper"):
            content = yaml.safe_load((paths.tasks_dir() / "groups" / f"{group}{layout.ending}.yaml").read_text())
            assert all(task.endswith(layout.ending) for task in content["task"])
    assert len({layout.label for layout in LAYOUTS.values()}) == len(LAYOUTS)


def test_layouts_say_whether_they_read_the_question() -> None:
    """A layout that claims not to writes the same for two questions; one that admits it does not."""
    questions = (Parts(DOCUMENT, "Keeper:", query="keeper", filler=DOCUMENT), Parts(DOCUMENT, "Boats:", query="boats"))
    for name, layout in LAYOUTS.items():
        if name == "repeat_random":  # its filler holds none of the answers; it is drawn by the task
            assert layout.reads_question
            continue
        levels = {"levels": ["sentence"]} if name in ("focus", "passages") else {}
        spec = layout_spec({"layout": name, "lead": False, **levels})
        starts = {prompt[: prompt.document_end] for prompt in (build(parts, spec) for parts in questions)}
        assert (len(starts) > 1) is layout.reads_question is spec.reads_question
    assert layout_spec({"layout": "hier", "lead": True}).reads_question
    assert not layout_spec({"layout": "hier"}).reads_question


# ---------------------------------------------------------------- once, flat


def test_once() -> None:
    prompt = build(PARTS, layout_spec({"layout": "once"}))
    assert prompt == DOCUMENT + " Keeper:"
    assert (prompt.document_start, prompt.document_end, prompt.document) == (0, len(DOCUMENT), DOCUMENT)
    assert build(PARTS, layout_spec({})) == prompt


def test_lead_once_is_once_with_what_asks_in_front() -> None:
    prompt = build(PARTS, layout_spec({"layout": "lead_once"}))
    assert prompt == f"Information about Keeper. {DOCUMENT} Keeper:"
    assert prompt[prompt.document_start : prompt.document_end] == DOCUMENT
    assert layout_spec({"layout": "lead_once"}).reads_question


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


# ---------------------------------------------------------------- focus, passages


def test_focus_writes_the_passages_asked_for_again_and_passages_nothing_else() -> None:
    assert build(PARTS, focus()) == f"{DOCUMENT}\n{LINES[1]} Keeper:"
    assert build(PARTS, focus("passages")) == f"{LINES[1]} Keeper:"
    led = build(PARTS, focus(lead=True))
    assert led == f"Information about Keeper. {DOCUMENT}\n{LINES[1]} Keeper:"
    assert led[led.document_start : led.document_end] == f"{DOCUMENT}\n{LINES[1]}"
    only = build(PARTS, focus("passages", lead=True))
    assert only[only.document_start : only.document_end] == LINES[1]
    assert only.counters["document_tokens"] == count_tokens(DOCUMENT)


def test_passages_keep_the_order_of_the_document() -> None:
    parts = Parts(DOCUMENT, "Q:", query="library museum maps")
    assert build(parts, focus("passages", budget=9)) == f"{LINES[0]}\n{LINES[3]} Q:"


def test_passages_overlap_their_neighbours() -> None:
    assert build(PARTS, focus("passages", overlap=0.25)) == f"old ships.\n{LINES[1]} Keeper:"


def test_the_passages_of_focus_and_of_its_control_are_the_same() -> None:
    parts = Parts(DOCUMENT * 4, "Q:", query="museum keeper boats maps")
    for changes in ({}, {"budget": 1.1}, {"select": "random"}, {"levels": ["paragraph", "sentence"]}):
        whole, only = build(parts, focus(**changes)), build(parts, focus("passages", **changes))
        assert whole == f"{parts.document}\n{only}"


def test_a_budget_keeps_the_best_passages_and_always_the_best_one() -> None:
    parts = Parts(DOCUMENT, "Q:", query="keeper Ida museum")
    assert build(parts, focus("passages", budget=1.01)) == f"{LINES[1]} Q:"
    assert build(parts, focus("passages", budget=1.01)).counters["over_budget"] == 1
    both = build(parts, focus("passages", budget=2.0))
    assert both == f"{LINES[0]}\n{LINES[1]} Q:"
    assert both.counters["over_budget"] == both.counters["segments_dropped"] == 0


def test_a_question_that_matches_nothing_is_counted() -> None:
    parts = Parts(DOCUMENT, "Price:", query="price")
    assert build(parts, focus()).counters["no_question_match"] == 1
    assert build(PARTS, focus()).counters["no_question_match"] == 0


def test_random_passages_are_drawn_by_the_document_alone() -> None:
    prompts = [build(Parts(DOCUMENT, "Q:", query=query), focus(select="random")) for query in ("keeper", "boats")]
    assert prompts[0] == prompts[1]
    assert "no_question_match" not in prompts[0].counters


# ---------------------------------------------------------------- controls of equal length


@pytest.mark.parametrize("form", ["flat", "hier", "focus", "passages"])
@pytest.mark.parametrize("lead", [None, True, False])
def test_controls_are_as_long_as_any_layout(form: str, lead: bool | None) -> None:
    document = " ".join(f"{line} {number}." for number, line in enumerate(LINES * 6))
    parts = Parts(document, "Keeper:", "Information about Keeper. ", "keeper", filler="Other words stand here. " * 9)
    wanted = build(parts, layout_spec({"layout": form, "lead": lead}))
    for name in ("repeat_random", "repeat_question"):
        if form == "passages":  # shorter than the document, which the controls show
            continue
        spec = layout_spec({"layout": name, "lead": lead, "as_long_as": form})
        prompt = build(parts, spec)
        assert abs(prompt.counters["prompt_tokens"] - wanted.counters["prompt_tokens"]) <= 2
        assert prompt.count(document) == 1
        assert set(spec.keys) >= {"layout", "lead", "as_long_as", *LAYOUTS[form].keys}
    with pytest.raises(JRTError, match="cut to a length; choices: once, lead_once, flat, hier, focus, passages"):
        layout_spec({"layout": "repeat_random", "as_long_as": "repeat_question"})


# ---------------------------------------------------------------- prompts, settings


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


def test_defaults() -> None:
    hier = (Level("document"), Level("paragraph"), Level("sentence", 2))
    keys = ("layout", "lead", "levels", "select", "overlap", "order", "budget")
    spec = LayoutSpec("hier", keys, "hier", False, 2, False, hier, "all", 0.2, "coarse_to_fine", 2)
    assert layout_spec({"layout": "hier"}) == layout_spec({**dict.fromkeys(keys), "layout": "hier"}) == spec
    focus = layout_spec({"layout": "focus"})
    assert (focus.select, focus.levels, focus.budget) == ("question", (Level("paragraph"),), 1.5)
    assert layout_spec({"layout": "flat"}).lead is True
    assert layout_spec({"layout": "once"}).lead is False
    levels = layout_spec({"layout": "hier", "levels": ["document", "paragraph"]}).levels
    assert levels == (Level("document"), Level("paragraph"))


def test_the_default_budget_follows_the_copies_of_the_document() -> None:
    budgets = {name: layout_spec({"layout": "hier", "repeat_level": name}).budget for name in ("document", "sentence")}
    assert budgets == {"document": 3, "sentence": 2}
    assert layout_spec({"layout": "hier", "levels": ["paragraph"]}).budget == 1
    assert layout_spec({"layout": "hier", "repeat_level": "document", "budget": 4}).budget == 4


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"layout": "hire"}, "Did you mean 'hier'"),
        ({"layuot": "hier"}, "Did you mean 'layout'"),
        ({"layout": "repeat_random", "as_long_as": "flatt"}, "Did you mean 'flat'"),
        ({"order": "fine_to_corse"}, "Did you mean 'fine_to_coarse'"),
        ({"levels": ["documnet"]}, "Did you mean 'document'"),
        ({"levels": [{"name": "sentence", "repeat": 2}]}, "Did you mean 'repeats'"),
        ({"levels": [{"name": "sentence", "select": "all"}]}, "unknown key of a level 'select'"),
        ({"levels": [{"repeats": 2}]}, "has no name"),
        ({"levels": [3]}, "a level must be"),
        ({"levels": "document"}, "must be a list"),
        ({"levels": []}, "levels is empty"),
        ({"levels": ["sentence", "sentence"]}, "each level may stand once"),
        ({"repeat_level": "sentense"}, "Did you mean 'sentence'"),
        ({"select": "informaton"}, "Did you mean 'information'"),
        (
            {"select": "question"},
            "choices: all, information, learned, random. That would be retrieval: use layout focus",
        ),
        ({"layout": "focus", "select": "all"}, "choices: question, random"),
        ({"layout": "focus", "levels": ["document"]}, "are those of its passages: paragraph, sentence"),
        (
            {"layout": "focus", "budget": 1},
            "budget 1 cannot hold 1 whole copy of the document and anything of paragraph",
        ),
        ({"layout": "flat", "repeats": 0}, "repeats must be a whole number"),
        ({"layout": "flat", "repeats": True}, "repeats must be a whole number"),
        ({"overlap": 1}, "overlap must be a number"),
        ({"overlap": "20%"}, "overlap must be a number"),
        ({"budget": 0}, "budget must be a number"),
        ({"budget": float("nan")}, "budget must be a number"),
        ({"budget": 1}, "cannot hold 1 whole copy of the document and anything of paragraph, sentence"),
        ({"levels": [{"name": "document", "repeats": 3}], "budget": 2}, "it must be at least 3"),
        ({"repeat_level": "document", "budget": 2}, "2 whole copies of the document and anything of paragraph, senten"),
        ({"lead": "Information about"}, "lead must be true or false"),
        ({"levels": [{"name": "sentence", "repeats": 1.5}]}, "repeats of level sentence"),
    ],
)
def test_bad_blocks_are_named(mapping: dict, message: str) -> None:
    with pytest.raises(JRTError, match=message):
        layout_spec({"layout": "hier", **mapping})


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (
            {"layout": "once", "overlap": 0.3},
            "has no effect with layout 'once'; it needs layout hier, focus",
        ),
        ({"overlap": 0.3}, "overlap: 0.3 has no effect with layout 'once'"),
        ({"layout": "hier", "repeats": 3}, "repeats: 3 has no effect with layout 'hier'; it needs layout flat"),
        ({"layout": "flat", "budget": 3}, "budget: 3 has no effect with layout 'flat'"),
        ({"layout": "flat", "repeat_level": "sentence"}, "repeat_level: sentence has no effect with layout 'flat'"),
        ({"layout": "focus", "order": "fine_to_coarse"}, "order: fine_to_coarse has no effect with layout 'focus'"),
        ({"layout": "hier", "as_long_as": "flat"}, "it needs layout repeat_random, repeat_question"),
        ({"layout": "repeat_random", "overlap": 0.1}, "overlap: 0.1 has no effect"),
    ],
)
def test_a_setting_that_the_layout_does_not_read_is_refused(mapping: dict, message: str) -> None:
    with pytest.raises(JRTError, match=message):
        layout_spec(mapping)


def test_a_control_takes_the_settings_of_the_layout_that_it_is_as_long_as() -> None:
    spec = layout_spec({"layout": "repeat_random", "as_long_as": "hier", "overlap": 0.1})
    assert (spec.form, spec.overlap) == ("hier", 0.1)


@pytest.mark.parametrize(
    "mapping",
    [
        {"layout": ["once"]},
        {"layout": {"name": "once"}},
        {"layout": "repeat_random", "as_long_as": ["flat"]},
        {"layout": "hier", "order": ["fine_to_coarse"]},
        {"layout": "hier", "select": {"all": 1}},
        {"layout": "hier", "repeat_level": ["sentence"]},
        {"layout": "hier", "levels": [["sentence"]]},
        {"layout": "hier", "levels": [{"name": ["sentence"]}]},
        {"layout": "flat", "repeats": [2]},
    ],
)
def test_lists_where_a_name_is_wanted_are_refused(mapping: dict) -> None:
    with pytest.raises(JRTError):
        layout_spec(mapping)


def test_so_many_copies_that_memory_would_run_out_are_refused() -> None:
    with pytest.raises(JRTError, match="repeats must be a whole number from 1 to 100, not 100000000"):
        layout_spec({"layout": "flat", "repeats": 100_000_000})
    with pytest.raises(JRTError, match="repeats of level sentence must be a whole number from 1 to 100"):
        layout_spec({"layout": "hier", "levels": [{"name": "sentence", "repeats": 10**8}]})


def test_the_layouts_are_named_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "add-a-task.md").read_text(encoding="utf-8")
    row = re.search(r"^\| `layout` \|.*$", page, re.M)
    assert row is not None
    assert set(re.findall(r"`(\w+)`", row[0])) >= set(LAYOUTS)
