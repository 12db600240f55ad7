"""Tables and curves of trainings for docs/training.md, from their logs.

    python -m tools.training_page results/training/bakeoff.jsonl docs/training.md

rewrites what stands between the markers `<!-- bakeoff -->` and `<!-- suite -->` and their ends, and draws
`training.png` beside the page.
"""

from __future__ import annotations

import json
import sys
from math import prod
from pathlib import Path
from typing import Any

from jrt_lmeval.checkpoints.found import RECIPE, WEIGHTS, shipped_models
from jrt_lmeval.markdown import markdown_table, with_block
from jrt_lmeval.training.card import HELDOUT, tensors

Line = dict[str, Any]

SETS = ("short", "long", "sheets")

STARTS = {**dict.fromkeys(("jrt_rnn", "based", "llama", "mamba2"), "induction heads"), "mamba": "random"}
"""What a model without a teacher begins as; see `jrt_lmeval.training.models`."""


def lines_of(file: Path) -> list[Line]:
    """The lines of a JSONL file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def judged_models() -> dict[str, list[Line]]:
    """Shipped models whose training was judged by held-out recall, with their curves."""
    models = {name: found.folder / HELDOUT for name, found in shipped_models().items()}
    return {name: lines_of(file) for name, file in models.items() if file.is_file()}


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def bakeoff_table(runs: list[Line]) -> str:
    """What was tried: recall at the end of each run, and whether the run was carried through."""
    rows = []
    for run in runs:
        last = run["curve"][-1]
        ended = "" if run["finished"] else f" (stopped; planned: {run['planned_tokens']:,})"
        recall = [_percent(last[name]) for name in ("short", "long")]
        rows.append([run["what"], f"{last['tokens']:,}{ended}", f"{last['seconds'] / 60:.1f}", *recall])
    return markdown_table(["run", "tokens", "minutes", "short", "long"], rows, left=5)


def suite_table(models: dict[str, list[Line]]) -> str:
    """The shipped models: size, training (a teacher's tokens are added to its student's), and final held-out recall."""
    rows = []
    for name, curve in models.items():
        folder, last = shipped_models()[name].folder, curve[-1]
        recipe = json.loads((folder / RECIPE).read_text(encoding="utf-8"))
        parameters = sum(map(prod, tensors(folder / WEIGHTS)[0]))
        start = f"`{recipe['teacher']}`" if recipe["teacher"] else STARTS[recipe["model"]]
        before = f" + {models[recipe['teacher']][-1]['tokens']:,}" if recipe["teacher"] else ""
        cost = [f"{last['tokens']:,}{before}", f"{last['seconds'] / 60:.1f}"]
        rows.append([f"`{name}`", f"{parameters:,}", start, *cost, *(_percent(last[key]) for key in SETS)])
    head = ["model", "parameters", "start", "tokens", "minutes", *SETS]
    return markdown_table(head, rows, left=len(head))


def page(text: str, bakeoff: list[Line]) -> str:
    """docs/training.md with both tables brought up to date."""
    return with_block(with_block(text, "bakeoff", bakeoff_table(bakeoff)), "suite", suite_table(judged_models()))


def draw(bakeoff: list[Line], models: dict[str, list[Line]], target: Path) -> None:
    """Curves of long pages over tokens: what was tried on the left, the suite on the right."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5.6), sharey=True, layout="constrained")
    for axes, title, curves in (
        (left, "What was tried", {run["what"]: run["curve"] for run in bakeoff}),
        (right, "The suite and its teacher", models),
    ):
        for i, (name, curve) in enumerate(curves.items()):
            x, y = [line["tokens"] / 1e6 for line in curve], [100 * line["long"] for line in curve]
            axes.plot(x, y, marker=".", linestyle=("-", "--", ":")[i // 10 % 3], label=name)
        axes.set(title=title, xlabel="training tokens (millions)")
        axes.legend(
            handlelength=3.2, fontsize=6.5, ncol=2, loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False
        )
        axes.grid(alpha=0.3)
    left.set_ylabel("exact recall on held-out long pages (%)")
    figure.savefig(target, dpi=110)
    plt.close(figure)


def main(argv: list[str]) -> int:
    """Bring a page and its picture up to date."""
    bakeoff, document = lines_of(Path(argv[0])), Path(argv[1])
    document.write_text(page(document.read_text(encoding="utf-8"), bakeoff), encoding="utf-8")
    draw(bakeoff, judged_models(), document.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
