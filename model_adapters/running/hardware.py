"""What the machine decides: the device, the number format of the weights, and how much fits into a batch."""

from __future__ import annotations

import logging

import torch

from jrt_lmeval.errors import JRTError, unknown
from model_adapters.running.batching import Budget

log = logging.getLogger("lm_eval.jrt")

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Tokens of a batch, padding and the tokens to be generated included. On a CPU a row costs the same in such a batch as
# alone (benchmark `batches`): fewer tokens, such as fit into a cache, would only take rows away from decoding.
TOKENS_CPU, TOKENS_CUDA = 16_384, 262_144


def pick_device(wanted: str | torch.device | None, local_rank: int = 0, processes: int = 1) -> torch.device:
    """The device to run on.

    Args:
        wanted: such as `cpu` or `cuda:0`; None takes a GPU if there is one. lm_eval passes `cuda:0` even where
            there is none; that falls back to the CPU and says so.
        local_rank: with several processes on one machine, each takes the GPU of its own number.
        processes: how many processes run.
    """
    try:
        device = torch.device(wanted or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise JRTError(f"device={wanted!r}: not a device; write cpu, cuda, cuda:1 or mps.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        log.info("device %s is not available, running on the CPU.", device)
        return torch.device("cpu")
    if device.type == "cuda":
        index = local_rank if processes > 1 else (device.index or 0)
        if index >= torch.cuda.device_count():
            raise JRTError(f"device cuda:{index}: this machine has {torch.cuda.device_count()} CUDA device(s).")
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
    return device


def pick_dtype(wanted: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """The number format of the weights.

    Args:
        wanted: a format, or `auto`: bfloat16 on CUDA, float32 elsewhere.
        device: where the model runs.

    Raises:
        JRTError: no such format.
    """
    name = "auto" if wanted is None else str(wanted).removeprefix("torch.")
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise unknown("dtype", name, ["auto", *DTYPES])
    if name != "float32" and device.type == "cpu":
        log.warning(
            "dtype=%s on a CPU: answers can differ from float32's, and a processor without matrix units for it (AMX) "
            "is slower. Leave dtype out to run in float32.",
            name,
        )
    return DTYPES[name]


def pick_budget(
    batch_size: int | str | None, max_batch_size: int | None, max_batch_tokens: int | None, device: torch.device
) -> Budget:
    """What fits into one batch.

    Args:
        batch_size: a number of rows, or `auto` (also `auto:4`) for a budget of tokens. None is 1.
        max_batch_size: most rows of an `auto` batch.
        max_batch_tokens: most tokens of a batch, padding and tokens to generate included. The default, 16384 on a CPU
            and 262144 on CUDA, holds for `auto`; given by the user it caps a fixed number of rows as well.
        device: where the model runs.
    """
    if max_batch_tokens is not None and (not isinstance(max_batch_tokens, int) or max_batch_tokens < 1):
        raise JRTError(f"max_batch_tokens={max_batch_tokens!r}: must be a whole number of at least 1.")
    if isinstance(batch_size, str) and batch_size.startswith("auto"):
        tokens = max_batch_tokens or (TOKENS_CUDA if device.type == "cuda" else TOKENS_CPU)
        return Budget(rows=_rows("max_batch_size", max_batch_size), tokens=tokens)
    return Budget(rows=_rows("batch_size", 1 if batch_size is None else batch_size), tokens=max_batch_tokens)


def _rows(name: str, value: int | str | None) -> int | None:
    if value is None:
        return None
    try:
        rows = int(value)
    except ValueError as error:
        raise JRTError(f"{name}={value!r}: must be a number of rows, or auto.") from error
    if rows < 1 or isinstance(value, float):
        raise JRTError(f"{name}={value!r}: must be a whole number of at least 1.")
    return rows
