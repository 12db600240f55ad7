"""`jrt-eval compare`: what two runs say on the same questions."""

from __future__ import annotations

from pathlib import Path

import pytest
from reportlogs import BLOCK, sample, write_run

from jrt_lmeval.errors import JRTError
from jrt_lmeval.report.cells import difference
from jrt_lmeval.report.collect import collect
from jrt_lmeval.report.compare import main

A = [float(i % 2) for i in range(40)]
B = [1.0 if i < 20 else value for i, value in enumerate(A)]


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")


def test_pairs_are_of_the_same_question_whatever_the_order(tmp_path: Path) -> None:
    write_run(tmp_path / "a", A, facts={"pretrained": "a"})
    write_run(tmp_path / "b", lines=[sample(i, B[i]) for i in reversed(range(4, 40))], facts={"pretrained": "b"})
    first, second = (collect([tmp_path / name]).cells[0] for name in "ab")
    found = difference(first, second, "contains")
    assert found is not None
    assert (found.paired.wins, found.paired.losses, found.paired.n) == (8, 0, 36)
    assert (found.only_first, found.only_second) == (4, 0)


def test_the_command_says_who_wins_and_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a", A, facts={"pretrained": "one"})
    write_run(tmp_path / "b", B, facts={"pretrained": "two"})
    assert main([str(tmp_path / "a"), str(tmp_path / "b"), "--show", "3"]) == 0
    out = capsys.readouterr().out
    assert "A: jrt_rnn one" in out and "B: jrt_rnn two" in out
    assert "50.0" in out and "75.0" in out and "+25.0" in out
    assert "the first 3 of 10 disagreements" in out and "Question 0" in out and "right: answer 0" in out
    assert "Question 6" not in out


def test_two_layouts_of_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "x", A, task="swde_once", block={**BLOCK, "layout": "once"}, facts={"pretrained": "one"})
    write_run(tmp_path / "y", B, task="swde_jrt_hier", facts={"pretrained": "one"})
    assert main([str(tmp_path), str(tmp_path), "--a", "layout=once", "--b", "layout=hier"]) == 0
    assert "swde_once → swde_jrt_hier" in capsys.readouterr().out


def test_what_is_ambiguous_or_empty_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "a" / "x", A, facts={"pretrained": "one"})
    write_run(tmp_path / "a" / "y", B, facts={"pretrained": "two"})
    write_run(tmp_path / "b", B, facts={"pretrained": "three"})
    with pytest.raises(JRTError, match=r"more than one run of swde_jrt_hier .*Choose with --a"):
        main([str(tmp_path / "a"), str(tmp_path / "b")])
    write_run(tmp_path / "c", B, task="fda_once", facts={"pretrained": "one"})
    with pytest.raises(JRTError, match="nothing to compare"):
        main([str(tmp_path / "b"), str(tmp_path / "c")])
    with pytest.raises(JRTError, match=r"swde_jrt_hier and B fda_once, which have no benchmark in common"):
        main([str(tmp_path / "b"), str(tmp_path / "c")])
    with pytest.raises(JRTError, match=r"unknown metric 'contain'\. Did you mean 'contains'"):
        main([str(tmp_path / "b"), str(tmp_path / "c"), "--metric", "contain"])
    with pytest.raises(JRTError, match="--a layout=once: no such run; layout is one of 'hier'"):
        main([str(tmp_path / "b"), str(tmp_path / "c"), "--a", "layout=once"])
    write_run(tmp_path / "d", B, log=False, facts={"pretrained": "four"})
    with pytest.raises(JRTError, match="has no log of answers with contains; run both with --log_samples"):
        main([str(tmp_path / "b"), str(tmp_path / "d")])


def test_equal_settings_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, scores in (("a", A), ("b", A), ("c", B)):
        write_run(tmp_path / name, scores, facts={"pretrained": "one"})
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    out = capsys.readouterr().out
    assert "B wins 0, loses 0, ties 40, of 40 questions on 20 documents" in out
    assert "B - A +0.0 points\n" in out, "no interval where fewer than six of less than thirty documents differ"
    assert main([str(tmp_path / "a"), str(tmp_path / "c")]) == 0
    assert "B wins 10, loses 0, ties 30" in capsys.readouterr().out


def test_parts_of_a_task_are_paired_on_what_they_have_in_common(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    block = {**BLOCK, "source": "sample"}
    write_run(tmp_path / "a", A[:12], facts={"pretrained": "one"}, total=40, config={"limit": 12.0}, block=block)
    write_run(tmp_path / "b", B[:20], facts={"pretrained": "two"}, total=40, config={"limit": 20.0}, block=block)
    write_run(tmp_path / "b" / "more", B, task="fda_once", facts={"pretrained": "two"})
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    out = capsys.readouterr().out
    assert "swde_jrt_hier [sample] [first 12 of 40] → swde_jrt_hier [sample] [first 20 of 40]" in out
    assert "A 50.0 %  B 100.0 %" in out and "of 12 questions on 6 documents" in out
    assert "not compared: 8 only of B" in out and "Not compared, of B: fda_once" in out


def test_nothing_is_cut_at_any_width(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a", A, facts={"pretrained": "one"})
    write_run(tmp_path / "b", B, facts={"pretrained": "two"})
    main([str(tmp_path / "a"), str(tmp_path / "b"), "--show", "0"])
    out = capsys.readouterr().out
    told = ["A 50.0 %", "B 75.0 %", "B - A +25.0", "B wins 10, loses 0, ties 30", "p (Holm) ", "McNemar 0.0020"]
    assert all(text in out for text in told) and "…" not in out
    assert max(map(len, out.splitlines())) <= 80
