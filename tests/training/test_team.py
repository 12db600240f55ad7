"""One model trained by several processes, and the recipes of the published sizes."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import jrt

from jrt_lmeval.checkpoints.found import find
from jrt_lmeval.checkpoints.load import load_model
from jrt_lmeval.errors import JRTError
from jrt_lmeval.training import cli
from jrt_lmeval.training.loop import Team, jrt_loss, shares, train
from jrt_lmeval.training.models import new_model
from jrt_lmeval.training.recipes import published
from jrt_lmeval.training.rows import TrainRow, collate, masking_gpt2

PARAMETERS = {
    ("360m", "jrt_rnn"): 356.6,
    ("360m", "based"): 362.6,
    ("1b", "jrt_rnn"): 1375.1,
    ("1b", "based"): 1349.5,
}


@pytest.mark.parametrize("names", PARAMETERS, ids=" ".join)
def test_a_published_size_has_the_published_parameters(names: tuple[str, str]) -> None:
    with torch.device("meta"):
        model = new_model(published(*names), masking_gpt2())
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(PARAMETERS[names], abs=0.06)
    assert model.config.vocab_size == 50264 and model.config.mask_token_id == 50263


def test_a_published_size_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JRTError, match="--recipe 1b describes jrt_rnn and based, not mamba"):
        cli.main(["--out", str(tmp_path / "out"), "--recipe", "1b", "--model", "mamba"])
    with pytest.raises(JRTError, match="no folder was given"):
        cli.main(["--out", str(tmp_path / "out"), "--recipe", "360m", "--quiet"])
    with pytest.raises(JRTError, match="--texts: --recipe suite reads no texts of yours"):
        cli.main(["--out", str(tmp_path / "out"), "--texts", str(tmp_path)])


SHRUNK = {
    "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "feature_dim": 4, "window": 9, "tokens": 2_000,
    "mixers": ("conv", "prefix_linear", "swa"), "share_tokens": 130, "batch_tokens": 400,
}  # fmt: skip


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    words = [f"The {n}th ship of the harbour carried {n * 7 % 31} barrels of salt to the north." for n in range(60)]
    (folder / "ships.jsonl").write_text("".join(json.dumps({"text": " ".join(words[i:])}) + "\n" for i in range(9)))
    return folder


def shrunk(texts: Path) -> object:
    recipe = published("360m")
    stage = dataclasses.replace(recipe.curriculum[0], max_tokens=64)
    config = {**recipe.config, "enc_length": 32}
    return dataclasses.replace(recipe, curriculum=(stage,), texts=str(texts), config=config, **SHRUNK)


def test_a_published_recipe_trains_when_shrunk(texts: Path, tmp_path: Path) -> None:
    figures = train(shrunk(texts), tmp_path, quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert figures["tokens"] >= 2_000 and all({"ntp", "mlm"} <= set(line) for line in lines)
    assert lines[-1]["ntp"] < lines[0]["ntp"]
    model = load_model(find(tmp_path))
    assert model.config.enc_length == 32 and model.config.mixers == ["conv", "prefix_linear", "swa"]
    assert "running text that whoever trained the model gave" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(("tokens", "processes"), [(None, 1), (None, 3), (40, 2), (1, 4)])
def test_shares_add_up_to_the_batch(tokens: int | None, processes: int) -> None:
    model, generator = jrt(), torch.Generator().manual_seed(0)
    rows = []
    for length in (40, 23, 36, 9, 17):
        ids = torch.randint(2, 60, (length,), generator=generator).tolist()
        rows.append(TrainRow(ids, length // 2, [True] * length))
    batch = collate(rows, 1, 0.4, 1.0, 0.2, generator)

    def summed(tokens: int | None, processes: int) -> tuple[float, list[torch.Tensor], set[int]]:
        model.zero_grad()
        total, counts = 0.0, set()
        for rank in range(processes):
            mine = list(shares(batch, tokens, rank, processes))
            counts.add(len(mine))
            for share in mine:
                loss, _ = jrt_loss(model, share, 0.25)
                loss.backward()
                total += loss.item()
        return total, [p.grad.clone() for p in model.parameters() if p.grad is not None], counts

    (whole, expected, _), (total, found, counts) = summed(None, 1), summed(tokens, processes)
    assert total == pytest.approx(whole, rel=1e-5) and len(counts) == 1
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, expected, strict=True))


def test_sharding_needs_several_processes() -> None:
    with pytest.raises(JRTError, match="--shard divides the weights among processes, and there is one"):
        Team("cpu", sharded=True)


SCRIPT = """
import dataclasses, json, sys
from pathlib import Path
from jrt_lmeval.training.loop import train
from jrt_lmeval.training.recipes import TrainRecipe, Stage, smoke
out, given = Path(sys.argv[1]), json.loads(sys.argv[2])
given["curriculum"] = tuple(Stage(**stage) for stage in given["curriculum"])
for kind in ("copied", "sharded"):
    train(TrainRecipe(**given), out / kind, quiet=True, sharded=kind == "sharded")
"""


@pytest.mark.slow
def test_two_processes_train_what_one_does_with_whole_and_with_divided_weights(texts: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(shrunk(texts), tokens=1_200)
    train(recipe, tmp_path / "one", quiet=True)
    (tmp_path / "run.py").write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0", "--standalone"]
    given = json.dumps(dataclasses.asdict(recipe))
    done = subprocess.run(
        [*launch, str(tmp_path / "run.py"), str(tmp_path), given],
        capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    for kind in ("copied", "sharded"):
        one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", kind))
        assert one.keys() == two.keys()
        assert all((one[name].float() - two[name].float()).abs().max() < 2e-3 for name in one)
        logs = [[json.loads(line) for line in (tmp_path / name / "log.jsonl").open()] for name in ("one", kind)]
        assert [line["tokens"] for line in logs[0]] == [line["tokens"] for line in logs[1]]
        assert all(a["ntp"] == pytest.approx(b["ntp"], abs=0.01) for a, b in zip(*logs, strict=True))
        assert logs[1][0]["processes"] == 2
