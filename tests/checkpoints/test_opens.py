"""A checkpoint is looked at once: every file of it that is opened, is opened once. Counted by an audit hook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

RELEASED = Path(__file__).parents[1] / "fixtures" / "released"

COUNTING = """
import collections, json, os, sys
folder, model, arguments = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
counts = collections.Counter()
def hook(event, values):
    if event == "open" and isinstance(values[0], (str, os.PathLike)) and os.fspath(values[0]).startswith(folder):
        counts[os.path.relpath(os.fspath(values[0]), folder)] += 1
from jrt_lmeval.plugin import model_class, register
register()
kind = model_class(model)
sys.addaudithook(hook)
kind.create_from_arg_obj(arguments, {})
print(json.dumps(counts))
"""


def opens(folder: Path, model: str, **arguments: str) -> dict[str, int]:
    """How often each file below a folder is opened while lm_eval's model is built."""
    command = [sys.executable, "-c", COUNTING, str(folder), model, json.dumps(arguments)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_shipped_model_is_opened_once() -> None:
    from jrt_lmeval.paths import weights_dir

    counts = opens(weights_dir(), "jrt_rnn", feature_map="mlp")
    assert counts["jrt-mlp/config.json"] == counts["tokenizer/tokenizer.json"] == 1
    assert set(counts.values()) == {1}, counts


@pytest.mark.parametrize(("name", "model"), [("jrt_tiny", "jrt_rnn"), ("based_tiny", "based"), ("mamba_tiny", "mamba")])
def test_a_released_folder_is_opened_once(name: str, model: str, tmp_path: Path) -> None:
    tiny.tokenizer().save_pretrained(tmp_path)
    counts = opens(RELEASED / name, model, pretrained=str(RELEASED / name), tokenizer=str(tmp_path))
    assert counts.pop("pytorch_model.bin", 1) == 1
    assert counts == {"config.json": 1}


@pytest.mark.parametrize("name", ["llama", "mamba"])
def test_configuration_and_weights_of_a_transformers_folder_are_opened_once(name: str, tmp_path: Path) -> None:
    tiny.save(getattr(tiny, name)(), tmp_path)
    counts = opens(tmp_path, "mamba" if name == "mamba" else "hf_recall", pretrained=str(tmp_path))
    # transformers reads the settings of a tokenizer several times itself
    assert {file: count for file, count in counts.items() if count > 1}.keys() <= {"tokenizer_config.json"}
    assert counts["config.json"] == 1
