"""`jrt-eval train`: train a small recurrent model, or a baseline of its size, on a laptop or a GPU."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jrt_lmeval.checkpoints.found import CONFIG, WEIGHTS
from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.training.recipes import (
    BASELINES,
    CHECKPOINT,
    LOG,
    RECIPES,
    SHIPPED_TEACHER,
    SUITE_MODELS,
    TrainRecipe,
)

DTYPES = ("float32", "bfloat16")
OURS = ("jrt_rnn", "based")
MODELS = (*OURS, *BASELINES)
STUDENTS = ("suite", "narrow", "suite-leads", "narrow-leads", "plain-leads")
"""Recipes that start from the shipped teacher where the user names none."""

EPILOG = """examples:
  jrt-eval train --recipe suite --model jrt_rnn --feature-map taylor --out models/taylor
      a model of the suite that comes with the package; minutes on a laptop, resumable: call it again after a stop
  jrt-eval train --recipe suite --model llama --out models/llama
      the baseline of the same size, trained on the same rows
  jrt-eval train --suite --seeds 3 --out suite
      all models of the suite, each with the seeds 0, 1 and 2 (seven hours of an idle core); resumable as well
  jrt-eval train --recipe teacher --out models/teacher
  jrt-eval train --feature-map poly --map-options '{"degree": 2}' --teacher models/teacher --out models/poly
      another teacher, and a student that starts from it
  jrt-eval train --recipe smoke --out /tmp/smoke
      a run of seconds that checks the machinery and learns nothing
  accelerate launch --num_processes 8 -m jrt_lmeval train --recipe 1b --feature-map taylor --texts pile --device cuda \\
      --shard --out models/jrt-1b
      the published hyper-parameters on texts of yours; one model, trained by eight GPUs

then
  lm_eval --model jrt_rnn --model_args pretrained=models/taylor --tasks factbook_once
"""


def parser() -> argparse.ArgumentParser:
    """The command line of `jrt-eval train`."""
    p = argparse.ArgumentParser(
        prog="jrt-eval train",
        description="Train a small model on generated pages, fact sheets and public-domain prose (extra: train).",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--out", required=True, type=Path, help="folder of the model; a stopped run in it is resumed")
    p.add_argument(
        "--suite", action="store_true", help="train all models of the suite, by the recipes that end in -leads"
    )
    p.add_argument("--seeds", type=int, help="with --suite: how many seeds, from 0 on (default: 1)")
    p.add_argument("--recipe", default="suite", help=f"one of {', '.join(RECIPES)} (default: %(default)s)")
    p.add_argument("--model", default="jrt_rnn", help=f"one of {', '.join(MODELS)} (default: %(default)s)")
    p.add_argument("--feature-map", help="feature map of jrt_rnn (default: mlp) and based (default: taylor)")
    p.add_argument("--map-options", help="options of the feature map as JSON (default: the recipe's)")
    p.add_argument(
        "--teacher",
        help="shipped model or folder whose weights jrt_rnn and based start from; 'none' for random weights "
        f"(default: {SHIPPED_TEACHER} with --recipe {', '.join(STUDENTS)}; else none)",
    )
    p.add_argument("--texts", help="folder of .txt, .jsonl or .parquet files, for --recipe 360m and 1b")
    p.add_argument("--tokens", type=int, help="training tokens (default: the recipe's)")
    p.add_argument("--seed", type=int, help="seed of data, weights and masks (default: the recipe's)")
    p.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    p.add_argument(
        "--dtype",
        default="float32",
        help=f"of a step's products on a CPU: {' or '.join(DTYPES)}; weights stay float32 (default: %(default)s; on "
        "CUDA always bfloat16)",
    )
    p.add_argument(
        "--shard",
        action="store_true",
        help="divide the weights among the processes that 'accelerate launch' or torchrun started (FSDP); without it "
        "each keeps all of them",
    )
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    return p


def map_options(text: str) -> Any:
    """What `--map-options` says; JRTError where it is not JSON."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise JRTError(f"--map-options {text!r} is not JSON: {error}") from error


def chosen_recipe(arguments: argparse.Namespace) -> TrainRecipe:
    """The recipe that the command line describes.

    Raises:
        JRTError: a name that does not exist, or options of the map that are not JSON or not the map's.
    """
    from jrt_lmeval.modeling.feature_maps import build_feature_map

    if arguments.recipe not in RECIPES:
        raise unknown("recipe", arguments.recipe, RECIPES)
    if arguments.model not in MODELS:
        raise unknown("model to train", arguments.model, MODELS)
    ours = arguments.model in OURS
    if not ours and (arguments.feature_map or arguments.map_options or arguments.teacher):
        raise JRTError(f"--model {arguments.model} has no feature map and no teacher: leave these options out.")
    default = SHIPPED_TEACHER if ours and arguments.recipe in STUDENTS else "none"
    teacher = "" if (arguments.teacher or default) == "none" else arguments.teacher or default
    feature_map = arguments.feature_map or ("taylor" if arguments.model == "based" else "mlp")
    recipe = RECIPES[arguments.recipe](arguments.model, feature_map, teacher)
    if arguments.texts and "texts" not in recipe.sources:
        raise JRTError(f"--texts: --recipe {arguments.recipe} reads no texts of yours; 360m and 1b do.")
    changes: dict[str, Any] = {"tokens": arguments.tokens, "seed": arguments.seed, "texts": arguments.texts}
    if arguments.map_options is not None:
        changes["feature_map_options"] = map_options(arguments.map_options)
    if arguments.dtype not in DTYPES:
        raise unknown("dtype of a training", arguments.dtype, DTYPES)
    changes["dtype"] = arguments.dtype
    recipe = dataclasses.replace(recipe, **{name: value for name, value in changes.items() if value is not None})
    build_feature_map(recipe.feature_map, recipe.num_heads, recipe.feature_dim, **recipe.feature_map_options)
    return recipe


# -------------------------------------------------------------------- all models of the suite

FIRST = 2
"""Number of models that are trained with all seeds before the others: the spread over seeds is then known early."""


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
        """Whether there is a checkpoint to resume from."""
        return (self.folder / CHECKPOINT).exists()


def suite_runs(out: Path, seeds: int) -> Iterator[SuiteRun]:
    """The runs of the suite in `out`, `seed<number>/<model>`, in the order in which they are trained.

    A student starts from the teacher of its own seed.
    """
    names = list(SUITE_MODELS)
    first = [(seed, name) for seed in range(seeds) for name in names[:FIRST]]
    for seed, name in [*first, *((seed, name) for name in names[FIRST:] for seed in range(seeds))]:
        recipe, model, feature_map = SUITE_MODELS[name]
        folder = out / f"seed{seed}"
        has_teacher = name != SHIPPED_TEACHER and model not in BASELINES
        made = RECIPES[recipe](model, feature_map, str(folder / SHIPPED_TEACHER) if has_teacher else "")
        yield SuiteRun(name, seed, dataclasses.replace(made, seed=seed), folder / name)


def time_left(runs: Sequence[SuiteRun]) -> float | None:
    """Seconds that the unfinished runs will take at the rate of the finished ones; None before one is finished."""
    finished = [run for run in runs if run.finished]
    logs = [(run.folder / LOG).read_text(encoding="utf-8").splitlines() for run in finished]
    seconds = sum(json.loads(lines[-1])["seconds"] for lines in logs)
    tokens = sum(run.recipe.tokens for run in finished)
    return seconds / tokens * sum(run.recipe.tokens for run in runs if not run.finished) if finished else None


def train_suite(arguments: argparse.Namespace) -> int:
    """Train all models of the suite, or resume after a stop or a kill; a run that fails does not stop the others.

    Raises:
        JRTError: an option that the suite does not take; fewer than one seed; or, after all others were trained, the
            runs that failed and why.
        KeyboardInterrupt: it was interrupted; the run that was under way is saved first.
    """
    from jrt_lmeval.training import loop

    taken = ("out", "suite", "seeds", "device", "quiet")
    usual = parser().parse_args(["--out", "", "--suite"])
    chosen = [name for name, value in vars(arguments).items() if name not in taken and value != getattr(usual, name)]
    if chosen:
        given = ", ".join(f"--{name.replace('_', '-')}" for name in chosen)
        raise JRTError(f"{given}: --suite trains every model by its own recipe; leave this out, or --suite.")
    seeds = 1 if arguments.seeds is None else arguments.seeds
    if seeds < 1:
        raise JRTError(f"--seeds {seeds}: a suite is trained with at least 1 seed.")
    runs, failed = list(suite_runs(arguments.out, seeds)), []
    for number, run in enumerate(runs, 1):
        if run.finished:
            continue
        left = time_left(runs)
        what = f"[{number}/{len(runs)}] {run.name}, seed {run.seed}, {run.recipe.tokens:,} tokens"
        soon = "" if left is None else f"; about {left / 3600:.1f} h left for all"
        print(f"{time.strftime('%H:%M')} {what}{' (resumed)' if run.begun else ''}{soon}", flush=True)
        try:
            loop.train(run.recipe, run.folder, arguments.device, arguments.quiet)
        except JRTError as error:
            failed.append(f"{run.name}, seed {run.seed}: {error}")
            print(failed[-1], flush=True)
    print(f"{sum(run.finished for run in runs)} of {len(runs)} models of the suite are trained, in {arguments.out}")
    if failed:
        raise JRTError("; ".join(failed))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = parser().parse_args(argv)
    if arguments.suite:
        return train_suite(arguments)
    if arguments.seeds is not None:
        raise JRTError("--seeds is for --suite; one model has one seed: --seed.")
    recipe = chosen_recipe(arguments)  # what is wrong with it is said before any work
    from jrt_lmeval.training.loop import train

    figures = train(recipe, arguments.out, arguments.device, arguments.quiet, arguments.shard)
    print(
        ", ".join(
            f"{name} {value:,.3f}" if isinstance(value, float) else f"{name} {value:,}"
            for name, value in figures.items()
        )
    )
    print(f"saved to {arguments.out}")
    return 0
