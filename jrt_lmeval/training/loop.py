"""The training loop: AdamW, cosine, token-budget batches; resumable, and every step logged as a JSON line."""

from __future__ import annotations

import json
import math
import os
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from jrt_lmeval.checkpoints.found import CONFIG, WEIGHTS, find
from jrt_lmeval.checkpoints.tokenizers import read_own
from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.modeling.scans import fast_scans
from jrt_lmeval.training.card import HELDOUT, LOG, RECIPE, write_card
from jrt_lmeval.training.heldout import SETS, Asked, exact_recall, held_out
from jrt_lmeval.training.mixture import Mixture, Place, training_texts
from jrt_lmeval.training.models import new_model
from jrt_lmeval.training.objective import Batch, collate
from jrt_lmeval.training.recipes import GPT2, SHIPPED, SHIPPED_TEACHER, Recipe
from jrt_lmeval.training.run import CHECKPOINT, Run
from jrt_lmeval.training.team import Team, whole_state
from jrt_lmeval.training.tokenizer import masking_gpt2, train_tokenizer

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


def train(
    recipe: Recipe, out: Path, device: str = "cpu", quiet: bool = False, sharded: bool = False
) -> dict[str, float]:
    """Train a model, or go on with the run in `out`, and save it there as a Hugging Face folder.

    Started by `accelerate launch` or `torchrun`, the processes train one model together (see `team`).

    Args:
        recipe: of the run.
        out: folder; holds the model, its card, `recipe.json`, `log.jsonl` and, until the end, `training.pt` to
            resume from.
        device: where to train; float32 on a CPU, bfloat16 autocast on CUDA.
        quiet: no progress bar.
        sharded: each process keeps a part of every weight (FSDP); otherwise each keeps all.

    Returns:
        `tokens`, `seconds`, `steps` and the last averages of the losses.

    Raises:
        JRTError: `out` holds a run with another recipe, or a finished model, or cannot be written; there is nothing to
            train for; the training diverged.
        KeyboardInterrupt: the run was interrupted; it is saved first.
    """
    if recipe.tokens < 1:
        raise JRTError(f"tokens={recipe.tokens}: a model is trained for at least 1 token.")
    try:
        return _trained(recipe, out, device, quiet, sharded)
    except (OSError, SafetensorError) as error:
        raise JRTError(
            f"{out}: cannot be written ({error}). Give --out a folder with room; a run whose {CHECKPOINT} is there "
            "goes on from it."
        ) from error


def _trained(recipe: Recipe, out: Path, device: str, quiet: bool, sharded: bool) -> dict[str, float]:
    team = Team(device, sharded)
    out.mkdir(parents=True, exist_ok=True)
    saved, teacher = _saved(out, recipe), _teacher(recipe)
    team.wait()  # until all have looked, before one writes
    if team.leads:
        _replace(out / RECIPE, json.dumps(asdict(recipe), indent=2) + "\n")
        if saved is None:
            _new_tokenizer(recipe, teacher).save_pretrained(out)
    team.wait()
    tokenizer = read_own(out)
    run = Run.start(recipe, team, tokenizer, saved, teacher[0] if teacher else None)
    if team.leads:
        for log in (LOG, HELDOUT):
            _cut_log(out / log, run.done)
    try:
        with fast_scans():
            average = _loop(run, tokenizer, out, quiet or not team.leads)
    except KeyboardInterrupt as error:
        # a step that was cut short may have moved some weights and not others: one small step, not worth losing all for
        run.save(out)
        raise KeyboardInterrupt(
            f"stopped and saved at {run.done:,} of {recipe.tokens:,} tokens; the same command goes on from there."
        ) from error
    _finish(run, tokenizer, out)
    return {"tokens": run.done, "steps": run.steps, "seconds": run.seconds, **average}


def _new_tokenizer(recipe: Recipe, teacher: tuple[JRTForCausalLM, Path] | None) -> PreTrainedTokenizerFast:
    """The teacher's tokenizer, the one that the recipe names, or one that is trained on the recipe's texts."""
    if teacher:
        return read_own(teacher[1])
    if recipe.tokenizer == SHIPPED:
        return read_own(find(SHIPPED_TEACHER).folder)
    return masking_gpt2() if recipe.tokenizer == GPT2 else train_tokenizer(training_texts(recipe), recipe.vocab_size)


def _finish(run: Run, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the trained model and its card. A checkpoint of the end lies beside them until they are complete, so that a
    run that is killed here goes on from it and no half-written model passes as a finished one."""
    run.save(out)
    weights, _ = whole_state(run.model, run.optimiser)
    if run.team.leads:
        model = new_model(run.recipe, tokenizer)
        model.load_state_dict(weights)
        try:
            model.to(torch.bfloat16).save_pretrained(out)
            write_card(out, out.resolve().name)
        except (OSError, SafetensorError):
            (out / CONFIG).unlink(missing_ok=True)  # without it nothing takes the folder for a model
            raise
        (out / CHECKPOINT).unlink(missing_ok=True)
    run.team.wait()


def _loop(run: Run, tokenizer: PreTrainedTokenizerFast, out: Path, quiet: bool) -> dict[str, float]:
    """Step until the recipe's tokens are done; returns the running averages of the figures."""
    stream = _Stream(run.recipe, tokenizer, run.place)
    batches = iter(DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=8))
    average: dict[str, float] = {}
    where = _where(run.team)
    judges = _judges(run.recipe, tokenizer)
    last_save = time.monotonic()
    before = last_save - run.seconds
    bar = tqdm(total=run.recipe.tokens, initial=run.done, unit="tok", unit_scale=True, mininterval=1, disable=quiet)
    with bar, open(out / LOG if run.team.leads else os.devnull, "a", encoding="utf-8", buffering=1) as log:
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
                if run.team.leads:
                    _judge(run, judges, out / HELDOUT)
                run.team.wait()
                before += time.monotonic() - begun  # the budget is for training
            if run.team.agree(time.monotonic() - last_save > SAVE_SECONDS):
                log.flush()
                run.save(out)
                last_save = time.monotonic()
    return average


def _where(team: Team) -> dict[str, str | int]:
    """What a step was computed on, for the log."""
    where: dict[str, str | int] = {"device": str(team.device)}
    if team.device.type == "cpu":
        where["threads"] = torch.get_num_threads()
    return where if team.size == 1 else {**where, "processes": team.size}


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
        _replace(log, "".join(line for line in whole if json.loads(line)["tokens"] <= done))


def _replace(file: Path, text: str) -> None:
    """Write a file such that a kill leaves the old one or the new one, and never a part."""
    part = file.with_name(f"{file.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(file)


def _averaged(average: dict[str, float], figures: dict[str, float]) -> dict[str, float]:
    """Running averages over about the last hundred steps; a figure that a step did not have changes nothing."""
    new = {k: v for k, v in figures.items() if not math.isnan(v)}
    return {**average, **{k: v if k not in average else 0.99 * average[k] + 0.01 * v for k, v in new.items()}}


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {k: round(v, 3) for k, v in figures.items() if not math.isnan(v)}
