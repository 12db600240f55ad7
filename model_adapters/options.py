"""The model arguments that all models take, and what follows from them: processes, device, number format and batch.

Data parallelism is that of torchrun and accelerate: several processes, each with the whole model and its share of rows.
"""

from __future__ import annotations

import atexit
import inspect
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.distributed as dist

from jrt_lmeval.errors import JRTError, unknown, whole_number
from model_adapters.running.batching import Budget

log = logging.getLogger("lm_eval.jrt")

OVERFLOW = ("error", "truncate_left", "skip")
LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Tokens of a batch, padding and the tokens to be generated included. On a CPU a row costs the same in such a batch as
# alone. Fewer tokens, such as fit into a cache, would only take rows away from decoding.
TOKENS_CPU, TOKENS_CUDA = 16_384, 262_144


@dataclass(frozen=True)
class Place:
    """Where a model runs: in process `rank` of `size`, on which device, in which number format."""

    rank: int
    size: int
    device: torch.device
    dtype: torch.dtype


@dataclass(frozen=True)
class RunOptions:
    """How to run, whatever the model.

    Attributes:
        batch_size: rows of a batch, or `auto` (also `auto:4`) for a budget of tokens. None is 1.
        max_batch_size: most rows of an `auto` batch.
        max_batch_tokens: most tokens of a batch, padding and tokens to generate included. The default, 16384 on a CPU
            and 262144 on CUDA, holds for `auto`; given by the user it caps a fixed number of rows as well.
        device: such as `cpu` or `cuda:1`; None takes a GPU if there is one. lm_eval passes `cuda:0` even where there is
            none; that falls back to the CPU and says so.
        dtype: `auto` (bfloat16 on CUDA, float32 elsewhere), `float32`, `bfloat16` or `float16`.
        on_overflow: `error`, `truncate_left` or `skip`, for prompts beyond the model's context.
        max_length: context length in tokens; the model's own by default, none for a recurrent model.
        reuse: read a document that several prompts begin with once, where the prefix policy makes that exact.
        add_bos_token: whether texts start with BOS; None leaves it to the tokenizer.
        tokenizer: folder or hub id of the tokenizer, where it is not the model's.
        doctor: check the model first (`jrt-eval doctor MODEL`); what fails is logged, and the table stands in the
            results file.
        latency: measure the time of single answers: one row at a time, nothing shared, after an answer that is not
            counted. The answers stay the same.
        enable_thinking, chat_template_args: handed to the chat template, as lm_eval's `hf` does.
        think_end_token: text or token id that ends a model's reasoning, which is no part of its answer.
        chunk_tokens: cut each document into chunks of at most so many tokens, read each with the question from a state
            of its own, and answer from the one after which the model is surest (arXiv 2505.07793).
        state_dir: folder for the states of documents that are read in several parts; a run that stops goes on there.

    Raises:
        JRTError: for a value that is none of these, and for two that contradict each other.
    """

    batch_size: int | str | None = "auto"
    max_batch_size: int | None = None
    max_batch_tokens: int | None = None
    device: str | None = None
    dtype: str | None = "auto"
    on_overflow: str = "error"
    max_length: int | None = None
    reuse: bool = True
    add_bos_token: bool | None = None
    tokenizer: str | None = None
    doctor: bool = False
    latency: bool = False
    enable_thinking: bool | None = None
    chat_template_args: dict[str, Any] | None = None
    think_end_token: str | int | None = None
    chunk_tokens: int | None = None
    state_dir: str | None = None

    def __post_init__(self) -> None:
        for name in ("reuse", "doctor", "add_bos_token", "latency", "enable_thinking"):
            if not isinstance(value := getattr(self, name), (bool, type(None))):
                raise JRTError(f"{name}={value!r}: must be True or False.")
        if self.on_overflow not in OVERFLOW:
            raise unknown("on_overflow", self.on_overflow, OVERFLOW)
        if self.latency and str(self.batch_size) not in ("1", "auto", "None"):
            raise JRTError(
                f"latency=True times one row at a time, and batch_size={self.batch_size} asks for more; leave one "
                "of them out."
            )
        if self.enable_thinking and self.think_end_token is None:
            raise JRTError("enable_thinking=True needs think_end_token, such as think_end_token=</think>.")
        if self.chunk_tokens is not None:
            whole_number("chunk_tokens", self.chunk_tokens)

    @classmethod
    def read(cls, constructor: Callable[..., Any], given: dict[str, Any]) -> RunOptions:
        """Options from the model arguments that `constructor` does not name itself.

        Raises:
            JRTError: for a name that neither knows, with the nearest one that is known.
        """
        given = dict(given)
        if given.pop("trust_remote_code", False):
            raise JRTError(
                "trust_remote_code: no code of a checkpoint ever runs with this model, so there is nothing to trust; "
                "leave it out, --trust_remote_code among lm_eval's own options too."
            )
        common = [field.name for field in fields(cls)]
        own = inspect.signature(constructor).parameters.values()
        named = [one.name for one in own if one.kind is not one.VAR_KEYWORD and one.name != "self"]
        for name in given:
            if name not in common:
                raise unknown("model argument", name, [*named, *common])
        return cls(**given)

    @property
    def template(self) -> dict[str, Any]:
        """Arguments for the chat template."""
        thinking = {} if self.enable_thinking is None else {"enable_thinking": self.enable_thinking}
        return {**(self.chat_template_args or {}), **thinking}

    def budget(self, device: torch.device) -> Budget:
        """What fits into one batch."""
        size, most = 1 if self.latency else self.batch_size, self.max_batch_tokens
        if most is not None:
            whole_number("max_batch_tokens", most)
        if isinstance(size, str) and size.startswith("auto"):
            default = TOKENS_CUDA if device.type == "cuda" else TOKENS_CPU
            return Budget(rows=_rows("max_batch_size", self.max_batch_size), tokens=most or default)
        return Budget(rows=_rows("batch_size", 1 if size is None else size), tokens=most)

    def place(self) -> Place:
        """Find the device, join the other processes (nccl on CUDA, gloo elsewhere), and settle the number format."""
        launched = all(os.environ.get(name) for name in LAUNCHED)
        rank, size = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE")) if launched else (0, 1)
        # with several processes on one machine, each takes the GPU of its own number
        device = pick_device(self.device, int(os.environ.get("LOCAL_RANK", rank)) if size > 1 else None)
        if size > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
            atexit.register(_leave)
        return Place(rank, size, device, pick_dtype(self.dtype, device))


def _rows(name: str, value: int | str | None) -> int | None:
    number = int(value) if isinstance(value, str) and value.strip().isdigit() else value
    return None if value is None else whole_number(f"{name} (rows, or auto)", number)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def pick_device(wanted: str | torch.device | None, index: int | None = None) -> torch.device:
    """The device to run on, see `RunOptions`; of several GPUs number `index`, if it is given."""
    try:
        device = torch.device(wanted or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise JRTError(f"device={wanted!r}: not a device; write cpu, cuda, cuda:1 or mps.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        log.info("device %s is not available, running on the CPU.", device)
        return torch.device("cpu")
    if device.type == "cuda":
        index = (device.index or 0) if index is None else index
        if index >= torch.cuda.device_count():
            raise JRTError(f"device cuda:{index}: this machine has {torch.cuda.device_count()} CUDA device(s).")
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
    return device


def pick_dtype(wanted: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """The number format of the weights, see `RunOptions`.

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
