"""From a released folder to an ordinary one, and the tokenizer that belongs to it."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path

import pytest
import torch
from released import FOLDERS, HERE
from transformers import AutoModelForCausalLM, AutoTokenizer

from jrt_lmeval.checkpoints import load_pretrained
from jrt_lmeval.checkpoints.found import find
from jrt_lmeval.checkpoints.tokenizers import find_tokenizer, gpt2, limit_to
from jrt_lmeval.cli import main
from jrt_lmeval.errors import JRTError
from jrt_lmeval.training.rows import train_tokenizer

IDS = torch.randint(0, 500, (2, 40), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", FOLDERS)
def test_a_converted_model_gives_the_same_logits(name: str, tmp_path: Path, capsys) -> None:
    assert main(["convert", str(FOLDERS[name]), str(tmp_path / "out")]) == 0
    assert "parameters" in capsys.readouterr().out
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        truth = load_pretrained(FOLDERS[name])(IDS).logits
        assert torch.equal(model(IDS).logits, truth)
        assert torch.equal(load_pretrained(tmp_path / "out")(IDS).logits, truth)
    new = model.generate(IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=4, do_sample=False)
    assert int(new.max()) < 509
    assert model.generation_config.suppress_tokens == [509, 510, 511]


def test_the_tokenizer_goes_along_and_limits_what_is_generated(tmp_path: Path) -> None:
    train_tokenizer(["of the of the"], 300).save_pretrained(tmp_path / "tok")
    assert main(["convert", str(HERE / "jrt_tiny"), str(tmp_path / "out"), "--tokenizer", str(tmp_path / "tok")]) == 0
    tokens = len(AutoTokenizer.from_pretrained(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["token_count"] == tokens < 509


def test_half_precision_on_request(tmp_path: Path) -> None:
    assert main(["convert", str(HERE / "attn_tiny"), str(tmp_path / "out"), "--dtype", "bfloat16"]) == 0
    assert load_pretrained(tmp_path / "out").dtype == torch.bfloat16
    assert load_pretrained(tmp_path / "out", dtype="float32").dtype == torch.float32


def test_nothing_is_overwritten(tmp_path: Path, capsys) -> None:
    assert main(["convert", str(HERE / "jrt_tiny"), str(HERE / "based_tiny")]) == 1
    assert "holds a model already" in capsys.readouterr().err


def test_a_full_disk_is_one_clear_error_and_leaves_no_model(tmp_path: Path, capsys) -> None:
    target, source = tmp_path / "out", str(HERE / "jrt_tiny")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        assert main(["convert", source, str(target)]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"{target}: cannot be written (" in capsys.readouterr().err.splitlines()[-1]
    assert not (target / "config.json").exists()
    assert main(["convert", source, str(target)]) == 0


def test_hazy_models_get_gpt2_whatever_their_kind() -> None:
    for name in ("jrt_tiny", "based_tiny", "attn_tiny", "mamba_tiny"):
        tokenizer = find_tokenizer(find(HERE / name))
        assert (len(tokenizer), tokenizer.encode("Hello world")) == (50257, [15496, 995])
        assert tokenizer.decode(tokenizer.encode("a , b .")) == "a , b ."


def test_state_spaces_models_get_neox_or_a_fix(tmp_path: Path, monkeypatch) -> None:
    fields = {
        "d_model": 32,
        "n_layer": 3,
        "vocab_size": 509,
        "ssm_cfg": {},
        "rms_norm": True,
        "pad_vocab_size_multiple": 16,
    }
    (tmp_path / "config.json").write_text(json.dumps(fields))
    shutil.copy(HERE / "mamba_tiny" / "pytorch_model.bin", tmp_path)
    with torch.no_grad():
        assert torch.equal(load_pretrained(tmp_path)(IDS).logits, load_pretrained(HERE / "mamba_tiny")(IDS).logits)
    asked = []

    def nothing(source: str, **_: object) -> None:
        asked.append(source)
        raise OSError("no network")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", nothing)
    with pytest.raises(JRTError, match=r"GPT-NeoX-20B.*hf download EleutherAI/gpt-neox-20b.*tokenizer=DIR"):
        find_tokenizer(find(tmp_path))
    assert asked == ["EleutherAI/gpt-neox-20b"]


def test_a_folders_own_tokenizer_comes_first(tmp_path: Path) -> None:
    shutil.copy(HERE / "jrt_tiny" / "config.json", tmp_path)
    train_tokenizer(["of the of the"], 300).save_pretrained(tmp_path)
    assert len(find_tokenizer(find(tmp_path))) < 400
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(JRTError, match=r"holds no tokenizer.json"):
        find_tokenizer(find(tmp_path / "other"))


def test_a_tokenizer_that_is_too_large_leaves_no_id_that_the_model_does_not_embed() -> None:
    model = load_pretrained(HERE / "jrt_tiny")
    rows = model.config.vocab_size
    limit_to(model, gpt2())
    assert rows < 50_257 and model.config.token_count <= rows


def test_from_the_hub_pickles_are_fetched_only_without_safetensors(tmp_path: Path, monkeypatch) -> None:
    import huggingface_hub

    fetched = []

    def download(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        fetched.append((name, revision, "pytorch_model*.bin" in allow_patterns))
        return str(HERE / "jrt_tiny" if name == "hazyresearch/JRT-360M-30B" else safe)

    safe = tmp_path / "safe"
    assert main(["convert", str(HERE / "jrt_tiny"), str(safe)]) == 0
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    load_pretrained("hazyresearch/JRT-360M-30B", revision="abc")
    load_pretrained("someone/converted")
    assert fetched == [
        ("hazyresearch/JRT-360M-30B", "abc", False),
        ("hazyresearch/JRT-360M-30B", "abc", True),
        ("someone/converted", None, False),
    ]
