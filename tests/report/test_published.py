"""The papers' numbers: typed right, as their own averages show."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

import pytest
import yaml

from jrt_lmeval.errors import JRTError
from jrt_lmeval.paths import published_dir, tasks_dir
from jrt_lmeval.report import published as module
from jrt_lmeval.report.published import Published, published

WRONG_IN_PRINT = {("Mamba", "1.3B", "10B"), ("GLA", "1.3B", "100B"), ("Mamba-2", "130M", "300B")}


def by_model(numbers: tuple[Published, ...], setting: str) -> dict[tuple[str, str, str], list[float]]:
    found = defaultdict(list)
    for number in numbers:
        if number.setting == setting:
            found[number.model, number.params, number.tokens].append(number.value)
    return found


def gains(numbers: tuple[Published, ...]) -> dict[tuple[str, str, str], float]:
    once, flat = by_model(numbers, "once"), by_model(numbers, "flat")
    return {model: mean(flat[model]) - mean(once[model]) for model in once}


def test_the_gain_of_reading_twice_is_the_stated_one() -> None:
    gain = gains(published("jrt_table1"))
    assert len(gain) == 16
    assert mean(gain.values()) == pytest.approx(11.04, abs=0.005)  # stated: 11.0 +- 1.3
    assert stdev(gain.values()) == pytest.approx(1.31, abs=0.005)
    recurrent = [value for (model, *_), value in gain.items() if "Transformer" not in model]
    assert (len(recurrent), round(mean(recurrent), 2), round(stdev(recurrent), 2)) == (14, 11.28, 1.18)


def test_the_gain_by_task_is_the_recomputed_one() -> None:
    numbers, tasks = published("jrt_table1"), defaultdict(list)
    for once, flat in zip(
        (n for n in numbers if n.setting == "once"), (n for n in numbers if n.setting == "flat"), strict=True
    ):
        assert (once.model, once.task) == (flat.model, flat.task)
        tasks[once.task].append(flat.value - once.value)
    assert {task: round(mean(values), 1) for task, values in tasks.items()} == {
        "fda": 13.2, "swde": 12.8, "nq_1024": 6.3, "squadv2": 17.9, "triviaqa": 1.4, "drop": 14.5
    }  # fmt: skip


def test_printed_averages_are_those_of_their_columns() -> None:
    wrong = set()
    for name in ("jrt_table1", "jrt_table2"):
        numbers = published(name)
        for row in yaml.safe_load((published_dir() / f"{name}.yaml").read_text())["rows"]:
            model = (row["model"], row["params"], row["tokens"])
            for setting, printed in row["printed_average"].items():
                values = [
                    n.value for n in numbers if (n.model, n.params, n.tokens) == model and setting in (n.setting, "all")
                ]
                if abs(mean(values) - printed) > 0.051:
                    wrong.add(model)
    assert wrong == WRONG_IN_PRINT


def test_tables_agree_where_they_say_the_same() -> None:
    def values(table: str, **wanted: object) -> dict[tuple[str, str, str, str], float]:
        return {
            (n.model, n.params, n.tokens, n.task): n.value
            for n in published(table)
            if all(getattr(n, key) == value for key, value in wanted.items())
        }

    for setting in ("once", "flat"):
        small = values("jrt_table14", setting=setting)
        assert len(small) == 12 and small.items() <= values("jrt_table1", setting=setting).items()
    twice = values("jrt_table2", model="JRT-RNN", setting="read_twice")
    read = values("jrt_table4", setting="read_twice")
    assert len(read) == 6 and read.items() <= twice.items()
    averages = {
        params: mean(
            [n.value for n in published("jrt_table2") if (n.model, n.params, n.tokens, n.setting) == key]
            + [n.value for n in published("jrt_table4") if n.params == params and n.setting == "left_pad"]
        )
        for params, key in {
            "360M": ("JRT-RNN", "360M", "30B", "once"),
            "1.3B": ("JRT-RNN", "1.3B", "50B", "once"),
        }.items()
    }
    assert {params: round(value, 1) for params, value in averages.items()} == {"360M": 39.2, "1.3B": 47.5}


def test_every_number_has_its_source_and_a_task_of_ours() -> None:
    tasks = {path.stem.removeprefix("_") for path in tasks_dir().glob("*/_*.yaml")}
    numbers = published()
    assert len(numbers) == 16 * 12 + 12 * 9 + 8 * 3 + 2 * 9 + 4 * 9
    for number in numbers:
        assert number.task in tasks and number.source.startswith("arXiv 2407.05483, Table ")


def test_mistakes_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(JRTError, match=r"unknown published table 'jrt_table5'\. Did you mean"):
        published("jrt_table5")
    monkeypatch.setattr(module, "published_dir", lambda: tmp_path)
    text = "source: x\ncolumns: [{task: fda, context_length: 5}]\nrows: [{model: A, params: 1B, tokens: 1B, values: "
    (tmp_path / "jrt_bad.yaml").write_text(text + "{once: [1, 2]}}]\n")
    with pytest.raises(JRTError, match=r"bad\.yaml: A 1B/1B, once: 2 values for 1 columns"):
        published()
    (tmp_path / "jrt_bad.yaml").write_text(text + "{once: [101]}}]\n")
    with pytest.raises(JRTError, match=r"101 is not a percentage"):
        published()
