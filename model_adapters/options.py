"""The model arguments that all models take, and what follows from them: processes, device, number format and batch.

Data parallelism is that of torchrun and accelerate: several processes, each with the whole model and its share of rows.
"""

from __future__ import annotations

import atexit
import inspect
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from jrt_lmeval.errors import JRTError, unknown
from model_adapters.running.batching import Budget

log = logging.getLogger("lm_eval.jrt")

OVERFLOW = ("error", "truncate_left", "skip")


def one_source(pretrained: str | None, path: str | None) -> str | None:
    """`pretrained` and its alias `path` as one; None if neither is given.

    Raises:
        JRTError: the two differ.
    """
    if pretrained is not None and path is not None and str(pretrained) != str(path):
        raise JRTError(f"pretrained={pretrained!r} and path={path!r} name the same thing; give one of them.")
    source = path if pretrained is None else pretrained
    return None if source is None else str(source)


def context_length(asked: int | None, limit: int | None, table: int | None = None) -> int | None:
    """The context length in tokens of a run: what was asked for (`max_length`), by default the model's own.

    Args:
        asked: the user's `max_length`.
        limit: what the model was made for; None is no limit. A user may go beyond it, and is warned.
        table: positions for which the model stores a vector: there is nothing to read beyond them.

    Raises:
        JRTError: `asked` is no number of tokens, or more than the model has positions for.
    """
    if asked is None:
        return limit
    if isinstance(asked, bool) or not isinstance(asked, int) or asked < 2:
        raise JRTError(f"max_length={asked!r}: must be a whole number of at least 2 tokens.")
    if table is not None and asked > table:
        raise JRTError(
            f"max_length={asked}: the model stores a vector for each of {table} positions and has none beyond them; "
            f"max_length can be at most {table}."
        )
    if limit is not None and asked > limit:
        log.warning(
            "max_length=%d is more than the %d tokens that the model's positions were made for. Longer prompts are "
            "read, and answers to them may mean little.",
            *(asked, limit),
        )
    return asked


@dataclass(frozen=True)
class RunOptions:
    """How to run, whatever the model.

    Attributes:
        batch_size: rows of a batch, or `auto` for a budget of tokens.
        max_batch_size: most rows of an `auto` batch.
        max_batch_tokens: token budget of a batch.
        device: such as `cpu` or `cuda:1`; falls back to the CPU.
        dtype: `auto`, `float32`, `bfloat16` or `float16`, see `pick_dtype`.
        on_overflow: `error`, `truncate_left` or `skip`, for prompts beyond the model's context.
        max_length: context length in tokens; the model's own by default, none for a recurrent model.
        reuse: read shared documents once.
        add_bos_token: whether texts start with BOS; None leaves it to the tokenizer.
        tokenizer: folder or hub id of the tokenizer, where it is not the model's.
        doctor: check the model first (`jrt-eval doctor MODEL`) and put the table into the results.
        latency: measure the time of single answers: one row at a time, nothing shared, after an answer that is not
            counted. The answers stay the same.
        enable_thinking, chat_template_args: handed to the chat template, as lm_eval's `hf` does.
        think_end_token: text or token id that ends a model's reasoning, which is no part of its answer.
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

    @classmethod
    def read(cls, constructor: Callable[..., Any], given: dict[str, Any]) -> RunOptions:
        """Options from the model arguments that `constructor` does not name itself.

        Raises:
            JRTError: for a name that neither knows, with the nearest one that is known.
        """
        common = [field.name for field in fields(cls)]
        if given.get("trust_remote_code"):
            raise JRTError(
                "trust_remote_code: no code of a checkpoint ever runs with this model, so there is nothing to trust; "
                "leave it out, --trust_remote_code among lm_eval's own options too."
            )
        given = {name: value for name, value in given.items() if name != "trust_remote_code"}
        own = inspect.signature(constructor).parameters.values()
        named = [one.name for one in own if one.kind is not one.VAR_KEYWORD and one.name != "self"]
        for name in given:
            if name not in common:
                raise unknown("model argument", name, [*named, *common])
        for name in ("reuse", "doctor", "add_bos_token", "latency", "enable_thinking"):
            if not isinstance(given.get(name, False), (bool, type(None))):
                raise JRTError(f"{name}={given[name]!r}: must be True or False.")
        options = cls(**given)
        if options.latency and str(options.batch_size) not in ("1", "auto", "None"):
            raise JRTError(
                f"latency=True times one row at a time, and batch_size={options.batch_size} asks for more; leave one "
                "of them out."
            )
        if options.enable_thinking and options.think_end_token is None:
            raise JRTError("enable_thinking=True needs think_end_token, such as think_end_token=</think>.")
        return options

    def hardware(self) -> Hardware:
        """Find the device, join the other processes, and settle the number format."""
        world = launched_world()
        device = pick_device(self.device, world.local_rank, world.size)
        connect(world, device)
        return Hardware(world, device, pick_dtype(self.dtype, device))

    def run_arguments(self, hardware: Hardware) -> dict[str, Any]:
        """Keyword arguments of `RecallLM`."""
        thinking = {} if self.enable_thinking is None else {"enable_thinking": self.enable_thinking}
        end = self.think_end_token
        return {
            "budget": pick_budget(
                1 if self.latency else self.batch_size, self.max_batch_size, self.max_batch_tokens, hardware.device
            ),
            "world": hardware.world,
            "max_length": self.max_length,
            "on_overflow": self.on_overflow,
            "add_bos_token": self.add_bos_token,
            "reuse": self.reuse and not self.latency,
            "doctor": self.doctor,
            "latency": self.latency,
            "template": {**(self.chat_template_args or {}), **thinking},
            "think_end": int(end) if isinstance(end, str) and end.isdigit() else end,
        }


@dataclass(frozen=True)
class Hardware:
    """Where a model runs: among which processes, on which device, in which number format."""

    world: World
    device: torch.device
    dtype: torch.dtype


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Tokens of a batch, padding and the tokens to be generated included. On a CPU a row costs the same in such a batch as
# alone. Fewer tokens, such as fit into a cache, would only take rows away from decoding.
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


LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class World:
    """This process among all: `rank` of `size`, number `local_rank` on its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    def all_gather(self, tensor: Tensor) -> Tensor:
        """Concatenate a tensor of every process along the first dimension (scalars become a vector)."""
        if self.size == 1:
            return tensor
        tensor = tensor[None] if tensor.dim() == 0 else tensor
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None:
        """The objects of all processes on process `dst`, None on the others."""
        if self.size == 1:
            return [obj]
        found: list[Any] | None = [None] * self.size if self.rank == dst else None
        dist.gather_object(obj, found, dst=dst)
        return found

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()


def launched_world() -> World:
    """The world a launcher described in the environment; a single process without one."""
    if not all(os.environ.get(name) for name in LAUNCHED):
        return World()
    return World(
        int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
    )


def connect(world: World, device: torch.device) -> None:
    """Join the process group (nccl on CUDA, gloo elsewhere) unless someone already did."""
    if world.size == 1 or dist.is_initialized():
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    atexit.register(_leave)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def without_repeats(requests: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """The requests to run, and for every request its place among them.

    With several processes lm_eval hands out the last request of a process again until all have as many, and a request
    with `repeats` so many times, always right after itself.
    """
    asked: list[Any] = []
    places = []
    for request in requests:
        if not asked or request is not asked[-1]:
            asked.append(request)
        places.append(len(asked) - 1)
    return asked, places
