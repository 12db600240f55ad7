"""The pages on benchmarks say what is so: prompts, windows, published numbers, versions, data sets to carry along."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from jrt_lmeval.paths import tasks_dir
from jrt_lmeval.prompts import LAYOUTS, render
from jrt_lmeval.prompts.benchmarks import BENCHMARKS, benchmark_of
from jrt_lmeval.report.published import published
from tools.make_samples import MAKERS

FOLDER = Path(__file__).parents[2] / "docs" / "tasks"
SHOWN = {
    "swde": ("swde",), "fda": ("fda",), "squadv2": ("squadv2",), "nq": ("nq_512", "nq_1024", "nq_2048"),
    "triviaqa": ("triviaqa",), "drop": ("drop",), "factbook": ("factbook", "factbook_large", "factbook_paraphrased"),
}  # fmt: skip
PAGES = sorted(FOLDER.glob("*.md"))


def text_of(page: str) -> str:
    return (FOLDER / f"{page}.md").read_text(encoding="utf-8")


def settings_of(recipe: str) -> dict[str, Any]:
    text = next(tasks_dir().glob(f"*/_{recipe}.yaml")).read_text(encoding="utf-8")
    return yaml.safe_load(re.sub("^class:.*$", "", text, flags=re.M))


def test_there_is_a_page_for_every_benchmark() -> None:
    folders = {path.name for path in tasks_dir().iterdir() if path.is_dir()} - {"groups"}
    assert {page.stem for page in PAGES} - {"README"} == folders
    index = text_of("README")
    assert set(re.findall(r"\]\((\w+)\.md\)", index)) == folders
    groups = {path.stem for path in (tasks_dir() / "groups").glob("*.yaml")}
    assert groups == set(re.findall(r"`((?:recall|needles)\w*)`", index)) - {"recall_ppl", "recall_stream"}


@pytest.mark.parametrize("page", SHOWN)
def test_the_prompts_shown_are_those_of_the_row_shown(page: str) -> None:
    row, once, flat = re.findall(r"```(?:json|text)\n(.*?)\n```", text_of(page), re.S)
    for layout, shown in (("once", once), ("flat", flat)):
        assert shown == render(SHOWN[page][0], layout, json.loads(row))


@pytest.mark.parametrize("page", SHOWN)
def test_data_window_and_tasks_are_those_of_the_yaml_files(page: str) -> None:
    text = text_of(page)
    for recipe in SHOWN[page]:
        config = settings_of(recipe)
        window = config["jrt_common"]["window"]
        assert re.search(rf"`(?:context_length: )?{window['context_length']}`", text)
        assert benchmark_of(recipe).dataset.rpartition("/")[2] in text
        for layout in LAYOUTS.values():
            assert not layout.ending or f"`{recipe}{layout.ending}`" in text
        if recipe in MAKERS:
            assert str(len(MAKERS[recipe]())) in re.search("without a network.*", text)[0]  # type: ignore[index]


@pytest.mark.parametrize("page", SHOWN)
def test_the_numbers_shown_are_the_published_ones(page: str) -> None:
    shown = re.findall(r"^\| (.+) \|$", text_of(page).partition("## Published numbers")[2], re.M)
    cells = {tuple(row.split(" | ")) for row in shown}
    numbers = [number for number in published() if number.task in SHOWN[page]]
    first = [number for number in numbers if number.source.endswith("Table 1")]
    for once, flat in zip(
        (n for n in first if n.setting == "once"), (n for n in first if n.setting == "flat"), strict=True
    ):
        assert (once.model, once.params, once.tokens, str(once.value), str(flat.value)) in cells
    for number in numbers:
        table = number.source.rpartition(" ")[2]
        document = str(number.context_length or "whole")
        row = (table, number.model, number.params, number.tokens, document, number.setting, str(number.value))
        repeated = (table == "14" and number.setting != "two_shot") or (table == "4" and number.setting == "read_twice")
        assert table == "1" or repeated or row in cells
    assert bool(numbers) == (page != "factbook")


@pytest.mark.parametrize("page", [*SHOWN, "recall_ppl", "capacity", "recall_2k", "recall_stream", "needles", "names"])
def test_the_version_of_the_task_is_in_its_changes(page: str) -> None:
    versions = {
        match
        for path in (tasks_dir() / page).glob("*.yaml")
        for match in re.findall(r"version: ([\d.]+)", path.read_text(encoding="utf-8"))
    }
    assert versions
    for version in versions:
        assert f"* {version}:" in text_of(page).partition("## Changes")[2]


def test_the_data_sets_to_carry_to_a_cluster_are_those_that_the_tasks_read() -> None:
    (names,) = re.findall(r"for name in \((.*?)\)", (FOLDER.parent / "clusters.md").read_text(encoding="utf-8"), re.S)
    hub = {recipe.dataset.removeprefix("hazyresearch/") for recipe in BENCHMARKS.values() if "/" in recipe.dataset}
    assert set(re.findall(r'"([^"]+)"', names)) == hub
