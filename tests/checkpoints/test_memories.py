"""The memory layers that come with the package: what their files say, and that they are what was trained."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from jrt_lmeval.checkpoints.found import find, shipped_models
from jrt_lmeval.checkpoints.packaged import PACKAGED
from jrt_lmeval.modeling.retrofit import MEMORIES, WINDOWED, RetrofitConfig, RetrofitForCausalLM
from jrt_lmeval.paper.plan import SUITES, plan
from jrt_lmeval.paths import memories_dir, published_dir

NAMES = sorted(folder.name for folder in memories_dir().iterdir())
PUBLIC = {"pages", "factbook", "prose"}
"""Sources whose rows may go into weights that ship: generated, of the training countries, and public domain."""


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_are_those_of_the_memories_that_the_configuration_describes(name: str) -> None:
    checkpoint = find(name)
    config = RetrofitConfig.from_pretrained(checkpoint.folder)
    assert '"_name_or_path"' not in (checkpoint.folder / "config.json").read_text(), "a path of the machine"
    assert config.backbone == PACKAGED and checkpoint.family in ("jrt_rnn", "based")
    with torch.device("meta"):
        shape = AutoConfig.for_model(**config.backbone_config)
        backbone = AutoModelForCausalLM.from_config(shape, attn_implementation=WINDOWED)
        model = RetrofitForCausalLM(config, backbone)
    wanted = {key: x.shape for key, x in model.state_dict().items() if key.startswith(MEMORIES)}
    weights = load_file(checkpoint.folder / "model.safetensors")
    assert {key: x.shape for key, x in weights.items()} == wanted
    assert all(bool(x.isfinite().all()) for x in weights.values())
    assert (checkpoint.folder / "model.safetensors").stat().st_size < 4e6


@pytest.mark.parametrize("name", NAMES)
def test_its_recipe_and_its_steps_are_kept(name: str) -> None:
    folder = find(name).folder
    recipe = json.loads((folder / "recipe.json").read_text())
    assert set(recipe["sources"]) <= PUBLIC and recipe["config"]["backbone"] == PACKAGED
    assert not recipe["teacher"] or recipe["teacher"] in NAMES
    steps = (published_dir().parent / "training" / f"{name}.jsonl").read_text().splitlines()
    last = json.loads(steps[-1])
    assert last["tokens"] >= recipe["tokens"]
    assert f"Trained for {last['tokens']:,} tokens" in (folder / "README.md").read_text()


def test_a_memory_is_asked_for_by_name_alone() -> None:
    assert not set(NAMES) & shipped_models().keys()
    planned = {row.run.arguments.get("pretrained") for row in plan(SUITES[PACKAGED])}
    assert planned >= {*NAMES, PACKAGED}
