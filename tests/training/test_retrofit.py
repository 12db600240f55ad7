"""`jrt-eval retrofit`: memories are trained beside a frozen backbone, resumed, started from others, and run."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file

from jrt_lmeval.checkpoints import load_pretrained
from jrt_lmeval.cli import main
from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.retrofit import Reading
from jrt_lmeval.training import loop
from jrt_lmeval.training.loop import train
from jrt_lmeval.training.recipes import Stage, TrainRecipe
from jrt_lmeval.training.retrofit import chosen_recipe, parser
from model_adapters.models import JRTRNN


def recipe(backbone: str, *arguments: str) -> TrainRecipe:
    """What the command line says, with rows so short that a tokenizer of bytes can write them."""
    asked = ["--heads", "4", "--dim", "4", "--window", "8", "--tokens", "3000", "--out", "unused", *arguments]
    found = chosen_recipe(parser().parse_args([backbone, *asked]))
    stage = Stage(1.0, (10, 30), 900, (0.6, 0.2, 0.0, 0.0, 0.2))
    return replace(found, curriculum=(stage,), sources={"pages": 1.0}, evaluations=0)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny.save(tiny.llama(), tmp_path_factory.mktemp("backbone"))


def test_memories_are_trained_and_the_backbone_is_not_saved(backbone: str, tmp_path: Path) -> None:
    train(recipe(backbone, "--kernel", "softmax"), tmp_path / "softmax", quiet=True)
    train(recipe(backbone, "--start-from", str(tmp_path / "softmax")), tmp_path / "centred", quiet=True)
    weights = load_file(tmp_path / "centred" / "model.safetensors")
    assert all(name.startswith("memories.") for name in weights)
    assert "memories.0.k_prefix_mix" in weights
    config = json.loads((tmp_path / "centred" / "config.json").read_text())
    assert config["at"] == [0, 1] and config["backbone"] == backbone
    card = (tmp_path / "centred" / "README.md").read_text()
    assert "jrt_rnn with the feature map centred" in card and "--model jrt_rnn" in card
    losses = [json.loads(line)["ntp"] for line in (tmp_path / "centred" / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]
    model = load_pretrained(tmp_path / "centred")
    for name, weight in tiny.llama().state_dict().items():
        torch.testing.assert_close(model.backbone.state_dict()[name], weight)
    lm = JRTRNN(pretrained=str(tmp_path / "centred"), prefix="document")
    assert len(lm.generate_until([tiny.ask(prompt) for prompt in tiny.prompts()])) == 9


def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(
    backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = recipe(backbone, "--feature-map", "taylor")
    train(asked, tmp_path / "whole", quiet=True)
    step, left = loop.Run.step, [2]

    def stop(run: loop.Run, batch: object) -> dict[str, float]:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return step(run, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(loop.Run, "step", stop)
    with pytest.raises(KeyboardInterrupt):
        train(asked, tmp_path / "parts", quiet=True)
    monkeypatch.setattr(loop.Run, "step", step)
    assert (tmp_path / "parts" / "training.pt").stat().st_size < 200_000  # without the backbone
    train(asked, tmp_path / "parts", quiet=True)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    for name in first:
        torch.testing.assert_close(first[name], second[name])


def test_what_is_wrong_is_said_before_any_work(backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for arguments, said in (
        (["--kernel", "base"], "Did you mean 'based'"),
        (["--dtype", "float16"], "dtype"),
        (["--at", "x"], "numbers of blocks"),
        (["--map-options", "{"], "not JSON"),
        (["--at", "7"], "from 0 to 2"),
        (["--heads", "5"], "must divide"),
        (["--feature-map", "taylr"], "Did you mean 'taylor'"),
    ):
        assert main(["retrofit", backbone, "--out", str(tmp_path / "out"), "--quiet", *arguments]) == 1
        assert said in capsys.readouterr().err
    assert main(["retrofit", "smollm3", "--out", str(tmp_path / "out")]) == 1
    assert "smollm2" in capsys.readouterr().err
    mamba = tiny.save(tiny.mamba(), tmp_path / "mamba")
    assert main(["retrofit", mamba, "--out", str(tmp_path / "out"), "--quiet"]) == 1
    assert "cannot be retrofitted" in capsys.readouterr().err


def test_memories_of_another_shape_start_nothing(backbone: str, tmp_path: Path) -> None:
    train(recipe(backbone, "--at", "1"), tmp_path / "one", quiet=True)
    with pytest.raises(JRTError, match=r"before blocks \[1\] cannot start"):
        train(recipe(backbone, "--start-from", str(tmp_path / "one")), tmp_path / "two", quiet=True)


def same_weights(one: Path, other: Path, tolerance: float = 0.0) -> None:
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=tolerance, rtol=tolerance)


def test_what_lies_below_the_memories_is_computed_once(
    backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = recipe(backbone, "--at", "1", "--feature-map", "taylor")
    train(asked, tmp_path / "plain", quiet=True)
    train(asked, tmp_path / "first", quiet=True, cache=tmp_path / "cache")
    same_weights(tmp_path / "plain", tmp_path / "first")
    assert len(list((tmp_path / "cache").iterdir())) == len((tmp_path / "first" / "log.jsonl").read_text().splitlines())
    read: list[int] = []
    attend = Reading.attend
    monkeypatch.setattr(Reading, "attend", lambda self, layer, *rest: read.append(layer) or attend(self, layer, *rest))
    train(asked, tmp_path / "second", quiet=True, cache=tmp_path / "cache")
    same_weights(tmp_path / "plain", tmp_path / "second")
    assert set(read) == {1}
    other = replace(asked, feature_map="linear")  # the same rows, another map
    train(other, tmp_path / "other", quiet=True, cache=tmp_path / "cache")
    assert set(read) == {1}


def test_low_rank_additions_are_trained_saved_and_read(backbone: str, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    train(recipe(backbone, "--at", "1", "--lora", "2"), tmp_path / "out", quiet=True)
    weights = load_file(tmp_path / "out" / "model.safetensors")
    low_rank = {name for name in weights if "lora_" in name}
    assert len(low_rank) == 2 * 7 and all(".layers.1." in name for name in low_rank)  # A and B of seven projections
    assert all(bool(weights[name].any()) for name in low_rank)  # B begins at zero
    lm = JRTRNN(pretrained=str(tmp_path / "out"), prefix="document")
    answers = lm.generate_until([tiny.ask(prompt) for prompt in tiny.prompts()])
    assert answers == [tiny.plain_loop(lm, prompt) for prompt in tiny.prompts()]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "low-rank additions of rank 2" in card


SCRIPT = """
import pickle, sys
from pathlib import Path
from jrt_lmeval.training.loop import train
out = Path(sys.argv[1])
asked = pickle.loads((out / "recipe.pickle").read_bytes())
train(asked, out / "two", quiet=True)
train(asked, out / "divided", quiet=True, sharded=True)
"""


@pytest.mark.slow
def test_two_processes_train_what_one_does(backbone: str, tmp_path: Path) -> None:
    asked = recipe(backbone, "--at", "1")
    train(asked, tmp_path / "one", quiet=True)
    (tmp_path / "run.py").write_text(SCRIPT)
    (tmp_path / "recipe.pickle").write_bytes(pickle.dumps(asked))
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0", "--standalone"]
    done = subprocess.run(
        [*launch, str(tmp_path / "run.py"), str(tmp_path)],
        capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    same_weights(tmp_path / "one", tmp_path / "two", 2e-2)
    same_weights(tmp_path / "one", tmp_path / "divided", 2e-2)
