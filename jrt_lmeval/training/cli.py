"""`jrt-eval train`: train a small model for a feature map, on a laptop or a GPU."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.training.recipes import RECIPES

EPILOG = """examples:
  jrt-eval train --feature-map mlp --out models/mlp
      the recipe of the shipped model; about an hour on two cores, resumable: call it again after a stop
  jrt-eval train --feature-map poly --map-options '{"degree": 2}' --out models/poly --device cuda
  jrt-eval train --recipe smoke --out /tmp/smoke
      a minute's run that checks the machinery and learns nothing

then
  lm_eval --model jrt_rnn --model_args pretrained=models/mlp --tasks factbook_jrt_hier
"""


def parser() -> argparse.ArgumentParser:
    """The command line of `jrt-eval train`."""
    p = argparse.ArgumentParser(
        prog="jrt-eval train",
        description="Train a small JRT-RNN on generated pages, fact sheets and public-domain prose (extra: train).",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--out", required=True, type=Path, help="folder of the model; a stopped run in it is resumed")
    p.add_argument("--recipe", default="default", help=f"one of {', '.join(RECIPES)} (default: %(default)s)")
    p.add_argument("--feature-map", help="feature map of the prefix linear attention layers (default: the recipe's)")
    p.add_argument("--map-options", default="{}", help="options of the feature map as JSON (default: none)")
    p.add_argument("--tokens", type=int, help="training tokens (default: the recipe's)")
    p.add_argument("--seed", type=int, help="seed of data, weights and masks (default: the recipe's)")
    p.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    from jrt_lmeval.modeling.feature_maps import build_feature_map

    arguments = parser().parse_args(argv)
    if arguments.recipe not in RECIPES:
        raise unknown("recipe", arguments.recipe, RECIPES)
    try:
        options = json.loads(arguments.map_options)
    except json.JSONDecodeError as error:
        raise JRTError(f"--map-options {arguments.map_options!r} is not JSON: {error}") from error
    changes = {"feature_map": arguments.feature_map, "tokens": arguments.tokens, "seed": arguments.seed}
    recipe = dataclasses.replace(
        RECIPES[arguments.recipe],
        feature_map_options=options,
        **{name: value for name, value in changes.items() if value is not None},
    )
    build_feature_map(
        recipe.feature_map, recipe.num_heads, recipe.feature_dim, **options
    )  # a bad map fails before any work
    from jrt_lmeval.training.loop import train

    figures = train(recipe, arguments.out, arguments.device, arguments.quiet)
    print(
        ", ".join(
            f"{name} {value:,.3f}" if isinstance(value, float) else f"{name} {value:,}"
            for name, value in figures.items()
        )
    )
    print(f"saved to {arguments.out}")
    return 0
