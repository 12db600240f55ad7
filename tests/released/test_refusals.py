"""What a released folder may not hold, and what is said about it."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from released import HERE

from jrt_lmeval.checkpoints import load_pretrained
from jrt_lmeval.checkpoints.found import find
from jrt_lmeval.errors import JRTError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A JRT checkpoint to spoil."""
    return copy("jrt_tiny", tmp_path)


def copy(name: str, target: Path) -> Path:
    return Path(shutil.copytree(HERE / name, target / name, ignore=shutil.ignore_patterns("expected*")))


def edit_config(folder: Path, **fields: Any) -> None:
    """Replace fields; a dict is merged into the one that is there."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for name, value in fields.items():
        config[name] = {**config.get(name, {}), **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(config))


def edit_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    """Replace, add or (None) drop tensors; dots in names are written as double underscores."""
    path = folder / "pytorch_model.bin"
    tensors = torch.load(path, weights_only=True)
    for name, value in changes.items():
        tensors.pop(name.replace("__", "."), None)
        if value is not None:
            tensors[name.replace("__", ".")] = value
    torch.save(tensors, path)


class Payload:
    def __init__(self, command: str):
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("new_format", [True, False])
def test_a_malicious_pickle_is_refused_and_not_run(folder: Path, tmp_path: Path, new_format: bool) -> None:
    struck = tmp_path / "struck"
    weights = {"model.lm_head.weight": torch.zeros(2), "x": Payload(f"touch {struck}")}
    torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=new_format)
    with pytest.raises(JRTError, match=r"refused.*run code"):
        load_pretrained(folder)
    assert not struck.exists()
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert struck.exists()  # or this test could not fail


def test_a_plain_malicious_pickle_is_refused(folder: Path, tmp_path: Path) -> None:
    struck = tmp_path / "struck"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(f"touch {struck}"), protocol=2))
    with pytest.raises(JRTError, match=r"pytorch_model.bin"):
        load_pretrained(folder)
    assert not struck.exists()


def test_torch_format_of_before_2020_is_read(folder: Path) -> None:
    ids = torch.arange(9)[None]
    truth = load_pretrained(folder)(ids).logits
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert torch.equal(load_pretrained(folder)(ids).logits, truth)


@pytest.mark.parametrize("tag", ["mixer", "alt_mixer", "alt_mixer_2"])
def test_an_unknown_class_is_refused_with_the_known_ones(folder: Path, tag: str) -> None:
    edit_config(folder, **{tag: {"_target_": "os.system"}})
    with pytest.raises(JRTError, match=rf"{tag}: 'os.system'.*based.models.mixers.convolution.BaseConv"):
        load_pretrained(folder)


def test_a_mistyped_class_gets_its_nearest(folder: Path) -> None:
    edit_config(folder, mixer={"_target_": "based.models.mixers.convolution.BaseConf"})
    with pytest.raises(JRTError, match=r"Did you mean 'based.models.mixers.convolution.BaseConv'"):
        load_pretrained(folder)


def test_an_unknown_feature_map_is_refused(tmp_path: Path) -> None:
    folder = copy("based_tiny", tmp_path)
    edit_config(folder, alt_mixer={"feature_map": {"_target_": "subprocess.run", "input_dim": 8}})
    with pytest.raises(JRTError, match=r"feature map in LinearAttention 'subprocess.run'"):
        load_pretrained(folder)


@pytest.mark.parametrize("name, old", [
    ("jrt_tiny", "model__transformer__layers__1__mixer__proj_k_enc__weight"),
    ("based_tiny", "model__transformer__layers__0__mixer__conv__conv__weight"),
    ("based_decay_tiny", "model__transformer__decay__decay"),
    ("attn_tiny", "model__transformer__layers__2__norm1__weight"),
    ("mamba_tiny", "model__backbone__layers__1__mixer__A_log"),
])  # fmt: skip
def test_a_half_filled_model_is_refused_by_name(name: str, old: str, tmp_path: Path) -> None:
    folder = copy(name, tmp_path)
    edit_weights(folder, **{old: None})
    with pytest.raises(JRTError, match=r"not filled: .*(k_prefix_proj|conv_weight|decay|mixer_norm|A_log)"):
        load_pretrained(folder)


@pytest.mark.parametrize("name", ["jrt_tiny", "mamba_tiny"])
def test_a_tensor_without_a_place_is_refused_by_name(name: str, tmp_path: Path) -> None:
    folder = copy(name, tmp_path)
    edit_weights(folder, model__transformer__embeddings__position_embeddings__weight=torch.zeros(4, 32))
    with pytest.raises(JRTError, match=r"not used: transformer.embeddings.position_embeddings.weight"):
        load_pretrained(folder)


def test_a_wrong_shape_is_refused_by_name(folder: Path) -> None:
    edit_config(folder, vocab_size=600)
    with pytest.raises(JRTError, match=r"of another shape: embed_tokens.weight \(\[512, 32\], wanted \[600, 32\]\)"):
        load_pretrained(folder)


def test_an_output_matrix_that_should_be_tied_and_is_not_is_refused(folder: Path) -> None:
    edit_weights(folder, model__lm_head__weight=torch.zeros(512, 32))
    with pytest.raises(JRTError, match="differs from the embedding"):
        load_pretrained(folder)
    edit_config(folder, tie_word_embeddings=False)
    assert not load_pretrained(folder)(torch.arange(3)[None]).logits.any()


@pytest.mark.parametrize("fields, message", [
    ({"activation_function": "geglu"}, "activation_function is 'geglu'; only 'swiglu'"),
    ({"qkv_proj_bias": True}, "qkv_proj_bias is True"),
    ({"alt_mixer": {"scale_dim": 3}}, "scale_dim is 3"),
    ({"alt_mixer_layers": [1, 9]}, "names layer 9; there are layers 0 to 5"),
    ({"n_layer": "six"}, "n_layer must be a whole number of at least 1, not 'six'"),
    ({"n_inner": 999}, "n_inner=999 gives an MLP of 1024, but the weights have 256"),
    ({"mixer": {"expand_proj": 3}}, "expand_proj is 3; it must be even"),
    ({"alt_mixer_2": {"window_size": 4096}}, "window_size 4096"),
])  # fmt: skip
def test_what_no_released_model_has_is_refused(folder: Path, fields: dict[str, Any], message: str) -> None:
    edit_config(folder, **fields)
    with pytest.raises(JRTError, match=message):
        load_pretrained(folder)


def test_one_decay_option_without_the_other_is_refused(tmp_path: Path) -> None:
    folder = copy("based_decay_tiny", tmp_path)
    edit_config(folder, fixed_decay=False)
    with pytest.raises(JRTError, match="use_decay_proj=True with fixed_decay=False"):
        load_pretrained(folder)


def test_missing_and_broken_files_are_named(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes((folder / "pytorch_model.bin").read_bytes()[:5000])
    with pytest.raises(JRTError, match=r"pytorch_model.bin: .*damaged or incomplete"):
        load_pretrained(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(JRTError, match=r"neither model.safetensors nor pytorch_model.bin"):
        load_pretrained(folder)
    (folder / "config.json").write_text("[1]")
    with pytest.raises(JRTError, match="holds a JSON list"):
        load_pretrained(folder)


def test_options_are_checked(folder: Path) -> None:
    with pytest.raises(JRTError, match="Did you mean 'padding'"):
        load_pretrained(folder, paddings="exact")
    with pytest.raises(JRTError, match="Did you mean 'published'"):
        load_pretrained(folder, padding="publish")
    with pytest.raises(JRTError, match="Did you mean 'bfloat16'"):
        load_pretrained(folder, dtype="bfloat")
    with pytest.raises(JRTError, match="decode=published: mamba_tiny has no linear attention"):
        load_pretrained(HERE / "mamba_tiny", decode="published")


def test_openai_gpt2_is_not_taken_for_a_released_transformer(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 1}))
    assert find(tmp_path).kind == "transformers"
    with pytest.raises(JRTError, match=r"model_type is 'gpt2'.*hf_recall"):
        load_pretrained(tmp_path)


def test_mamba_2_of_mamba_ssm_says_what_to_do(tmp_path: Path) -> None:
    folder = copy("mamba_tiny", tmp_path)
    edit_config(folder, ssm_cfg={"layer": "Mamba2"})
    with pytest.raises(JRTError, match="transformers' layout"):
        load_pretrained(folder)
    edit_config(folder, ssm_cfg={"layer": "Mamba1", "d_stat": 4})
    with pytest.raises(JRTError, match="Did you mean 'd_state'"):
        load_pretrained(folder)


def test_importing_checkpoints_imports_no_torch() -> None:
    code = "import sys, jrt_lmeval.checkpoints; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
