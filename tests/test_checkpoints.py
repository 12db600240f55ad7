"""Where a model comes from: found or an error that says where to look, loaded whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from jrt_lmeval.checkpoints import shipped
from jrt_lmeval.checkpoints.load import load_config, load_model, load_tokenizer, random_model
from jrt_lmeval.checkpoints.resolve import FEATURE_MAP_NAMES, resolve_model
from jrt_lmeval.checkpoints.shipped import shipped_for, shipped_models
from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.config import JRTConfig
from jrt_lmeval.modeling.feature_maps import FEATURE_MAPS
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.training.tokenizer import train_tokenizer

VOCAB = 262


def write_model(folder: Path, mixers: tuple[str, ...] = ("conv", "prefix_linear"), feature_map: str = "mlp") -> Path:
    torch.manual_seed(0)
    config = JRTConfig(
        vocab_size=VOCAB,
        hidden_size=16,
        intermediate_size=24,
        num_heads=2,
        feature_dim=4,
        mixers=mixers,
        feature_map=feature_map,
    )
    JRTForCausalLM(config).save_pretrained(folder)
    train_tokenizer(["of the of the"], VOCAB).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("good") / "model")


@pytest.fixture
def folder(good, tmp_path) -> Path:
    """A model to spoil."""
    return Path(shutil.copytree(good, tmp_path / "model"))


@pytest.fixture
def shelf(monkeypatch, tmp_path) -> Path:
    """Stands in for the folder of the shipped models, empty."""
    monkeypatch.setattr(shipped, "weights_dir", lambda: tmp_path / "shelf")
    return tmp_path / "shelf"


def edit_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    """Replace, add or (None) drop tensors of the file; `__` stands for a dot."""
    weights = load_file(folder / "model.safetensors")
    changed = {name.replace("__", "."): tensor for name, tensor in changes.items()}
    kept = {name: tensor for name, tensor in {**weights, **changed}.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_good_folder_is_loaded_as_it_was_saved(good) -> None:
    assert resolve_model(str(good)) == good
    model = load_model(good)
    assert not model.training and model.dtype == torch.float32
    stored = load_file(good / "model.safetensors")
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in stored.items())
    assert model.lm_head.weight is model.embed_tokens.weight
    assert load_model(good, dtype=torch.bfloat16).dtype == torch.bfloat16
    assert load_tokenizer(good, VOCAB).decode(load_tokenizer(good, VOCAB).encode(" café")) == " café"


@pytest.mark.parametrize("name", ["/nowhere/model", "./model", "~/no/such/model", "model", "a/b/c"])
def test_a_folder_that_is_not_there(name, shelf) -> None:
    with pytest.raises(JRTError, match=f"pretrained={name}: no such folder.*'jrt-eval train'.*shipped model"):
        resolve_model(name)


def test_a_folder_without_a_model(tmp_path) -> None:
    with pytest.raises(JRTError, match=r"holds no config\.json; a model folder has config\.json, model\.safetensors"):
        resolve_model(str(tmp_path))


@pytest.mark.parametrize("content", [b'{"model_type": ', b"\xff\xfe\x00", b""])
def test_a_config_that_is_no_json(tmp_path, content) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(JRTError, match=r"config\.json: not readable as JSON"):
        resolve_model(str(tmp_path))


@pytest.mark.parametrize("kind", ["llama", None])
def test_a_model_of_another_kind(folder, kind) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    for load in (load_config, load_model, random_model):
        with pytest.raises(JRTError, match=rf"model_type is {kind!r}, not 'jrt'\. .*--model hf_recall.*--model mamba"):
            load(folder)


def test_a_config_whose_numbers_do_not_fit(folder) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_heads": 3}))
    with pytest.raises(JRTError, match="hidden_size=16 must be a multiple of 2 x num_heads=3"):
        load_model(folder)


def test_weights_that_are_missing(folder) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")  # a pickle is not looked at
    with pytest.raises(JRTError, match=r"no \.safetensors file with weights: the checkpoint is only half there"):
        load_model(folder)


@pytest.mark.parametrize("keep", [0, 5, 200, -100])
def test_a_file_that_was_cut_short(folder, keep) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(JRTError, match=r"the weights cannot be read .*damaged or incomplete"):
        load_model(folder)


def test_a_parameter_that_is_missing(folder) -> None:
    edit_weights(folder, blocks__1__mixer__k_prefix_proj__weight=None)
    with pytest.raises(JRTError, match=r"\(not filled: blocks\.1\.mixer\.k_prefix_proj\.weight\)\. A half-filled"):
        load_model(folder)


def test_a_tensor_too_many(folder) -> None:
    edit_weights(folder, blocks__2__norm__weight=torch.ones(16))
    with pytest.raises(JRTError, match=r"\(not used: blocks\.2\.norm\.weight\)"):
        load_model(folder)


def test_a_tensor_of_another_shape(folder) -> None:
    edit_weights(folder, norm__weight=torch.ones(17))
    with pytest.raises(JRTError, match=r"\(of another shape: norm\.weight\)"):
        load_model(folder)


def test_all_faults_are_listed_at_once(folder) -> None:
    gone = {"blocks__0__mlp__down__weight": None, "blocks__0__mlp__up_gate__weight": None}
    edit_weights(folder, **gone, stray=torch.ones(2), norm__weight=torch.ones(3))
    with pytest.raises(JRTError) as error:
        load_model(folder)
    assert (
        "not filled: blocks.0.mlp.down.weight, blocks.0.mlp.up_gate.weight; not used: stray; "
        "of another shape: norm.weight" in str(error.value)
    )


def test_weights_of_another_map(folder) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "feature_map": "relu"}))
    with pytest.raises(JRTError, match=r"not used: blocks\.1\.mixer\.feature_map\."):
        load_model(folder)


def test_a_tokenizer_that_is_missing(folder) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(JRTError, match=r"holds no tokenizer\.json; copy the tokenizer that the model was trained with"):
        load_tokenizer(folder, VOCAB)


def test_a_tokenizer_of_another_model(folder) -> None:
    with pytest.raises(JRTError, match=f"the tokenizer has {VOCAB} tokens, the model embeds {VOCAB - 1}"):
        load_tokenizer(folder, VOCAB - 1)
    load_tokenizer(folder, VOCAB + 58)  # an embedding may be padded


def test_an_unknown_feature_map_is_named_with_the_nearest() -> None:
    with pytest.raises(JRTError, match=r"unknown feature map 'tailor'\. Did you mean 'taylor'\? Choices: elu, "):
        resolve_model(None, "tailor")
    assert set(FEATURE_MAP_NAMES) == set(FEATURE_MAPS)


def test_a_map_without_shipped_weights_says_how_to_train_one(shelf) -> None:
    write_model(shelf / "small")
    with pytest.raises(JRTError) as error:
        resolve_model(None, "gelu")
    for part in (
        "no trained weights for feature_map=gelu come with the package (shipped: small)",
        "'jrt-eval train --feature-map gelu --out DIR'",
        "init=random",
    ):
        assert part in str(error.value)
    with pytest.raises(JRTError, match="no trained weights for based come with the package"):
        resolve_model(None, "mlp", "based")


def test_shipped_models_are_found_by_name_and_by_map(shelf, tmp_path, monkeypatch) -> None:
    assert shipped_models() == {} and shipped_for("mlp") is None
    write_model(shelf / "a-causal-one", ("conv", "linear"))
    write_model(shelf / "recalling")
    write_model(shelf / "half")
    (shelf / "half" / "model.safetensors").unlink()
    assert sorted(shipped_models()) == ["a-causal-one", "recalling"]
    assert resolve_model(None, "mlp") == resolve_model(None) == shelf / "recalling"
    assert resolve_model("a-causal-one") == shelf / "a-causal-one"
    (tmp_path / "recalling").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve_model("recalling") == shelf / "recalling"  # a stray folder of that name changes nothing


def test_a_hub_id_without_a_network() -> None:
    with pytest.raises(JRTError, match=r"pretrained=nobody/nothing: neither a folder here nor .*unset HF_HUB_OFFLINE"):
        resolve_model("nobody/nothing")


def test_a_hub_id_is_fetched_without_pickles_and_code(monkeypatch, good) -> None:
    asked = {}
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **how: asked.update(how, name=name) or str(good)
    )
    assert resolve_model("owner/model") == good
    assert asked["name"] == "owner/model"
    assert not [pattern for pattern in asked["allow_patterns"] if pattern.endswith(("py", "bin", "pt", "*"))]


def test_untrained_weights_have_the_folders_shape_and_repeat(good) -> None:
    model = random_model(good)
    shapes = {name: tensor.shape for name, tensor in load_model(good).state_dict().items()}
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == shapes
    same, other = random_model(good), random_model(good, seed=1)
    assert torch.equal(model.embed_tokens.weight, same.embed_tokens.weight)
    assert not torch.equal(model.embed_tokens.weight, other.embed_tokens.weight)
    assert random_model(good, "poly").config.feature_map == "poly"
    with pytest.raises(JRTError, match="unknown feature map 'polly'"):
        random_model(good, "polly")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "[1, 2]", "holds a JSON list"),
        ("config.json", '{"model_type": "jrt", "hidden_size": "big"}', "not a configuration of ours"),
        ("tokenizer.json", '{"version": ', "not readable as a tokenizer"),
    ],
)
def test_files_of_the_wrong_kind_are_named(tmp_path: Path, file: str, content: str, message: str) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "jrt"}')
    (tmp_path / file).write_text(content)
    with pytest.raises(JRTError, match=message):
        resolve_model(str(tmp_path))
        load_config(tmp_path)
        load_tokenizer(tmp_path, 4096)
