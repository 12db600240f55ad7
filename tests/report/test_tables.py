"""Tables: pivots without collisions, formats that say the same, the report derived again, answers scored again."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from reportlogs import BLOCK, sample, write_run

from jrt_lmeval.errors import JRTError
from jrt_lmeval.report.cells import number_of
from jrt_lmeval.report.cli import build, eval_results, main
from jrt_lmeval.report.collect import collect
from jrt_lmeval.report.samples import read_columns, read_samples
from jrt_lmeval.report.standard import pivot, standard_tables
from jrt_lmeval.report.tables import Number, Report, Table, csv_text, json_text, latex, markdown
from jrt_lmeval.scoring import contains

FACTS = {"pretrained": "jrt-mlp", "feature_map": "mlp", "prefix": "dynamic", "prefix_step": 0.1}
RNG = np.random.default_rng(4)
GOOD = (RNG.random(60) < 0.8).astype(float).tolist()
BAD = [value * float(i % 3 == 0) for i, value in enumerate(GOOD)]
NEAR = [1.0 - value if i == 7 else value for i, value in enumerate(GOOD)]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three models on a task, one of them with another overlap as well."""
    for name, scores in (("mlp", GOOD), ("relu", BAD), ("taylor", NEAR)):
        write_run(tmp_path / name, scores, facts={**FACTS, "pretrained": f"jrt-{name}", "feature_map": name})
    write_run(tmp_path / "more", NEAR, facts=FACTS, block={**BLOCK, "overlap": 0.3})
    return tmp_path


def test_a_free_pivot(runs: Path) -> None:
    table = pivot(collect([runs]).cells, ["feature_map"], ["overlap"], "contains")
    assert table.header == ("feature_map", "0.2", "0.3")
    assert [row[0] for row in table.rows] == ["mlp", "relu", "taylor"]
    shown = {row[0]: row[1:] for row in table.rows}
    assert isinstance(shown["mlp"][0], Number) and shown["mlp"][0].value == pytest.approx(np.mean(GOOD))
    assert shown["relu"][1] is None and shown["mlp"][1].value == pytest.approx(np.mean(NEAR))  # type: ignore[union-attr]


def test_what_would_fall_into_one_place_gets_a_row_of_its_own(runs: Path) -> None:
    table = pivot(collect([runs]).cells, ["kind"], ["task"], "contains")
    assert len(table.rows) == 4 and table.header[:3] == ("kind", "model", "setting")
    assert len({row[: table.left] for row in table.rows}) == 4


def test_the_best_is_marked_and_what_is_not_told_from_it(runs: Path) -> None:
    table = pivot(collect([runs]).cells, ["model"], ["task"], "contains")
    found = {row[0] + str(row[1]): row[-1] for row in table.rows}
    marks = {name: (n.best, n.marks) for name, n in found.items() if isinstance(n, Number)}
    assert sum(best for best, _ in marks.values()) == 1
    assert marks["jrt_rnn jrt-reluoverlap=0.2"] == (False, "")
    assert all(best or "~" in mark for name, (best, mark) in marks.items() if "relu" not in name)


def test_axes_and_metrics_are_named(runs: Path) -> None:
    cells = collect([runs]).cells
    with pytest.raises(JRTError, match=r"unknown axis 'featuremap'\. Did you mean 'feature_map'"):
        pivot(cells, ["featuremap"], [], "contains")
    with pytest.raises(JRTError, match=r"unknown metric 'contain'\. Did you mean 'contains'"):
        pivot(cells, ["model"], [], "contain")


def test_every_standard_table_is_there(runs: Path) -> None:
    tables = {table.name: table for table in standard_tables(collect([runs]), "contains")}
    assert {"recall", "runs", "differences", "misses", "published"} <= set(tables)
    for table in tables.values():
        assert all(len(row) == len(table.header) for row in table.rows)


def test_rules_without_a_model_have_a_line(tmp_path: Path) -> None:
    lines = [sample(i, 1.0, facts={"majority": int(i == 0), "longest_match": 1}) for i in range(20)]
    write_run(tmp_path / "a", lines=lines)
    write_run(tmp_path / "b", lines=[sample(i, 1.0, facts={"blind_middle": 1}) for i in range(20)], task="fda_once")
    tables = {table.name: table for table in standard_tables(collect([tmp_path]), "contains")}
    table = tables["rules"]
    row = dict(zip(table.header, table.rows[0], strict=True))
    assert row["majority answer, %"].value == 0.05 and row["blind middle, %"].text() == "-"  # type: ignore[union-attr]
    assert row["longest match, %"].text().startswith("100.0 [")  # type: ignore[union-attr]
    assert (
        table.notes[0]
        == "A model that scores no more than a rule that reads no document (majority answer) has not been shown "
        "to recall."
    )
    assert "Longest match and blind middle read the document" in table.notes[1]
    runs = dict(zip(tables["runs"].header, tables["runs"].rows[0], strict=True))
    assert runs["majority answer, %"].text() == "5.0"  # type: ignore[union-attr]


def test_how_answers_ended_has_columns_where_it_matters(tmp_path: Path) -> None:
    def line(i: int, empty: bool) -> dict:
        facts = {"jrt_ended": "length" if i % 2 else "eos", "jrt_empty_answer": int(empty)}
        return sample(i, 0.0, facts=facts)

    def header(folder: str) -> tuple[str, ...]:
        (table,) = (t for t in standard_tables(collect([tmp_path / folder]), "contains") if t.name == "runs")
        shown = {name: e.text() for name, e in zip(table.header, table.rows[0], strict=True) if isinstance(e, Number)}
        assert shown.get("cut by length, %") == "50.0"
        assert shown.get("empty answers, %", "90.0") == "90.0"
        return table.header

    write_run(tmp_path / "a", lines=[line(i, i < 18) for i in range(20)])
    write_run(tmp_path / "b", lines=[line(i, i < 1) for i in range(20)])
    assert "empty answers, %" in header("a") and "empty answers, %" not in header("b")
    # a log of another model says it by its answers
    write_run(tmp_path / "c", lines=[sample(i, 0.0, filtered_resps=[" \n"]) for i in range(4)])
    assert collect([tmp_path / "c"]).cells[0].figure("empty_answer") == 1.0


def test_equal_bests_are_all_bold_and_nan_is_never(tmp_path: Path) -> None:
    for name, scores in (("a", GOOD), ("b", GOOD), ("c", BAD)):
        write_run(tmp_path / name, scores, facts={"pretrained": name})
    file = write_run(tmp_path / "d", GOOD, facts={"pretrained": "d"}, log=False)
    content = json.loads(file.read_text())
    content["results"]["swde_jrt_hier"]["contains,none"] = float("nan")
    file.write_text(json.dumps(content))
    table = pivot(collect([tmp_path]).cells, ["model"], ["task"], "contains")
    best = {row[0]: row[1].best for row in table.rows if isinstance(row[1], Number)}
    assert best == {"jrt_rnn a": True, "jrt_rnn b": True, "jrt_rnn c": False, "jrt_rnn d": False}
    assert "**-**" not in markdown(Report((table,)))
    alone = Table("t", "t", ("m", "n"), (("x", Number(float("nan"), best=True)),))
    assert "**" not in markdown(Report((alone,))) and "textbf" not in latex(Report((alone,)))


@pytest.mark.parametrize("columns", [["task"], ["benchmark"], ["layout"], []])
def test_a_sample_and_a_part_are_marked_in_every_pivot(tmp_path: Path, columns: list[str]) -> None:
    block = {**BLOCK, "source": "sample"}
    write_run(tmp_path, [1.0] * 4, facts=FACTS, block=block, total=60, config={"limit": 4.0})
    text = markdown(Report((pivot(collect([tmp_path]).cells, ["model"], columns, "contains"),)))
    assert "[sample]" in text or "§: rows of the shipped sample" in text
    assert "\\*: only part of the task's questions" in text


def test_no_cell_of_the_csv_is_a_formula() -> None:
    rows = tuple((word, Number(1.0)) for word in ("=1+1", "+x", "-x", "@x", "-0.5", "+3.1 %", "plain"))
    text = csv_text(Report((Table("t", "t", ("m", "=n"), rows),)))
    told = [(line["row"], line["column"]) for line in csv.DictReader(io.StringIO(text))]
    assert [row for row, _ in told] == ["'=1+1", "'+x", "'-x", "'@x", "-0.5", "'+3.1 %", "plain"]
    assert {column for _, column in told} == {"'=n"}


def test_runs_without_the_metric_are_shown_too(tmp_path: Path) -> None:
    write_run(tmp_path / "a", GOOD)
    file = write_run(tmp_path / "b", GOOD, task="piqa", block={}, log=False, model="hf", arguments={"pretrained": "x"})
    content = json.loads(file.read_text())
    content["results"]["piqa"] = {"acc,none": 0.5, "acc_stderr,none": 0.1}
    file.write_text(json.dumps(content))
    (table,) = (t for t in standard_tables(collect([tmp_path]), "contains") if t.name == "others")
    assert table.rows[0][:3] == ("hf x", "piqa", "acc")
    number = table.rows[0][3]
    assert isinstance(number, Number) and number.text() == "50.0 ± 20.0" and number.marks == "†"


def test_published_numbers_stand_in_a_table_of_their_own(runs: Path) -> None:
    (table,) = (t for t in standard_tables(collect([runs]), "contains") if t.name == "published")
    assert "swde once" in table.header and "Table" in str(table.rows[0][2])
    assert "not measured here" in table.notes[0]


def test_skipped_and_partial_runs_bear_a_mark(tmp_path: Path) -> None:
    lines = [sample(i, 1.0 if i < 3 else 0.0, facts={"jrt_skipped": int(i == 3)}) for i in range(12)]
    write_run(tmp_path, lines=lines, total=99, config={"limit": 12})
    number = number_of(collect([tmp_path]).cells[0], "contains")
    assert number.marks == "*‡" and number.value == pytest.approx(3 / 11)


TABLE = Table(
    "t", "A title, %", ("a | b", "x_y", "n"), (("p|q_1", Number(0.5, 100), None), ("r", "50 %", "-")), 1, ("A note.",)
)


def test_markdown_escapes_what_would_end_a_column() -> None:
    text = markdown(Report((TABLE,), ("About.",), ("x.json: broken.",)))
    assert "| a \\| b | x_y | n |\n| --- | ---: | ---: |\n| p\\|q_1 | 50.0 | - |" in text
    assert "- x.json: broken." in text and "A note." in text


def test_latex_is_booktabs_and_balanced(runs: Path) -> None:
    collection = collect([runs])
    by_task = pivot(collection.cells, ["model"], ["task"], "contains")
    report = Report((*standard_tables(collection, "contains"), by_task, TABLE))
    text = latex(report)
    for name in ("toprule", "midrule", "bottomrule", "begin{tabular}", "end{tabular}", "begin{table}", "end{table}"):
        assert text.count(f"\\{name}") == len(report.tables)
    assert "\\textbf{" in text and "$^{\\sim}$" in text and "x\\_y" in text and "50 \\%" in text
    assert text.count("{") == text.count("}") and not set("±†‡~") & set(text)


def test_csv_and_json_hold_what_markdown_shows(runs: Path) -> None:
    report = Report(tuple(standard_tables(collect([runs]), "contains")))
    lines = list(csv.DictReader(io.StringIO(csv_text(report))))
    content = json.loads(json_text(report))
    numbers = [n for t in content["tables"] for row in t["rows"] for n in row if isinstance(n, dict)]
    assert len(lines) == len(numbers) and "NaN" not in json_text(report)
    shown = markdown(report)
    for line in (line for line in lines if line["table"] == "recall"):
        assert f"{100 * float(line['value']):.1f}" in shown and int(line["questions"]) == 60


def test_a_report_is_derived_again(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report"
    assert main([str(runs), "--out", str(out), "--format", "md,tex,csv,json,eval_results"]) == 0
    assert {file.name for file in out.iterdir()} == {
        "report.md", "report.tex", "report.csv", "report.json", "eval_results.yaml", "index.md", "pictures"
    }  # fmt: skip
    assert str(tmp_path) not in (out / "report.json").read_text()
    assert main(["--check", str(out)]) == 0
    assert "nothing different" in capsys.readouterr().out
    content = json.loads((out / "report.json").read_text())
    next(n for n in content["tables"][0]["rows"][0] if isinstance(n, dict))["value"] += 1e-6
    (out / "report.json").write_text(json.dumps(content))
    (out / "report.md").write_text((out / "report.md").read_text().replace("60", "61", 1))
    assert main(["--check", str(out)]) == 1
    printed = capsys.readouterr()
    assert "table recall" in printed.err and "report.md, line" in printed.err and "2 different" in printed.out


def test_a_changed_log_is_noticed(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    main([str(runs / "mlp"), "--out", str(out)])
    for file in (runs / "mlp").iterdir():
        file.unlink()
    write_run(runs / "mlp", BAD, facts=FACTS)
    assert main(["--check", str(out)]) == 1


def test_old_answers_are_scored_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [sample(i, float(i % 2)) for i in range(12)]
    lines[0]["filtered_resps"] = [" the ANSWER 0, of course"]  # was scored 0, holds the answer
    write_run(tmp_path, lines=lines)
    assert main([str(tmp_path), "--rescore"]) == 0
    out = capsys.readouterr().out
    assert "contains 50.00 → 58.33" in out and "58.3" in out
    lines[2]["filtered_resps"] = [" the ánswer 2"]  # right, but for an accent
    write_run(tmp_path, lines=lines)
    asked = {"paths": [str(tmp_path)], "rows": "", "cols": "", "metric": "", "where": [], "misses": False}
    (scored,) = build({**asked, "rescore": True})[0].cells
    assert scored.mean("contains") == pytest.approx(7 / 12)
    assert scored.mean("contains_normalised") == pytest.approx(8 / 12)
    again = collect([tmp_path]).cells[0]
    assert again.mean("contains") == 0.5  # the log itself is left as it is


def test_logs_without_answers_are_not_mixed_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a", GOOD)
    old = [{"doc": {"doc_id": f"d{i}"}, "contains": float(i % 2), "f1": 0.5} for i in range(6)]
    write_run(tmp_path / "b", lines=old, task="fda_once")
    assert main([str(tmp_path), "--rescore"]) == 0
    out = capsys.readouterr().out
    assert "fda_once keeps no answers" in out and "| fda" not in out
    with pytest.raises(JRTError, match="--rescore: no log keeps answers"):
        main([str(tmp_path / "b"), "--rescore"])


def test_logs_that_ship_keep_what_is_needed_to_score_them_again() -> None:
    measured = Path(__file__).parents[2] / "results" / "measured"
    files = [file for file in measured.rglob("samples_*.jsonl*") if "recall_ppl" not in file.name]
    first = {file: next(read_samples(file)) for file in files}
    without = {file for file, line in first.items() if line.answer is None or not line.gold}
    assert not without
    assert all(file.suffix == ".gz" for file in files), "and are compressed"
    for file in sorted(files, key=lambda file: file.stat().st_size)[:2]:
        again = [
            float(contains(line.answer or "", line.gold))
            for line in read_samples(file)
            if not line.figures.get("skipped")
        ]
        assert again == read_columns(file).scores["contains"].tolist()


def test_eval_results_are_for_whole_benchmarks_on_the_hub(tmp_path: Path) -> None:
    write_run(tmp_path / "a", GOOD, facts=FACTS, block={**BLOCK, "recipe": "swde"})
    write_run(tmp_path / "b", GOOD, facts=FACTS, block={**BLOCK, "recipe": "factbook"}, task="factbook_once")
    write_run(tmp_path / "d", GOOD, facts=FACTS, block={**BLOCK, "recipe": "nq_2048"}, task="nq_2k_once")
    write_run(tmp_path / "c", GOOD, facts=FACTS, block={**BLOCK, "recipe": "fda", "source": "sample"}, task="fda_once")
    text = eval_results(collect([tmp_path]).cells)
    entry, at_2k = yaml.safe_load(text)
    assert at_2k["dataset"]["task_id"] == "nq_2k_once"
    assert entry["dataset"] == {"id": "hazyresearch/based-swde-v2", "task_id": "swde_jrt_hier"}
    assert entry["value"] == pytest.approx(100 * np.mean(GOOD), abs=0.01) and "30 documents" in entry["notes"]
    assert "2 results left out" in text


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--out", "x.docx"], r"--out x\.docx: a file must end in one of \.md, \.tex"),
        (["--plot", "x.xyz"], r"--plot x\.xyz: the ending must be one of \.png"),
        (["--format", "markdown"], "unknown format 'markdown'"),
        (["--where", "layout"], "write NAME=VALUE"),
        (["--where", "layuot=hier"], "Did you mean 'layout'"),
        (["--where", "layout=once"], "no such run; layout is one of 'hier'"),
        (["--where", "setting=x", "--where", "layout=hier"], "no such run"),
        (["--where", "part=first 3"], "no such run; none of them has a part"),
        (["--out", "/proc/nowhere/x.md"], r"/proc/nowhere/x\.md: cannot be written"),
    ],
)
def test_mistakes_are_one_clear_line(runs: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(JRTError, match=message):
        main([str(runs), *arguments])
    with pytest.raises(JRTError, match="name at least one"):
        main([])


def test_distance_of_the_last_copy(tmp_path: Path) -> None:
    def line(i: int) -> dict:
        facts = {"answer_last_token": 90.0 if i < 10 else 20.0, "prompt_tokens": 100, "jrt_prompt_tokens": 200}
        parts = {"jrt_window_bytes": 260_000, "jrt_recurrent_bytes": 72_000}
        return sample(i, float(i < 10), facts=facts | parts)

    write_run(tmp_path, lines=[line(i) for i in range(20)], facts={**FACTS, "sliding_window": 64})
    (table,) = (t for t in standard_tables(collect([tmp_path]), "contains") if t.name == "distance")
    row = dict(zip(table.header, table.rows[0], strict=True))
    assert row["1-64"].value == 1.0 and row["65-128"].value == 0.0  # type: ignore[union-attr]
    # 10 GPT-2 tokens are 20 of the model's: in its window of 64; 80 are 160: before it
    assert row["in the window"].value == 1.0 and row["before it"].value == 0.0  # type: ignore[union-attr]
    assert row["window, KB"].text() == "260" and row["other state, KB"].text() == "72"  # type: ignore[union-attr]


def test_what_a_run_took_and_on_what_has_a_line(tmp_path: Path) -> None:
    parts = {"jrt_state_bytes": 332_000, "jrt_window_bytes": 260_000}
    took = {"processor": "A CPU", "threads": 2, "load_average": 7.5, "model_bytes": 6_000_000, "features_per_head": 512}
    memory = {"work_peak_bytes": 40_000_000, "process_peak_memory_bytes": 900_000_000}
    write_run(tmp_path, lines=[sample(i, 1.0, facts=parts) for i in range(4)], facts={**FACTS, **took, **memory})
    (cost,) = (t for t in standard_tables(collect([tmp_path]), "contains") if t.name == "cost")
    shown = {name: e.text() if isinstance(e, Number) else e for name, e in zip(cost.header, cost.rows[0], strict=True)}
    assert (shown["processor"], shown["threads"], shown["load"]) == ("A CPU", "2", "7.5")
    assert (shown["state, KB"], shown["of it window, KB"], shown["features F / head"]) == ("332", "260", "512")
    assert (shown["states and activations at most, MB"], shown["process at most, MB"]) == ("40", "900")
    assert all(e.interval is None for e in cost.rows[0] if isinstance(e, Number)), "no error of a wall clock"


def test_runs_on_two_machines_are_told_apart_only_where_nothing_else_does(tmp_path: Path) -> None:
    for name, cpu, prefix in (("a", "one", "full"), ("b", "another", "none")):
        lines = [sample(i, 1.0) for i in range(4)]
        write_run(tmp_path / name, lines=lines, facts={**FACTS, "processor": cpu, "prefix": prefix})
    assert not any("processor" in cell.model for cell in collect([tmp_path]).cells)


def test_the_same_table_from_a_moved_folder(runs: Path, tmp_path: Path) -> None:
    before = markdown(Report(tuple(standard_tables(collect([runs / "mlp"]), "contains"))))
    (runs / "mlp").rename(tmp_path / "elsewhere")
    assert markdown(Report(tuple(standard_tables(collect([tmp_path / "elsewhere"]), "contains")))) == before
