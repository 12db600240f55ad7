"""Reading weights: tensors under names, nothing else."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from jrt_lmeval.errors import JRTError


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, still on disk (memory-mapped) until they are used.

    A leading `model.` is taken off their names, and the counters of the training (`*metrics*`) are left out.

    Raises:
        JRTError: no weights, a damaged file, or a pickle that holds anything but tensors under names.
    """
    files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise JRTError(
            f"{folder}: holds neither model.safetensors nor pytorch_model.bin: the checkpoint is only half there."
        )
    tensors: dict[str, Tensor] = {}
    for file in files:
        held = _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickle(file)
        part = {name.removeprefix("model."): tensor for name, tensor in held.items() if "metrics" not in name}
        if twice := sorted(tensors.keys() & part.keys()):
            raise JRTError(f"{file}: {', '.join(twice[:10])} stood in an earlier file already.")
        tensors |= part
    return tensors


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        with safe_open(str(file), framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise JRTError(f"{file}: cannot be read ({error}); the file is damaged or incomplete.") from error


def _read_pickle(file: Path) -> dict[str, Tensor]:
    try:
        try:
            held = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            held = torch.load(file, map_location="cpu", weights_only=True)  # torch's format of before 2020
    except pickle.UnpicklingError as error:
        raise refused(file, error) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise JRTError(f"{file}: cannot be read ({_reason(error)}); the file is damaged or incomplete.") from error
    if not isinstance(held, dict) or not all(isinstance(name, str) for name in held):
        raise JRTError(f"{file}: holds a {type(held).__name__}, not tensors under names.")
    if other := sorted(name for name, value in held.items() if not isinstance(value, Tensor)):
        raise JRTError(f"{file}: {', '.join(other[:10])} are no tensors; a checkpoint of weights alone is needed.")
    return held


def refused(where: Path, error: pickle.UnpicklingError) -> JRTError:
    """The error for a pickle that holds anything but tensors; to be raised by the caller."""
    return JRTError(
        f"{where}: refused. It is a pickle that asks for more than tensors ({_reason(error)}), and loading that would "
        "run code from the file. Get the weights as safetensors from someone you trust."
    )


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    unsupported = re.search(r"(GLOBAL|Unsupported \w+|operand) [^.]*\S+\.\S+", text)
    return (unsupported.group(0) if unsupported else text)[:200]
