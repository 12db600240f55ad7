"""A training as it stands: model, optimiser and place in the stream, the step that moves it, and its checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM, Mamba2ForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.training.fitted import fit_to_attention, full_rows
from jrt_lmeval.training.initialise import start_recalling, start_recalling_llama
from jrt_lmeval.training.initialise_mamba2 import start_recalling_mamba2
from jrt_lmeval.training.mixture import Place
from jrt_lmeval.training.models import new_model
from jrt_lmeval.training.objective import Batch, Share, jrt_loss, shares
from jrt_lmeval.training.recipes import Recipe
from jrt_lmeval.training.teacher import matching_loss, other_queries, start_from
from jrt_lmeval.training.team import Team, restore, whole_state

CHECKPOINT = "training.pt"
START = Place()


def learning_rate(recipe: Recipe, done: int) -> float:
    """Warm-up, then cosine to a tenth, as a function of the tokens done."""
    warmup = max(1.0, recipe.warmup * recipe.tokens)
    if done < warmup:
        return recipe.learning_rate * (done + 1) / warmup
    progress = min(1.0, (done - warmup) / max(1.0, recipe.tokens - warmup))
    return recipe.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))


def _optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    decay = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decay, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas)


class Objective(nn.Module):
    """The loss as a module's forward pass, which is what data parallel training and sharding take hold of."""

    def __init__(self, model: PreTrainedModel, mlm_weight: float, teacher: JRTForCausalLM | None, team: Team):
        super().__init__()
        self.model, self.mlm_weight, self.team = model, mlm_weight, team
        self.teachers = [teacher] if teacher is not None else []  # a plain list: its weights are not to be trained

    def forward(self, share: Share, matching: bool) -> tuple[Tensor, dict[str, float]]:
        """The share's part of the loss, and of the figures for the log."""
        if not matching:
            return jrt_loss(self.model, share, self.mlm_weight)
        assert isinstance(self.model, JRTForCausalLM)
        loss = matching_loss(self.model, self.teachers[0], share.rows, self.team.total)
        return loss, {"match": loss.item()}


@dataclass
class Run:
    """A training as it stands; all of it but the recipe and the team is what a checkpoint holds.

    Attributes:
        done: tokens trained on, prefixes included.
        steps: of the optimiser.
        place: of the next batch in the stream.
        seconds: of wall time, over all the sittings of the run.
        objective: of the model; as the team trains it.
    """

    recipe: Recipe
    team: Team
    model: PreTrainedModel
    objective: nn.Module
    optimiser: torch.optim.Optimizer
    done: int = 0
    steps: int = 0
    seconds: float = 0.0
    place: Place = field(default=START)

    @classmethod
    def start(
        cls,
        recipe: Recipe,
        team: Team,
        tokenizer: PreTrainedTokenizerFast,
        saved: Mapping[str, Any] | None,
        teacher: JRTForCausalLM | None = None,
    ) -> Run:
        """A new run, or with `saved`, the contents of a checkpoint, the run that it was written by.

        Raises:
            JRTError: weights are to be divided among processes in a run that needs them whole.
        """
        if team.sharded and (teacher is not None or recipe.evaluations):
            raise JRTError(
                "--shard goes with recipes that have no teacher and are not judged during the run (360m, 1b): both "
                "read single layers, and no process has a whole one. Leave --shard out: each then keeps all weights."
            )
        torch.manual_seed(recipe.seed)
        model = new_model(recipe, tokenizer).to(team.device)
        if isinstance(model, JRTForCausalLM):
            if recipe.shifted_heads:
                start_recalling(model)
            if teacher is not None:
                start_from(model, teacher.to(team.device))
                if saved is None and other_queries(model, teacher):
                    fit_to_attention(model, teacher, full_rows(recipe, tokenizer))
            model.linear_attention = "kernel"
        elif isinstance(model, LlamaForCausalLM):
            start_recalling_llama(model)
        elif isinstance(model, Mamba2ForCausalLM):
            start_recalling_mamba2(model)
        objective = team.together(Objective(model, recipe.mlm_weight, teacher, team), _blocks(model))
        run = cls(recipe, team, model, objective, _optimiser(model, recipe))
        if saved is not None:
            restore(model, run.optimiser, saved["model"], saved["optimiser"])
            run.done, run.steps, run.seconds = saved["done"], saved["steps"], saved["seconds"]
            run.place = Place(**saved["place"])
        return run

    def save(self, out: Path) -> None:
        """Write the checkpoint; a crash while writing leaves the old one. All processes call it together."""
        weights, moments = whole_state(self.model, self.optimiser)
        if not self.team.leads:
            return
        state = {
            "model": weights,
            "optimiser": moments,
            "done": self.done,
            "steps": self.steps,
            "seconds": self.seconds,
            "place": asdict(self.place),
        }
        try:
            torch.save(state, out / f"{CHECKPOINT}.part")
        except RuntimeError as error:  # what torch says of a full disk
            (out / f"{CHECKPOINT}.part").unlink(missing_ok=True)
            raise OSError(f"{CHECKPOINT}: {' '.join(str(error).split())[:200]}") from error
        (out / f"{CHECKPOINT}.part").replace(out / CHECKPOINT)

    def step(self, batch: Batch) -> dict[str, float]:
        """One step of the optimiser on a whole batch; returns the figures of `jrt_loss`.

        Raises:
            JRTError: the loss is not finite. The weights are then those of the step before.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.recipe, self.done)
        matching = self.done < self.recipe.match * self.recipe.tokens
        self.optimiser.zero_grad(set_to_none=True)
        parts = list(shares(batch, None if matching else self.recipe.share_tokens, self.team.rank, self.team.size))
        figures: dict[str, float] = {}
        for number, share in enumerate(parts, 1):
            with self.team.alone(self.objective) if number < len(parts) else nullcontext():
                found = self._backward(share, matching)
            figures = {name: figures.get(name, 0.0) + value for name, value in found.items()}
        figures = self.team.summed(figures)
        if not math.isfinite(figures.pop("loss")):
            raise JRTError(
                f"the loss at step {self.steps + 1} is not a finite number: the training has diverged. Start again in "
                "another folder with a lower learning rate or other options of the feature map."
            )
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimiser.step()
        self.done += int(batch.lengths.sum())
        self.steps += 1
        return figures

    def _backward(self, share: Share, matching: bool) -> dict[str, float]:
        device = self.team.device
        rows = share.rows.to(device)
        half = device.type == "cuda" or self.recipe.dtype == "bfloat16"
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss, figures = self.objective(Share(rows, share.weights, share.masked, share.answers), matching)
        # processes average their gradients, and each holds a part of a sum
        (loss * self.team.size).backward()
        return {**figures, "loss": loss.item()}


def _blocks(model: PreTrainedModel) -> nn.ModuleList:
    """The layers, each of which is divided by itself."""
    return model.blocks if isinstance(model, JRTForCausalLM) else model.base_model.layers
