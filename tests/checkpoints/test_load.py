"""Where a model comes from: found or an error that says where to look, loaded whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from jrt_lmeval.checkpoints.found import find
from jrt_lmeval.checkpoints.load import load_config, load_model, random_model
from jrt_lmeval.checkpoints.tokenizers import known_ids, read_own, warn_of_misfit
from jrt_lmeval.errors import JRTError


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("good") / "model")


@pytest.fixture
def folder(good, tmp_path) -> Path:
    """A model to spoil."""
    return Path(shutil.copytree(good, tmp_path / "model"))


def edit_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    """Replace, add or (None) drop tensors of the file; `__` stands for a dot."""
    weights = load_file(folder / "model.safetensors")
    changed = {name.replace("__", "."): tensor for name, tensor in changes.items()}
    kept = {name: tensor for name, tensor in {**weights, **changed}.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_good_folder_is_loaded_as_it_was_saved(good) -> None:
    assert (find(good).folder, find(good).kind, find(good).family) == (good, "ours", "jrt_rnn")
    model = load_model(find(good))
    assert not model.training and model.dtype == torch.float32
    stored = load_file(good / "model.safetensors")
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in stored.items())
    assert model.lm_head.weight is model.embed_tokens.weight
    assert load_model(find(good), dtype=torch.bfloat16).dtype == torch.bfloat16
    assert read_own(good).decode(read_own(good).encode(" café")) == " café"


def test_a_folder_without_a_model(tmp_path) -> None:
    with pytest.raises(JRTError, match=r"holds no config\.json; a model folder has config\.json, model\.safetensors"):
        find(tmp_path)


@pytest.mark.parametrize("content", [b'{"model_type": ', b"\xff\xfe\x00", b""])
def test_a_config_that_is_no_json(tmp_path, content) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(JRTError, match=r"config\.json: not readable as JSON"):
        find(tmp_path)


@pytest.mark.parametrize("kind", ["llama", None])
def test_a_model_of_another_kind(folder, kind) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    for load in (load_config, random_model):
        with pytest.raises(JRTError, match=rf"model_type is {kind!r}, not 'jrt'\. .*--model hf_recall.*--model mamba"):
            load(find(folder))


def test_a_config_whose_numbers_do_not_fit(folder) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_heads": 3}))
    with pytest.raises(JRTError, match="hidden_size=16 must be a multiple of 2 x num_heads=3"):
        load_model(find(folder))


def test_weights_that_are_missing(folder) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(JRTError, match=r"neither model\.safetensors nor pytorch_model\.bin: .* only half there"):
        load_model(find(folder))


@pytest.mark.parametrize("keep", [0, 5, 200, -100])
def test_a_file_that_was_cut_short(folder, keep) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(JRTError, match=r"cannot be read .*damaged or incomplete"):
        load_model(find(folder))


def test_a_parameter_that_is_missing(folder) -> None:
    edit_weights(folder, blocks__1__mixer__k_prefix_proj__weight=None)
    with pytest.raises(JRTError, match=r"\(not filled: blocks\.1\.mixer\.k_prefix_proj\.weight\)\. A half-filled"):
        load_model(find(folder))


def test_a_tensor_too_many(folder) -> None:
    edit_weights(folder, blocks__2__norm__weight=torch.ones(16))
    with pytest.raises(JRTError, match=r"\(not used: blocks\.2\.norm\.weight\)"):
        load_model(find(folder))


def test_a_tensor_of_another_shape(folder) -> None:
    edit_weights(folder, norm__weight=torch.ones(17))
    with pytest.raises(JRTError, match=r"\(of another shape: norm\.weight \(\[17\], wanted \[16\]\)\)"):
        load_model(find(folder))


def test_all_faults_are_listed_at_once(folder) -> None:
    gone = {"blocks__0__mlp__down__weight": None, "blocks__0__mlp__up_gate__weight": None}
    edit_weights(folder, **gone, stray=torch.ones(2), norm__weight=torch.ones(3))
    with pytest.raises(JRTError) as error:
        load_model(find(folder))
    assert (
        "not filled: blocks.0.mlp.down.weight, blocks.0.mlp.up_gate.weight; not used: stray; "
        "of another shape: norm.weight ([3], wanted [16])" in str(error.value)
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(folder, value) -> None:
    weight = load_file(folder / "model.safetensors")["blocks.0.mlp.down.weight"]
    weight[1, 2] = value
    edit_weights(folder, blocks__0__mlp__down__weight=weight)
    with pytest.raises(JRTError, match=r"1 of the tensors hold NaN or infinity \(blocks\.0\.mlp\.down\.weight\)"):
        load_model(find(folder))


def test_a_feature_maps_buffer_that_is_no_number(tmp_path) -> None:
    folder = tiny.write_model(tmp_path / "model", feature_map="gaussian")
    name = "blocks.1.mixer.feature_map.directions"
    directions = load_file(folder / "model.safetensors")[name]
    edit_weights(folder, **{name: directions * float("nan")})
    with pytest.raises(JRTError, match=f"NaN or infinity \\({name}\\)"):
        load_model(find(folder))


def test_weights_of_another_map(folder) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "feature_map": "relu"}))
    with pytest.raises(JRTError, match=r"not used: blocks\.1\.mixer\.feature_map\."):
        load_model(find(folder))


def test_a_tokenizer_that_is_missing(folder) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(JRTError, match=r"holds no tokenizer\.json\. Copy the tokenizer that the model"):
        read_own(folder)


def test_a_tokenizer_of_another_model(folder, caplog) -> None:
    tokenizer = read_own(folder)
    warn_of_misfit(tokenizer, tiny.WRITTEN_VOCAB + 58)  # an embedding may be padded
    assert not caplog.records and known_ids(tokenizer, tiny.WRITTEN_VOCAB + 58) == tiny.WRITTEN_VOCAB
    warn_of_misfit(tokenizer, tiny.WRITTEN_VOCAB - 1)
    assert f"embeds {tiny.WRITTEN_VOCAB - 1} tokens and has no vector for" in caplog.text
    assert known_ids(tokenizer, tiny.WRITTEN_VOCAB - 1) == tiny.WRITTEN_VOCAB - 1
    warn_of_misfit(tokenizer, tiny.WRITTEN_VOCAB + 600)
    assert f"has {tiny.WRITTEN_VOCAB} tokens, the model embeds {tiny.WRITTEN_VOCAB + 600}" in caplog.text


def test_untrained_weights_have_the_folders_shape_and_repeat(good) -> None:
    model = random_model(find(good))
    shapes = {name: tensor.shape for name, tensor in load_model(find(good)).state_dict().items()}
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == shapes
    same, other = random_model(find(good)), random_model(find(good), seed=1)
    assert torch.equal(model.embed_tokens.weight, same.embed_tokens.weight)
    assert not torch.equal(model.embed_tokens.weight, other.embed_tokens.weight)
    assert random_model(find(good), "poly").config.feature_map == "poly"
    with pytest.raises(JRTError, match="unknown feature map 'polly'"):
        random_model(find(good), "polly")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "[1, 2]", "holds a JSON list"),
        ("config.json", '{"model_type": "jrt", "hidden_size": "big"}', "hidden_size is 'big', which is no int"),
        (
            "config.json",
            '{"model_type": "jrt", "hiden_size": 8}',
            "'hiden_size'. Did you mean 'hidden_size'",
        ),
        ("config.json", '{"model_type": "jrt", "num_heads": 2, "num_heads": 4}', "'num_heads' stands there twice"),
        ("config.json", '{"a":' * 100_000, r"not readable as JSON \(maximum recursion depth exceeded"),
        ("config.json", '{"model_type": "jrt", "decay": 1}', "decay is 1, which is no bool"),
        ("config.json", '{"model_type": ["jrt"]}', r"model_type is \['jrt'\], which is no str"),
        ("config.json", '{"model_type": "jrt", "num_hidden_layers": 2}', "num_hidden_layers is 2, but mixers names 6"),
        ("tokenizer.json", '{"version": ', "not readable as a tokenizer"),
    ],
)
def test_files_of_the_wrong_kind_are_named(tmp_path: Path, file: str, content: str, message: str) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "jrt"}')
    (tmp_path / file).write_text(content)
    with pytest.raises(JRTError, match=message):
        load_config(find(tmp_path))
        read_own(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"eos_token_id": 0, "eos_token_id": 1}'])
def test_settings_of_generation_that_cannot_be_read(folder, content) -> None:
    (folder / "generation_config.json").write_text(content)
    with pytest.raises(JRTError, match=r"generation_config\.json: "):
        load_model(find(folder))


class Payload:
    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def test_damage_to_a_transformers_folder_is_one_clear_error(tmp_path) -> None:
    tiny.save(tiny.llama(), folder := tmp_path / "llama")
    weights, config = folder / "model.safetensors", folder / "config.json"
    whole, fields = weights.read_bytes(), json.loads(config.read_text())
    for length in (300, len(whole) - 300):
        weights.write_bytes(whole[:length])
        with pytest.raises(JRTError, match=f"cannot load a causal language model from '{folder}': "):
            load_model(find(folder))
    weights.write_bytes(whole)
    for changed in ({"hidden_size": "big"}, {"num_attention_heads": 0}, {"num_attention_heads": 3}):
        config.write_text(json.dumps({**fields, **changed}))
        with pytest.raises(JRTError, match=f"cannot load a causal language model from '{folder}': "):
            load_model(find(folder))
    config.write_text(json.dumps(fields))
    weights.unlink()
    torch.save({"x": Payload(tmp_path / "struck")}, folder / "pytorch_model.bin")
    with pytest.raises(JRTError, match=r"llama: refused\. It is a pickle that asks for more than tensors .*mkdir"):
        load_model(find(folder))
    assert not (tmp_path / "struck").exists()
