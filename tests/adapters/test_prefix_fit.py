"""The fit of a learned prefix on rewards that are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prefix import FEATURES, LearnedPrefix
from jrt_lmeval.prefix_fit import Rewards, fit, main, read_rewards


def rewards(helps: bool, documents: int = 40, each: int = 10) -> Rewards:
    """Questions that need the whole document where its entropy is high, or, if nothing `helps`, half of the time."""
    draw = np.random.default_rng(0)
    known = draw.uniform(size=(documents * each, len(FEATURES)))
    needs = known[:, 0] > 0.5 if helps else draw.uniform(size=len(known)) > 0.5
    recall = np.stack([1.0 - needs, np.ones(len(known))], axis=1)
    tokens = np.tile([0.0, 1000.0], (len(known), 1))
    names = tuple(str(row // each) for row in range(len(known)))
    return Rewards((0.0, 1.0), recall, tokens, known, names, "a model")


def test_a_feature_that_tells_is_used() -> None:
    policy = fit(rewards(helps=True), price=0.05)
    low, high = ({**dict.fromkeys(FEATURES, 0.5), "entropy": value} for value in (0.1, 0.9))
    assert (policy.share(low), policy.share(high)) == (0.0, 1.0)
    gain, least, _ = policy.about["held_out_gain_over_best_fixed"][policy.about["penalty"]]
    assert gain > least > 0.1


@pytest.mark.parametrize(("price", "share"), [(0.0, 1.0), (0.09, 0.0)])
def test_features_that_tell_nothing_leave_the_best_fixed_share(price: float, share: float) -> None:
    policy = fit(rewards(helps=False), price)
    assert policy.about["penalty"] == "inf"
    assert policy.about["share_taken"] == {"0.0": float(share == 0.0), "1.0": float(share == 1.0)}


def test_few_documents_and_no_logs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(JRTError, match="2 documents are too few"):
        fit(rewards(helps=True, documents=2), price=0.01)
    with pytest.raises(JRTError):
        read_rewards([tmp_path])


def logged(folder: Path, arguments: dict[str, object], scores: list[float], tokens: int) -> None:
    """A log as lm_eval writes it: a question on each of six documents."""
    folder.mkdir()
    facts = {"prefix": arguments["prefix"], "pretrained": "a-model"}
    content = {
        "results": {"task": {"alias": "task", "contains,none": sum(scores) / len(scores)}},
        "configs": {"task": {"metadata": {}}},
        "versions": {"task": 1},
        "n-samples": {"task": {"original": 6, "effective": 6}},
        "config": {"model": "jrt_rnn", "model_args": arguments, "jrt": facts},
        "date": 0.0,
    }
    (folder / "results_2026-01-01T00-00-00.000000.json").write_text(json.dumps(content))
    lines = [
        {
            "doc_id": row,
            "doc": {
                "doc_id": f"d{row}",
                "jrt": {"jrt_prefix_tokens": tokens, "jrt_features": dict.fromkeys(FEATURES, row)},
            },
            "doc_hash": f"{row}" * 64,
            "filter": "none",
            "metrics": ["contains"],
            "contains": score,
        }
        for row, score in enumerate(scores)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "samples_task_2026-01-01T00-00-00.000000.jsonl").write_text(text)


def test_the_command_fits_on_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logged(tmp_path / "none", {"prefix": None}, [0, 0, 1, 0, 0, 0], 0)
    logged(tmp_path / "half", {"prefix": "fixed", "prefix_length": 0.5}, [1, 1, 1, 1, 0, 1], 50)
    with pytest.raises(JRTError, match="prefix=None is no fixed share"):
        read_rewards([tmp_path])
    (tmp_path / "none" / "results_2026-01-01T00-00-00.000000.json").unlink()
    with pytest.raises(JRTError, match="at least two shares; found a-model on task"):
        read_rewards([tmp_path])
    logged(tmp_path / "without", {"prefix": "none"}, [0, 0, 1, 0, 0, 0], 0)
    out = tmp_path / "policy.json"
    assert main(["fit", str(tmp_path / "half"), str(tmp_path / "without"), "--out", str(out)]) == 0
    assert LearnedPrefix.read(out).shares == (0.0, 0.5)
    assert "6 questions on 6 documents, answered by a-model" in capsys.readouterr().out
