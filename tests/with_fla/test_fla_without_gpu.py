"""Where fla is installed and no GPU is there, models of transformers that take its kernels say what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parent.parent
SCRIPT = """
import families
from jrt_lmeval.errors import JRTError
from jrt_lmeval.doctor import kernels
from model_adapters.engines.hf import HFEngine
print(next(kernels()).fix)
for kind in ("olmo_hybrid", "qwen3_next"):
    try:
        HFEngine(families.model(kind))
    except JRTError as error:
        print(error)
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU the kernels run")
def test_the_error_and_the_doctor_name_the_package() -> None:
    path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", ""), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path}
    environment.pop("TRITON_INTERPRET")  # as a user has it
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=600)
    assert "pip uninstall flash-linear-attention" in done.stdout
    for name in ("OlmoHybridForCausalLM", "Qwen3NextForCausalLM"):
        assert f"{name} cannot read two tokens on cpu" in done.stdout, done.stderr
    assert done.stdout.count("uninstall flash-linear-attention, fla-core and triton") == 2
