"""The page on clusters: its job files parse, its data sets are ours, its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from jrt_lmeval.cli import COMMANDS
from jrt_lmeval.paths import tasks_dir
from jrt_lmeval.prompts.benchmarks import BENCHMARKS

PAGE = Path(__file__).parents[2] / "docs" / "clusters.md"
TEXT = PAGE.read_text(encoding="utf-8")
SCRIPTS = re.findall(r"```bash\n(.*?)```", TEXT, re.S)


@pytest.mark.parametrize("number", range(len(SCRIPTS)))
def test_a_script_is_shell(number: int) -> None:
    done = subprocess.run(["bash", "-n"], input=SCRIPTS[number], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_the_data_sets_carried_over_are_those_that_the_tasks_read() -> None:
    (names,) = re.findall(r"for name in \((.*?)\)", TEXT, re.S)
    hub = {recipe.dataset.removeprefix("hazyresearch/") for recipe in BENCHMARKS.values() if "/" in recipe.dataset}
    assert set(re.findall(r'"([^"]+)"', names)) == hub


def test_tasks_and_commands_exist() -> None:
    known = {file.stem for file in tasks_dir().rglob("*.yaml")}
    for tasks in re.findall(r"--tasks ([\w,]+)", TEXT):
        assert set(tasks.split(",")) <= known
    assert set(re.findall(r"jrt-eval (\w+)", TEXT)) <= set(COMMANDS)


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)", TEXT):
        assert (PAGE.parent / target).exists(), target
