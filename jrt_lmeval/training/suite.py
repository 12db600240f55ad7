"""`jrt-eval train --suite`: trains all models of the suite, each with several seeds, one after the other."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from jrt_lmeval.checkpoints.found import CONFIG, WEIGHTS
from jrt_lmeval.errors import JRTError
from jrt_lmeval.training.card import LOG
from jrt_lmeval.training.loop import CHECKPOINT, train
from jrt_lmeval.training.recipes import BASELINES, RECIPES, SHIPPED_TEACHER, TrainRecipe

MODELS: dict[str, tuple[str, str, str]] = {
    SHIPPED_TEACHER: ("teacher-leads", "jrt_rnn", "mlp"),
    "jrt-mlp": ("suite-leads", "jrt_rnn", "mlp"),
    "jrt-taylor": ("suite-leads", "jrt_rnn", "taylor"),
    "based-taylor": ("suite-leads", "based", "taylor"),
    "llama": ("suite-leads", "llama", ""),
    "mamba2": ("suite-leads", "mamba2", ""),
    **{
        f"jrt-{feature_map}": ("suite-leads", "jrt_rnn", feature_map)
        for feature_map in ("relu", "gelu", "poly", "gaussian", "linear")
    },
    "jrt-mlp-128": ("narrow-leads", "jrt_rnn", "mlp"),
}
"""Name of a model -> its recipe, `--model` and feature map, in the order in which they are trained."""
FIRST = 2
"""So many models are trained with all seeds before the others: what varies with the seed is then known early."""


@dataclass(frozen=True)
class SuiteRun:
    """One model of the suite, trained with one seed."""

    name: str
    seed: int
    recipe: TrainRecipe
    folder: Path

    @property
    def finished(self) -> bool:
        """Whether the folder holds the trained model; a checkpoint in it means that it is not complete."""
        return all((self.folder / file).exists() for file in (CONFIG, WEIGHTS)) and not self.begun

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return (self.folder / CHECKPOINT).exists()


def suite_runs(out: Path, seeds: int) -> Iterator[SuiteRun]:
    """The runs of the suite in `out`, `seed<number>/<model>`, in the order in which they are trained. A student starts
    from the teacher of its own seed."""
    names = list(MODELS)
    first = [(seed, name) for seed in range(seeds) for name in names[:FIRST]]
    for seed, name in [*first, *((seed, name) for name in names[FIRST:] for seed in range(seeds))]:
        recipe, model, feature_map = MODELS[name]
        folder = out / f"seed{seed}"
        has_teacher = name != SHIPPED_TEACHER and model not in BASELINES
        made = RECIPES[recipe](model, feature_map, str(folder / SHIPPED_TEACHER) if has_teacher else "")
        yield SuiteRun(name, seed, replace(made, seed=seed), folder / name)


def time_left(runs: list[SuiteRun]) -> float | None:
    """Seconds that the unfinished runs will take, by the time that finished ones took for a token; None before the
    first run is finished."""
    finished = [run for run in runs if run.finished]
    logs = [(run.folder / LOG).read_text(encoding="utf-8").splitlines() for run in finished]
    seconds = sum(json.loads(lines[-1])["seconds"] for lines in logs)
    tokens = sum(run.recipe.tokens for run in finished)
    return seconds / tokens * sum(run.recipe.tokens for run in runs if not run.finished) if finished else None


def train_suite(out: Path, seeds: int, device: str = "cpu", quiet: bool = False) -> int:
    """Train all models of the suite; called again after a stop or a kill, it goes on where it stood.

    A run that fails does not stop the others.

    Returns:
        How many runs are finished.

    Raises:
        JRTError: fewer than one seed; or, after all others were trained, the runs that failed and why.
        KeyboardInterrupt: it was interrupted; the run that was under way is saved first.
    """
    if seeds < 1:
        raise JRTError(f"--seeds {seeds}: a suite is trained with at least 1 seed.")
    runs, failed = list(suite_runs(out, seeds)), []
    for number, run in enumerate(runs, 1):
        if run.finished:
            continue
        left = time_left(runs)
        what = f"[{number}/{len(runs)}] {run.name}, seed {run.seed}, {run.recipe.tokens:,} tokens"
        soon = "" if left is None else f"; about {left / 3600:.1f} h left for all"
        print(f"{time.strftime('%H:%M')} {what}{' (goes on)' if run.begun else ''}{soon}", flush=True)
        try:
            train(run.recipe, run.folder, device, quiet)
        except JRTError as error:
            failed.append(f"{run.name}, seed {run.seed}: {error}")
            print(failed[-1], flush=True)
    finished = sum(run.finished for run in runs)
    print(f"{finished} of {len(runs)} models of the suite are trained, in {out}")
    if failed:
        raise JRTError("; ".join(failed))
    return finished
