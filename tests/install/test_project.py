"""What the project says of itself is true: its dependencies, and which part may import which."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("jrt_lmeval", "model_adapters")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
DISTRIBUTIONS = {"yaml": "pyyaml", "fla": "flash-linear-attention"}
"""Import names that differ from the name of what is installed by more than a hyphen."""

NEVER = [
    (r"jrt_lmeval/(prompts|data|report)/.*", {"torch", "lm_eval"}),
    (r"jrt_lmeval/(task|prompts|data)/[^/]*", {"jrt_lmeval.data.making", "jrt_lmeval.training"}),
    (r"jrt_lmeval/(answers|scoring|prefix|paths|errors|cli)\.py", {"torch"}),
    (r"jrt_lmeval/modeling/.*", {"lm_eval", "model_adapters"}),
    (r"jrt_lmeval/(?!plugin|doctor).*", {"lm_eval.api.registry"}),
]
"""Files, and what they never import, not even inside a function."""


def imports(path: Path) -> Iterator[str]:
    """The dotted names of the modules a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""


def declared() -> tuple[set[str], set[str]]:
    """The names of the required and of the optional dependencies, normalised."""
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[<>=!~;\[ ]", text)[0].lower().replace("_", "-") for text in requirements}

    return names(project["dependencies"]), names([*extras["cuda"], *extras["train"], *extras["peft"]])


def test_everything_imported_is_declared() -> None:
    required, optional = declared()
    tops = {name.partition(".")[0] for path in SOURCES for name in imports(path)}
    third_party = tops - set(sys.stdlib_module_names) - {*PACKAGES}
    names = {DISTRIBUTIONS.get(name, name).lower().replace("_", "-") for name in third_party}
    assert names <= required | optional


def test_everything_declared_is_used() -> None:
    required, _ = declared()
    named = {name.partition(".")[0] for path in SOURCES for name in imports(path)}
    named |= {  # find_spec("a_package"): its data is read and its code is not run
        node.value
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier()
    }
    assert required <= {DISTRIBUTIONS.get(name, name).lower().replace("_", "-") for name in named}


@pytest.mark.parametrize("pattern, modules", NEVER, ids=[pattern for pattern, _ in NEVER])
def test_arrows_run_one_way(pattern: str, modules: set[str]) -> None:
    files = [path for path in SOURCES if re.fullmatch(pattern, path.relative_to(ROOT).as_posix())]
    wrong = [
        (path.relative_to(ROOT).as_posix(), name)
        for path in files
        for name in imports(path)
        if any(name == module or name.startswith(f"{module}.") for module in modules)
    ]
    assert files
    assert wrong == []
