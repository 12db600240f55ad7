"""The training loop: AdamW, cosine, token-budget batches; resumable, and every step logged as a JSON line."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.config import JRTConfig
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.training.mixture import Mixture, training_texts
from jrt_lmeval.training.objective import Batch, collate, jrt_loss
from jrt_lmeval.training.recipes import Recipe
from jrt_lmeval.training.tokenizer import train_tokenizer

CHECKPOINT, LOG, RECIPE = "training.pt", "log.jsonl", "recipe.json"
SAVE_SECONDS = 300


class _Stream(IterableDataset):
    """Batches, made in a worker process beside the training."""

    def __init__(self, recipe: Recipe, tokenizer: PreTrainedTokenizerFast, done: int):
        self.recipe, self.tokenizer, self.done = recipe, tokenizer, done

    def __iter__(self) -> Iterator[Batch]:
        torch.set_num_threads(1)
        seed = self.recipe.seed * 1_000_003 + self.done
        generator = torch.Generator().manual_seed(seed)
        core, r = self.tokenizer.backend_tokenizer, self.recipe
        mixture = Mixture(r, lambda text: core.encode(text).ids, self.tokenizer.eos_token_id, seed)
        for rows in mixture.batches(self.done):
            yield collate(rows, self.tokenizer.mask_token_id, r.mask_rate, r.masked_rows, r.context_weight, generator)


def model_config(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> JRTConfig:
    """The configuration that a recipe describes."""
    return JRTConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        mixers=recipe.mixers,
        num_heads=recipe.num_heads,
        feature_map=recipe.feature_map,
        feature_map_options=dict(recipe.feature_map_options),
        feature_dim=recipe.feature_dim,
        window=recipe.window,
        context_length=max(stage.max_tokens for stage in recipe.curriculum),
        mask_token_id=tokenizer.mask_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def learning_rate(recipe: Recipe, done: int) -> float:
    """Warm-up, then cosine to a tenth, as a function of the tokens done."""
    warmup = max(1.0, recipe.warmup * recipe.tokens)
    if done < warmup:
        return recipe.learning_rate * (done + 1) / warmup
    progress = min(1.0, (done - warmup) / max(1.0, recipe.tokens - warmup))
    return recipe.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))


def _optimiser(model: JRTForCausalLM, recipe: Recipe) -> torch.optim.AdamW:
    decay = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decay, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas)


def _resume(out: Path, recipe: Recipe) -> dict[str, Any] | None:
    if not (out / CHECKPOINT).exists():
        return None
    saved = json.loads((out / RECIPE).read_text())
    now = json.loads(json.dumps(asdict(recipe)))
    if saved != now:
        changed = sorted(key for key in now if saved.get(key) != now[key])
        raise JRTError(
            f"{out}: holds a run with another recipe (differs in: {', '.join(changed)}). Resume with the same options, "
            "or give another --out."
        )
    return torch.load(out / CHECKPOINT, weights_only=True)


def train(recipe: Recipe, out: Path, device: str = "cpu", quiet: bool = False) -> dict[str, float]:
    """Train a model, or go on with the run in ``out``, and save it there as a Hugging Face folder.

    Args:
        recipe: of the run.
        out: folder; holds the model, ``recipe.json``, ``log.jsonl`` and, until the end, ``training.pt`` to resume from.
        device: where to train; float32 on a CPU, bfloat16 autocast on CUDA.
        quiet: no progress bar.

    Returns:
        ``tokens``, ``seconds``, ``steps`` and the last averages of the losses.

    Raises:
        JRTError: ``out`` holds a run with another recipe.
    """
    out.mkdir(parents=True, exist_ok=True)
    saved = _resume(out, recipe)
    (out / RECIPE).write_text(json.dumps(asdict(recipe), indent=2) + "\n")
    if saved is None:
        tokenizer = train_tokenizer(training_texts(recipe), recipe.vocab_size)
        tokenizer.save_pretrained(out)
    else:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(out)
    torch.manual_seed(recipe.seed)
    model = JRTForCausalLM(model_config(recipe, tokenizer)).to(device)
    optimiser = _optimiser(model, recipe)
    done, steps, seconds = 0, 0, 0.0
    average: dict[str, float] = {}
    if saved is not None:
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        done, steps, seconds = saved["done"], saved["steps"], saved["seconds"]
    batches = iter(DataLoader(_Stream(recipe, tokenizer, done), batch_size=None, num_workers=1, prefetch_factor=8))
    started = last_save = time.monotonic()
    before = seconds
    bar = tqdm(total=recipe.tokens, initial=done, unit="tok", unit_scale=True, disable=quiet)
    with open(out / LOG, "a", encoding="utf-8") as log:
        while done < recipe.tokens:
            batch = Batch(**{name: tensor.to(device) for name, tensor in vars(next(batches)).items()})
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(recipe, done)
            with torch.autocast("cuda", torch.bfloat16, enabled=device.startswith("cuda")):
                loss, figures = jrt_loss(model, batch, recipe.mlm_weight)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimiser.step()
            read = int(batch.lengths.sum())
            done, steps, seconds = done + read, steps + 1, before + time.monotonic() - started
            average = _averaged(average, figures)
            log.write(
                json.dumps({"step": steps, "tokens": done, "seconds": round(seconds, 1), **_rounded(figures)}) + "\n"
            )
            bar.update(read)
            bar.set_postfix(_rounded(average), refresh=False)
            if time.monotonic() - last_save > SAVE_SECONDS:
                log.flush()
                _save_checkpoint(out, model, optimiser, done, steps, seconds)
                last_save = time.monotonic()
    model.to(torch.bfloat16).save_pretrained(out)
    (out / CHECKPOINT).unlink(missing_ok=True)
    return {"tokens": done, "steps": steps, "seconds": seconds, **average}


def _save_checkpoint(
    out: Path, model: JRTForCausalLM, optimiser: torch.optim.Optimizer, done: int, steps: int, seconds: float
) -> None:
    state = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "done": done,
        "steps": steps,
        "seconds": seconds,
    }
    torch.save(state, out / f"{CHECKPOINT}.part")
    (out / f"{CHECKPOINT}.part").replace(out / CHECKPOINT)  # a crash while writing leaves the old one


def _averaged(average: dict[str, float], figures: dict[str, float]) -> dict[str, float]:
    """Running averages over about the last hundred steps; a figure that a step did not have changes nothing."""
    new = {k: v for k, v in figures.items() if not math.isnan(v)}
    return {**average, **{k: v if k not in average else 0.99 * average[k] + 0.01 * v for k, v in new.items()}}


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {k: round(v, 3) for k, v in figures.items() if not math.isnan(v)}
