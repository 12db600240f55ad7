"""The model arguments that all models here take, as a user writes them."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch

from jrt_lmeval.errors import JRTError, unknown
from model_adapters.processes import World, connect, launched_world
from model_adapters.running.hardware import pick_budget, pick_device, pick_dtype

log = logging.getLogger("lm_eval.jrt")

OVERFLOW = ("error", "truncate_left", "skip")


def parameter_names(constructor: Callable[..., Any]) -> list[str]:
    """The arguments a constructor names itself."""
    parameters = inspect.signature(constructor).parameters.values()
    return [p.name for p in parameters if p.kind is not p.VAR_KEYWORD and p.name != "self"]


def one_of(kind: str, value: str, choices: tuple[str, ...]) -> str:
    """`value` if it is one of the choices, else JRTError."""
    if value not in choices:
        raise unknown(kind, value, choices)
    return value


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
        for name in given:
            if name not in common:
                raise unknown("model argument", name, [*parameter_names(constructor), *common])
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
