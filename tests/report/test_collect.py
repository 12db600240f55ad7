"""The report's data: paired by content, labelled by what differs, refused where it cannot be told apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from reportlogs import BLOCK, STAMP, sample, write_run

from jrt_lmeval.errors import JRTError
from jrt_lmeval.report.collect import collect

FACTS = {
    "pretrained": "some/where/jrt-mlp", "prefix": "dynamic", "prefix_length": 0.8, "prefix_step": 0.1,
    "entropy_low": 0.6, "entropy_high": 0.8, "on_overflow": "error", "seconds": 3.5, "rows": 4,
}  # fmt: skip
ONES, HALF = [1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize(
    "name, value",
    [
        ("prefix_step", 0.2), ("prefix_length", 0.6), ("prefix_length", 1.0), ("prefix_length", 1),
        ("entropy_low", 0.5), ("entropy_high", 0.9), ("on_overflow", "skip"), ("prefix", "full"),
    ],
)  # fmt: skip
def test_settings_of_a_model_that_differ_are_in_the_label(tmp_path: Path, name: str, value: object) -> None:
    write_run(tmp_path / "a", ONES, facts=FACTS)
    write_run(tmp_path / "b", HALF, facts={**FACTS, name: value})
    first, second = collect([tmp_path]).cells
    assert first.model == f"jrt_rnn jrt-mlp {name}={FACTS[name]}" and first.mean("contains") == 1.0
    assert second.model == f"jrt_rnn jrt-mlp {name}={value}" and second.mean("contains") == 0.5


@pytest.mark.parametrize(
    "name, value, text",
    [
        ("overlap", 0.3, "overlap=0.3"),
        ("order", "fine_to_coarse", "order=fine_to_coarse"),
        ("select", "information", "select=information"),
        ("repeats", 3, "repeats=3"),
        ("levels", [{"name": "document"}, {"name": "sentence", "repeats": 2}], "levels=document+sentence x2"),
        ("window", {"context_length": 300}, "window.context_length=300"),
    ],
)
def test_settings_of_a_task_that_differ_are_in_the_label(tmp_path: Path, name: str, value: object, text: str) -> None:
    plain = {
        "window": {"context_length": 600},
        "repeats": 2,
        "select": "all",
        "levels": [{"name": "document"}],
        **BLOCK,
    }
    write_run(tmp_path / "a", ONES, facts=FACTS, block=plain)
    write_run(tmp_path / "b", HALF, facts=FACTS, block={**plain, name: value})
    first, second = collect([tmp_path]).cells
    assert first.model == second.model == "jrt_rnn jrt-mlp"
    assert second.setting == text and first.setting.startswith(text.partition("=")[0])


def test_two_layouts_laid_over_one_task_are_told_apart(tmp_path: Path) -> None:
    for layout, scores in (("repeat_random", ONES), ("repeat_question", HALF)):
        write_run(tmp_path / layout, scores, facts=FACTS, block={**BLOCK, "layout": layout, "as_long_as": "hier"})
    settings = {cell.setting for cell in collect([tmp_path]).cells}
    assert settings == {"layout=repeat_random", "layout=repeat_question"}


def test_what_a_policy_does_not_read_is_not_told(tmp_path: Path) -> None:
    write_run(tmp_path / "a", ONES, facts={**FACTS, "prefix": "full"})
    write_run(tmp_path / "b", HALF, facts={**FACTS, "prefix": "none", "prefix_step": 0.2, "prefix_length": 0.5})
    assert [cell.model for cell in collect([tmp_path]).cells] == [
        "jrt_rnn jrt-mlp prefix=full",
        "jrt_rnn jrt-mlp prefix=none",
    ]


def test_a_setting_that_an_older_log_does_not_name_parts_no_model_from_its_control(tmp_path: Path) -> None:
    write_run(tmp_path / "a", ONES, facts=FACTS)
    write_run(tmp_path / "b", HALF, facts={**FACTS, "modes": "exact"}, block={**BLOCK, "control": "no_context"})
    assert {cell.model for cell in collect([tmp_path]).cells} == {"jrt_rnn jrt-mlp"}
    write_run(tmp_path / "c", HALF, facts={**FACTS, "modes": "exact"})
    labels = [cell.model for cell in collect([tmp_path]).cells]
    assert sorted(labels) == ["jrt_rnn jrt-mlp", "jrt_rnn jrt-mlp modes=exact", "jrt_rnn jrt-mlp modes=exact"]


def test_two_versions_of_a_task_stand_apart(tmp_path: Path) -> None:
    write_run(tmp_path / "a", ONES, version=1.0)
    write_run(tmp_path / "b", HALF, version=2.0)
    assert [cell.setting for cell in collect([tmp_path]).cells] == ["version=1", "version=2"]


def test_runs_that_nothing_tells_apart_are_refused_by_name(tmp_path: Path) -> None:
    write_run(tmp_path / "a", ONES, facts=FACTS)
    write_run(tmp_path / "b", HALF, facts={**FACTS, "novel": 3.5})
    with pytest.raises(JRTError, match=r"a.results_.* and .*b.results_.*scored differently .*novel: give only one"):
        collect([tmp_path])


def test_runs_that_were_asked_other_things_are_refused_by_name(tmp_path: Path) -> None:
    write_run(tmp_path / "a", ONES, facts=FACTS)
    write_run(tmp_path / "b", ONES, model="hf", arguments={"pretrained": "x/y"}, prompt="other")
    with pytest.raises(JRTError, match=r"a.results_.* and .*b.results_.*: swde_jrt_hier .*4 of 4 prompts differ"):
        collect([tmp_path])


def test_what_should_not_matter_is_told_where_nothing_else_differs(tmp_path: Path) -> None:
    write_run(tmp_path / "a", ONES, facts={**FACTS, "device": "cpu"}, config={"device": "cpu"})
    write_run(tmp_path / "b", HALF, facts={**FACTS, "device": "cuda"}, config={"device": "cuda"})
    assert [cell.model for cell in collect([tmp_path]).cells] == [
        "jrt_rnn jrt-mlp device=cpu",
        "jrt_rnn jrt-mlp device=cuda",
    ]


def test_the_same_result_found_twice_counts_once(tmp_path: Path) -> None:
    file = write_run(tmp_path / "a", HALF, facts=FACTS)
    write_run(tmp_path / "b", HALF, facts=FACTS)
    found = collect([tmp_path, file, tmp_path / "a"])
    assert (len(found.cells), found.copies, found.files) == (1, 1, 2)


def test_repeats_are_seeds_only_when_they_differ_by_seed(tmp_path: Path) -> None:
    write_run(tmp_path / "a", ONES, facts=FACTS, config={"random_seed": 1})
    write_run(tmp_path / "b", HALF, facts=FACTS, config={"random_seed": 2})
    (cell,) = collect([tmp_path]).cells
    assert cell.seeds == 2 and cell.mean("contains") == 0.75
    assert cell.columns is not None
    order = np.argsort(collect([tmp_path / "b"]).cells[0].columns.rows)  # type: ignore[union-attr]
    assert cell.columns.scores["contains"].tolist() == [[1.0, 0.5, 1.0, 0.5][i] for i in order]


def test_the_path_is_not_what_a_result_is_known_by(tmp_path: Path) -> None:
    write_run(tmp_path / "prefix_step=0.9" / "hf", ONES, facts=FACTS)
    (cell,) = collect([tmp_path]).cells
    assert cell.label == "swde_jrt_hier" and cell.model == "jrt_rnn jrt-mlp"


def test_a_server_is_called_by_the_model_it_serves(tmp_path: Path) -> None:
    arguments = {"model": "org/Served-1B", "base_url": "http://localhost:1/v1/completions", "num_concurrent": 4}
    write_run(tmp_path, ONES, model="local-completions", arguments=arguments)
    assert collect([tmp_path]).cells[0].model == "local-completions Served-1B"


def test_arguments_of_old_logs_are_text(tmp_path: Path) -> None:
    write_run(tmp_path / "a", ONES, model="hf", arguments="pretrained=org/One,dtype=float32")
    write_run(tmp_path / "b", HALF, model="hf", arguments="pretrained=org/One,dtype=bfloat16")
    assert [cell.model for cell in collect([tmp_path]).cells] == ["hf One dtype=float32", "hf One dtype=bfloat16"]


def test_parts_of_a_task_and_generated_rows_are_marked(tmp_path: Path) -> None:
    write_run(tmp_path / "a", ONES, facts=FACTS, total=60, config={"limit": 4.0}, block={**BLOCK, "source": "sample"})
    write_run(tmp_path / "b", ONES, facts=FACTS, total=60)
    write_run(tmp_path / "c", ONES, facts={**FACTS, "init": "random"}, block={**BLOCK, "control": "no_context"})
    first, second, third = collect([tmp_path]).cells
    assert first.first.marks == ("sample", "first 4 of 60")
    assert second.first.marks == ("4 chosen of 60",)
    assert third.first.marks == ("no_context", "untrained")


def test_packed_logs_read_as_plain_ones(tmp_path: Path) -> None:
    write_run(tmp_path / "a", HALF, packed=True)
    write_run(tmp_path / "b", HALF)
    packed, plain = (collect([tmp_path / name]).cells[0].columns for name in "ab")
    assert packed is not None and plain is not None
    assert np.array_equal(packed.rows, plain.rows) and packed.documents == 2 and packed.has_answers


def test_renamed_samples_are_found_by_what_they_hold(tmp_path: Path) -> None:
    from jrt_lmeval.report.samples import content_hash

    file = write_run(tmp_path, HALF)
    log = tmp_path / f"samples_swde_jrt_hier_{STAMP}.jsonl"
    content = json.loads(file.read_text()) | {"task_hashes": {"swde_jrt_hier": content_hash(log)}}
    (tmp_path / "mine.json").write_text(json.dumps(content))
    file.unlink()
    log.rename(tmp_path / "answers.jsonl")
    (cell,) = collect([tmp_path]).cells
    assert cell.first.samples_file == tmp_path / "answers.jsonl"


@pytest.mark.parametrize("spoil", ["cut", "fewer", "other", "empty", "binary"])
def test_broken_samples_are_named_and_not_used(tmp_path: Path, spoil: str) -> None:
    write_run(tmp_path / "a", HALF)
    log = tmp_path / "a" / f"samples_swde_jrt_hier_{STAMP}.jsonl"
    text = log.read_text()
    spoilt = {
        "cut": text[:-40], "fewer": "\n".join(text.splitlines()[:2]), "empty": "",
        "other": text.replace('"contains": 0.0', '"contains": 1.0'), "binary": "\x00\x01[]",
    }  # fmt: skip
    log.write_text(spoilt[spoil])
    found = collect([tmp_path])
    assert len(found.broken) == 1 and str(log) in found.broken[0]
    assert found.cells[0].columns is None and found.cells[0].mean("contains") == 0.5


def test_a_cut_packed_log_is_named(tmp_path: Path) -> None:
    write_run(tmp_path, [1.0, 0.0] * 200, packed=True)
    log = tmp_path / f"samples_swde_jrt_hier_{STAMP}.jsonl.gz"
    log.write_bytes(log.read_bytes()[:-100])
    assert "cut after line" in collect([tmp_path]).broken[0]


@pytest.mark.parametrize("content", ["{", "[]", '{"results": {}}', '{"results": 3, "config": {}}', "[" * 100_000])
def test_broken_results_are_named_and_skipped(tmp_path: Path, content: str) -> None:
    write_run(tmp_path / "a", HALF)
    (tmp_path / "results_bad.json").write_text(content)
    (tmp_path / "config.json").write_text("{}")
    found = collect([tmp_path])
    assert ["results_bad.json" in broken for broken in found.broken] == [True] and len(found.cells) == 1
    with pytest.raises(JRTError, match=r"1 broken: .*results_bad\.json: not a results file"):
        collect([tmp_path / "results_bad.json"])


def test_old_samples_without_hashes_pair_within_their_document(tmp_path: Path) -> None:
    old = [{"doc": {"doc_id": f"d{i // 2}"}, "contains": float(i % 2), "f1": 0.5} for i in range(6)]
    write_run(tmp_path / "a", lines=old)
    write_run(tmp_path / "b", lines=old, facts={**FACTS, "prefix": "none"})
    a, b = (cell.columns for cell in collect([tmp_path]).cells)
    assert a is not None and b is not None
    assert not a.has_answers and a.documents == 3
    assert np.array_equal(a.rows, b.rows) and len(set(a.rows.tolist())) == 6


def test_rows_without_a_document_stand_alone(tmp_path: Path) -> None:
    lines = [{**sample(i, 1.0), "doc": {"question": f"q{i}"}} for i in range(4)]
    write_run(tmp_path, lines=lines)
    columns = collect([tmp_path]).cells[0].columns
    assert columns is not None and columns.documents == 4 and not columns.by_document


def test_skipped_rows_are_in_no_mean(tmp_path: Path) -> None:
    lines = [sample(i, 1.0 if i < 3 else 0.0, facts={"jrt_skipped": int(i == 3)}) for i in range(4)]
    write_run(tmp_path, lines=lines)
    found = collect([tmp_path])
    columns = found.cells[0].columns
    assert columns is not None and (len(columns), columns.skipped) == (3, 1) and not found.broken
    assert columns.scores["contains"].tolist() == [1.0] * 3


def test_figures_are_read_wherever_the_task_put_them(tmp_path: Path) -> None:
    file = write_run(tmp_path, HALF, log=False)
    content = json.loads(file.read_text())
    content["configs"]["swde_jrt_hier"]["metadata"]["jrt_found"] = {"means": {"jrt_state_bytes": 5.0}}
    content["results"]["swde_jrt_hier"]["jrt_seconds,none"] = 0.5
    file.write_text(json.dumps(content))
    (cell,) = collect([tmp_path]).cells
    assert (cell.figure("state_bytes"), cell.figure("seconds")) == (5.0, 0.5) and np.isnan(cell.figure("entropy"))


def test_the_report_reads_no_model() -> None:
    code = "import sys, jrt_lmeval.report.cli; sys.exit(bool({'torch', 'lm_eval', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_window_is_told_beside_the_model_without_one(tmp_path: Path) -> None:
    for name, more in (("a", {}), ("b", {"kv_window": 64, "kv_sinks": 4})):
        facts = {"pretrained": "Llama", **more}
        write_run(tmp_path / name, HALF if more else ONES, model="hf_recall", arguments={}, facts=facts)
    plain, windowed = collect([tmp_path]).cells
    assert (plain.model, windowed.model) == ("hf_recall Llama", "hf_recall Llama kv_window=64 kv_sinks=4")
    facts = {"pretrained": "Llama", "kv_window": 128, "kv_sinks": 4}
    write_run(tmp_path / "c", ONES, model="hf_recall", arguments={"kv_bytes": 1000}, facts=facts)
    assert [cell.model.removeprefix("hf_recall Llama") for cell in collect([tmp_path]).cells] == [
        "",
        " kv_window=64",
        " kv_window=128",
    ]


def test_the_device_is_the_one_that_the_model_ran_on(tmp_path: Path) -> None:
    write_run(tmp_path / "a", ONES, facts={**FACTS, "device": "cpu"}, config={"device": "cuda:0"})
    (cell,) = collect([tmp_path / "a"]).cells
    assert cell.first.run.machine["device"] == "cpu"
