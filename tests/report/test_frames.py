"""The logs in other people's tools: data frames, Parquet, trackers, and the Every Eval Ever converter."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import tiny
from reportlogs import write_run

from jrt_lmeval.report import runs_df, samples_df
from jrt_lmeval.report.cli import main
from jrt_lmeval.report.collect import collect


def installed(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


def test_frames_hold_what_the_report_holds(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [1.0, 0.0, 1.0, 1.0, 0.0, 0.0] * 4, facts={"pretrained": "x/one"})
    write_run(tmp_path / "b", [0.0, 0.0, 1.0, 1.0, 0.0, 0.0] * 4, facts={"pretrained": "x/two"}, task="swde_once")
    runs, samples = runs_df(tmp_path), samples_df(tmp_path / "a", tmp_path / "b")
    cells = collect([tmp_path]).cells
    assert list(runs.model) == [cell.model for cell in cells] and list(runs.weights) == ["one", "two"]
    for row, cell in zip(runs.itertuples(), cells, strict=True):
        found = cell.interval("contains")
        assert found and (row.score_contains, row.score_contains_low) == (found.mean, found.low)
        assert (row.documents, row.questions, row.metadata_seconds) == (12, 24, 0.25)
    joined = samples.merge(runs, on="eval_id", suffixes=("", "_mean"))
    assert len(joined) == 48
    assert joined.groupby("task_name").score_contains.mean().to_dict() == {"swde_jrt_hier": 0.5, "swde_once": 1 / 3}
    assert joined.sample_id.nunique() == 24, "a question has one name in all logs"
    assert "score_prompt_tokens" not in runs and list(samples.metadata_prompt_tokens[:2]) == [100, 101]
    assert samples.target[1] == "answer 1" and samples.answer[1] == " nothing"


def test_a_report_in_parquet_is_the_frames(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [1.0, 0.0, 1.0, 1.0])
    assert main([str(tmp_path / "a"), "--out", str(tmp_path / "out"), "--format", "parquet"]) == 0
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "out" / "samples.parquet"), samples_df(tmp_path / "a"), check_dtype=False
    )
    runs = pd.read_parquet(tmp_path / "out" / "runs.parquet")
    assert list(runs.score_contains) == [0.75] and list(runs.eval_id) == list(runs_df(tmp_path / "a").eval_id)


def run(folder: Path, *more: str, environment: dict[str, str] | None = None) -> Path:
    """A run of a small model, named as on the hub, with a log of its answers."""
    tiny.save(tiny.jrt(), folder / "someone" / "tiny")
    arguments = "pretrained=someone/tiny --tasks factbook_once --limit 3 --log_samples --output_path runs".split()
    command = [sys.executable, "-m", "jrt_lmeval", "run", "--model", "jrt_rnn", "--model_args", *arguments, *more]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | (environment or {}), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return folder / "runs"


@installed("trackio")
def test_trackio_takes_scores_and_answers(tmp_path: Path) -> None:
    run(tmp_path, "--trackio_args", "project=recall", environment={"TRACKIO_DIR": str(tmp_path / "trackio")})
    traces = [file.read_text() for file in tmp_path.rglob("*factbook_once-sample.jsonl")]
    assert len(traces) == 3 and all('"contains"' in trace for trace in traces)
    assert (tmp_path / "trackio" / "recall.db").stat().st_size > 0


@installed("wandb")
def test_wandb_takes_scores_offline(tmp_path: Path) -> None:
    run(tmp_path, "--wandb_args", f"project=recall,mode=offline,dir={tmp_path}")
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


@installed("every_eval_ever")
def test_every_eval_ever_converts_results_and_answers(tmp_path: Path) -> None:
    logs = run(tmp_path)
    call = partial(subprocess.run, cwd=tmp_path, check=True, capture_output=True)
    options = ["--log_path", "runs", "--include_samples", "--source_organization_name", "us"]
    call([sys.executable, "-m", "every_eval_ever.converters.lm_eval", *options])
    (made,) = tmp_path.glob("data/*/*/*/*.json")
    (samples,) = tmp_path.glob("data/*/*/*/*_samples.jsonl")
    call(
        [sys.executable, "-m", "every_eval_ever", "validate", *(str(f.relative_to(tmp_path)) for f in (made, samples))]
    )
    results = {one["evaluation_result_id"]: one for one in json.loads(made.read_text())["evaluation_results"]}
    (row,) = runs_df(logs).itertuples()
    assert results["contains"]["score_details"]["score"] == row.score_contains
    assert results["contains"]["score_details"]["uncertainty"]["num_samples"] == 3
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    contains = [one for one in lines if one["evaluation_result_id"] == "contains"]
    assert [one["output"]["raw"][0] for one in contains] == list(samples_df(logs).answer)
