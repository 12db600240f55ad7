"""Install the package the ways people do, into fresh environments, and use lm_eval's own commands there.

An environment borrows the dependencies of this one through links, so nothing is downloaded. Of lm_eval's built-in tasks
only `ARC` is linked in: reading all 14 000 takes 15 s a command.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("jrt_lmeval", "_jrt_lmeval", "model_adapters")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="needs symbolic links"),
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="installs what git tracks"),
]

CHECK = """
import lm_eval.models
from lm_eval.api.registry import model_registry
from lm_eval.tasks import TaskManager
found = set(TaskManager().all_subtasks)
assert {"hf", "jrt_rnn", "based", "mamba", "hf_recall"} <= set(model_registry), set(model_registry)
assert {"arc_easy", "swde_jrt_hier", "factbook_jrt_hier"} <= found, found
from jrt_lmeval import paths
for folder in (paths.tasks_dir(), paths.weights_dir(), paths.published_dir()):
    assert any(folder.iterdir()), folder
from jrt_lmeval.report.page.render import FOLDER, SCRIPTS
assert all((FOLDER / name).exists() for name in (*SCRIPTS, "page.html", "page.css")), list(FOLDER.iterdir())
print("seen, tasks in", paths.tasks_dir())
"""


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    folder: Path

    @property
    def site(self) -> Path:
        return self.folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def run(self, *command: str | Path, fails: bool = False) -> str:
        """What a command of this environment prints; `fails` says whether a non-zero exit is what is expected."""
        env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "JRT_LMEVAL_DISABLE", "JRT_LMEVAL_DATA")}
        env |= {"PATH": f"{self.folder / 'bin'}{os.pathsep}{env['PATH']}", "VIRTUAL_ENV": str(self.folder)}
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=300,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stdout
        return done.stdout

    def names(self) -> set[str]:
        """Everything in site-packages and bin."""
        return {path.name for folder in (self.site, self.folder / "bin") for path in folder.iterdir()} - {"__pycache__"}


@pytest.fixture(scope="module")
def dependencies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that links to every package of this environment but ours, with a short list of built-in tasks."""
    import lm_eval

    folder = tmp_path_factory.mktemp("dependencies")
    places = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    for path in (path for place in places for path in Path(place).iterdir()):
        if not path.name.startswith((*OURS, "lm_eval.", "__")) and path.suffix != ".pth" and path.name != "lm_eval":
            (folder / path.name).symlink_to(path)
    real = Path(lm_eval.__file__).parent
    thin = folder / "lm_eval"
    (thin / "tasks").mkdir(parents=True)
    for path in (*real.iterdir(), *(real / "tasks").glob("*.py")):
        if path.name not in ("tasks", "__pycache__"):
            (thin / path.relative_to(real)).symlink_to(path)
    shutil.copytree(real / "tasks" / "arc", thin / "tasks" / "arc")
    return folder


@pytest.fixture
def environment(tmp_path: Path, dependencies: Path) -> Environment:
    """A fresh environment with lm_eval and its commands, without us."""
    made = Environment(tmp_path / "environment")
    venv.create(made.folder, symlinks=True)
    (made.site / "dependencies.pth").write_text(f"{dependencies}\n")
    for name in ("lm_eval", "lm-eval"):
        script = made.folder / "bin" / name
        script.write_text(f"#!{made.python}\nfrom lm_eval.__main__ import cli_evaluate\ncli_evaluate()\n")
        script.chmod(0o755)
    return made


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the files git tracks: what a fresh clone holds."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        target = tmp_path / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    return tmp_path / "source"


OFFLINE = ("--no-deps", "--no-build-isolation")


def install(environment: Environment, installer: str, *what: str | Path) -> None:
    """Install with pip or uv. uv must be told the interpreter: run as a module it takes the one it was run by."""
    if installer == "pip":
        environment.run("python", "-m", "pip", "install", "--no-index", *OFFLINE, *what)
    else:
        target = ("--python", environment.python)
        environment.run(
            sys.executable, "-m", "uv", "pip", "install", "--offline", "--no-cache", *OFFLINE, *target, *what
        )


def uninstall(environment: Environment, installer: str) -> None:
    """Take the package out again with what put it in."""
    if installer == "pip":
        environment.run("python", "-m", "pip", "uninstall", "--yes", "jrt-lmeval")
    else:
        environment.run(sys.executable, "-m", "uv", "pip", "uninstall", "--python", environment.python, "jrt-lmeval")


def test_pip_install_and_every_way_into_lm_eval(environment: Environment, source: Path) -> None:
    before = environment.names()
    install(environment, "pip", source)
    added = environment.names() - before
    assert {name for name in added if not name.startswith((*OURS, "jrt-eval"))} == set()

    assert "swde_jrt_hier" in environment.run("lm_eval", "ls", "tasks")
    valid = environment.run(
        "python", "-m", "lm_eval", "validate", "--tasks", "swde_jrt_hier,factbook_jrt_hier,arc_easy"
    )
    assert "All tasks found and valid" in valid
    arguments = ("--model", "jrt_rnn", "--model_args", "feature_map=mlp,prefix=dynamic", "--tasks", "swde_jrt_hier")
    assert "|swde_jrt_hier" in environment.run("lm-eval", *arguments, "--limit", "2", "--device", "cpu")
    script = environment.folder / "check.py"
    script.write_text(CHECK)
    launch = ("python", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", script)
    assert environment.run(*launch).count("seen, tasks in") == 2
    assert "!!" not in environment.run("jrt-eval", "doctor")

    uninstall(environment, "pip")
    assert environment.names() - {"check.py"} == before
    assert "Tasks not found" in environment.run("lm_eval", "validate", "--tasks", "swde_jrt_hier", fails=True)


@pytest.mark.parametrize("how", [("pip", "-e"), ("uv",), ("uv", "-e")], ids=" ".join)
def test_other_ways_to_install(environment: Environment, source: Path, how: tuple[str, ...]) -> None:
    installer, *editable = how
    before = environment.names()
    install(environment, installer, *editable, source)
    where = source if editable else environment.site / "jrt_lmeval"
    assert f"seen, tasks in {where / 'tasks'}" in environment.run("python", "-c", CHECK)
    uninstall(environment, installer)
    assert environment.names() == before


def test_a_checkout_that_was_deleted_leaves_a_warning_and_lm_eval_works(environment: Environment, source: Path) -> None:
    install(environment, "pip", "-e", source)
    shutil.rmtree(source)
    assert environment.run("python", "-c", "pass") == ""
    said = environment.run("python", "-c", "import lm_eval.models; print('lm_eval works')")
    assert "jrt_lmeval is installed but could not be registered" in said
    assert said.endswith("lm_eval works\n")
