"""`jrt-eval run --grid`: cells, their folders, and going on where it was broken off."""

from __future__ import annotations

import json
import re
import shlex
import sys
import textwrap
from pathlib import Path

import pytest
from lm_eval.models.dummy import DummyLM

from jrt_lmeval import cli
from jrt_lmeval.errors import JRTError
from jrt_lmeval.grid import block, check_axes, combinations, split_arguments
from jrt_lmeval.prompts import Parts, build, layout_spec


def test_axes_become_cells() -> None:
    axes, rest = split_arguments(["--grid", "overlap=0,0.1", "--model", "m", "--grid=window.answer_at=0.5"])
    assert (axes, rest) == (["overlap=0,0.1", "window.answer_at=0.5"], ["--model", "m"])
    found = combinations(axes)
    assert found == [{"overlap": 0, "window.answer_at": 0.5}, {"overlap": 0.1, "window.answer_at": 0.5}]
    assert block(found[1]) == {"overlap": 0.1, "window": {"answer_at": 0.5}}


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (["overlap=2"], "overlap must be a number"),
        (["ovrlap=0.1"], "Did you mean 'overlap'"),
        (["select=al"], "Did you mean 'all'"),
        (["overlap=0", "overlap=1"], "given twice"),
        (["overlap=0.1,0.1"], "a value is given twice"),
        (["overlap="], "no values"),
        (["levels=[document"], "must be YAML"),
    ],
)
def test_bad_axes_are_named(axes: list[str], message: str) -> None:
    with pytest.raises(JRTError, match=message):
        check_axes(combinations(axes), {"swde_jrt_hier": {"layout": "hier"}})


def test_help_teaches_the_grid(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--help"]) == 0
    assert "--grid overlap=0,0.1,0.2,0.3" in capsys.readouterr().out


def test_a_grid_runs_each_cell_once_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built: list[str] = []
    plain = DummyLM.create_from_arg_obj.__func__
    monkeypatch.setattr(
        DummyLM, "create_from_arg_obj", classmethod(lambda cls, *a, **k: built.append("model") or plain(cls, *a, **k))
    )
    monkeypatch.setattr(sys, "argv", sys.argv)
    command = ["run", "--grid", "overlap=0,0.2", "--grid", "select=all,information", "--model", "dummy"]
    command += ["--tasks", "factbook_jrt_hier", "--output_path", str(tmp_path)]
    assert cli.main([*command, "--limit", "2"]) == 0
    settings = set()
    for folder in tmp_path.iterdir():
        assert re.fullmatch(r"dummy-overlap-[\d.]+-\w+", folder.name)
        (results,) = folder.glob("results_*.json")
        content = json.loads(results.read_text())
        jrt = content["configs"]["factbook_jrt_hier"]["metadata"]["jrt"]
        settings.add((jrt["overlap"], jrt["select"]))
        assert content["config"]["model"] == "dummy"
    assert settings == {(overlap, select) for overlap in (0, 0.2) for select in ("all", "information")}
    assert capsys.readouterr().out.count("| factbook_jrt_hier [first 2 of 985] | 2 |") == 4
    (tmp_path / "dummy-overlap-0-all" / "run.json").unlink()
    assert cli.main([*command, "--limit", "2"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("finished before") == 3 and shown.count("| factbook_jrt_hier [first 2 of 985] | 2 |") == 4
    assert built == ["model", "model"]
    assert cli.main([*command, "--limit", "3"]) == 1
    assert "was made with limit 2, not 3" in capsys.readouterr().err
    assert cli.main([*command[:-3], "factbok_once", "--output_path", str(tmp_path / "new")]) == 1
    assert "unknown task 'factbok_once'. Did you mean 'factbook_once'" in capsys.readouterr().err


def test_the_table_shows_that_rows_are_a_sample_and_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    command = ["run", "--grid", "control=none,no_context", "--model", "dummy", "--tasks", "swde_once,factbook_once"]
    assert cli.main([*command, "--limit", "2", "--output_path", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "| control=none | swde_once [sample] [first 2 of 72] | 2 |" in shown
    assert "| control=no_context | swde_once [sample] [first 2 of 72] [no_context] | 2 |" in shown
    assert "| control=none | factbook_once [first 2 of 985] | 2 |" in shown


@pytest.mark.parametrize(
    ("axis", "tasks", "message"),
    [
        ("overlap=0,0.2", "swde_jrt_hier,swde_once", "swde_once: overlap.*no effect with layout 'once'; .*layout hier"),
        ("order=coarse_to_fine,fine_to_coarse", "factbook_once", "factbook_once: order: .* no effect"),
        ("overlap=0,0.2", "recall_once", "swde_once: overlap"),
    ],
)
def test_an_axis_that_changes_nothing_is_refused(
    axis: str, tasks: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    command = ["run", "--grid", axis, "--model", "dummy", "--tasks", tasks, "--limit", "1"]
    command += ["--output_path", str(tmp_path / "out")]
    assert cli.main(command) == 1
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_the_page_shows_what_is_written() -> None:
    page = (Path(__file__).parents[2] / "docs" / "hierarchical-prompts.md").read_text(encoding="utf-8")
    blocks = re.findall(r"(?:^    \S.*\n(?:^\n(?=    ))?)+", page, re.M)
    start = next(place for place, text in enumerate(blocks) if text.startswith("    Log of the Heron"))
    document, shown, retrieved = (textwrap.dedent(text).strip() for text in blocks[start : start + 3])
    parts = Parts(document, "Lost:", "Information about Lost. ")
    hier, focus, flat = (build(parts, layout_spec({"layout": layout})) for layout in ("hier", "focus", "flat"))
    assert (hier, focus) == (shown, retrieved)
    counts = {name: prompt.counters for name, prompt in (("hier", hier), ("focus", focus), ("flat", flat))}
    tokens = {name: found["prompt_tokens"] for name, found in counts.items()}
    assert f"{tokens['hier']} tokens, where `flat` without its lead has {tokens['flat'] - 4}" in page
    assert f"`segments_dropped: {counts['hier']['segments_dropped']}`" in page
    assert f"{tokens['focus']} tokens" in page


def commands() -> list[str]:
    page = (Path(__file__).parents[2] / "docs" / "hierarchical-prompts.md").read_text(encoding="utf-8")
    return re.findall(r"^    ((?:lm_eval|jrt-eval) .*)$", page, re.M)


@pytest.mark.parametrize("command", commands(), ids=lambda command: re.sub(r"[^\w=,]+", "-", command)[-60:])
def test_every_command_of_the_page_runs(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    words = shlex.split(command)[1:]
    words = ["dummy" if word == "jrt_rnn" else str(tmp_path) if word.startswith("runs/") else word for word in words]
    # of an axis of several values the first and the last: every cell is a run
    words = [re.sub(r"^(\w+=[^,]+),.*(,[^,]+)$", r"\1\2", word) for word in words]
    assert cli.main([*([] if words[0] == "run" else ["run"]), *words, "--limit", "1"]) in (0, None)
