"""The benchmarks run, stop where an answer is wrong, and the page shows what they found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import measure, prefix_linear, processes, reuse, start
from benchmarks.__main__ import BENCHMARKS, BLOCK, FILE, main, read, rows_of
from benchmarks.measure import Options, Row, Spent
from jrt_lmeval.errors import JRTError
from jrt_lmeval.markdown import with_block

ROOT = Path(__file__).resolve().parents[2]
RESULTS, PAGE = ROOT / "results" / "speed", ROOT / "docs" / "performance.md"


def test_ratios_are_taken_within_a_round() -> None:
    assert measure.ratios([2, 20, 6], [1, 10, 2]) == (2, 2, 2.5)
    assert measure.ratios([3], [2]) == (1.5, 1.5, 1.5)


def test_the_order_rotates() -> None:
    seen: list[str] = []
    ways = {name: lambda name=name: seen.append(name) or float(len(seen)) for name in "abc"}
    costs = measure.side_by_side(ways, 3)
    assert "".join(seen) == "abcbcacab"
    assert costs["b"] == [2, 4, 9]


def test_every_file_is_a_benchmark_or_what_they_share() -> None:
    files = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert files == {"__init__", "__main__", "measure", *BENCHMARKS}


@pytest.mark.parametrize("name", ["prefix_linear", "mamba_scan", "reuse"])
def test_a_quick_run_gives_rows(name: str) -> None:
    found = rows_of(name, Options(quick=True, rounds=2))
    assert len({one.what for one in found}) == len(found) > 0
    for one in found:
        assert one.ours_median > 0 and one.low <= one.ratio <= one.high and one.repeats in (0, 1, 2)


def test_a_wrong_result_stops_a_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    right = prefix_linear.streamed
    wrong = lambda *given, **named: (2 * right(*given, **named)[0], *right(*given, **named)[1:])  # noqa: E731
    monkeypatch.setattr(prefix_linear, "streamed", wrong)
    with pytest.raises(AssertionError):
        prefix_linear.rows(Options(quick=True))


def altered(right: Any, which: Any) -> Any:
    """`reuse.answer` with the first answer lost in the calls for which `which` is true."""

    def wrong(lm: Any, asked: list, reuse: bool) -> tuple[list[str], dict[str, Any]]:
        answers, totals = right(lm, asked, reuse)
        return ["", *answers[1:]] if which(lm, reuse) else answers, totals

    return wrong


def test_answers_that_differ_stop_reuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuse, "answer", altered(reuse.answer, lambda lm, shared: shared))
    with pytest.raises(AssertionError, match="1 of 6 answers differ"):
        reuse.rows(Options(quick=True, rounds=1))


def test_answers_that_differ_stop_prefix_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    quadratic = lambda lm, _: lm.engine.model.linear_attention == "naive"  # noqa: E731
    monkeypatch.setattr(prefix_linear, "answer", altered(prefix_linear.answer, quadratic))
    with pytest.raises(AssertionError, match="jrt-taylor: 1 of 3 answers differ between streamed and naive"):
        prefix_linear._answers("jrt-taylor", Options(quick=True))


def launched(answers: dict[str, str]) -> Any:
    """Stands in for running commands: each launcher's samples hold its answer, and it took a second a character."""

    def spent(command: list[str], env: dict[str, str]) -> Spent:
        name = next((name for name, words in processes.LAUNCHERS.items() if words[1] in command), "one process")
        out = Path(command[command.index("--output_path") + 1]) / "model"
        out.mkdir(parents=True, exist_ok=True)
        limit = int(command[command.index("--limit") + 1])
        lines = [json.dumps({"doc_id": number, "resps": [[answers[name]]]}) for number in range(limit)]
        (out / "samples_x.jsonl").write_text("\n".join(lines))
        return Spent(cpu=3.0, wall=float(len(command)))

    return spent


def test_processes_are_compared_by_their_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["one process", *processes.LAUNCHERS]
    monkeypatch.setattr(processes, "spent", launched(dict.fromkeys(names, "42")))
    found = processes.rows(Options(rounds=2))
    assert [one.ours for one in found] == list(processes.LAUNCHERS)
    assert found[0].ratio < 1 and found[0].same == f"identical, {processes.LIMIT} answers"
    monkeypatch.setattr(processes, "spent", launched({**dict.fromkeys(names, "42"), "torchrun": "43"}))
    with pytest.raises(AssertionError, match="torchrun: answers differ"):
        processes.rows(Options(rounds=1))


def test_the_start_is_counted_in_processor_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "spent", lambda command, env=None: Spent(2.0 if "lm_eval" in command else 1.0, 9.0))
    hook, imports, run = start.rows(Options(rounds=2))
    assert (hook.ratio, imports.ratio, run.ratio) == (1, 1, 2)
    assert run.unit == "s" and run.ours_median == 1


def test_a_command_is_timed_with_its_children_and_fails_loudly() -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])"
    took = measure.spent(measure.python("-c", child))
    assert took.cpu > 0.3 and took.wall > 0.3
    with pytest.raises(RuntimeError, match="status 3"):
        measure.spent(measure.python("-c", "raise SystemExit(3)"))


def example(**changed: Any) -> Row:
    return replace(Row("a", "ours", "twin", 1, 4, 4, 3, 5, 7, "identical"), **changed)


def test_a_run_writes_its_file_and_keeps_the_results_of_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "rows_of", lambda name, options: [example(what=name)])
    quick = ["--quick", "--threads", str(torch.get_num_threads()), "--out", str(tmp_path)]
    assert main([*quick, "--only", "reuse"]) == 0
    first = read(tmp_path / FILE)["reuse"]
    assert main([*quick, "--only", "mamba_scan"]) == 0
    kept = read(tmp_path / FILE)
    assert kept["reuse"] == first and len(kept) == 2
    assert {"load_before", "load_after", "processor", "cores", "threads", "seconds"} <= first.machine.keys()
    assert "| reuse | ours | twin | 1 ms | 4 ms | **4** | 3 to 5 | identical | `reuse` |" in capsys.readouterr().out
    with pytest.raises(JRTError, match="--quick"):
        main([*quick, "--no-run", "--page", str(PAGE)])


def test_a_mistyped_name_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "prefix_liner"]) == 2
    assert "prefix_linear" in capsys.readouterr().err


def test_a_benchmark_that_fails_is_named_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(BENCHMARKS, "broken", "nothing")  # there is no such module
    quick = ["--quick", "--rounds", "2", "--threads", str(torch.get_num_threads()), "--out", str(tmp_path)]
    assert main([*quick, "--only", "broken,mamba_scan"]) == 1
    assert "failed: broken" in capsys.readouterr().err
    assert list(read(tmp_path / FILE)) == ["mamba_scan"]


def test_what_is_counted_has_no_spread_and_random_weights_are_named() -> None:
    result = command.Result("x", "", {}, (example(repeats=0), example(what="b", weights="geometry")))
    counted, timed = command.table([result]).splitlines()[2:]
    assert "| **4** | - |" in counted and timed.startswith("| b (geometry) |") and "| 3 to 5 |" in timed


def test_the_page_shows_what_was_measured() -> None:
    results = read(RESULTS / FILE)
    assert not any(result.quick for result in results.values())
    assert list(results) == list(BENCHMARKS)
    text = f"{command.table(results.values())}\n{command.machines(results.values())}"
    page = PAGE.read_text(encoding="utf-8")
    assert with_block(page, BLOCK, text) == page
