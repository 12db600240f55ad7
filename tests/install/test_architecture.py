"""The picture in docs/architecture.md is the one that the imports draw."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "architecture.md"
PARTS = {
    "beside": r"jrt_lmeval/(__init__|answers|scoring|errors|paths|one_line|stats|markdown)\.py",
    "making": r"jrt_lmeval/data/making/.*",
    "data": r"jrt_lmeval/data/.*",
    "prompts": r"jrt_lmeval/prompts/.*",
    "task": r"jrt_lmeval/task/.*",
    "report": r"jrt_lmeval/report/.*",
    "paper": r"jrt_lmeval/paper/.*",
    "modeling": r"jrt_lmeval/modeling/.*",
    "checkpoints": r"jrt_lmeval/checkpoints/.*",
    "training": r"jrt_lmeval/training/.*",
    "doctor": r"jrt_lmeval/doctor\.py",
    "prefix": r"jrt_lmeval/prefix\.py",
    "commands": r"jrt_lmeval/(cli|grid|plugin|prefix_fit|runner|__main__)\.py",
    "engines": r"model_adapters/engines/.*",
    "running": r"model_adapters/running/.*",
    "adapters": r"model_adapters/[^/]*\.py",
}
"""Part -> its files, the first that fits; `beside` are the files that all parts may use, and that use none."""


PACKAGE = "jrt_lmeval/__init__.py"
"""Where all find the version, and users find `register`."""


def part(file: str) -> str:
    found = next((name for name, pattern in PARTS.items() if re.fullmatch(pattern, file)), None)
    assert found, f"{file} is in no part of docs/architecture.md"
    return found


def modules() -> dict[str, str]:
    packages = (ROOT / "jrt_lmeval", ROOT / "model_adapters")
    files = [path.relative_to(ROOT) for package in packages for path in package.rglob("*.py")]
    return {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path.as_posix() for path in files}


def imported(file: str) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: a relative import hides which part is used"
            yield from (str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names))


def test_every_arrow_is_drawn_and_every_drawn_arrow_is_one() -> None:
    known = modules()
    arrows: dict[tuple[str, str], str] = {}
    for file in set(known.values()) - {PACKAGE}:
        for name in imported(file):
            if name in known and (ends := (part(file), part(known[name])))[0] != ends[1] and ends[1] != "beside":
                arrows.setdefault(ends, f"{file} imports {name}")
    text = PAGE.read_text(encoding="utf-8")
    drawn = set(re.findall(r"^ +(\w+) --> (\w+)$", text, re.M))
    assert not {where for ends, where in arrows.items() if ends not in drawn}, "not drawn in docs/architecture.md"
    assert not drawn - arrows.keys(), "drawn in docs/architecture.md, and nothing imports so"


def test_tokenizers_are_loaded_in_one_place_a_package() -> None:
    places = [file for file in modules().values() if "transformers.AutoTokenizer" in imported(file)]
    assert sorted(places) == [
        "jrt_lmeval/checkpoints/packaged.py",
        "jrt_lmeval/prompts/tokens.py",
    ]  # packaged: a GGUF file's own


def test_every_part_is_on_the_page_which_is_short() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| (\w+) \|", text, re.M))
    assert PARTS.keys() - {"beside", "making"} <= rows
    assert len(text.splitlines()) < 90
    for path in re.findall(r"`((?:jrt_lmeval|model_adapters)/[\w/.]*)`", text):
        assert (ROOT / path).exists(), path
