"""The benchmarks run, stop where an answer is wrong, and the page shows what they found."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks import mamba_scan, measure, prefix_linear, processes, reuse, start
from benchmarks.__main__ import BENCHMARKS, BLOCK, FILE, main
from benchmarks.measure import Row, Spent
from jrt_lmeval.errors import JRTError
from jrt_lmeval.markdown import with_block

ROOT = Path(__file__).resolve().parents[2]
RESULTS, PAGE = ROOT / "results" / "speed", ROOT / "docs" / "performance.md"


def test_ratios_are_taken_within_a_round() -> None:
    several, once = measure.row("a", {"x": [1, 10, 2], "y": [2, 20, 6]}, ""), measure.row("a", {"x": [2], "y": [3]}, "")
    assert (several.low, several.ratio, several.high) == (2, 2, 2.5)
    assert (once.low, once.ratio, once.high) == (1.5, 1.5, 1.5)


def test_the_order_rotates() -> None:
    seen: list[str] = []
    ways = {name: lambda name=name: seen.append(name) or float(len(seen)) for name in "abc"}
    costs = measure.side_by_side(ways, 3)
    assert "".join(seen) == "abcbcacab"
    assert costs["b"] == [2, 4, 9]


def test_every_file_is_a_benchmark_or_what_they_share() -> None:
    files = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert files == {"__init__", "__main__", "measure", "gpu", *BENCHMARKS}


@pytest.mark.parametrize("module", [prefix_linear, mamba_scan, reuse])
def test_a_quick_run_gives_rows(module: Any) -> None:
    found = module.rows(quick=True)
    assert len({one.what for one in found}) == len(found) > 0
    for one in found:
        assert one.ours_median > 0 and one.low <= one.ratio <= one.high


def test_a_wrong_result_stops_a_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    right = prefix_linear.streamed
    wrong = lambda *given, **named: (2 * right(*given, **named)[0], *right(*given, **named)[1:])  # noqa: E731
    monkeypatch.setattr(prefix_linear, "streamed", wrong)
    with pytest.raises(AssertionError):
        prefix_linear.rows(quick=True)


def altered(right: Any, which: Any) -> Any:
    """`reuse.answer` with the first answer lost in the calls for which `which` is true."""

    def wrong(lm: Any, asked: list, reuse: bool) -> tuple[list[str], dict[str, Any]]:
        answers, totals = right(lm, asked, reuse)
        return ["", *answers[1:]] if which(lm, reuse) else answers, totals

    return wrong


def test_answers_that_differ_stop_reuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuse, "answer", altered(reuse.answer, lambda lm, shared: shared))
    with pytest.raises(AssertionError, match="1 of 6 answers differ"):
        reuse.rows(quick=True)


def test_answers_that_differ_stop_prefix_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    quadratic = lambda lm, _: lm.engine.model.linear_attention == "naive"  # noqa: E731
    monkeypatch.setattr(prefix_linear, "answer", altered(prefix_linear.answer, quadratic))
    with pytest.raises(AssertionError, match="jrt-taylor: 1 of 3 answers differ between streamed and naive"):
        prefix_linear._answers("jrt-taylor", quick=True)


def launched(answers: dict[str, str]) -> Any:
    """Stands in for running commands: each way's samples hold its answer, and it took a second a word."""

    def spent(command: list[str], env: dict[str, str]) -> Spent:
        name = "torchrun" if "torch.distributed.run" in command else "one process"
        out = Path(command[command.index("--output_path") + 1]) / "model"
        out.mkdir(parents=True)
        limit = int(command[command.index("--limit") + 1])
        lines = [json.dumps({"doc_id": number, "resps": [[answers[name]]]}) for number in range(limit)]
        (out / "samples_x.jsonl").write_text("\n".join(lines))
        return Spent(cpu=3.0, wall=float(len(command)))

    return spent


def test_processes_are_compared_by_their_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "spent", launched(dict.fromkeys(processes.WAYS, "42")))
    (found,) = processes.rows(quick=False)
    assert found.ours == "torchrun" and found.ratio < 1 and found.same == f"identical, {processes.LIMIT} answers"
    monkeypatch.setattr(processes, "spent", launched({"one process": "42", "torchrun": "43"}))
    with pytest.raises(AssertionError, match="torchrun: answers differ"):
        processes.rows(quick=True)


def test_the_start_is_counted_in_processor_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "spent", lambda command, env=None: Spent(2.0 if "lm_eval" in command else 1.0, 9.0))
    hook, imports, run = start.rows(quick=True)
    assert (hook.ratio, imports.ratio, run.ratio) == (1, 1, 2)
    assert run.unit == "s" and run.ours_median == 1


def test_a_command_is_timed_with_its_children_and_fails_loudly() -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])"
    took = measure.spent([sys.executable, "-c", child])
    assert took.cpu > 0.3 and took.wall > 0.3
    with pytest.raises(RuntimeError, match="status 3"):
        measure.spent([sys.executable, "-c", "raise SystemExit(3)"])


def example(**changed: Any) -> Row:
    return replace(Row("a", "ours", "twin", 1, 4, 4, 3, 5, "identical"), **changed)


def test_a_run_writes_its_file_keeps_the_results_of_others_and_names_what_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(quick: bool) -> list[Row]:
        raise RuntimeError("broken")

    monkeypatch.setattr(start, "rows", broken)
    for name, module in (("reuse", reuse), ("mamba_scan", mamba_scan)):
        monkeypatch.setattr(module, "rows", lambda quick, name=name: [example(what=name)])
    quick = ["--quick", "--out", str(tmp_path)]
    assert main([*quick, "--only", "reuse"]) == 0
    first = json.loads((tmp_path / FILE).read_text())["reuse"]
    assert main([*quick, "--only", "start", "mamba_scan"]) == 1
    kept = json.loads((tmp_path / FILE).read_text())
    assert kept["reuse"] == first and set(kept) == {"reuse", "mamba_scan"}
    assert {"loads", "processor", "cores", "seconds", "date"} <= first["machine"].keys()
    said = capsys.readouterr()
    assert "| reuse | ours | twin | 1 ms | 4 ms | **4** | 3 to 5 | identical | `reuse` |" in said.out
    assert "failed: start" in said.err
    with pytest.raises(JRTError, match="--quick"):
        main([*quick, "--no-run", "--page", str(PAGE)])


def test_a_mistyped_name_is_said() -> None:
    with pytest.raises(JRTError, match=r"unknown benchmark 'prefix_liner'\. Did you mean 'prefix_linear'"):
        main(["--only", "prefix_liner"])


def test_what_is_counted_has_no_spread() -> None:
    result = {"rows": [asdict(example(low=4, high=4)), asdict(example(what="b"))]}
    counted, timed = command.table({"x": result}).splitlines()[2:]
    assert "| **4** | - |" in counted and "| 3 to 5 |" in timed


def test_the_page_shows_what_was_measured() -> None:
    results = json.loads((RESULTS / FILE).read_text(encoding="utf-8"))
    assert not any(result["quick"] for result in results.values())
    assert list(results) == list(BENCHMARKS)
    text = f"{command.table(results)}\n{command.machines(results)}"
    page = PAGE.read_text(encoding="utf-8")
    assert with_block(page, BLOCK, text) == page
