"""The start-up hook and what it tells lm_eval, mostly in fresh interpreters with a miniature lm_eval."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

MINIATURE = {
    "lm_eval/__init__.py": "",
    "lm_eval/models/__init__.py": """
        from lm_eval.api.registry import model_registry
        BUILT_IN = len(model_registry)
        model_registry.register("hf", target="lm_eval.models.huggingface:HFLM")
        """,
    "lm_eval/models/huggingface.py": "",
    "lm_eval/api/__init__.py": "",
    "lm_eval/api/registry.py": """
        class Registry:
            def __init__(self): self._objs = {}
            def __len__(self): return len(self._objs)
            def __contains__(self, name): return name in self._objs
            def register(self, name, target): self._objs[name] = target
        model_registry = Registry()
        """,
    "lm_eval/tasks/__init__.py": "from lm_eval.tasks.manager import TaskManager",
    "lm_eval/tasks/manager.py": """
        class TaskManager:
            def __init__(self, verbosity=None, include_path=None, include_defaults=True, metadata=None):
                self.include_path = include_path
        """,
}

HOOK = "import _jrt_lmeval_hook; _jrt_lmeval_hook.install()\n"


@pytest.fixture
def miniature(tmp_path: Path) -> Path:
    """A folder with an lm_eval of a few lines: the real one takes seconds to import."""
    for name, text in MINIATURE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return tmp_path


def python(code: str, *folders: Path, **environment: str) -> str:
    """What a fresh interpreter without site-packages prints, errors last; `folders` come first on its path."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*folders, ROOT))), **environment}
    done = subprocess.run(
        [sys.executable, "-S", "-c", textwrap.dedent(code)],
        env=env,
        cwd=ROOT.anchor,  # the current folder comes first on the path of -c
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_start_files_are_one_plain_ascii_line() -> None:
    assert (ROOT / "jrt_lmeval_start.pth").read_bytes() == HOOK.encode("ascii")
    assert (ROOT / "jrt_lmeval_start.start").read_bytes() == b"_jrt_lmeval_hook:install\n"


def test_start_up_loads_one_module_and_nothing_else() -> None:
    code = f"""
        import os, sys
        before = set(sys.modules)
        {HOOK}
        print(sorted(set(sys.modules) - before))
        """
    assert python(code) == "['_jrt_lmeval_hook']\n"


def test_importing_the_package_imports_neither_torch_nor_lm_eval() -> None:
    code = """
        import sys, jrt_lmeval, jrt_lmeval.plugin, jrt_lmeval.cli
        print({"torch", "lm_eval", "transformers", "numpy"} & set(sys.modules))
        """
    assert python(code) == "set()\n"


def test_models_and_tasks_are_added_after_lm_eval_filled_its_own_registry(miniature: Path) -> None:
    code = f"""
        import sys
        {HOOK}
        import lm_eval.models, lm_eval.tasks
        from lm_eval.api.registry import model_registry
        print(lm_eval.models.BUILT_IN, sorted(model_registry._objs))
        print(len(lm_eval.tasks.TaskManager().include_path))
        print("model_adapters" in sys.modules)
        """
    assert python(code, miniature) == "0 ['based', 'hf', 'hf_recall', 'jrt_rnn', 'mamba']\n1\nFalse\n"


def test_transformers_is_told_of_our_models_when_lm_eval_loads_its_own(miniature: Path) -> None:
    code = f"""
        import sys, types
        {HOOK}
        import lm_eval.models, lm_eval.tasks, jrt_lmeval
        for absent in ("lm_eval.loggers.evaluation_tracker", "lm_eval.api.model"):
            _jrt_lmeval_hook._WAITING.pop(absent)
        modeling = types.ModuleType("jrt_lmeval.modeling")
        modeling.__path__ = []
        sys.modules["jrt_lmeval.modeling"] = modeling
        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name == "jrt_lmeval.modeling.model":
                    print("told")
        sys.meta_path.append(Finder())
        print("before")
        import lm_eval.models.huggingface
        print(any("_jrt_lmeval_hook" == type(f).__module__ for f in sys.meta_path))
        """
    lines = python(code, miniature).splitlines()
    assert lines[:3] == ["before", "told", "False"]


@pytest.mark.parametrize(
    "arguments, paths",
    [
        ("", ["OURS"]),
        ("include_path='mine'", ["OURS", "mine"]),
        ("include_path=['a', 'b']", ["OURS", "a", "b"]),
        ("None, 'positional'", ["OURS", "positional"]),
        ("include_path=str(tasks_dir())", ["OURS"]),
        ("include_path='mine', include_defaults=False", "mine"),
    ],
)
def test_a_users_own_tasks_come_after_ours_and_so_win(miniature: Path, arguments: str, paths: object) -> None:
    code = f"""
        {HOOK}
        from lm_eval.tasks import TaskManager
        from jrt_lmeval.paths import tasks_dir
        got = TaskManager({arguments}).include_path
        print(got if isinstance(got, str) else ["OURS" if str(p) == str(tasks_dir()) else p for p in got])
        """
    assert python(code, miniature) == f"{paths}\n"


def test_tasks_that_lm_eval_finds_by_entry_point_are_not_added_again(miniature: Path) -> None:
    manager = miniature / "lm_eval/tasks/manager.py"
    found = "from jrt_lmeval.paths import tasks_dir\ndiscover_plugin_task_paths = lambda: [tasks_dir()]\n"
    manager.write_text(found + manager.read_text())
    code = f"{HOOK}\nfrom lm_eval.tasks import TaskManager\nprint(TaskManager().include_path)"
    assert python(code, miniature) == "[]\n"


def test_entry_points_that_lm_eval_failed_to_read_once_cost_none_of_our_names(miniature: Path) -> None:
    registry = miniature / "lm_eval/api/registry.py"
    registry.write_text(
        registry.read_text()
        + textwrap.dedent("""
            _loaded_plugin_groups = {"lm_eval.models"}  # marked as read before the read that failed
            def load_plugins(group, components): return [] if group in _loaded_plugin_groups else 1 / 0
            """)
    )
    models = miniature / "lm_eval/models/__init__.py"
    models.write_text(
        models.read_text() + "\nfrom lm_eval.api.registry import load_plugins\n"
        'load_plugins("lm_eval.models", model_registry)\n'
    )
    manager = miniature / "lm_eval/tasks/manager.py"
    manager.write_text(
        "def discover_plugin_task_paths(): raise RuntimeError('temporary metadata failure')\n" + manager.read_text()
    )
    code = f"""
        {HOOK}
        import lm_eval.models
        from lm_eval.tasks import TaskManager
        print(sorted(lm_eval.models.model_registry._objs), len(TaskManager().include_path))
        """
    said = python(code, miniature)
    assert said.startswith("['based', 'hf', 'hf_recall', 'jrt_rnn', 'mamba'] 1\n")
    assert "temporary metadata failure" in said


def test_a_built_in_model_is_never_shadowed(miniature: Path) -> None:
    models = miniature / "lm_eval/models/__init__.py"
    models.write_text(models.read_text() + '\nmodel_registry.register("mamba", target="lm_eval.models.m:M")\n')
    code = f"{HOOK}\nimport lm_eval.models\nprint(lm_eval.models.model_registry._objs['mamba'])"
    said = python(code, miniature)
    assert "lm_eval.models.m:M" in said
    assert "a model named 'mamba' of its own" in said


def test_an_entry_point_or_class_of_ours_in_the_registry_is_no_conflict(miniature: Path) -> None:
    models = miniature / "lm_eval/models/__init__.py"
    ours = """
from importlib.metadata import EntryPoint
model_registry.register("mamba", target=EntryPoint("mamba", "model_adapters.models:Mamba", "lm_eval.models"))
model_registry.register("based", target=type("Based", (), {"__module__": "model_adapters.models"}))
"""
    models.write_text(models.read_text() + ours)
    assert python(f"{HOOK}\nimport lm_eval.models", miniature) == ""


@pytest.mark.parametrize("order", ["register(); register()", "import lm_eval.models, lm_eval.tasks; register()"])
def test_register_is_the_explicit_way_and_may_be_called_twice(miniature: Path, order: str) -> None:
    code = f"""
        from jrt_lmeval import register
        {order}
        import lm_eval.models, lm_eval.tasks
        print(len(lm_eval.models.model_registry), len(lm_eval.tasks.TaskManager().include_path))
        """
    assert python(code, miniature, JRT_LMEVAL_DISABLE="1") == "5 1\n"


def test_the_hook_installed_late_or_twice_registers_once(miniature: Path) -> None:
    code = f"""
        import lm_eval.models, lm_eval.tasks
        {HOOK.strip()}; _jrt_lmeval_hook.install()
        print(len(lm_eval.models.model_registry), len(lm_eval.tasks.TaskManager().include_path))
        """
    assert python(code, miniature) == "5 1\n"


@pytest.mark.parametrize("value, models", [("1", 1), ("yes", 1), ("0", 5), ("", 5)])
def test_the_off_switch(miniature: Path, value: str, models: int) -> None:
    code = f"{HOOK}\nimport lm_eval.models\nprint(len(lm_eval.models.model_registry))"
    assert python(code, miniature, JRT_LMEVAL_DISABLE=value) == f"{models}\n"


def test_a_look_at_the_spec_does_not_use_up_the_hook(miniature: Path) -> None:
    code = f"""
        {HOOK}
        from importlib.util import find_spec
        find_spec("lm_eval.models"); find_spec("lm_eval.tasks")
        import lm_eval.models
        print(len(lm_eval.models.model_registry))
        """
    assert python(code, miniature) == "5\n"


def test_two_hooks_that_ask_each_other_do_not_recurse(miniature: Path) -> None:
    code = f"""
        {HOOK}
        import sys
        class Other:
            def find_spec(self, name, path=None, target=None):
                for finder in list(sys.meta_path):
                    if finder is not self and (spec := finder.find_spec(name, path, target)):
                        return spec
        sys.meta_path.insert(0, Other())
        import lm_eval.models
        print(len(lm_eval.models.model_registry))
        """
    assert python(code, miniature) == "5\n"


def test_lm_eval_in_a_zip_file(miniature: Path) -> None:
    archive = miniature / "lm_eval.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in MINIATURE:
            file.write(miniature / name, name)
    code = f"{HOOK}\nimport lm_eval.models\nprint(lm_eval.__file__.count('.zip'), len(lm_eval.models.model_registry))"
    assert python(code, archive) == "1 5\n"


@pytest.mark.parametrize("sabotage", ["raise RuntimeError('sabotaged')", "this is no python", ""])
def test_a_broken_plugin_warns_and_lm_eval_goes_on(miniature: Path, sabotage: str) -> None:
    package = miniature / "jrt_lmeval"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "plugin.py").write_text(sabotage)
    code = f"{HOOK}\nimport lm_eval.models\nimport lm_eval.tasks\nprint(len(lm_eval.models.model_registry))"
    said = python(code, miniature)
    assert "jrt_lmeval is installed but could not be registered" in said
    assert said.startswith("1\n")


def test_a_deleted_package_warns_and_lm_eval_goes_on(miniature: Path) -> None:
    (miniature / "_jrt_lmeval_hook.py").write_text((ROOT / "_jrt_lmeval_hook.py").read_text())
    said = python(f"{HOOK}\nimport lm_eval.models", PYTHONPATH=str(miniature))
    assert "ModuleNotFoundError" in said
    assert "Traceback" not in said


def test_the_entry_points_say_the_same_as_the_plugin() -> None:
    tomllib = pytest.importorskip("tomllib")
    from jrt_lmeval.plugin import MODELS

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["lm_eval.models"] == MODELS


def test_the_real_lm_eval_builds_our_models_beside_its_own() -> None:
    import jrt_lmeval
    from jrt_lmeval.plugin import MODELS

    jrt_lmeval.register()
    from lm_eval.api.model import LM
    from lm_eval.api.registry import get_model, model_registry
    from lm_eval.models import MODEL_MAPPING

    assert not set(MODELS) & set(MODEL_MAPPING)
    assert set(MODEL_MAPPING) <= set(model_registry)
    for name, target in MODELS.items():
        built = get_model(name)
        assert issubclass(built, LM)
        assert f"{built.__module__}:{built.__qualname__}" == target


def test_every_task_of_ours_is_found_by_the_real_task_manager() -> None:
    from lm_eval.tasks import TaskManager

    from jrt_lmeval.paths import tasks_dir

    found = TaskManager(include_defaults=False, include_path=str(tasks_dir()))
    assert {"swde_jrt_hier", "factbook_jrt_hier"} <= set(found.all_subtasks)


def test_a_group_of_samples_says_so_in_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    from lm_eval.tasks import TaskManager

    from jrt_lmeval.paths import tasks_dir
    from jrt_lmeval.plugin import tasks_ready

    class Manager(TaskManager):  # a copy: the wrapper changes the class it is given
        pass

    monkeypatch.delenv("JRT_LMEVAL_DATA", raising=False)
    tasks_ready(types.SimpleNamespace(TaskManager=Manager))  # type: ignore[arg-type]
    manager = Manager(include_path=str(tasks_dir()), include_defaults=False)
    groups = manager.load(["recall_once", "recall_paper_jrt"])["groups"]
    assert groups["recall_once"].alias == "recall_once [8 of 9 sample]"
    assert groups["recall_paper_jrt"].alias == "recall_paper_jrt [sample]"
