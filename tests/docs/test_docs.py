"""README and the pages in docs are true: links, anchors, files, commands, tasks, models; blocks of code parse."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml

from jrt_lmeval.cli import COMMANDS
from jrt_lmeval.paths import tasks_dir
from jrt_lmeval.plugin import MODELS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "experiments/*.md", "results/speed/*.md", "jrt_lmeval/data/samples/*.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"  # it speaks of what was
)
OURS = r"(?:jrt_lmeval|model_adapters|benchmarks|experiments|tools|tests|tasks|docs|results|examples|\.ci|\.github)"
ROOMS = r"(?:modeling|prompts|task|data|report|training|checkpoints|doctor|engines|running)"
PATH = re.compile(rf"(?:{OURS}/[\w./*-]*|{ROOMS}/[\w/]+\.py|(?:pyproject\.toml|CONTRIBUTING\.md))")
"""A word in backticks that is a path in the checkout, or in one of the two packages."""
BASES = (ROOT, ROOT / "jrt_lmeval", ROOT / "model_adapters")
THEIRS = ("dummy", "hf", "vllm", "local-completions", "local-chat-completions")
"""Models of lm_eval that pages name."""

each_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])


def prose(page: Path) -> str:
    """The page without blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of code of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.S | re.M)


def commands(page: Path) -> list[str]:
    """Lines of shell: of fenced blocks, and indented by four spaces; a continued line is one."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    fenced = [line for block in re.findall(r"^```bash\n(.*?)^```$", text, re.S | re.M) for line in block.splitlines()]
    return [*fenced, *re.findall(r"^    (.*)$", text, re.M), *re.findall(r"`([^`\n]+)`", text)]


@cache
def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+?)\s*$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def tasks() -> set[str]:
    """The names of tasks, groups and tags in the checkout."""
    files = [*tasks_dir().rglob("*.yaml"), *(ROOT / "tests" / "third_party").glob("*.yaml")]
    lines = [line for file in files for line in re.findall(r"^(?:task|group|tag): (.+)$", file.read_text(), re.M)]
    return {name for line in lines for name in re.findall(r"\w+", line)}


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", prose(page)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@each_page
def test_files_that_are_named_exist(page: Path) -> None:
    missing = []
    for word in re.findall(r"`([^`\s]+)`", prose(page)):
        if "NAME" in word or not PATH.fullmatch(word):
            continue
        if not any(found for base in (page.parent, *BASES) for found in base.glob(word.rstrip("/"))):
            missing.append(word)
    assert not missing


@each_page
def test_commands_tasks_and_models_exist(page: Path) -> None:
    unknown = []
    for line in commands(page):
        if found := re.match(r"(?:\$ )?jrt-eval ([a-z]+)", line):
            unknown += [] if found[1] in COMMANDS else [found[0]]
        if "lm_eval " in line or "jrt-eval run" in line or "-m jrt_lmeval run" in line:
            unknown += [name for name in re.findall(r"--model ([\w-]+)", line) if name not in {*MODELS, *THEIRS}]
            named = ",".join(re.findall(r"--tasks ([\w,]+)(?=\s|$)", line)).split(",")
            unknown += [name for name in named if name and name not in tasks()]
        for module in re.findall(r"python3? -m ((?:jrt_lmeval|benchmarks|experiments|tools)[\w.]*)", line):
            unknown += [] if importlib.util.find_spec(module) else [module]
    assert not unknown


@each_page
def test_code_parses(page: Path) -> None:
    for script in blocks(page, "(?:bash|sh)"):
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr, done.stderr
    for script in blocks(page, "python"):
        ast.parse(script)
    for text in blocks(page, "yaml"):
        yaml.safe_load(text.replace("!function ", ""))


def test_a_page_with_faults_is_found_out(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A heading\n[a](#a-heading) [b](#another) [c](nowhere.md)\n`docs/nowhere.md` `jrt-eval fly`\n")
    with pytest.raises(AssertionError, match=r"another.*nowhere"):
        test_links_lead_somewhere(page)
    with pytest.raises(AssertionError, match="nowhere"):
        test_files_that_are_named_exist(page)
    with pytest.raises(AssertionError, match="fly"):
        test_commands_tasks_and_models_exist(page)
    page.write_text("    lm_eval --model jrt_rn --tasks swde_onc\n\n```python\ndef\n```\n")
    with pytest.raises(AssertionError, match=r"jrt_rn.*swde_onc"):
        test_commands_tasks_and_models_exist(page)
    with pytest.raises(SyntaxError):
        test_code_parses(page)
