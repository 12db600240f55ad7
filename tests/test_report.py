"""The report: from lm_eval's files to tables, with errors by document."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from jrt_lmeval.errors import JRTError
from jrt_lmeval.report.cli import main
from jrt_lmeval.report.collect import collect
from jrt_lmeval.report.stats import clustered_stderr
from jrt_lmeval.report.tables import percent

STAMP = "2026-01-02T03-04-05.678"


def _run(folder: Path, prefix: str, contains: float, limit: float | None = None, samples: bool = True) -> Path:
    task = "swde_jrt_hier"
    figures = {"contains,none": contains, "contains_stderr,none": 0.01, "f1,none": 0.5, "jrt_seconds,none": 0.25}
    block = {"layout": "hier", "source": "sample", "control": "none"}
    content = {
        "config": {
            "model": "jrt_rnn",
            "model_args": {"prefix": prefix},
            "limit": limit,
            "jrt": {"pretrained": "some/where/jrt-mlp", "prefix": prefix, "init": "trained"},
        },
        "configs": {task: {"metadata": {"jrt": block}}, "piqa": {"metadata": {"version": 1}}},
        "results": {task: figures, "piqa": {"acc,none": 0.5}},
        "n-samples": {task: {"original": 12, "effective": 12}, "piqa": {"effective": 1}},
    }
    folder.mkdir(parents=True)
    (folder / f"results_{STAMP}.json").write_text(json.dumps(content))
    if samples:
        lines = [{"doc": {"doc_id": str(i // 2)}, "contains": float(i // 2 % 2)} for i in range(12)]
        (folder / f"samples_{task}_{STAMP}.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return folder


def test_one_question_a_document_is_the_ordinary_standard_error() -> None:
    values = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0]
    mean = sum(values) / 7
    ordinary = math.sqrt(sum((v - mean) ** 2 for v in values) / 6 / 7)
    assert clustered_stderr(values, range(7)) == pytest.approx(ordinary)


def test_questions_that_fall_together_count_once() -> None:
    once = clustered_stderr([1.0, 0.0, 0.0, 1.0, 1.0, 0.0], range(6))
    tripled = clustered_stderr(
        [v for v in (1.0, 0.0, 0.0, 1.0, 1.0, 0.0) for _ in range(3)], [i // 3 for i in range(18)]
    )
    assert tripled == pytest.approx(once)


def test_too_few_documents_have_no_error() -> None:
    assert math.isnan(clustered_stderr([1.0, 0.0, 1.0, 0.0], [0, 0, 1, 1]))
    assert math.isnan(clustered_stderr([], []))


def test_results_are_read_from_what_the_files_hold(tmp_path: Path) -> None:
    _run(tmp_path / "a", "dynamic", 0.5)
    _run(tmp_path / "b", "none", 0.25, limit=12.0, samples=False)
    first, second = collect([tmp_path])
    assert (first.model, first.benchmark, first.layout) == ("jrt_rnn jrt-mlp prefix=dynamic", "swde [sample]", "hier")
    assert first.clustered and first.stderr == pytest.approx(math.sqrt(6 / 5 * 6 * 1.0) / 12)
    assert (second.model, second.limited, second.clustered, second.stderr) == ("jrt_rnn jrt-mlp", True, False, 0.01)
    assert math.isnan(first.state_bytes) and first.seconds == 0.25


def test_the_command_writes_tables_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run(tmp_path / "a", "dynamic", 0.5)
    assert main([str(tmp_path / "a"), "--out", str(tmp_path / "t.md"), "--plot", str(tmp_path / "p.png")]) == 0
    assert "| swde [sample] | 12 | - | - | 50.0 ± 22.4 | - |" in capsys.readouterr().out
    assert "swde_jrt_hier [sample]" in (tmp_path / "t.md").read_text()
    assert (tmp_path / "p.png").stat().st_size > 5000


@pytest.mark.parametrize("content", ["{", "[]", '{"config": {}}'])
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "results_x.json"
    file.write_text(content)
    with pytest.raises(JRTError, match=r"results_x\.json: not a results file"):
        collect([file])


def test_nothing_found_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JRTError, match="no such file"):
        collect([tmp_path / "nowhere"])
    with pytest.raises(JRTError, match="--output_path"):
        collect([tmp_path])


def test_the_numbers_shown_are_those_of_the_logs(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parent.parent
    results = collect([root / "results" / "measured"])
    assert main([str(root / "results" / "measured"), "--out", str(tmp_path / "tables.md")]) == 0
    assert (root / "results" / "tables.md").read_text(encoding="utf-8") == (tmp_path / "tables.md").read_text("utf-8")
    shown = (root / "README.md").read_text(encoding="utf-8").replace("**", "")
    card = (root / "jrt_lmeval/checkpoints/weights/jrt-mlp/README.md").read_text(encoding="utf-8")
    for result in results:
        assert f" {percent(result)} |" in shown and f" {percent(result)} |" in card
