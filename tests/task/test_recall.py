"""RecallTask: prompts that carry their spans, scores, counts, and errors that say where."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from recalling import ROWS, TEMPLATES, Echo, evaluate, make

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prompts import Prompt, render
from jrt_lmeval.prompts.prompt import placed
from jrt_lmeval.task.log import position
from jrt_lmeval.task.recall import RecallTask


def test_requests_carry_the_spans_of_the_document(tmp_path: Path) -> None:
    model = Echo()
    evaluate(make(tmp_path, jrt={"layout": "flat"}), model)
    document = ROWS[0]["text"]
    prompt = model.requests[0].args[0]
    assert isinstance(prompt, Prompt)
    assert prompt == f"About captain. {document}\n{document} The captain is"
    assert prompt[prompt.document_start : prompt.document_end] == f"{document}\n{document}"
    assert pickle.loads(pickle.dumps(prompt)).document_end == prompt.document_end
    assert model.requests[0].args[1] == {"until": ["\n"], "max_gen_toks": 48}


def test_results_hold_scores_with_errors_figures_and_the_block(tmp_path: Path) -> None:
    results = evaluate(make(tmp_path, jrt={"layout": "once"}), Echo(), log_samples=True)
    scores = results["results"]["mine"]
    # The echo ends with the document's last 40 characters, in which every answer of these rows stands.
    assert scores["contains,none"] == 1.0 and scores["exact,none"] == 0.0 and 0 < scores["f1,none"] < 1
    # Two documents say too little of how documents differ.
    assert scores["contains_stderr,none"] == "N/A"
    assert [name for name in scores if name.endswith(",none") and "stderr" not in name] == [
        f"{name},none" for name in ("contains", "contains_word", "contains_normalised", "exact", "f1")
    ]
    found = results["configs"]["mine"]["metadata"]["jrt_found"]
    assert found["means"]["jrt_prefix_tokens"] == 3.0 and found["medians"]["jrt_seconds"] == 0.5
    assert found["documents"] == 2 and 10 < found["means"]["prompt_tokens"] < 40
    block = results["configs"]["mine"]["metadata"]["jrt"]
    assert block["layout"] == "once" and block["source"] == "files"
    assert block["rows"] == {"read": 4, "dropped": 0, "asked": 4, "document_cut": 0, "answer_outside": 0}
    json.dumps(results["configs"])


def test_the_published_recipe_is_the_published_prompt(tmp_path: Path) -> None:
    rows = [{**row, "text": f"{row['text']} Summary of information above... {row['key']}:"} for row in ROWS]
    task = make(tmp_path, rows, jrt={"recipe": "swde", "layout": "flat", "window": {"context_length": 70}})
    kept = [row for row in rows if len(row["value"]) > 1]
    prompts = [task.doc_to_text(doc) for doc in task.eval_docs]
    assert prompts == [render("swde", "flat", row, 70) for row in kept]
    # The answer "7" has one character: the published window drops the row.
    assert task.config.metadata["jrt"]["rows"] == {"read": 4, "dropped": 1} and len(task.eval_docs) == 3


def test_metadata_is_laid_over_the_block(tmp_path: Path) -> None:
    jrt = {"layout": "flat", "window": {"policy": "head", "context_length": 70}}
    plain = make(tmp_path, jrt=jrt).config.metadata["jrt"]
    source = str(tmp_path / "mine.yaml")
    metadata = {"config_source": source, "jrt": {"repeats": 3, "window": {"context_length": 80}}}
    changed = make(tmp_path, jrt=jrt, metadata=metadata)
    block = changed.config.metadata["jrt"]
    assert block["repeats"] == 3 and block["window"]["policy"] == "head" and block["window"]["context_length"] == 80
    assert block["hash"] != plain["hash"]
    assert changed.doc_to_text(changed.eval_docs[0]).count(ROWS[0]["text"]) == 3
    common = make(tmp_path, jrt_common=jrt, jrt={"layout": "once"}).config.metadata["jrt"]
    assert common["layout"] == "once" and common["window"] == plain["window"]


def asked(task: RecallTask, **arguments: Any) -> list[tuple[str, Any]]:
    """The prompts and settings of the requests that the task builds or takes from the cache."""
    task.set_fewshot_seed(1)
    task.build_all_requests(cache_requests=True, tokenizer_name="t", **arguments)
    return [instance.args for instance in task.instances]


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setattr("lm_eval.caching.cache.PATH", str(folder))
    return folder


def test_cached_requests_are_those_that_would_be_built(tmp_path: Path, cached: Path) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"jrt": {"layout": "flat"}},
        {"jrt": {"layout": "flat", "repeats": 3}},
        {"generation_kwargs": {"max_gen_toks": 2}},
        {"description": "Read this. "},
        {"question": "{{key}}:"},
        {"num_fewshot": 1, "fewshot_split": "test"},
        {"doc_to_target": "{{key}}"},
    ]
    first = [asked(make(tmp_path, **change)) for change in changes]
    assert len(list(cached.iterdir())) == len(changes)
    assert [asked(make(tmp_path, **change)) for change in changes] == first
    assert len(list(cached.iterdir())) == len(changes)
    assert first[3][0][1]["max_gen_toks"] == 2 and str(first[4][0][0]).startswith("Read this. ")
    other = [{**ROWS[0], "text": "Log of the Petrel. Captain: Ilse Maarten."}, *ROWS[1:]]
    assert "Petrel" in asked(make(tmp_path, other))[0][0]


def test_cached_requests_are_of_the_rows_that_are_asked(tmp_path: Path, cached: Path) -> None:
    wanted = [str(make(tmp_path).doc_to_text(row)) for row in make(tmp_path).eval_docs]
    for samples in ([0, 2], [1, 3], [0, 2], [3]):
        prompts = [str(prompt) for prompt, _ in asked(make(tmp_path), samples=samples)]
        assert prompts == [wanted[place] for place in samples]
    for limit in (1, 3, None):
        assert [str(prompt) for prompt, _ in asked(make(tmp_path), limit=limit)] == wanted[:limit]
    for limit in (3, 2):  # a process asks the same rows, whether its requests come from the cache or not
        for rank in (0, 1, 0, 1):
            task = make(tmp_path)
            prompts = [str(prompt) for prompt, _ in asked(task, limit=limit, rank=rank, world_size=2)]
            rows = [dict(doc) for _, doc in task.doc_iterator(limit=limit, rank=rank, world_size=2)]
            assert prompts == [wanted[ROWS.index({k: v for k, v in row.items() if k != "jrt"})] for row in rows]


def test_cached_requests_are_of_the_chat_template_and_the_instruction(tmp_path: Path, cached: Path) -> None:
    def chat(mark: str) -> Any:
        return lambda turns, **_: mark + "".join(turn["content"] for turn in turns)

    for mark in ("<a>", "<b>", "<a>"):
        arguments = {"apply_chat_template": True, "chat_template": chat(mark)}
        assert all(str(prompt).startswith(mark) for prompt, _ in asked(make(tmp_path), **arguments))
    assert len(list(cached.iterdir())) == 2
    assert asked(make(tmp_path), system_instruction="Be brief.") != asked(make(tmp_path), system_instruction="Be long.")


def test_a_prompt_from_the_cache_knows_what_stands_before_it(tmp_path: Path, cached: Path) -> None:
    class Cutting(Echo):
        def generate_until(self, requests: list, disable_tqdm: bool = False) -> list[str]:
            answers = super().generate_until(requests)
            for answer in answers:
                answer.stats["jrt_truncated_characters"] = len("Read this. ") + 5
            return answers

    def facts() -> list[Any]:
        task = make(tmp_path, description="Read this. ")
        found = evaluate(task, Cutting(), log_samples=True, cache_requests=True)["samples"]["mine"]
        return [(sample["doc"]["jrt"]["prompt_tokens"], sample["doc"]["jrt"]["document_cut"]) for sample in found]

    built = facts()
    assert facts() == built and all(cut == 1 for _, cut in built)


def test_samples_names_rows_of_the_file(tmp_path: Path) -> None:
    # The third row is dropped: its answer "7" cannot place the published window.
    task = make(tmp_path, jrt={"recipe": "fda", "window": {"context_length": 70}})
    assert [number for number, _ in task.doc_iterator()] == [0, 1, 3]
    results = evaluate(task, Echo(), log_samples=True, samples={"mine": [3, 1]})
    assert {sample["doc_id"]: sample["doc"]["value"] for sample in results["samples"]["mine"]} == {
        1: "19",
        3: "Oda Refsnes",
    }
    for samples, message in (
        ([4], "names row 4; rows are numbered 0 to 3"),
        ([-1], "names row -1"),
        (["0"], "names row '0'"),
        ([2], "names row 2, which the window or the control of this task drops; the next that is asked is row 3"),
    ):
        with pytest.raises(JRTError, match=f"task mine: --samples {message}"):
            list(task.doc_iterator(samples=samples))


def test_the_document_is_found_inside_a_chat_template(tmp_path: Path) -> None:
    model = Echo()
    evaluate(make(tmp_path, description="Read this.\n"), model, apply_chat_template=True)
    prompt = model.requests[0].args[0]
    assert prompt.startswith("<system>Read this.</s><user>Log of") and prompt.endswith("<assistant>")
    assert prompt[prompt.document_start : prompt.document_end] == ROWS[0]["text"] == prompt.document


def test_a_prompt_is_placed_or_left_alone() -> None:
    prompt = Prompt("  read me. Now", 0, 10, "  read me.", {"n": 1})
    around = placed(prompt, "<s>  read me. Now</s>")
    assert isinstance(around, Prompt) and around[around.document_start : around.document_end] == "  read me."
    stripped = placed(prompt, "<s>read me. Now</s>")
    assert isinstance(stripped, Prompt) and stripped[: stripped.document_end] == "<s>read me."
    assert stripped.counters == {"n": 1}
    assert type(placed(prompt, "something else")) is str


def test_a_control_reads_nothing_or_something_else(tmp_path: Path) -> None:
    closed = make(tmp_path, jrt={"layout": "flat", "control": "no_context"})
    assert closed.doc_to_text(closed.eval_docs[0]) == "About captain. The captain is"
    wrong = make(tmp_path, jrt={"layout": "flat", "control": "wrong_context"})
    prompts = [wrong.doc_to_text(doc) for doc in wrong.eval_docs]
    tern, heron = ROWS[2]["text"], ROWS[0]["text"]
    assert prompts[0] == f"About captain. {tern}\n{tern} The captain is" and heron in prompts[3]
    assert prompts[0].counters["answer_outside"] == 1
    assert wrong.config.task_alias == "mine [wrong_context]"
    assert closed.config.metadata["jrt"]["control"] == "no_context"
    with pytest.raises(JRTError, match="needs a row on another document that holds none"):
        make(tmp_path, ROWS[:2], jrt={"control": "wrong_context"})


def test_generation_arguments_of_one_run_do_not_reach_another_task(tmp_path: Path) -> None:
    one = make(tmp_path, generation_kwargs={"max_gen_toks": 8})
    one.set_config("generation_kwargs", {"until": ["."]}, update=True)
    assert one.config.generation_kwargs == {"until": ["."], "max_gen_toks": 8}
    assert make(tmp_path).config.generation_kwargs == {"until": ["\n"], "max_gen_toks": 48}


def test_predict_only_and_own_scores(tmp_path: Path) -> None:
    own = make(tmp_path, process_results=lambda doc, results: {"length": len(results[0])})
    assert own.process_results(own.eval_docs[0], ["Ilse"])["length"] == 4
    results = evaluate(make(tmp_path), Echo(), predict_only=True)
    assert "bypass,none" in results["results"]["mine"]


def test_answers_may_be_lists_and_numbers(tmp_path: Path) -> None:
    rows = [
        {"text": "It is 42 or 43.", "key": "n", "value": [42, "43"]},
        {"text": "It is 5 here.", "key": "n", "value": 5},
    ]
    task = make(tmp_path, rows)
    assert [task.doc_to_target(doc) for doc in task.eval_docs] == [["42", "43"], ["5"]]
    assert make(tmp_path, rows, doc_to_target="value").doc_to_target(rows[0]) == ["42", "43"]
    assert make(tmp_path, doc_to_target="the {{value}}").doc_to_target(ROWS[1]) == ["the 19"]


def test_rows_may_come_the_ways_of_lm_eval(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,key,value\nCrew: 19.,crew,19\nCrew: 20.,crew,20\n")
    csv = make(tmp_path, dataset_path="csv", dataset_kwargs={"data_files": {"test": "rows.csv"}})
    assert csv.doc_to_target(csv.eval_docs[1]) == ["20"] and csv.config.metadata["jrt"]["source"] == "files"
    custom = make(tmp_path, dataset_path=None, dataset_kwargs=None, custom_dataset=lambda **metadata: {"test": ROWS})
    assert len(custom.eval_docs) == 4 and custom.config.metadata["jrt"]["source"] == "custom"
    processed = make(tmp_path, process_docs=lambda rows: rows.filter(lambda row: row["key"] == "crew"))
    assert [doc["value"] for doc in processed.eval_docs] == ["19", "7"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"jrt": {"layuot": "flat"}}, "task mine: unknown key of the jrt block 'layuot'. Did you mean 'layout'"),
        ({"jrt": {"layout": "flatt"}}, "task mine: unknown layout 'flatt'. Did you mean 'flat'"),
        ({"jrt": {"control": "no_contxt"}}, "unknown control 'no_contxt'. Did you mean 'no_context'"),
        ({"jrt": {"recipe": "sdwe"}}, "unknown recipe 'sdwe'. Did you mean 'swde'"),
        ({"jrt": {"window": {"polciy": "head"}}}, "'polciy'. Did you mean 'policy'"),
        ({"jrt": {"window": 5}}, "window must be a mapping"),
        ({"jrt": "flat"}, "the jrt block must be a mapping"),
        ({"jrt": {"recipe": "swde"}, "document": "{{text}}"}, "'document' has no effect with jrt.recipe 'swde'"),
        ({"documnt": "{{text}}"}, "task mine: unknown key 'documnt'. Did you mean 'document'"),
        (
            {"document": "{{txt}}"},
            r"rows.jsonl, line 1 \(doc_id 'a'\): 'document' is '{{txt}}': field 'txt' is missing.",
        ),
        ({"document": "txt"}, "'document' is 'txt': field 'txt' is missing. Did you mean 'text'"),
        ({"question": "The {{kee}} is"}, "field 'kee' is missing. Did you mean 'key'"),
        ({"question": "The {{key is"}, "'question' is 'The {{key is', which jinja2 cannot read"),
        ({"question": 3}, "'question' is 3: it must be the name of a field or a template"),
        ({"output_type": "loglikelihood"}, "output_type must be generate_until"),
        ({"metric_list": [{"metric": "contians"}]}, "unknown metric in metric_list 'contians'. Did you mean"),
        ({"test_split": None}, "name the split to evaluate"),
        ({"test_split": "tset"}, "unknown split of data_files 'tset'"),
        ({"dataset_kwargs": None}, "'dataset_kwargs' is missing"),
        ({"dataset_path": None}, "'dataset_path' is missing"),
        ({"doc_to_text": "{{text}}"}, "'doc_to_text' has no effect in a recall task: the prompt is made of document"),
        ({"doc_to_choice": ["a"]}, "'doc_to_choice' has no effect"),
        ({"use_prompt": "x"}, "'use_prompt' has no effect"),
        ({"jrt": {"recipe": "fda"}, "doc_to_target": "value"}, "'doc_to_target' has no effect with jrt.recipe 'fda'"),
        ({"jrt": {"overlap": 0.3}}, "overlap: 0.3 has no effect with layout 'once'; it needs layout hier"),
        ({"jrt": {"layout": "flat", "lead": True}, "lead": ""}, "lead: True has no effect: it needs the key 'lead'"),
        ({"jrt": {"layout": "lead_once"}, "lead": ""}, "layout: lead_once has no effect: it needs the key 'lead'"),
        ({"jrt": {"source": "sample"}}, "source: sample has no effect: dataset_kwargs names the files"),
        ({"jrt": {"window": {"policy": "head"}}}, "window.policy: head has no effect: it needs context_length"),
        ({"jrt": {"window": {"policy": "head", "answer_at": 0.5}}}, "answer_at: 0.5 needs policy 'answer_at', not"),
        ({"jrt": {"window": {"context_length": 99, "seed": 3}}}, "window.seed: 3 has no effect: it needs answer_at"),
        ({"jrt": {"window": {"policy": "none", "context_length": 99}}}, "has no effect with policy 'none'"),
        ({"jrt": {"layout": ["once"]}}, r"unknown layout \['once'\]"),
        ({"jrt": {"layout": "repeat_random", "as_long_as": ["flat"]}}, r"unknown layout \['flat'\]"),
        ({"jrt": {"recipe": ["swde"]}}, r"unknown recipe \['swde'\]"),
        ({"jrt": {"control": ["none"]}}, "unknown control"),
        ({"jrt": {"source": {"hub": 1}}}, "unknown source"),
        ({"jrt": {"window": {"policy": ["head"]}}}, "unknown window policy"),
        ({"jrt": {"layout": "flat", "repeats": 10**8}}, "repeats must be a whole number from 1 to 100"),
        ({"joiner": None}, "'joiner' is None: it must be the text between document and question"),
        ({"joiner": 5}, "'joiner' is 5"),
        ({"question": "{{key/2}}"}, r"'question' is '{{key/2}}', which fails on this row \(TypeError"),
        ({"question": "The {{key/2}}"}, r"which fails on this row \(TypeError"),
        ({"dataset_kwargs": {"data_files": {"test": "rows.jsonl"}, "sep": ";"}}, "unknown key of dataset_kwargs"),
    ],
)
def test_mistakes_in_the_yaml_are_named(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(JRTError, match=message):
        make(tmp_path, **config)


def test_a_lead_that_a_published_row_does_not_have_is_refused(tmp_path: Path) -> None:
    row = {"doc_id": "a", "context": "Heron. Its captain is Ilse", "question": "Its captain is", "answers": ["Ilse"]}
    asking = {**row, "orig_question": "Who is its captain?"}
    task = make(tmp_path, [asking], jrt={"recipe": "drop", "lead": True})
    assert task.doc_to_text(task.eval_docs[0]).startswith("Who is its captain? ")
    plain = make(tmp_path, [row], jrt={"recipe": "drop"})
    assert plain.doc_to_text(plain.eval_docs[0]).startswith("Heron.")
    with pytest.raises(JRTError, match="lead: True has no effect on a row without 'orig_question'"):
        make(tmp_path, [row], jrt={"recipe": "drop", "lead": True})


@pytest.mark.parametrize("missing", ["document", "question", "doc_to_target"])
def test_missing_templates_are_named(tmp_path: Path, missing: str) -> None:
    templates = {key: value for key, value in TEMPLATES.items() if key != missing}
    with pytest.raises(JRTError, match=f"task mine: '{missing}' is missing"):
        RecallTask(config={"task": "mine", "dataset_path": "json", "test_split": "test", **templates})


@pytest.mark.parametrize(
    ("change", "recipe", "message"),
    [
        ({"text": " "}, None, r"rows.jsonl, line 2 \(doc_id 'a'\): 'document' is empty"),
        ({"text": None}, None, "'document' is None: it must be a string"),
        ({"value": []}, None, r"'doc_to_target' is \[\]: it must hold the accepted answer"),
        ({"value": ["", " "]}, None, "not all of them empty"),
        ({"value": float("nan")}, None, "'doc_to_target' is nan: it must hold the accepted answer"),
        ({"value": ["7", float("nan")]}, None, "must hold the accepted answer"),
        ({"value": float("nan")}, "fda", "field 'value' is nan: it must hold the accepted answer"),
        ({"text": ""}, "fda", r"line 2 \(doc_id 'a'\): field 'text' is empty: it must hold the document"),
        ({"key": " "}, "fda", "field 'key' is empty"),
        ({"value": ""}, "fda", "field 'value' is ''"),
    ],
)
def test_an_empty_field_names_file_line_and_field(
    tmp_path: Path, change: dict[str, Any], recipe: str | None, message: str
) -> None:
    rows = [ROWS[0], {**ROWS[1], **change}]
    with pytest.raises(JRTError, match=message):
        make(tmp_path, rows, jrt={"recipe": recipe} if recipe else {"layout": "once"})


def test_a_missing_field_names_file_line_and_field(tmp_path: Path) -> None:
    rows = [ROWS[0], {"doc_id": "a", "text": "t", "kee": "crew", "value": "19"}]
    with pytest.raises(JRTError, match=r"line 2 \(doc_id 'a'\): field 'key' is missing. Did you mean 'kee'"):
        make(tmp_path, rows, jrt={"recipe": "fda"})


def test_rows_that_are_all_dropped_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(JRTError, match="the window drops every row"):
        make(tmp_path, [ROWS[2]], jrt={"recipe": "fda", "window": {"context_length": 100}})


def test_a_block_above_puts_out_of_use_what_is_said_of_another_layout_or_window(tmp_path: Path) -> None:
    def block(above: dict[str, Any], **below: Any) -> dict[str, Any]:
        metadata = {"config_source": str(tmp_path / "mine.yaml"), "jrt": above}
        return make(tmp_path, **below, metadata=metadata).jrt.as_dict()

    hier = {"layout": "hier", "overlap": 0.1, "budget": 3, "window": {"answer_at": "random", "context_length": 90}}
    assert block({"layout": "once"}, jrt=hier)["layout"] == "once"
    assert block({"layout": "repeat_random", "as_long_as": "hier"}, jrt=hier)["overlap"] == 0.1
    assert make(tmp_path, jrt_common={"overlap": 0.1, "repeats": 3}, jrt={"layout": "flat"}).jrt.layout.repeats == 3
    above = ({"policy": "head"}, {"answer_at": 0.5}, {"seed": 4}, {"policy": "none"}, {"context_length": None})
    windows = [block({"window": window}, jrt=hier)["window"] for window in above]
    assert [(one["policy"], one["answer_at"], one["seed"], one["context_length"]) for one in windows] == [
        ("head", None, 0, 90),
        ("answer_at", 0.5, 0, 90),
        ("answer_at", "random", 4, 90),
        ("none", None, 0, None),
        ("answer_centered", None, 0, None),
    ]
    with pytest.raises(JRTError, match="task mine: repeats: 3 has no effect with layout 'hier'"):
        block({"repeats": 3}, jrt=hier)


def test_empty_answers_have_a_mean(tmp_path: Path) -> None:
    class Silent(Echo):
        def generate_until(self, requests: list, disable_tqdm: bool = False) -> list[str]:
            return ["", " \n", "Ilse", "7"]

    results = evaluate(make(tmp_path), Silent(), log_samples=True)
    found = results["configs"]["mine"]["metadata"]["jrt_found"]
    assert found["means"]["jrt_empty_answer"] == 0.5 and "ended" not in found
    assert [sample["doc"]["jrt"]["jrt_empty_answer"] for sample in results["samples"]["mine"]] == [1, 1, 0, 0]


def test_how_answers_ended_is_counted(tmp_path: Path) -> None:
    class Ending(Echo):
        def generate_until(self, requests: list, disable_tqdm: bool = False) -> list[str]:
            answers = super().generate_until(requests)
            for answer, ended in zip(answers, ("stop", "eos", "length", "stop"), strict=True):
                answer.stats |= {"jrt_ended": ended, "jrt_empty_answer": int(ended == "eos")}
            return answers

    results = evaluate(make(tmp_path), Ending(), log_samples=True)
    found = results["configs"]["mine"]["metadata"]["jrt_found"]
    assert found["ended"] == {"stop": 2, "eos": 1, "length": 1} and found["means"]["jrt_empty_answer"] == 0.25
    assert results["samples"]["mine"][1]["doc"]["jrt"]["jrt_ended"] == "eos"


def test_position() -> None:
    assert position("aXbx", ["B", "x", ""]) == 0.25 and position("abc", ["z"]) is None
