"""The benchmarks run, stop where an answer is wrong, and the page shows what they found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import command, extrapolate, layers, page, processes, registry, reuse, row, startup
from benchmarks.__main__ import BEFORE, FILE, main
from benchmarks.command import Spent
from benchmarks.geometry import LAYERS, jrt_config, kinds
from benchmarks.row import Options
from jrt_lmeval.errors import JRTError

ROOT = Path(__file__).resolve().parents[2]
RESULTS, PAGE = ROOT / "results" / "speed", ROOT / "docs" / "performance.md"
PARTS = {"__init__", "__main__", "row", "registry", "page", "extrapolate", "geometry", "command", "peak"}


def test_ratios_are_taken_within_a_round() -> None:
    assert row.ratios([2, 20, 6], [1, 10, 2]) == (2, 2, 2.5)
    assert row.ratios([3], [2]) == (1.5, 1.5, 1.5)


def test_the_order_rotates() -> None:
    seen: list[str] = []
    ways = {name: lambda name=name: seen.append(name) or float(len(seen)) for name in "abc"}
    costs = row.side_by_side(ways, 3)
    assert "".join(seen) == "abcbcacab"
    assert costs["b"] == [2, 4, 9]


def test_every_module_is_a_benchmark_or_a_part_or_a_command_of_its_own() -> None:
    modules = {path.stem: path for path in (ROOT / "benchmarks").glob("*.py")}
    named = {one.target.partition(":")[0].rpartition(".")[2] for one in registry.BENCHMARKS.values()}
    assert named | PARTS <= modules.keys()
    for name in modules.keys() - named - PARTS:
        assert '__name__ == "__main__"' in modules[name].read_text(encoding="utf-8"), f"{name} is not in the registry"


QUICK = (
    "linear_attention",
    "prefix_linear",
    "answers",
    "mamba_scan",
    "sliding_window",
    "kv_window",
    "layers",
    "reuse",
)


@pytest.mark.parametrize("name", QUICK)
def test_a_quick_run_gives_rows(name: str) -> None:
    found = registry.BENCHMARKS[name].rows(Options(quick=True, rounds=2))
    assert len({one.what for one in found}) == len(found) > 0
    for one in found:
        assert one.ours_median > 0 and one.low <= one.ratio <= one.high and one.repeats in (0, 1, 2)


def test_a_wrong_answer_stops_a_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    from jrt_lmeval.modeling import linear_attention

    right = linear_attention.chunked
    wrong = lambda *given, **named: (2 * right(*given, **named)[0], *right(*given, **named)[1:])  # noqa: E731
    monkeypatch.setitem(linear_attention.LINEAR_ATTENTION, "chunked", wrong)
    with pytest.raises(AssertionError):
        registry.BENCHMARKS["linear_attention"].rows(Options(quick=True))


def test_answers_that_differ_stop_reuse(monkeypatch: pytest.MonkeyPatch) -> None:
    right = reuse.run

    def wrong(lm: Any, asked: list, shared: bool) -> tuple[list[str], dict[str, Any]]:
        answers, totals = right(lm, asked, shared)
        return ["", *answers[1:]] if shared else answers, totals

    monkeypatch.setattr(reuse, "run", wrong)
    with pytest.raises(AssertionError, match="1 of 6 answers differ"):
        reuse.rows(Options(quick=True, rounds=1))


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
    monkeypatch.setattr(startup, "spent", lambda command, env=None: Spent(2.0 if "lm_eval" in command else 1.0, 9.0))
    hook, imports, run = startup.rows(Options(rounds=2))
    assert (hook.ratio, imports.ratio, run.ratio) == (1, 1, 2)
    assert run.unit == "s" and run.ours_median == 1


def test_a_command_is_timed_with_its_children_and_fails_loudly() -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    took = command.spent(
        command.python("-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])")
    )
    assert took.cpu > 0.3 and took.wall > 0.3
    with pytest.raises(RuntimeError, match="status 3"):
        command.spent(command.python("-c", "raise SystemExit(3)"))


def test_a_run_writes_its_files_and_keeps_those_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["--quick", "--rounds", "2", "--threads", str(torch.get_num_threads()), "--out", str(tmp_path)]
    assert main([*quick, "--only", "linear_attention"]) == 0
    first = page.read(tmp_path / FILE)["linear_attention"]
    assert main([*quick, "--only", "sliding_window"]) == 0
    kept = page.read(tmp_path / FILE)
    assert kept["linear_attention"] == first and len(kept) == 2
    assert {"load_before", "load_after", "processor", "cores", "threads", "seconds"} <= first.machine.keys()
    assert all(one.what in capsys.readouterr().out for one in first.rows[:1])
    assert (tmp_path / "ratios.png").stat().st_size > 5000 and (tmp_path / "lengths.png").exists()
    with pytest.raises(JRTError, match="--quick"):
        main([*quick, "--no-run", "--page", str(PAGE)])


def test_a_mistyped_name_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "linear_atention"]) == 2
    assert "linear_attention" in capsys.readouterr().err


def test_a_benchmark_that_fails_is_named_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(registry.BENCHMARKS, "broken", registry.Benchmark("benchmarks.nothing:rows", "nothing"))
    quick = ["--quick", "--rounds", "2", "--threads", str(torch.get_num_threads()), "--out", str(tmp_path)]
    assert main([*quick, "--only", "broken,sliding_window"]) == 1
    assert "failed: broken" in capsys.readouterr().err
    assert list(page.read(tmp_path / FILE)) == ["sliding_window"]


def test_geometry_is_that_of_the_released_models() -> None:
    assert kinds("360M") == {"conv": 16, "prefix_linear": 5, "swa": 5}
    assert kinds("1.3B") == {"conv": 22, "prefix_linear": 7, "swa": 7}
    assert jrt_config("1.3B").hidden_size == 1792


def test_the_suite_is_the_sum_of_its_layers() -> None:
    def one(what: str, ours: float, twin: float) -> row.Row:
        return row.Row(what, "ours", "plain", ours, twin, twin / ours, 1, 1, 3, "")

    rows = []
    for size in LAYERS:
        for kind in kinds(size):
            rows.append(one(layers.label(size, kind, layers.T), layers.T, 2 * layers.T))  # 1 and 2 ms a token
            rows.append(one(layers.label(size, kind, 1, layers.ROWS), layers.ROWS, 99))  # 1 ms a token
        rows.append(one(layers.label(size, "logits", 1, layers.ROWS), 4 * layers.ROWS, 99))  # 4 ms a token
    tokens = 1111 * 1000 + 1102 * 1000 + 2984 * 152 + 3157 * 1000 + 1698 * 310 + 2084 * 237
    found = extrapolate.estimate(rows, "360M", "read twice")
    assert found.tokens == 2 * tokens
    assert found.reading == pytest.approx(2 * tokens * 26 / 3.6e6) and found.plain == pytest.approx(2 * found.reading)
    assert found.answering == pytest.approx(12136 * 48 * (26 + 4) / 3.6e6)
    assert "JRT-RNN 1.3B" in extrapolate.suite_table(rows)
    assert extrapolate.suite_table(rows[:2]) == ""


def test_before_stands_beside_now() -> None:
    now = row.Row("a", "ours", "twin", 1, 4, 4, 3, 5, 7, "identical")
    result = page.Result("x", "python -m benchmarks --only x", {}, (now,))
    earlier = {"x": replace(result, rows=(replace(now, ratio=1.4),))}
    assert "| **4** | 3 to 5 | 7 | 1.4 | identical |" in page.table([result], earlier)
    assert "| **4** | 3 to 5 | 7 |  | identical |" in page.table([result], {})
    tokens = replace(result, rows=(row.counted("a", ("ours", 1), ("twin", 4), "identical", "tokens", "none"),))
    assert "| **4** | - | counted |  | identical |" in page.table([tokens])


def test_the_page_shows_what_was_measured() -> None:
    results = page.read(RESULTS / FILE)
    assert results and not any(result.quick for result in results.values())
    ordered = [results[name] for name in registry.BENCHMARKS if name in results]
    text = PAGE.read_text(encoding="utf-8")
    assert page.table(ordered, page.read(RESULTS / BEFORE)) in text
    assert page.machines(ordered) in text
    suite = extrapolate.suite_table([one for name in extrapolate.SOURCES for one in results[name].rows])
    assert suite and suite in text


def test_a_panel_holds_what_differs_in_length_and_twin_alone() -> None:
    def one(what: str, twin: str, T: int | None) -> row.Row:
        return row.Row(what, "ours", twin, 1, 2, 2, 2, 2, 3, "", T=T)

    rows = (
        one("a, naive, T = 2", "naive", 2), one("a, naive, T = 4", "naive", 4), one("a, step, T = 2", "step", 2),
        one("b, naive, T = 2", "naive", 2), one("c", "naive", None),
    )  # fmt: skip
    assert page.panels([page.Result("x", "", {}, rows)]) == {"x\na": list(rows[:3])}
