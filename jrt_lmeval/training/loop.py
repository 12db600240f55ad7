"""One training run, from its loss to the finished model. It can be stopped at any moment and resumed.

The loss is JRT's (arXiv 2407.05483, eq. 5): next tokens after the prefix, plus masked tokens inside it. The optimiser
is AdamW with a cosine schedule. Each step is logged as a line of JSON.

Processes that `accelerate launch` or `torchrun` started train one model together. Each reads the same stream, takes its
share of the rows of every batch and divides by the sums of the whole batch: the step is the one that a single process
would take, so a run may be resumed with another number of processes.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from jrt_lmeval.checkpoints.found import CONFIG, WEIGHTS, find
from jrt_lmeval.checkpoints.load import load_model
from jrt_lmeval.checkpoints.tokenizers import find_tokenizer, read_own
from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.modeling.retrofit import RetrofitForCausalLM
from jrt_lmeval.modeling.scans import fast_scans
from jrt_lmeval.training.card import RECIPE, write_card
from jrt_lmeval.training.heldout import SETS, exact_recall, held_out
from jrt_lmeval.training.models import last_hidden, logits_of, new_model, set_first_weights
from jrt_lmeval.training.recipes import CHECKPOINT, GPT2, HELDOUT, LOG, SHIPPED, SHIPPED_TEACHER, TrainRecipe
from jrt_lmeval.training.retrofit import write_retrofit_card
from jrt_lmeval.training.rows import (
    Place,
    TrainBatch,
    batches,
    encoder,
    masking_gpt2,
    require_sources,
    train_tokenizer,
    training_texts,
)
from jrt_lmeval.training.teacher import fit_to_attention, full_rows, matching_loss, other_queries, start_from

SAVE_SECONDS = 300


class Team:
    """This process among the others; alone where none was started with it.

    Attributes:
        rank, size: number of this process, and how many there are.
        leads: whether this process writes the files and shows the progress.
        device: of this process.
        sharded: each process keeps a part of every weight (FSDP) where otherwise each keeps all (data parallel).
    """

    def __init__(self, device: str = "cpu", sharded: bool = False):
        self.rank, self.size, self.sharded = 0, 1, sharded
        self.device = torch.device(device)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
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
        self.leads = self.rank == 0

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

    def agree(self, decision: bool) -> bool:
        """The decision of the leading process: clocks differ, and all processes have to do the same."""
        if self.size > 1:
            decision = bool(self.total(torch.tensor([float(decision and self.leads)], device=self.device)).item())
        return decision

    def wait(self) -> None:
        """Wait until all processes have called this."""
        if self.size > 1:
            torch.distributed.barrier()


WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True, strict=False)


def whole_state(model: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[dict[str, Any], dict[str, Any]]:
    """All weights that are trained and the whole state of the optimiser by name, on the CPU of the leading process."""
    weights, moments = get_state_dict(model, optimiser, options=WHOLE)
    # torch leaves a frozen weight out under one of its names; the embedding of many models has two
    frozen = {name for name, weight in model.named_parameters(remove_duplicate=False) if not weight.requires_grad}
    return {name: weight for name, weight in weights.items() if name not in frozen}, dict(moments)


@dataclass(frozen=True)
class Share:
    """Some rows of a batch, and the sums over the whole batch that its mean losses are divided by.

    The losses and gradients of all shares add up to those of the batch, however it was divided: among processes, or one
    after the other where memory holds no more.
    """

    rows: TrainBatch
    weights: float
    masked: int
    answers: int


def shares(batch: TrainBatch, tokens: int | None, rank: int = 0, processes: int = 1) -> Iterator[Share]:
    """The rows of a process, in shares of at most `tokens` tokens, padding included (one row at least).

    Every process gets the same number of shares, since they wait for each other; rows without weight fill up the rest.
    """
    rows = len(batch.lengths)
    mine = -(-rows // processes)
    size = mine if tokens is None else min(mine, max(1, tokens // batch.ids.shape[1]))
    sums = (float(batch.weights.sum()), int(batch.masked.sum()), int(batch.answer.sum()))
    for first in range(0, mine, size):
        numbers = [number * processes + rank for number in range(first, min(first + size, mine))]
        picked = [number for number in numbers if number < rows]
        part = batch.rows(picked or [0])
        if not picked:
            silent = torch.zeros_like(part.masked)
            part = replace(part, weights=part.weights * 0, masked=silent, answer=silent)
        yield Share(part, *sums)


def jrt_loss(model: PreTrainedModel, share: Share, mlm_weight: float) -> tuple[Tensor, dict[str, float]]:
    """A share's part of weighted mean next-token loss + `mlm_weight` x mean masked loss.

    Logits are computed only where a loss is taken.

    Returns:
        The loss, and for the log, each the share's part of it: `ntp` and `mlm` in nats (`mlm` only where the batch has
        masked tokens), `answer_accuracy` per answer token.
    """
    batch = share.rows
    hidden = last_hidden(model, batch.ids, batch.lengths, batch.prefix_lengths)
    row, token = batch.weights.nonzero(as_tuple=True)
    logits, targets = logits_of(model, hidden[row, token - 1]).float(), batch.targets[row, token]
    ntp = (F.cross_entropy(logits, targets, reduction="none") * batch.weights[row, token]).sum() / share.weights
    right = (logits.detach().argmax(-1) == targets) & batch.answer[row, token]
    figures = {"ntp": ntp.item(), "answer_accuracy": right.sum().item() / max(1, share.answers)}
    if not share.masked:
        return ntp, figures
    guessed, hidden_ones = logits_of(model, hidden[batch.masked]).float(), batch.targets[batch.masked]
    mlm = F.cross_entropy(guessed, hidden_ones, reduction="sum") / share.masked
    figures["mlm"] = mlm.item()
    return ntp + mlm_weight * mlm, figures


def learning_rate(recipe: TrainRecipe, done: int) -> float:
    """Warm-up, then cosine to a tenth, as a function of the tokens done."""
    warmup = max(1.0, recipe.warmup * recipe.tokens)
    if done < warmup:
        return recipe.learning_rate * (done + 1) / warmup
    progress = min(1.0, (done - warmup) / max(1.0, recipe.tokens - warmup))
    return recipe.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))


def _optimiser(model: nn.Module, recipe: TrainRecipe) -> torch.optim.AdamW:
    trained = [p for p in model.parameters() if p.requires_grad]
    decay = [p for p in trained if p.dim() >= 2]
    rest = [p for p in trained if p.dim() < 2]
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
    """The state of a training run. A checkpoint holds all of it but the recipe and the team.

    Attributes:
        done: tokens trained on, prefixes included.
        steps: of the optimiser.
        place: of the next batch in the stream.
        seconds: of wall time, from all starts of the run together.
        objective: of the model, as the team trains it.
    """

    recipe: TrainRecipe
    team: Team
    model: PreTrainedModel
    objective: nn.Module
    optimiser: torch.optim.Optimizer
    done: int = 0
    steps: int = 0
    seconds: float = 0.0
    place: Place = field(default_factory=Place)

    @classmethod
    def start(
        cls,
        recipe: TrainRecipe,
        team: Team,
        tokenizer: PreTrainedTokenizerFast,
        saved: Mapping[str, Any] | None,
        teacher: JRTForCausalLM | None = None,
    ) -> Run:
        """A new run, or the one that wrote the checkpoint with the contents `saved`.

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
        if saved is None:
            set_first_weights(model)
        if isinstance(model, JRTForCausalLM):
            if isinstance(teacher, RetrofitForCausalLM):
                if saved is None:
                    model.start_from(teacher)
                teacher = None
            if teacher is not None:
                start_from(model, teacher.to(team.device))
                if saved is None and other_queries(model, teacher):
                    fit_to_attention(model, teacher, full_rows(recipe, tokenizer))
            model.linear_attention = "kernel"
        objective = team.together(Objective(model, recipe.mlm_weight, teacher, team), _blocks(model))
        run = cls(recipe, team, model, objective, _optimiser(model, recipe))
        if saved is not None:
            weights, moments = saved["model"], saved["optimiser"]
            set_state_dict(model, run.optimiser, model_state_dict=weights, optim_state_dict=moments, options=WHOLE)
            run.done, run.steps, run.seconds = saved["done"], saved["steps"], saved["seconds"]
            run.place = Place(**saved["place"])
        return run

    def save(self, out: Path) -> None:
        """Write the checkpoint; a crash while writing leaves the old one. All processes call it together."""
        weights, moments = whole_state(self.model, self.optimiser)
        if not self.team.leads:
            return
        state = {"model": weights, "optimiser": moments, "place": asdict(self.place)}
        state |= {name: getattr(self, name) for name in ("done", "steps", "seconds")}
        part = out / f"{CHECKPOINT}.part"
        try:
            torch.save(state, part)
        except RuntimeError as error:  # what torch says of a full disk
            part.unlink(missing_ok=True)
            raise OSError(f"{CHECKPOINT}: {' '.join(str(error).split())[:200]}") from error
        part.replace(out / CHECKPOINT)

    def progress(self) -> dict[str, float]:
        """What each line of a log begins with."""
        return {"step": self.steps, "tokens": self.done, "seconds": round(self.seconds, 1)}

    def step(self, batch: TrainBatch) -> dict[str, float]:
        """One step of the optimiser on a whole batch; returns the figures of `jrt_loss`.

        Raises:
            JRTError: the loss is not finite. The weights are then those of the step before.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.recipe, self.done)
        matching = self.done < self.recipe.match * self.recipe.tokens
        self.optimiser.zero_grad()
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
    """The layers, each of which is sharded by itself."""
    if isinstance(model, RetrofitForCausalLM):
        return model.backbone.get_decoder().layers
    return model.blocks if isinstance(model, JRTForCausalLM) else model.base_model.layers


class _Stream(IterableDataset):
    """Batches and the places after them, made in a worker process beside the training."""

    def __init__(self, recipe: TrainRecipe, tokenizer: PreTrainedTokenizerFast, place: Place):
        self.recipe, self.tokenizer, self.place = recipe, tokenizer, place

    def __iter__(self) -> Iterator[tuple[TrainBatch, Place]]:
        torch.set_num_threads(1)
        return batches(self.recipe, self.tokenizer, self.place)


def _saved(out: Path, recipe: TrainRecipe) -> dict[str, Any] | None:
    """The checkpoint in a folder, or None where nothing was begun; see `train` for the errors."""
    if not (out / CHECKPOINT).exists():
        if (out / CONFIG).exists() and (out / WEIGHTS).exists():
            raise JRTError(f"{out}: holds a finished model, which a new run would overwrite. Give another --out.")
        return None
    if not (out / RECIPE).exists():
        raise JRTError(f"{out}: holds {CHECKPOINT} but no {RECIPE} that says what it is of. Give another --out.")
    saved = json.loads((out / RECIPE).read_text(encoding="utf-8"))
    now = json.loads(json.dumps(asdict(recipe)))
    changed = sorted(key for key in now.keys() | saved.keys() if saved.get(key) != now.get(key))
    if changed:
        raise JRTError(
            f"{out}: holds a run with another recipe (differs in: {', '.join(changed)}). Resume with the same options, "
            "or give another --out."
        )
    return torch.load(out / CHECKPOINT, map_location="cpu", weights_only=True)


def train(
    recipe: TrainRecipe,
    out: Path,
    device: str = "cpu",
    quiet: bool = False,
    sharded: bool = False,
    cache: Path | None = None,
) -> dict[str, float]:
    """Train a model, or resume the run in `out`, and save it there as a Hugging Face folder.

    Started by `accelerate launch` or `torchrun`, the processes train one model together (see the top of this file).

    Args:
        out: folder; holds the model, its card, `recipe.json`, `log.jsonl` and, until the end, `training.pt` to
            resume from.
        device: where to train; float32 on a CPU, bfloat16 autocast on CUDA.
        sharded: each process keeps a part of every weight (FSDP); otherwise each keeps all.
        cache: folder that keeps what a frozen backbone puts out below what is trained, for further runs on the same
            rows.

    Returns:
        `tokens`, `seconds`, `steps` and the last running averages of the losses.

    Raises:
        JRTError: `out` holds a run with another recipe, or a finished model, or cannot be written; there is nothing to
            train for; the extra `train` is not installed; the training diverged.
        KeyboardInterrupt: the run was interrupted; it was saved first.
    """
    if recipe.tokens < 1:
        raise JRTError(f"tokens={recipe.tokens}: a model is trained for at least 1 token.")
    require_sources(recipe)
    team, retrofit = Team(device, sharded), recipe.model == "retrofit"
    try:
        out.mkdir(parents=True, exist_ok=True)
        saved, teacher = _saved(out, recipe), _teacher(recipe)
        team.wait()  # until all have looked, before one writes
        if team.leads:
            _replace(out / RECIPE, json.dumps(asdict(recipe), indent=2) + "\n")
            if saved is None and not retrofit:
                _new_tokenizer(recipe).save_pretrained(out)
            for log in (LOG, HELDOUT):
                _cut_log(out / log, saved["done"] if saved else 0)
        team.wait()
        tokenizer: Any = find_tokenizer(find(str(recipe.config["backbone"]))) if retrofit else read_own(out)
        run = Run.start(recipe, team, tokenizer, saved, teacher)
        if isinstance(run.model, RetrofitForCausalLM) and cache is not None:
            cache.mkdir(parents=True, exist_ok=True)
            run.model.cache = cache
        try:
            with fast_scans():
                average = _loop(run, tokenizer, out, quiet or not team.leads)
        except KeyboardInterrupt as error:
            # the interrupted step may have moved only some of the weights, which is better than losing the run
            run.save(out)
            raise KeyboardInterrupt(
                f"stopped and saved at {run.done:,} of {recipe.tokens:,} tokens; the same command resumes from there."
            ) from error
        _finish(run, tokenizer, out)
    except (OSError, SafetensorError) as error:
        raise JRTError(
            f"{out}: cannot be written ({error}). Give --out a folder with room; a run whose {CHECKPOINT} is there "
            "resumes from it."
        ) from error
    return {"tokens": run.done, "steps": run.steps, "seconds": run.seconds, **average}


def _new_tokenizer(recipe: TrainRecipe) -> PreTrainedTokenizerFast:
    """The teacher's tokenizer, the one that the recipe names, or one that is trained on the recipe's texts."""
    if recipe.teacher or recipe.tokenizer == SHIPPED:
        return read_own(find(recipe.teacher or SHIPPED_TEACHER).folder)
    return masking_gpt2() if recipe.tokenizer == GPT2 else train_tokenizer(training_texts(recipe), recipe.vocab_size)


def _teacher(recipe: TrainRecipe) -> JRTForCausalLM | None:
    """The recipe's teacher in float32; JRTError where there is no such model."""
    if not recipe.teacher:
        return None
    if recipe.model == "retrofit":
        return load_model(find(recipe.teacher))
    return JRTForCausalLM.from_pretrained(find(recipe.teacher).folder, dtype=torch.float32).eval()


def _finish(run: Run, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the trained model and its card.

    A checkpoint lies beside them until they are complete, so that a run that is killed here resumes from it and no
    half-written model is taken for a finished one.
    """
    run.save(out)
    weights, _ = whole_state(run.model, run.optimiser)
    if run.team.leads:
        model = new_model(run.recipe, tokenizer)
        model.load_state_dict(weights, strict=not isinstance(model, RetrofitForCausalLM))
        try:
            model.to(torch.bfloat16).save_pretrained(out)
            if isinstance(model, RetrofitForCausalLM):
                write_retrofit_card(out, out / LOG, out / HELDOUT)
            else:
                write_card(out, out.resolve().name)
        except (OSError, SafetensorError):
            (out / CONFIG).unlink(missing_ok=True)  # without it the folder is not taken for a model
            raise
        (out / CHECKPOINT).unlink(missing_ok=True)
    run.team.wait()


def _loop(run: Run, tokenizer: PreTrainedTokenizerFast, out: Path, quiet: bool) -> dict[str, float]:
    """Step until the recipe's tokens are done; returns the running averages of the figures."""
    loader = DataLoader(_Stream(run.recipe, tokenizer, run.place), batch_size=None, num_workers=1, prefetch_factor=8)
    stream = iter(loader)
    average: dict[str, float] = {}
    where: dict[str, str | int] = {"device": str(run.team.device)}
    where |= {"threads": torch.get_num_threads()} if run.team.device.type == "cpu" else {}
    where |= {"processes": run.team.size} if run.team.size > 1 else {}
    judges = {name: held_out(name, encoder(tokenizer)) for name in (SETS if run.recipe.evaluations else ())}
    last_save = time.monotonic()
    before = last_save - run.seconds
    bar = tqdm(total=run.recipe.tokens, initial=run.done, unit="tok", unit_scale=True, mininterval=1, disable=quiet)
    with bar, open(out / LOG if run.team.leads else os.devnull, "a", encoding="utf-8", buffering=1) as log:
        while run.done < run.recipe.tokens:
            judged = run.done * run.recipe.evaluations // run.recipe.tokens
            batch, place = next(stream)
            figures = run.step(batch)
            run.place = place
            run.seconds = time.monotonic() - before
            # over about the last hundred steps that had the figure
            average |= {name: 0.99 * average.get(name, value) + 0.01 * value for name, value in figures.items()}
            rounded = {name: round(value, 3) for name, value in figures.items()}
            log.write(json.dumps({**run.progress(), **rounded, **where}) + "\n")
            bar.set_postfix({name: round(value, 3) for name, value in average.items()}, refresh=False)
            bar.update(run.done - bar.n)
            if run.done * run.recipe.evaluations // run.recipe.tokens > judged:
                begun = time.monotonic()
                if run.team.leads:
                    recall = {name: round(exact_recall(run.model, asked), 4) for name, asked in judges.items()}
                    with (out / HELDOUT).open("a", encoding="utf-8") as file:
                        file.write(json.dumps({**run.progress(), **recall}) + "\n")
                run.team.wait()
                before += time.monotonic() - begun  # the budget is for training
            if run.team.agree(time.monotonic() - last_save > SAVE_SECONDS):
                log.flush()
                run.save(out)
                last_save = time.monotonic()
    return average


def _cut_log(log: Path, done: int) -> None:
    """Drop the log's lines of steps that no checkpoint holds: they are taken again."""
    if log.exists():
        whole = [line for line in log.read_text(encoding="utf-8").splitlines(True) if line.endswith("\n")]
        _replace(log, "".join(line for line in whole if json.loads(line)["tokens"] <= done))


def _replace(file: Path, text: str) -> None:
    """Write a file such that a kill leaves either the old one or the new one, and never a part of it."""
    part = file.with_name(f"{file.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(file)
