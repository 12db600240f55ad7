"""`jrt-eval retrofit`: give a Transformer a constant state, by training memory layers beside it.

The backbone is frozen and its attention is cut to sliding windows; what is trained, saved and shipped are the memory
layers alone (`jrt_lmeval.modeling.retrofit`). Rows, loss and the loop are those of `jrt-eval train`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from jrt_lmeval.checkpoints.found import RECIPE
from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.markdown import markdown_table
from jrt_lmeval.modeling import MAPPED, MEMORY_MIXERS
from jrt_lmeval.training.cli import DTYPES, map_options
from jrt_lmeval.training.recipes import MAP_OPTIONS, RETROFIT, TrainRecipe

EPILOG = """examples:
  jrt-eval retrofit smollm2 --out memories/softmax --kernel softmax --dtype bfloat16
      exact memories, whose state grows: what a constant state is compared with, and may start from
  jrt-eval retrofit smollm2 --out memories/centred --start-from memories/softmax --dtype bfloat16
      a constant state; resumable: call it again after a stop
  jrt-eval retrofit Qwen/Qwen3-0.6B --feature-map taylor --at 18,26 --device cuda --out memories/qwen
  accelerate launch --num_processes 8 -m jrt_lmeval retrofit meta-llama/Llama-3.2-1B --device cuda --out memories/llama

then
  lm_eval --model jrt_rnn --model_args pretrained=memories/centred,prefix=document --tasks factbook_once,factbook_jrt

half precision: --dtype bfloat16 loads the frozen backbone in bfloat16, several times faster on a GPU or a CPU with
AMX and far slower on other CPUs. The memory layers stay float32.
"""


def parser() -> argparse.ArgumentParser:
    """The command line of `jrt-eval retrofit`."""
    p = argparse.ArgumentParser(
        prog="jrt-eval retrofit",
        description="Train memory layers of prefix linear attention beside a frozen Transformer (extra: train).",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "backbone", metavar="MODEL", help="smollm2, a folder, or a hub id: a Transformer with rotary softmax"
    )
    p.add_argument("--out", required=True, type=Path, help="folder of the memories; a stopped run in it is resumed")
    p.add_argument(
        "--kernel", default="jrt_rnn", help=f"one of {', '.join(MEMORY_MIXERS)} (default: %(default)s, with a prefix)"
    )
    p.add_argument("--feature-map", default="centred", help="of a constant state (default: %(default)s)")
    p.add_argument("--map-options", help="options of the feature map as JSON (default: those of 'jrt-eval train')")
    p.add_argument(
        "--at", help="blocks before which memories stand, such as 20,28 (default: 2/3, and 2 before the end)"
    )
    p.add_argument("--window", type=int, default=64, help="tokens that attention sees (default: %(default)s)")
    p.add_argument("--sinks", type=int, default=4, help="first tokens that it sees as well (default: %(default)s)")
    p.add_argument("--heads", type=int, default=8, help="of a memory layer (default: %(default)s)")
    p.add_argument("--dim", type=int, default=32, help="of queries and keys in each head (default: %(default)s)")
    p.add_argument(
        "--lora", type=int, default=0, help="rank of low-rank additions to the blocks from the lowest memory on (none)"
    )
    p.add_argument("--start-from", default="", help="folder of memories beside the same backbone to start from")
    p.add_argument("--tokens", type=int, default=RETROFIT.tokens, help="training tokens (default: %(default)s)")
    p.add_argument("--rate", type=float, default=RETROFIT.learning_rate, help="learning rate (default: %(default)s)")
    p.add_argument("--seed", type=int, default=0, help="of data and weights (default: %(default)s)")
    p.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    p.add_argument("--dtype", default="float32", help="of the backbone: float32 or bfloat16 (default: %(default)s)")
    p.add_argument(
        "--cache",
        type=Path,
        help="folder that keeps what the backbone puts out below the lowest memory (1.2 KB a token for smollm2); runs "
        "with other maps on the same rows read it and take 0.6 of the time",
    )
    p.add_argument("--shard", action="store_true", help="divide the weights among the processes (FSDP)")
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    return p


def chosen_recipe(arguments: argparse.Namespace) -> TrainRecipe:
    """The recipe that the command line describes.

    Raises:
        JRTError: a name that does not exist, a number that is none, or options of the map that are not JSON.
    """
    from dataclasses import replace

    for what, value, choices in (("kernel", arguments.kernel, MEMORY_MIXERS), ("dtype", arguments.dtype, DTYPES)):
        if value not in choices:
            raise unknown(what, value, choices)
    given, usual = arguments.map_options, MAP_OPTIONS.get(arguments.feature_map, {})
    options = usual if given is None else map_options(given)
    try:
        at = [int(depth) for depth in arguments.at.split(",")] if arguments.at else None
    except ValueError:
        raise JRTError(f"--at {arguments.at!r}: give numbers of blocks, such as 20,28.") from None
    memory: dict[str, object] = {"backbone": arguments.backbone, "at": at, "kernel": arguments.kernel}
    memory |= {"window": arguments.window, "sinks": arguments.sinks}
    memory |= {"memory_heads": arguments.heads, "memory_dim": arguments.dim, "lora": arguments.lora}
    return replace(
        RETROFIT, config=memory, feature_map=arguments.feature_map, feature_map_options=options,
        teacher=arguments.start_from, tokens=arguments.tokens, learning_rate=arguments.rate, seed=arguments.seed,
        dtype=arguments.dtype,
    )  # fmt: skip


def write_retrofit_card(folder: Path, log: Path, heldout: Path) -> None:
    """Write `README.md`, a Hugging Face model card, from what a training left in its folder."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    last = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    judged = [json.loads(line) for line in heldout.read_text(encoding="utf-8").splitlines()] if heldout.exists() else []
    teacher = Path(json.loads((folder / RECIPE).read_text(encoding="utf-8"))["teacher"]).name
    start = f" They started from those of {teacher}." * bool(teacher)
    what = config["kernel"]
    if what in MAPPED:
        what += f" with the feature map {config['feature_map']}"
    lora = f" Blocks from {config['at'][0]} on have low-rank additions of rank {config['lora']}." * bool(config["lora"])
    content = (
        f"# {folder.resolve().name}\n\n"
        f"Memory layers for {config['backbone']}: its attention sees the last {config['window']} tokens and the first "
        f"{config['sinks']}, and what lies further back is kept by {len(config['at'])} memory layers ({what}, "
        f"{config['memory_heads']} heads of {config['memory_dim']}) before blocks {', '.join(map(str, config['at']))}. "
        f"This folder holds what was trained alone; the backbone is loaded beside it.{lora}\n\n"
        f"    lm_eval --model {'jrt_rnn' if config['kernel'] == 'jrt_rnn' else 'based'} "
        f"--model_args pretrained={folder.name} --tasks factbook_once,factbook_jrt\n\n"
        f"Trained for {last['tokens']:,} tokens in {last['seconds'] / 60:.0f} minutes on {last['device']} with "
        f"`jrt-eval retrofit`, on generated pages, fact sheets of countries that no test asks about, and public-domain "
        f"prose (`recipe.json`).{start} Recall on documents that are in no training row, each read once, by tokens "
        "trained:\n\n"
    )
    rows = [[line["tokens"], *(f"{100 * line[name]:.1f}" for name in ("short", "long", "sheets"))] for line in judged]
    table = markdown_table(["tokens", "short pages, %", "long pages, %", "sheets, %"], rows)
    data = ModelCardData(license="apache-2.0", library_name="transformers", tags=["jrt_lmeval", "recall"])
    ModelCard(f"---\n{data.to_yaml()}\n---\n\n{content}{table}").save(folder / "README.md")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = parser().parse_args(argv)
    recipe = chosen_recipe(arguments)  # what is wrong with it is said before any work
    from jrt_lmeval.training.loop import train

    figures: dict[str, Any] = train(
        recipe, arguments.out, arguments.device, arguments.quiet, arguments.shard, arguments.cache
    )
    print(", ".join(f"{name} {value:,.3f}" for name, value in figures.items()))
    print(f"saved to {arguments.out}")
    return 0
