"""What a user writes behind `pretrained=` is found: a folder, a hub id, a shipped model; or the nearest is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tiny

from jrt_lmeval.checkpoints import found
from jrt_lmeval.checkpoints.found import find, named, shipped_for, shipped_models
from jrt_lmeval.checkpoints.load import load_model
from jrt_lmeval.checkpoints.tokenizers import find_tokenizer
from jrt_lmeval.errors import JRTError
from model_adapters.models import JRTRNN, Based, HFRecall, Mamba


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("good") / "model")


@pytest.fixture
def shelf(monkeypatch, tmp_path) -> Path:
    """Stands in for the folder of the shipped models, empty; there are no memory layers either."""
    monkeypatch.setattr(found, "weights_dir", lambda: tmp_path / "shelf")
    monkeypatch.setattr(found, "memories_dir", lambda: tmp_path / "memories")
    return tmp_path / "shelf"


@pytest.mark.parametrize("name", ["/nowhere/model", "./model", "~/no/such/model", "model", "a/b/c"])
def test_a_folder_that_is_not_there(name, shelf) -> None:
    with pytest.raises(JRTError, match=f"pretrained={name}: no such folder.*'jrt-eval train'.*or packaged model"):
        find(name)


def test_a_misspelt_model_is_told_the_nearest(good: Path) -> None:
    name = next(iter(shipped_models()))
    with pytest.raises(JRTError, match=f"Did you mean '{name}'"):
        find(name[:-1] + name[-1] * 2)
    with pytest.raises(JRTError, match=f"Did you mean '{good}'"):
        find(f"{good}s")
    with pytest.raises(JRTError, match=rf"tokenizer={good}s: {good}s is no folder\. .*give tokenizer=DIR"):
        find_tokenizer(find(good), f"{good}s")


def test_a_map_without_shipped_weights_says_how_to_train_one(shelf) -> None:
    tiny.write_model(shelf / "small")
    with pytest.raises(JRTError) as error:
        shipped_for("jrt_rnn", "gelu")
    for part in (
        "no trained weights for feature_map=gelu come with the package (shipped: small)",
        "'jrt-eval train --feature-map gelu --out DIR'",
        "init=random",
    ):
        assert part in str(error.value)
    with pytest.raises(JRTError, match="no trained weights for based come with the package"):
        shipped_for("based")


def test_shipped_models_are_found_by_name_and_by_map(shelf, tmp_path, monkeypatch) -> None:
    assert shipped_models() == {}
    tiny.write_model(shelf / "a-causal-one", ("conv", "linear"))
    tiny.write_model(shelf / "recalling")
    tiny.write_model(shelf / "half")
    (shelf / "half" / "model.safetensors").unlink()
    assert sorted(shipped_models()) == ["a-causal-one", "recalling"]
    assert shipped_for("jrt_rnn", "mlp") == shipped_for("jrt_rnn") == find("recalling")
    assert shipped_for("based") == find("a-causal-one")
    assert find("a-causal-one").folder == shelf / "a-causal-one"
    tiny.write_model(shelf / "another")
    assert shipped_for("jrt_rnn", "mlp") == find("another")
    (shelf / "another" / "recipe.json").write_text('{"role": "control"}')
    assert shipped_for("jrt_rnn", "mlp") == find("recalling")
    (shelf / "another" / "recipe.json").write_text('{"role": "control", "role": "default"}')
    with pytest.raises(JRTError, match=r"recipe\.json: field 'role' stands there twice"):
        shipped_for("jrt_rnn", "mlp")
    shutil.rmtree(shelf / "another")
    (tmp_path / "recalling").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find("recalling").folder == shelf / "recalling"  # a stray folder of that name changes nothing


def test_shipped_memories_are_found_by_name_alone(shelf, tmp_path) -> None:
    tiny.write_model(tmp_path / "memories" / "smollm2-mlp")
    assert find("smollm2-mlp").folder == tmp_path / "memories" / "smollm2-mlp"
    assert list(named()) == ["smollm2-mlp", "smollm2"]
    with pytest.raises(JRTError, match="no trained weights for feature_map=mlp come with the package"):
        shipped_for("jrt_rnn", "mlp")
    with pytest.raises(JRTError, match="Did you mean 'smollm2-mlp'"):
        find("smollm2-mpl")


def test_shipped_models_of_every_family_are_found_and_a_teacher_is_none(shelf) -> None:
    tiny.write_model(shelf / "a-teacher", ("conv", "attention_nope"))
    (shelf / "a-teacher" / "recipe.json").write_text('{"role": "teacher"}')
    with pytest.raises(JRTError, match="no trained weights for based come with the package"):
        shipped_for("based")
    for name in ("mamba", "hf_recall"):
        with pytest.raises(JRTError, match=f"--model {name} needs a checkpoint: .*shipped: a-teacher"):
            shipped_for(name)
    tiny.write_model(shelf / "causal", ("conv", "linear"))
    tiny.write_model(shelf / "gelu", feature_map="gelu")
    tiny.save(tiny.mamba(), shelf / "small-mamba")
    tiny.save(tiny.llama(), shelf / "small-llama")
    chosen = {family: shipped_for(family).name for family in ("jrt_rnn", "based", "mamba", "hf_recall")}
    assert chosen == {"jrt_rnn": "gelu", "based": "causal", "mamba": "small-mamba", "hf_recall": "small-llama"}
    assert find("a-teacher").family == "based", "by name it is still there"
    assert (HFRecall(device="cpu").description["pretrained"], Mamba(device="cpu").description["pretrained"]) == (
        "small-llama",
        "small-mamba",
    )
    assert Based(device="cpu").description["pretrained"] == "causal"
    assert JRTRNN(feature_map="gelu", device="cpu").description["pretrained"] == "gelu"


def test_a_hub_id_without_a_network() -> None:
    with pytest.raises(JRTError, match=r"pretrained=nobody/nothing: no folder here, .*HF_HUB_OFFLINE is set: unset it"):
        find("nobody/nothing")


def test_a_hub_id_is_fetched_without_pickles_and_code(monkeypatch, good) -> None:
    asked = {}
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **how: asked.update(how, name=name) or str(good)
    )
    assert find("owner/model").folder == good
    assert asked["name"] == "owner/model"
    assert not [pattern for pattern in asked["allow_patterns"] if pattern.endswith(("py", "bin", "pt", "*"))]


def test_numbers_that_json_does_not_have_are_read_as_transformers_writes_them(tmp_path: Path) -> None:
    folder = Path(tiny.save(tiny.mamba2(), tmp_path / "mamba2"))
    config = folder / "config.json"
    assert "__float__" in config.read_text()
    assert list(load_model(find(str(folder))).config.time_step_limit) == [0.0, float("inf")]
    config.write_text(config.read_text().replace('"Infinity"', '"much"'))
    with pytest.raises(JRTError, match=r"config.json: not readable as JSON .could not convert string to float: 'much'"):
        find(str(folder))
