"""`jrt-eval paper`: what is planned, run once, gone on with and kept."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lm_eval.models.dummy import DummyLM
from reportlogs import sample, write_run

from jrt_lmeval import cli, plugin, runner
from jrt_lmeval.checkpoints.found import named, shipped_for
from jrt_lmeval.errors import JRTError
from jrt_lmeval.paper import cli as paper_cli
from jrt_lmeval.paper import plan as planned_from
from jrt_lmeval.paper.claims import CLAIMS, Logs, verdict, verdicts
from jrt_lmeval.paper.cli import estimates, measured_speed, write_tables
from jrt_lmeval.paper.plan import (
    COUNTERFACTUAL,
    FLAT_AS_LONG,
    IN_PAPER,
    LENGTHS,
    MAPS,
    NO_LEAD,
    NOTHING_DROPPED,
    OVERLAPS,
    STEP,
    STEPS,
    STRUCTURES,
    SUITES,
    TRAINED_SO,
    WRONG_CONTEXT,
    TableRow,
    dynamic,
    fixed,
    plan,
    runs,
    without,
)
from jrt_lmeval.paper.tables import again_table, paper_report, unigram
from jrt_lmeval.paper.times import QUESTIONS, ROUNDS, read_times, take_times
from jrt_lmeval.paths import published_dir, tasks_dir
from jrt_lmeval.plugin import register
from jrt_lmeval.prefix import prefix_policy
from jrt_lmeval.prompts.tokens import count_tokens
from jrt_lmeval.report.collect import collect
from jrt_lmeval.report.published import printed
from jrt_lmeval.report.tables import Number
from jrt_lmeval.runner import (
    EvalRun,
    Options,
    execute,
    finished,
    folder_name,
    keep,
    kept_results,
    kept_sample,
    stated_runs,
    task_manager,
    weights_of,
)
from jrt_lmeval.scoring import contains
from jrt_lmeval.stats import interval
from jrt_lmeval.task.recall import RecallTask

MEASURED = published_dir().parent / "measured" / "bundled"


@pytest.mark.parametrize("suite", SUITES)
def test_every_table_is_planned_and_shared_runs_are_run_once(suite: str) -> None:
    entries = plan(SUITES[suite])
    tables = {entry.table for entry in entries}
    wanted = {"prefix", "prompt", "structure", "comparison", "control"}
    further = {"bundled": {"feature_map", "memory"}, "smollm2": {"feature_map"}, "released": set()}
    assert tables == wanted | further[suite]
    todo = runs(entries)
    assert len({run.key for run in todo}) == len(todo) < len(entries)
    for entry in entries:
        (run,) = [run for run in todo if run.key == entry.run.key]
        assert set(entry.run.tasks) <= set(run.tasks)
    labels = {entry.label for entry in entries if entry.table == "prefix"}
    assert len(labels) == 4 + len(LENGTHS) * (1 + len(STEPS))
    assert {entry.label for entry in entries if entry.table == "structure"} == STRUCTURES.keys()


def test_both_rows_of_every_claim_are_planned() -> None:
    planned = {(entry.table, entry.label) for entry in plan(SUITES["bundled"])}
    rows = {(claim.table, row) for claim in CLAIMS for row in (claim.better, claim.worse)}
    assert rows - planned == {("comparison", f"{TRAINED_SO}, once")}, "its weights do not ship"


def test_rows_whose_weights_do_not_ship_come_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = [*named(), "jrt-relu-plain", "llama-window"]
    before = {entry.label for entry in plan(SUITES["bundled"])}
    monkeypatch.setattr(planned_from, "named", lambda: shipped)
    more = {entry.label for entry in plan(SUITES["bundled"])} - before
    assert {"ReLU, element by element", TRAINED_SO, f"{TRAINED_SO}, once"} <= more
    assert "GELU, element by element" in MAPS and "GELU, element by element" not in more


def test_the_benchmark_of_more_questions_is_asked_on_demand() -> None:
    suite = SUITES["bundled"]
    entries = plan(suite)
    fewer = without(entries, suite.decisive)
    asked = {task for entry in entries for task in entry.run.tasks}
    assert {task for task in asked if task.startswith("factbook_large")} == asked - {
        task for entry in fewer for task in entry.run.tasks
    }
    assert {(entry.table, entry.label) for entry in fewer} == {(entry.table, entry.label) for entry in entries}


@pytest.mark.parametrize("step", STEPS)
def test_dynamic_and_fixed_prefixes_are_equally_long_on_average(step: float) -> None:
    (row,) = (
        entry.run for entry in plan(SUITES["bundled"])
        if entry.label == dynamic(0.5, step) and entry.run.tasks == ("factbook_once",)
    )  # fmt: skip
    given = {name: value for name, value in row.arguments.items() if name != "feature_map"}
    policy = prefix_policy(**given)
    (logged,) = (cell for cell in collect([MEASURED / "jrt_rnn-mlp-dynamic"]).cells if cell.task == "factbook_once")
    entropies = logged.columns.figures["entropy"]
    factors = np.where(
        entropies >= policy.entropy_high, 1 + step, np.where(entropies <= policy.entropy_low, 1 - step, 1)
    )
    assert policy.prefix_length * factors.mean() == pytest.approx(0.5, rel=0.01)
    assert (factors > 1).mean() > 0 and policy.prefix_length * factors.max() < 1


def test_a_hierarchical_prompt_that_drops_nothing_is_as_long_as_its_flat_control() -> None:
    lengths = []
    for label in (NOTHING_DROPPED, FLAT_AS_LONG):
        (run,) = (entry.run for entry in plan(SUITES["bundled"]) if entry.label == label)
        task = task_manager({"jrt": dict(run.block)}).load([run.tasks[0]])["tasks"][run.tasks[0]]
        task.build_all_requests(samples=list(range(0, 985, 97)), rank=0, world_size=1)
        prompts = [request.args[0] for request in task.instances]
        assert not any(prompt.counters.get("segments_dropped") for prompt in prompts)
        lengths.append([count_tokens(str(prompt)) for prompt in prompts])
    assert np.abs(np.array(lengths[0]) / lengths[1] - 1).max() < 0.02


def test_a_run_is_found_by_what_its_folder_states(built: list[str], tmp_path: Path) -> None:
    run = EvalRun("dummy", {"pretrained": "/some/where/model"}, ("swde_once",), {"control": "no_context"})
    assert execute([run], tmp_path, Options(limit=1), nothing) == []
    assert [path.name for path in tmp_path.iterdir()] == ["dummy-model-no_context"]
    (tmp_path / "dummy-model-no_context").rename(tmp_path / "whatever, you=like")
    assert finished(tmp_path, run, Options(limit=1)) == {"swde_once"}
    assert not finished(tmp_path, run.plain, Options(limit=1))
    (tmp_path / "dummy-model").mkdir()  # a folder of someone else's
    assert execute([run.plain], tmp_path, Options(limit=1), nothing) == []
    assert folder_of(tmp_path, run.plain).name == "dummy-model-2"
    shutil.copytree(tmp_path / "dummy-model-2", tmp_path / "copy")
    with pytest.raises(JRTError, match="state the same run: delete one"):
        stated_runs(tmp_path)


def test_folders_have_short_plain_names() -> None:
    names = {folder_name(run.model, {**run.arguments, **run.block}) for run in runs(plan(SUITES["bundled"]))}
    assert {"jrt_rnn-mlp-fixed-prefix_length-0.5", "mamba-lead-false", "hf_recall-kv_bytes-805000-kv_sinks-4"} <= names
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,80}", name) for name in names)
    levels = {"levels": ["document", {"name": "sentence, twice", "repeats": 2}] * 9}
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,80}", folder_name("m", levels))


def test_a_name_too_long_for_a_log_is_told_before_anything_is_run(built: list[str], tmp_path: Path) -> None:
    task = "swde_" + "o" * 240
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "mine.yaml").write_text(f"include: {tasks_dir()}/swde/swde_once.yaml\ntask: {task}\n")
    options = Options(limit=1, include_path=str(tmp_path / "tasks"))
    ((_, why),) = execute([EvalRun("dummy", {}, (task,))], tmp_path / "out", options, nothing)
    assert "give it a shorter name" in why and built == []
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError):
        execute([EvalRun("dummy", {}, ("swde_once",))], tmp_path / "file", Options(limit=1), nothing)
    assert built == []


def test_runs_of_one_model_stand_together() -> None:
    models = [run.loaded for run in runs(plan(SUITES["bundled"]))]
    assert len(set(models)) == sum(a != b for a, b in zip([None, *models], models, strict=False))


def test_rows_that_the_paper_has_bear_the_papers_name() -> None:
    names = {name for table in ("prefix", "feature_map", "prompt") for name in printed(table)}
    assert set(IN_PAPER.values()) <= names
    assert names <= {IN_PAPER.get(entry.label, entry.label) for entry in plan(SUITES["bundled"])}


def test_printed_numbers() -> None:
    assert printed("prefix")["JRT-RNN dynamic prefix"] == {"recall_percent": 48.2, "inference_ms": 158.0}
    assert printed("feature_map")["ReLU"]["perplexity"] == 35.6
    with pytest.raises(JRTError, match="Did you mean 'prompt'"):
        printed("promt")


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    register()
    names: list[str] = []
    plain = DummyLM.create_from_arg_obj.__func__
    monkeypatch.setattr(
        DummyLM, "create_from_arg_obj", classmethod(lambda cls, *a, **k: names.append("model") or plain(cls, *a, **k))
    )
    return names


def folder_of(out: Path, run: EvalRun) -> Path:
    return stated_runs(out)[run.key]


def nothing(run: EvalRun, number: int, seconds: float) -> None:
    """No progress."""


def test_a_suite_goes_on_where_it_stopped(built: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = Options(limit=2)
    first = EvalRun("dummy", {}, ("swde_once",))
    second = EvalRun("dummy", {}, ("swde_once",), {"control": "no_context"})
    evaluated: list[tuple[str, ...]] = []
    plain = runner.evaluate
    monkeypatch.setattr(runner, "evaluate", lambda *a, **k: evaluated.append(tuple(a[3])) or plain(*a, **k))
    assert execute([first, second], tmp_path, options, nothing) == []
    assert built == ["model"], "one loaded model serves both"
    assert finished(tmp_path, first, options) == {"swde_once"}
    assert measured_speed(tmp_path) is None  # a dummy reports no tokens

    more = EvalRun("dummy", {}, ("swde_once", "factbook_once"))
    assert [one.rows for one in estimates([more, second], tmp_path, options)] == [2, 0]
    assert execute([more, second], tmp_path, options, nothing) == []
    assert evaluated == [("swde_once",), ("swde_once",), ("factbook_once",)]
    assert finished(tmp_path, more, options) == {"swde_once", "factbook_once"}
    with pytest.raises(JRTError, match="was made with limit 2, not 3"):
        finished(tmp_path, first, Options(limit=3))


def test_a_model_that_does_not_recall_is_told(built: list[str], tmp_path: Path) -> None:
    control = EvalRun("dummy", {}, ("swde_once", "factbook_once"), WRONG_CONTEXT)
    replaced = EvalRun("dummy", {}, ("swde_once",), COUNTERFACTUAL)
    plain = EvalRun("dummy", {}, ("swde_once",))
    assert control.plain.key == plain.key and control.key != plain.key
    assert execute([plain, control, replaced], tmp_path, Options(limit=40), nothing) == []
    entries = (TableRow("prefix", "A dummy", plain), TableRow("control", "A dummy", control))
    table = paper_report(entries, Logs(tmp_path)).tables[-1]
    swde, factbook = table.rows
    assert table.name == "control" and swde[:2] == ("A dummy", "swde_once [sample]")
    once, another, replaced_score, majority, match, blind = swde[2:8]
    assert isinstance(once, Number) and once.value == 0 and once.interval is not None and once.interval.n == 40
    assert isinstance(another, Number) and another.value == 0
    assert isinstance(replaced_score, Number) and replaced_score.value == 0
    assert all(isinstance(rule, Number) for rule in (majority, match, blind))
    assert match.value > majority.value, "the rules' scores are those of the logged questions"
    assert swde[-1] == "no" and factbook[-1] == "-" and factbook[2] is None


def test_five_times_and_above_the_majority() -> None:
    good = interval([1, 0, 1, 1] * 10, [str(at) for at in range(40)])
    assert 0.5 < good.low < 0.75 == good.mean
    assert verdict(good, 0.15, 0.5) == "yes"
    assert verdict(good, 0.16, 0.5) == "no"
    assert verdict(good, 0.0, 0.75) == "no"
    assert verdict(good, None, 0.5) == "yes" and verdict(good, None, 0.75) == "no"
    assert verdict(good, 0.0, None) == verdict(None, 0.0, 0.0) == "-"


def test_a_policy_fitted_anew_is_another_run(tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    run = EvalRun("jrt_rnn", {"prefix": "learned", "prefix_policy": str(policy)}, ("swde_once",))
    stated = []
    for content in ("one", "two"):
        policy.write_text(content)
        stated.append(runner._identity(run, Options())["prefix_policy"])
    assert stated[0] != stated[1]
    assert "prefix_policy" not in runner._identity(EvalRun("jrt_rnn", {}, ("swde_once",)), Options())


def test_weights_trained_anew_are_another_run(
    built: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "model"
    weights.mkdir()
    (weights / "config.json").write_text('{"model_type": "llama"}')
    (weights / "model.safetensors").write_bytes(b"one")
    run = EvalRun("dummy", {"pretrained": str(weights)}, ("swde_once",))
    assert execute([run], tmp_path, Options(limit=1), nothing) == []
    assert finished(tmp_path, run, Options(limit=1))
    assert str(tmp_path) not in (folder_of(tmp_path, run) / runner.STATED).read_text()
    (weights / "model.safetensors").write_bytes(b"two")
    runner._hash.cache_clear()
    with pytest.raises(JRTError, match=r"was made with weights .* Choose another output folder"):
        finished(tmp_path, run, Options(limit=1))
    (weights / "model.safetensors").write_bytes(b"one")
    runner._hash.cache_clear()
    monkeypatch.setenv("JRT_LMEVAL_DATA", str(tmp_path))
    with pytest.raises(JRTError, match="was made with local_data False, not True"):
        finished(tmp_path, run, Options(limit=1))


def test_a_shipped_model_is_known_by_its_weights() -> None:
    known = weights_of(EvalRun("jrt_rnn", {"feature_map": "mlp"}))
    assert known is not None and known.split()[0] == shipped_for("jrt_rnn", "mlp").name
    assert weights_of(EvalRun("based", {"pretrained": "hazyresearch/based-360M-30B"})) is None
    assert weights_of(EvalRun("dummy")) is None


def test_longer_prompts_have_controls_of_their_length() -> None:
    planned = {entry.label: entry.run for entry in plan(SUITES["bundled"]) if entry.table == "prompt"}
    control = planned["as long as hierarchical JRT prompt: sentences of other documents"]
    assert control.block == {"layout": "repeat_random", "as_long_as": "hier"}
    assert set(control.tasks) < set(planned["hierarchical JRT prompt"].tasks)
    assert sum("as long as" in row for row in planned) == 4


def test_a_model_that_is_not_there_costs_its_rows_only(built: list[str], tmp_path: Path) -> None:
    missing = EvalRun("based", {"pretrained": str(tmp_path / "none")}, ("swde_once",))
    nameless = EvalRun("dummy", {}, ("swde_twice_and_a_half",))
    good = EvalRun("dummy", {"a": 1}, ("swde_once",))
    failed = execute([missing, nameless, good], tmp_path / "out", Options(limit=1), nothing)
    assert [run for run, _ in failed] == [missing, nameless]
    assert "no such folder" in failed[0][1] and "swde_twice_and_a_half" in failed[1][1]
    assert finished(tmp_path / "out", good, Options(limit=1))


def test_what_is_kept_can_be_scored_again_and_names_no_machine(built: list[str], tmp_path: Path) -> None:
    run = EvalRun("dummy", {"pretrained": "/some/where/model"}, ("swde_once",))
    assert execute([run], tmp_path, Options(limit=3, compact=True), nothing) == []
    (file,) = folder_of(tmp_path, run).glob("samples_*.jsonl.gz")
    lines = [json.loads(line) for line in gzip.decompress(file.read_bytes()).decode().splitlines()]
    assert len(lines) == 3
    for line in lines:
        assert line["filtered_resps"] == ["lol"] and line["target"] and line["prompt_hash"]
        assert line["contains"] == 0 and line["doc"]["jrt"]["doc_id"]
        assert "text" not in line["doc"] and "arguments" not in line
    (results,) = folder_of(tmp_path, run).glob("results_*.json")
    assert "/some/where" not in results.read_text() and '"pretrained": "model"' in results.read_text()


def test_foreign_fields_do_not_stop_the_keeping() -> None:
    assert kept_sample({"doc": None, "metrics": ["acc"], "acc": 1})["acc"] == 1
    content: dict[str, Any] = {"config": {"model_args": {}}, "configs": {"t": {"metadata": {}}}, "results": {}}
    assert kept_results(content)["configs"] == {"t": {"metadata": {}}}


def test_what_a_model_says_of_itself_names_no_machine() -> None:
    facts = {"pretrained": "/some/where/model", "tokenizer": None, "kv_window": 64}
    content: dict[str, Any] = {"config": {"model_args": {}, "jrt": facts}, "configs": {}, "results": {}}
    assert kept_results(content)["config"]["jrt"] == {"pretrained": "model", "tokenizer": None, "kv_window": 64}


def test_a_dry_run_counts_rows_and_estimates_tokens_from_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    plain = RecallTask.build_all_requests
    monkeypatch.setattr(
        RecallTask, "build_all_requests", lambda self, **k: made.append(len(k["samples"])) or plain(self, **k)
    )
    runs = [EvalRun("m", {"a": at}, ("swde_once",)) for at in range(9)]
    found = list(estimates(runs, Path("nowhere"), Options()))
    assert [one.rows for one in found] == [72] * 9 and made == [8], "each task once, whatever the number of runs"
    task = task_manager({}).load(["swde_once"])["tasks"]["swde_once"]
    exact = sum(count_tokens(task.doc_to_text(row)) for row in task.eval_docs)
    assert abs(found[0].tokens - exact) < 0.05 * exact


def test_dry_run_lists_and_runs_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[Any] = []
    monkeypatch.setattr(paper_cli, "task_manager", lambda *given: made.append(given) or task_manager(*given))
    monkeypatch.setattr(plugin, "huggingface_ready", lambda *_: pytest.fail("a dry run imports transformers"))
    assert cli.main(["paper", "--dry-run", "--limit", "1", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "prefix_step=0.2" in shown and "tokens left" in shown
    assert len(made) == 1, "an index of the tasks is made once, and not for every block"
    assert not (tmp_path / "out").exists()
    assert cli.main(["paper", "--suite", "bundeld"]) == 1
    assert "Did you mean 'bundled'" in capsys.readouterr().err


def entry(table: str, row: str, block: dict[str, Any]) -> TableRow:
    return TableRow(table, row, EvalRun("dummy", {}, ("factbook_once",), block))


def test_tables_are_made_from_the_logs_alone(built: list[str], tmp_path: Path) -> None:
    kept, changed = fixed(0.5), dynamic(0.5, STEP)
    entries = (entry("prefix", kept, {}), entry("prefix", changed, {"control": "no_context"}))
    missing = TableRow("prefix", "none", EvalRun("based", {}, ("factbook_once",)))
    assert execute([e.run for e in entries], tmp_path, Options(limit=80), nothing) == []
    made = paper_report((*entries, missing), Logs(tmp_path))
    (table, claims) = (one for one in made.tables if one.name in ("prefix", "claims"))
    assert table.header[:4] == ("prefix", "paper: recall, %", "paper: inference, ms", "factbook: contains, %")
    assert [row[0] for row in table.rows] == [kept, changed, "none"]
    assert isinstance(table.rows[0][1], Number) and table.rows[0][1].value == 46.1
    measured = table.rows[0][3]
    assert isinstance(measured, Number) and measured.interval is not None
    assert measured.interval.n == 80 and measured.interval.clusters >= 5 and "*" in measured.marks
    assert table.rows[2][3] is None, "a row that was not run has a dash, not a number"
    (row,) = claims.rows
    assert row[0] == f"{changed} > {kept}" and row[2] == "+2.1" and row[-1] == "not enough questions"
    files = write_tables(entries, tmp_path, tmp_path / "tables")
    assert sorted(file.suffix for file in files) == [".csv", ".json", ".md", ".tex"]
    again = write_tables(entries, tmp_path, tmp_path / "again")
    assert [file.read_bytes() for file in files] == [file.read_bytes() for file in again]


def test_the_tables_of_jrt_stand_in_their_form(built: list[str], tmp_path: Path) -> None:
    once = TableRow("comparison", "Mamba-2, once", EvalRun("dummy", {}, ("factbook_once",)))
    flat = TableRow("comparison", "Mamba-2, flat", EvalRun("dummy", {}, ("factbook_jrt",)))
    alone = TableRow("comparison", "Mamba-2, flat without the lead", EvalRun("dummy", {}, ("factbook_jrt",), NO_LEAD))
    entries = (once, flat, alone)
    assert execute([entry.run for entry in entries], tmp_path, Options(limit=30), nothing) == []
    tables = {table.name: table for table in paper_report(entries, Logs(tmp_path)).tables}
    ours, printed_table = tables["jrt_form"], tables["jrt_table1"]
    assert ours.header == ("model", "read", "factbook")
    assert [row[:2] for row in ours.rows] == [("Mamba-2", "once"), ("Mamba-2", "flat")]
    assert len(printed_table.rows) == 32
    assert printed_table.header[4:7] == (
        "fda, 1,000",
        "swde, 1,000",
        "nq_1024, 1,000",
    )
    based = next(row for row in printed_table.rows if row[:4] == ("Based", "1.3B", "10B", "flat"))
    assert [entry.value for entry in based[4:]] == [58.9, 44.7, 28.4, 46.7, 51.9, 34.6]
    claims = {(row[0], row[1]) for row in tables["claims"].rows}
    assert ("Mamba-2, flat without the lead > Mamba-2, once (the second copy by itself)", "factbook") in claims
    assert ("Mamba-2, flat > Mamba-2, flat without the lead (the question before the first copy)", "factbook") in claims


def test_what_fills_the_second_copy_alone_has_no_lead() -> None:
    rows = [entry for entry in plan(SUITES["bundled"]) if entry.label == "Based, flat without the lead"]
    assert [entry.run.block for entry in rows] == [{"lead": False}] and rows[0].run.tasks[0] == "factbook_jrt"


def logged(folder: Path, name: str, scores: list[int]) -> dict[str, Any]:
    """A run's logs with given scores, two questions a document."""
    (folder / name).mkdir(parents=True)
    lines = []
    for at, score in enumerate(scores):
        digest = sha256(str(at).encode()).hexdigest()
        doc = {"doc_id": f"d{at // 2}", "key": f"k{at}", "jrt": {"doc_id": f"d{at // 2}"}}
        line = {"doc_id": at, "doc": doc, "target": "['a']", "doc_hash": digest, "prompt_hash": digest}
        lines.append({**line, "filter": "none", "filtered_resps": ["a"], "metrics": ["contains"], "contains": score})
    (folder / name / "samples_t_once_x.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    mean = sum(scores) / len(scores)
    content = {
        "results": {"t_once": {"contains,none": mean}},
        "configs": {"t_once": {"metadata": {"jrt": {"layout": "once"}}}},
        "n-samples": {"t_once": {"original": len(scores), "effective": len(scores)}},
        "versions": {"t_once": 1},
        "config": {"model": "m", "model_args": {"name": name}, "limit": None},
    }
    (folder / name / "results_x.json").write_text(json.dumps(content))
    (cell,) = collect([folder / name]).cells
    return {"t": cell}


def test_a_sign_is_told_only_where_the_questions_tell_it(tmp_path: Path) -> None:
    worse = logged(tmp_path, "worse", [0, 1] * 40)
    least, tenth, fifth = (("structure", OVERLAPS[overlap]) for overlap in (0.0, 0.1, 0.2))
    small, large = dynamic(0.5, STEP), dynamic(0.5, STEPS[-1])
    cells = {
        fifth: logged(tmp_path, "better", [1, 1] * 40),
        least: worse,
        tenth: logged(tmp_path, "same", [1, 0] * 40),
        ("prefix", small): worse,
        ("prefix", large): logged(tmp_path, "bigger", [1, 1] * 40),
    }
    found = {(one.claim.better, one.claim.worse): one.says for one in verdicts(cells)}
    assert found == {
        (fifth[1], least[1]): "confirmed",
        (fifth[1], tenth[1]): "confirmed",
        (large, small): "reversed",
    }
    swapped = {fifth: worse, least: cells[fifth], tenth: cells[tenth]}
    assert [one.says for one in verdicts(swapped)] == ["reversed", "not enough questions"]


def test_a_verdict_says_what_the_questions_exclude(tmp_path: Path) -> None:
    changed, kept = dynamic(0.5, STEP), fixed(0.5)
    for questions, says in ((400, "paper's effect excluded"), (40, "not enough questions")):
        same = logged(tmp_path / str(questions), "same", [0, 1] * (questions // 2))
        (one,) = verdicts({("prefix", changed): same, ("prefix", kept): same})
        assert one.says == says and one.primary and one.claim.published == pytest.approx(2.1)
    few, many = logged(tmp_path, "few", [0, 1] * 20), logged(tmp_path, "many", [1, 1] * 20)
    softmax = {("comparison", "Llama, once"): few, ("comparison", "Llama, flat"): many}
    (one,) = verdicts(softmax | {("comparison", "Mamba-2, once"): few})
    assert not one.primary and one.p == one.found.paired.p, "explored: not corrected, and not in the family"
    step = {("prefix", dynamic(0.5, STEPS[-1])): many, ("prefix", dynamic(0.5, STEP)): many}
    assert [one.says for one in verdicts(step)] == ["not enough questions"], "no gain is not shown by few questions"


def test_a_kept_answer_can_be_scored_again(tmp_path: Path) -> None:
    facts = {"doc_id": "a", "answers": ["Ilse Moe", "I. M."], "majority": 0}
    doc = {"doc_id": "a", "text": "a long document", "jrt": facts}
    scores = {"contains": 1.0, "contains_stderr": ["a", 1.0]}
    sample = {"doc": doc, "prompt_hash": "0" * 64, "filtered_resps": ["ilse moe."], "metrics": [*scores], **scores}
    (tmp_path / "samples_mine_now.jsonl").write_text(json.dumps(sample) + "\n")
    keep(tmp_path, tmp_path / "kept")
    (file,) = (tmp_path / "kept").iterdir()
    kept = json.loads(gzip.decompress(file.read_bytes()))
    assert kept["metrics"] == ["contains"] and "contains_stderr" not in kept
    assert "a long document" not in json.dumps(kept) and kept["prompt_hash"] == "0" * 64
    assert contains(kept["filtered_resps"][0], kept["doc"]["jrt"]["answers"]) == kept["contains"]


def test_maps_are_compared_with_their_features_parameters_and_state(tmp_path: Path) -> None:
    rows = []
    for name, features, kilobytes in (("mlp", 512, 332), ("relu", 32, 80)):
        run = EvalRun("jrt_rnn", {"feature_map": name}, ("swde_once",))
        facts = {"jrt_state_bytes": 1000 * kilobytes, "jrt_recurrent_bytes": 1000 * (kilobytes - 60)}
        stated = {"identity": {"model": run.model, "model_args": run.arguments, "block": {}}, "tasks": []}
        (tmp_path / name).mkdir()
        (tmp_path / name / runner.STATED).write_text(json.dumps(stated))
        write_run(
            tmp_path / name, task="swde_once", block={"layout": "once", "source": "local"},
            lines=[sample(i, 1.0, facts=facts) for i in range(4)],
            facts={"feature_map": name, "features_per_head": features}, config={"model_num_parameters": 1_600_000},
        )  # fmt: skip
        rows.append(TableRow("feature_map", name, run))
    table = paper_report(rows, Logs(tmp_path)).tables[0]
    shown = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    assert [row["features a head"].text() for row in shown] == ["512", "32"]  # type: ignore[union-attr]
    assert [row["state, KB (median)"].text() for row in shown] == ["332", "80"]  # type: ignore[union-attr]
    assert [row["of it recurrent, KB (median)"].text() for row in shown] == ["272", "20"]  # type: ignore[union-attr]
    assert all(row["parameters"].text() == "1,600,000" for row in shown)  # type: ignore[union-attr]


def test_what_is_written_again_is_told_apart(tmp_path: Path) -> None:
    """Hierarchical prompts answer what their passes hold, flat ones the rest; the mean hides it."""
    cells = {}
    for row, scores in (("hier", [1, 0]), ("flat", [0, 1])):
        facts = [{"answer_last_token": 90 if at < 20 else 40, "document_tokens": 50} for at in range(40)]
        lines = [sample(at, float(scores[at >= 20]), facts=facts[at]) for at in range(40)]
        block = {"layout": row, "source": "local"}
        write_run(tmp_path / row, task=f"mine_{row}", block=block, lines=lines, facts={}, config={})
        (cell,) = collect([tmp_path / row]).cells
        cells["comparison", f"Based, {row}"] = {"mine": cell}
    entries = [TableRow("comparison", "Based, hier", EvalRun("based", {}, ("mine_hier",)))]
    ((model, benchmark, share, *shown),) = again_table(entries, cells).rows
    assert (model, benchmark) == ("Based", "mine") and share.text() == "50"
    assert [number.scaled for number in shown] == [100, 0, 0, 100]


def test_the_times_of_a_table_are_of_one_block(
    built: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    plain = DummyLM.generate_until
    monkeypatch.setattr(
        DummyLM, "generate_until", lambda self, *a, **k: order.append(str(id(self))) or plain(self, *a, **k)
    )
    rows = tuple(TableRow("prompt", name, EvalRun("dummy", {name: 1}, ("swde_once",))) for name in ("a", "b"))
    gone = TableRow("prompt", "gone", EvalRun("based", {"pretrained": str(tmp_path / "none")}, ("swde_once",)))
    ((run, why),) = take_times((*rows, gone), tmp_path, Options(), lambda text: None)
    assert run == gone.run and "no such folder" in why
    assert len(built) == 2 and order == order[:2] * (ROUNDS + 1) and order[0] != order[1], "each round goes through all"
    assert execute([row.run for row in rows], tmp_path, Options(limit=2), nothing) == []
    later = TableRow("prompt", "later", EvalRun("dummy", {}, ("swde_once",)))
    table = paper_report((*rows, gone, later), Logs(tmp_path)).tables[0]
    at = table.header.index("time, ms an answer (median)")
    assert [isinstance(row[at], Number) for row in table.rows] == [True, True, False, False]
    assert any(note.startswith(f"Times: {QUESTIONS} questions") and "load was" in note for note in table.notes)
    times = read_times(tmp_path)
    assert times is not None and times.tokens_per_second(rows[0].run) is None, "a dummy does not count what it reads"
    assert "ms an answer" not in "".join(paper_report((later,), Logs(tmp_path)).tables[0].header)


def test_no_fixed_distribution_predicts_the_text_better_than_its_own_unigram() -> None:
    assert 300 < unigram().value < 4096
