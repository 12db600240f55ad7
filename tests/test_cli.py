"""`jrt-eval`: dispatch, and what the doctor says."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

from jrt_lmeval import __version__, cli
from jrt_lmeval.doctor import install as doctor


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_names_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    for name, command in cli.COMMANDS.items():
        assert f"  {name} " in shown
        assert command.help in shown


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_offered_can_be_called(name: str) -> None:
    module, _, function = cli.COMMANDS[name].target.partition(":")
    assert callable(getattr(import_module(module), function))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"jrt-eval {__version__}\n"


def test_a_mistyped_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["docter"]) == 2
    assert "unknown command 'docter'. Did you mean 'doctor'?" in capsys.readouterr().err


def test_run_hands_its_arguments_to_lm_eval_with_us_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    import lm_eval.__main__
    from lm_eval.api.registry import model_registry

    seen: list[list[str]] = []
    monkeypatch.setattr(lm_eval.__main__, "cli_evaluate", lambda: seen.append(list(sys.argv)))
    monkeypatch.setattr(sys, "argv", sys.argv)
    assert cli.main(["run", "--model", "jrt_rnn", "--tasks", "swde"]) == 0
    assert seen == [["lm_eval", "--model", "jrt_rnn", "--tasks", "swde"]]
    assert "jrt_rnn" in model_registry


def test_the_doctor_says_that_the_hook_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JRT_LMEVAL_DISABLE", "1")
    assert [(finding.seen, finding.mend) for finding in doctor.hook()] == [("off", "unset JRT_LMEVAL_DISABLE")]


def test_the_doctor_notices_an_lm_eval_of_another_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "lm_eval"
    other.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (finding,) = doctor.command()
    assert "of another environment" in finding.seen
    assert "pipx inject" in finding.mend


def test_the_doctor_checks_the_local_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JRT_LMEVAL_DATA", str(tmp_path / "missing"))
    *_, finding = doctor.files()
    assert "<dataset>/<split>.jsonl" in finding.mend
    monkeypatch.setenv("JRT_LMEVAL_DATA", str(tmp_path))
    *_, finding = doctor.files()
    assert finding.mend == ""


def test_the_doctor_exits_with_1_where_something_needs_mending(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", (lambda: iter([doctor.Finding("tasks", "12")]),))
    assert doctor.main([]) == 0
    monkeypatch.setattr(doctor, "CHECKS", (lambda: iter([doctor.Finding("tasks", "0", "reinstall")]),))
    assert doctor.main([]) == 1
    assert "-> reinstall" in capsys.readouterr().out
