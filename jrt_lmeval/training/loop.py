"""The training loop: AdamW, cosine, token-budget batches; resumable, and every step logged as a JSON line."""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from jrt_lmeval.checkpoints.found import CONFIG, WEIGHTS, find
from jrt_lmeval.checkpoints.tokenizers import read_own
from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.training.card import HELDOUT, LOG, RECIPE, write_card
from jrt_lmeval.training.heldout import SETS, Asked, exact_recall, held_out
from jrt_lmeval.training.initialise import start_recalling
from jrt_lmeval.training.mamba import trainable_scan
from jrt_lmeval.training.mixture import Mixture, Place, training_texts
from jrt_lmeval.training.models import new_model
from jrt_lmeval.training.objective import Batch, collate, jrt_loss
from jrt_lmeval.training.recipes import Recipe
from jrt_lmeval.training.teacher import matching_loss, start_from
from jrt_lmeval.training.tokenizer import train_tokenizer

CHECKPOINT = "training.pt"
START = Place()
SAVE_SECONDS = 300


class _Stream(IterableDataset):
    """Batches and the places after them, made in a worker process beside the training."""

    def __init__(self, recipe: Recipe, tokenizer: PreTrainedTokenizerFast, place: Place):
        self.recipe, self.tokenizer, self.place = recipe, tokenizer, place

    def __iter__(self) -> Iterator[tuple[Batch, Place]]:
        torch.set_num_threads(1)
        core, r = self.tokenizer.backend_tokenizer, self.recipe
        mixture = Mixture(r, lambda text: core.encode(text).ids, self.tokenizer.eos_token_id, r.seed)
        for at, rows in mixture.batches(self.place):
            masks = torch.Generator().manual_seed(zlib.crc32(f"{r.seed}/{at.pool}/{at.batch}".encode()))
            batch = collate(rows, self.tokenizer.mask_token_id, r.mask_rate, r.masked_rows, r.context_weight, masks)
            yield batch, replace(at, batch=at.batch + 1)


def learning_rate(recipe: Recipe, done: int) -> float:
    """Warm-up, then cosine to a tenth, as a function of the tokens done."""
    warmup = max(1.0, recipe.warmup * recipe.tokens)
    if done < warmup:
        return recipe.learning_rate * (done + 1) / warmup
    progress = min(1.0, (done - warmup) / max(1.0, recipe.tokens - warmup))
    return recipe.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))


def _optimiser(model: PreTrainedModel, recipe: Recipe) -> torch.optim.AdamW:
    decay = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decay, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas)


@dataclass
class Run:
    """A training as it stands; all of it but the recipe and the device is what a checkpoint holds.

    Attributes:
        done: tokens trained on, prefixes included.
        steps: of the optimiser.
        place: of the next batch in the stream.
        seconds: of wall time, over all the sittings of the run.
        teacher: whose weights the run started from; None where there was none.
    """

    recipe: Recipe
    device: str
    model: PreTrainedModel
    optimiser: torch.optim.Optimizer
    done: int = 0
    steps: int = 0
    seconds: float = 0.0
    place: Place = START
    teacher: JRTForCausalLM | None = None

    @classmethod
    def start(
        cls,
        recipe: Recipe,
        device: str,
        tokenizer: PreTrainedTokenizerFast,
        saved: dict[str, Any] | None,
        teacher: JRTForCausalLM | None = None,
    ) -> Run:
        """A new run, or with `saved`, the contents of a checkpoint, the run that it was written by."""
        torch.manual_seed(recipe.seed)
        model = new_model(recipe, tokenizer).to(device)
        if isinstance(model, JRTForCausalLM):
            start_recalling(model)
            if teacher is not None:
                start_from(model, teacher.to(device))
            model.linear_attention = "kernel"
        run = cls(recipe, device, model, _optimiser(model, recipe), teacher=teacher)
        if saved is not None:
            run.model.load_state_dict(saved["model"])
            run.optimiser.load_state_dict(saved["optimiser"])
            run.done, run.steps, run.seconds = saved["done"], saved["steps"], saved["seconds"]
            run.place = Place(**saved["place"])
        return run

    def save(self, out: Path) -> None:
        """Write the checkpoint; a crash while writing leaves the old one."""
        state = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "done": self.done,
            "steps": self.steps,
            "seconds": self.seconds,
            "place": asdict(self.place),
        }
        torch.save(state, out / f"{CHECKPOINT}.part")
        (out / f"{CHECKPOINT}.part").replace(out / CHECKPOINT)

    def step(self, batch: Batch) -> dict[str, float]:
        """One step of the optimiser; returns the figures of `jrt_loss`.

        Raises:
            JRTError: the loss is not finite. The weights are then those of the step before.
        """
        batch = Batch(**{name: tensor.to(self.device) for name, tensor in vars(batch).items()})
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.recipe, self.done)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device.startswith("cuda")):
            if self.teacher is not None and self.done < self.recipe.match * self.recipe.tokens:
                assert isinstance(self.model, JRTForCausalLM)
                loss = matching_loss(self.model, self.teacher, batch)
                figures = {"match": loss.item()}
            else:
                loss, figures = jrt_loss(self.model, batch, self.recipe.mlm_weight)
        if not bool(loss.isfinite()):
            raise JRTError(
                f"the loss at step {self.steps + 1} is not a finite number: the training has diverged. Start again in "
                "another folder with a lower learning rate or other options of the feature map."
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimiser.step()
        self.done += int(batch.lengths.sum())
        self.steps += 1
        return figures


def _saved(out: Path, recipe: Recipe) -> dict[str, Any] | None:
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


def train(recipe: Recipe, out: Path, device: str = "cpu", quiet: bool = False) -> dict[str, float]:
    """Train a model, or go on with the run in `out`, and save it there as a Hugging Face folder.

    Args:
        recipe: of the run.
        out: folder; holds the model, its card, `recipe.json`, `log.jsonl` and, until the end, `training.pt` to
            resume from.
        device: where to train; float32 on a CPU, bfloat16 autocast on CUDA.
        quiet: no progress bar.

    Returns:
        `tokens`, `seconds`, `steps` and the last averages of the losses.

    Raises:
        JRTError: `out` holds a run with another recipe, or a finished model; the training diverged.
        KeyboardInterrupt: the run was interrupted; it is saved first.
    """
    out.mkdir(parents=True, exist_ok=True)
    saved = _saved(out, recipe)
    teacher = _teacher(recipe)
    (out / RECIPE).write_text(json.dumps(asdict(recipe), indent=2) + "\n", encoding="utf-8")
    if saved is None:
        tokenizer = read_own(teacher[1]) if teacher else train_tokenizer(training_texts(recipe), recipe.vocab_size)
        tokenizer.save_pretrained(out)
    else:
        tokenizer = read_own(out)
    run = Run.start(recipe, device, tokenizer, saved, teacher[0] if teacher else None)
    for log in (LOG, HELDOUT):
        _cut_log(out / log, run.done)
    try:
        with trainable_scan():
            average = _loop(run, tokenizer, out, quiet)
    except KeyboardInterrupt as error:
        # a step that was cut short may have moved some weights and not others: one small step, not worth losing all for
        run.save(out)
        raise KeyboardInterrupt(
            f"stopped and saved at {run.done:,} of {recipe.tokens:,} tokens; the same command goes on from there."
        ) from error
    run.model.to(torch.bfloat16).save_pretrained(out)
    write_card(out, out.resolve().name)
    (out / CHECKPOINT).unlink(missing_ok=True)
    return {"tokens": run.done, "steps": run.steps, "seconds": run.seconds, **average}


def _loop(run: Run, tokenizer: PreTrainedTokenizerFast, out: Path, quiet: bool) -> dict[str, float]:
    """Step until the recipe's tokens are done; returns the running averages of the figures."""
    stream = _Stream(run.recipe, tokenizer, run.place)
    batches = iter(DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=8))
    average: dict[str, float] = {}
    where: dict[str, str | int] = (
        {"device": run.device} if run.device != "cpu" else {"device": "cpu", "threads": torch.get_num_threads()}
    )
    judges = _judges(run.recipe, tokenizer)
    last_save = time.monotonic()
    before = last_save - run.seconds
    bar = tqdm(total=run.recipe.tokens, initial=run.done, unit="tok", unit_scale=True, disable=quiet)
    with bar, open(out / LOG, "a", encoding="utf-8", buffering=1) as log:
        while run.done < run.recipe.tokens:
            judged = run.done * run.recipe.evaluations // run.recipe.tokens
            batch, place = next(batches)
            figures = run.step(batch)
            run.place = place
            run.seconds = time.monotonic() - before
            average = _averaged(average, figures)
            state = {"step": run.steps, "tokens": run.done, "seconds": round(run.seconds, 1)}
            log.write(json.dumps({**state, **_rounded(figures), **where}) + "\n")
            bar.set_postfix(_rounded(average), refresh=False)
            bar.update(run.done - bar.n)
            if run.done * run.recipe.evaluations // run.recipe.tokens > judged:
                begun = time.monotonic()
                _judge(run, judges, out / HELDOUT)
                before += time.monotonic() - begun  # the budget is for training
            if time.monotonic() - last_save > SAVE_SECONDS:
                log.flush()
                run.save(out)
                last_save = time.monotonic()
    return average


def _teacher(recipe: Recipe) -> tuple[JRTForCausalLM, Path] | None:
    """The recipe's teacher in float32 and its folder, or None.

    Raises:
        JRTError: there is no such model.
    """
    if not recipe.teacher:
        return None
    folder = find(recipe.teacher).folder
    return JRTForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), folder


def _judges(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> dict[str, list[Asked]]:
    """The held-out sets that a run is judged by; none where its recipe asks for no judging."""
    core = tokenizer.backend_tokenizer
    names = SETS if recipe.evaluations else ()
    return {name: held_out(name, lambda text: core.encode(text).ids) for name in names}


def _judge(run: Run, judges: dict[str, list[Asked]], log: Path) -> None:
    """Add a line of held-out recall to the log."""
    recall = {name: round(exact_recall(run.model, documents), 4) for name, documents in judges.items()}
    line = {"step": run.steps, "tokens": run.done, "seconds": round(run.seconds, 1), **recall}
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _cut_log(log: Path, done: int) -> None:
    """Drop the log's lines of steps that no checkpoint holds: they are taken again."""
    if log.exists():
        whole = [line for line in log.read_text(encoding="utf-8").splitlines(True) if line.endswith("\n")]
        log.write_text("".join(line for line in whole if json.loads(line)["tokens"] <= done), encoding="utf-8")


def _averaged(average: dict[str, float], figures: dict[str, float]) -> dict[str, float]:
    """Running averages over about the last hundred steps; a figure that a step did not have changes nothing."""
    new = {k: v for k, v in figures.items() if not math.isnan(v)}
    return {**average, **{k: v if k not in average else 0.99 * average[k] + 0.01 * v for k, v in new.items()}}


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {k: round(v, 3) for k, v in figures.items() if not math.isnan(v)}
