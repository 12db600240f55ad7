"""`--table recall-2026`: six tasks, their mean, needles by length; printed and third-party figures apart."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from reportlogs import sample, write_run

from jrt_lmeval.errors import JRTError
from jrt_lmeval.report.cli import check, main
from jrt_lmeval.report.published import published, third_party
from jrt_lmeval.report.recall_2026 import FORMS, NEEDLES, TASKS, mean_of
from jrt_lmeval.report.tables import Number
from jrt_lmeval.stats import Interval, effective_length, interval

ONCE = {"layout": "once", "source": "local", "control": "none"}


def tables_of(folder: Path, *more: str) -> dict[str, dict[str, Any]]:
    assert main([str(folder), "--table", "recall-2026", "--out", str(folder / "report"), "--format", "md", *more]) == 0
    made = json.loads((folder / "report" / "report.json").read_text())["tables"]
    return {table["name"]: table for table in made}


def needle(number: int, length: int, score: float) -> dict[str, Any]:
    line = sample(number, score, facts={"doc_id": f"n{number}", "needle_length": length})
    return line | {"string_match_all": score, "metrics": ["string_match_all"]}


def write_needles(folder: Path, task: str, by_length: dict[int, list[float]], **run: Any) -> None:
    pairs = [(length, score) for length, scores in by_length.items() for score in scores]
    lines = [needle(number, length, score) for number, (length, score) in enumerate(pairs)]
    file = write_run(folder, task=task, block=ONCE, lines=lines, **run)
    content = json.loads(file.read_text())
    content["configs"][task] |= {"task": task}
    content["configs"][task]["metadata"] |= {"needles": {"lengths": list(by_length)}, "mqar": {"facts": len(lines)}}
    mean = sum(score for _, score in pairs) / len(pairs)
    content["results"][task] = {"string_match_all,none": mean, "effective_length,none": 0}
    file.write_text(json.dumps(content))


def test_the_six_tasks_their_mean_and_the_figures_of_others(tmp_path: Path) -> None:
    scores = {task: [1.0] * (2 + at) + [0.0] * (18 - at) for at, task in enumerate(TASKS)}
    for task, values in scores.items():
        write_run(tmp_path / task, values, task=f"{task}_2k_once", block=ONCE)
    write_run(tmp_path / "twice", scores["fda"], task="fda_2k_jrt", block={**ONCE, "layout": "flat"})
    tables = tables_of(tmp_path)
    once, twice = tables["recall_2026"]["rows"]
    assert once[1:3] == ["2,048 tokens", "read once"] and tables["recall_2026"]["header"][4:10] == list(TASKS.values())
    assert [number["value"] for number in once[4:10]] == [sum(values) / 20 for values in scores.values()]
    errors = [interval(values, [at // 2 for at in range(20)]).stderr for values in scores.values()]
    assert once[10]["value"] == pytest.approx(sum(map(sum, scores.values())) / 120)
    assert once[10]["stderr"] == pytest.approx(math.hypot(*errors) / 6)  # tasks have different documents
    assert once[10]["low"] < once[10]["value"] < once[10]["high"]
    assert twice[4] and twice[5:] == [None] * 6  # a row that lacks tasks has no mean
    assert all("arXiv" in row[3] for row in tables["published"]["rows"]) and len(tables["published"]["rows"]) == 32
    third = {row[2]: [entry["value"] for entry in row[4:]] for row in tables["third_party"]["rows"]}
    assert third["once"][:6] == [14.6, 40.0, 18.0, 8.0, 19.5, 12.0] and third["once"][6] == pytest.approx(
        18.68, abs=0.01
    )
    assert third["twice (JRT)"][:6] == [27.1, 42.6, 34.0, 15.5, 25.5, 24.0]
    assert check(tmp_path / "report") == 0


def test_third_party_figures_are_among_no_papers() -> None:
    assert len(third_party()) == 12 and not set(third_party()) & set(published())


def test_needles_by_length_and_the_effective_length(tmp_path: Path) -> None:
    good, weak = [1.0] * 60, [1.0] * 30 + [0.0] * 30
    write_needles(tmp_path / "single", "niah_single_1_once", {1024: good, 2048: good, 4096: weak, 8192: good})
    write_needles(tmp_path / "multi", "niah_multikey_2_once", {1024: [1.0] * 52 + [0.0] * 8, 2048: weak, 4096: weak})
    table = tables_of(tmp_path)["needles_2026"]
    single, _, mean = table["rows"]
    assert table["header"][4:] == ["1,024", "2,048", "4,096", "8,192", "effective length"]
    assert [row[1] for row in table["rows"]] == ["niah_single_1", "niah_multikey_2", "mean of 2"]
    assert [entry["value"] for entry in single[4:8]] == [1, 1, 0.5, 1]
    effective = [[row[8][key] for key in ("value", "low", "high")] for row in table["rows"]]
    assert effective == [[2048, 2048, 2048], [1024, 0, 1024], [1024, 1024, 1024]]
    assert mean[7] is None and mean[4]["value"] == pytest.approx((1 + 52 / 60) / 2)
    assert tables_of(tmp_path, "--threshold", "40")["needles_2026"]["rows"][0][8]["value"] == 8192
    assert "third_party" not in tables_of(tmp_path)  # nothing to stand beside
    for file in tmp_path.glob("*/samples*"):
        file.unlink()


def test_models_with_other_tokenizers_and_runs_of_other_lengths_stand_in_one_table(tmp_path: Path) -> None:
    write_needles(tmp_path / "one", "niah_single_1_once", {1024: [1.0] * 6})
    write_needles(tmp_path / "longer", "niah_single_1_once", {2048: [0.0] * 7})
    write_needles(tmp_path / "other", "niah_single_1_once", {1024: [0.0] * 6}, model="based", prompt="in other tokens")
    rows = tables_of(tmp_path)["needles_2026"]["rows"]
    shown = {(row[0].split()[0], row[3]): [entry and entry["value"] for entry in row[4:6]] for row in rows}
    assert shown == {
        ("jrt_rnn", "needles.lengths=1024"): [1, None],
        ("jrt_rnn", "needles.lengths=2048"): [None, 0],
        ("based", "needles.lengths=1024"): [0, None],
    }


def test_effective_length_stops_at_the_first_length_below_and_says_what_it_does_not_know() -> None:
    def share(mean: float, low: float = math.nan, high: float = math.nan) -> Interval:
        return Interval(mean, math.nan, low, high, 10, 10)

    found = effective_length({4096: share(0.9, 0.7, 0.95), 1024: share(1, 0.9, 1), 2048: share(0.8, 0.7, 0.9)}, 0.856)
    assert (found.length, found.low, found.high) == (1024, 1024, 4096)
    found = effective_length({1024: share(0.9), 2048: share(0.9)}, 0.856)
    assert (found.length, found.low, found.high) == (2048, 0, 2048)


def test_a_mean_has_an_interval_only_where_all_its_parts_have() -> None:
    one = interval([1.0, 0.0] * 10, list(range(20)))
    assert mean_of([Number(0.5, interval=one), Number(0.7)]).interval is None
    both = mean_of([Number(0.5, interval=one), Number(0.5, interval=one)]).interval
    assert both and both.stderr == pytest.approx(one.stderr / 2**0.5) and both.n == 40
    assert both.half == pytest.approx(one.half / 2**0.5)
    none = interval([0.0] * 25, list(range(25)))
    nothing = mean_of([Number(0.0, interval=none)] * 4).interval
    assert nothing and nothing.low == 0 and nothing.high == pytest.approx(none.high / 2) and nothing.exact


def test_a_report_without_these_runs_and_an_unknown_table_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path, [1.0, 0.0])
    with pytest.raises(JRTError, match="no run of its tasks"):
        main([str(tmp_path), "--table", "recall-2026"])
    with pytest.raises(JRTError, match="Did you mean 'recall-2026'"):
        main([str(tmp_path), "--table", "recall-2025"])


def test_names_are_those_of_the_task_files() -> None:
    from jrt_lmeval.data.needles import FORMS as NEEDLE_FORMS
    from jrt_lmeval.paths import tasks_dir

    files = {file.stem for file in tasks_dir().glob("*/[a-z]*.yaml")}
    assert {f"{task}_{form}_{read}" for task in TASKS for form in FORMS for read in ("once", "jrt")} <= files
    assert {f"{NEEDLES}{form}_{read}" for form in NEEDLE_FORMS for read in ("once", "jrt")} <= files
