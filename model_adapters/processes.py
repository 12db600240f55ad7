"""Data parallelism: several processes, each with the whole model and its share of the rows (torchrun, accelerate)."""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

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
