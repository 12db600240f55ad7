"""The processes that train one model together, as `accelerate launch` or `torchrun` starts them.

Each reads the same stream, takes its share of the rows of every batch and divides by the sums of the whole batch: the
step that is taken is the one a single process would take, so a run may go on with another number of processes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

from jrt_lmeval.errors import JRTError


def one_of_several() -> bool:
    """Whether this process was started together with others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


class Team:
    """This process among the others; alone where none was started with it.

    Attributes:
        rank, size: number of this process, and how many there are.
        device: of this process.
        sharded: each process keeps a part of every weight (FSDP) where otherwise each keeps all (data parallel).
    """

    def __init__(self, device: str = "cpu", sharded: bool = False):
        self.rank, self.size, self.sharded = 0, 1, sharded
        self.device = torch.device(device)
        if one_of_several():
            try:
                from accelerate import PartialState
            except ImportError as error:
                raise JRTError("several processes need accelerate: pip install 'jrt-lmeval[train]'.") from error

            state = PartialState(cpu=self.device.type == "cpu")
            self.rank, self.size, self.device = state.process_index, state.num_processes, state.device
        elif sharded:
            raise JRTError(
                "--shard divides the weights among processes, and there is one: start it with 'accelerate launch "
                "--num_processes N -m jrt_lmeval train ...' or torchrun, or leave --shard out."
            )

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and shows the progress."""
        return self.rank == 0

    def together(self, objective: nn.Module, blocks: nn.ModuleList) -> nn.Module:
        """The objective as all processes train it, to be called in its place."""
        if self.size == 1:
            return objective
        if self.sharded:
            from torch.distributed.fsdp import fully_shard

            for block in blocks:
                fully_shard(block)
            fully_shard(objective)
            return objective
        # a batch without any prefix leaves the prefix projections without a gradient
        return nn.parallel.DistributedDataParallel(objective, find_unused_parameters=True)

    def alone(self, objective: nn.Module) -> AbstractContextManager[Any]:
        """A context in which gradients are not exchanged, for all shares of a batch but the last."""
        return objective.no_sync() if isinstance(objective, nn.parallel.DistributedDataParallel) else nullcontext()

    def total(self, part: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.size > 1:
            part = part.clone()
            torch.distributed.all_reduce(part)
        return part

    def summed(self, figures: Mapping[str, float]) -> dict[str, float]:
        """The sums over all processes of figures that each has a part of."""
        names = sorted(figures)
        sums = self.total(torch.tensor([figures[name] for name in names], dtype=torch.float64, device=self.device))
        return dict(zip(names, sums.tolist(), strict=True))

    def agree(self, wish: bool) -> bool:
        """The decision of the leading process: clocks differ, and all processes have to do the same."""
        if self.size > 1:
            wishes = torch.tensor([float(wish and self.leads)], device=self.device)
            wish = bool(self.total(wishes).item())
        return wish

    def wait(self) -> None:
        """Wait until all processes have called this."""
        if self.size > 1:
            torch.distributed.barrier()


WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True, strict=False)


def whole_state(model: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[dict[str, Any], dict[str, Any]]:
    """All weights that are trained and the whole state of the optimiser by name, on the CPU of the leading process."""
    weights, moments = get_state_dict(model, optimiser, options=WHOLE)
    return dict(weights), dict(moments)


def restore(
    model: nn.Module, optimiser: torch.optim.Optimizer, weights: dict[str, Any], moments: dict[str, Any]
) -> None:
    """Put a `whole_state` back, divided as the model now is."""
    set_state_dict(model, optimiser, model_state_dict=weights, optim_state_dict=moments, options=WHOLE)
