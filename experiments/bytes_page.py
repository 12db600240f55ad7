"""What `recall_by_bytes` measured, as a table between the markers of a page and as a picture. No model runs.

    python -m experiments.bytes_page --logs results/measured/kv-window --page docs/recurrent-models.md \\
        --picture docs/recall_by_bytes.png
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from experiments.recall_by_bytes import CONTROL, WHOLE
from jrt_lmeval.markdown import markdown_table, with_block
from jrt_lmeval.paper.claims import METRIC, percent, verdict
from jrt_lmeval.report.cells import Cell
from jrt_lmeval.report.collect import collect
from jrt_lmeval.report.plots.picture import (
    COLOURS,
    FAINT,
    INK,
    Picture,
    canvas,
    errorbars,
    legend,
    line,
    log_ticks,
)
from jrt_lmeval.report.standard import distances
from jrt_lmeval.report.tables import PERCENT, Number
from jrt_lmeval.stats import Interval, interval
from jrt_lmeval.task.rules import RULES

BLOCK = "recall-by-bytes"


@dataclass(frozen=True)
class Measured:
    """One setting, with its answers in the order of the questions.

    Attributes:
        name: of its folder.
        model: as tables call it.
        dtype: of its weights and state.
        window: W in the model's tokens; 0 for the whole cache, NaN for a model without a window over attention.
        state: bytes of a row's state after its prompt, mean.
        tokens: of each prompt, in the model's tokens.
        far: from the answer's last copy to the end of the prompt, in the model's tokens.
        right: score of each answer.
        documents: of each question.
        rules: name of a rule that needs no model -> its score of each question.
    """

    name: str
    model: str
    dtype: str
    window: float
    state: float
    tokens: np.ndarray
    far: np.ndarray
    right: np.ndarray
    documents: np.ndarray
    rules: dict[str, np.ndarray]

    @property
    def inside(self) -> np.ndarray:
        """Which answers are still in the window when they are asked for; all, where the whole prompt is kept."""
        return self.far <= self.window if self.window > 0 else np.ones(len(self.far), dtype=bool)

    @property
    def number(self) -> Number:
        """Recall as pictures show it, in percent with its interval."""
        return Number(float(self.right.mean()), PERCENT, 1, self.recall())

    def recall(self, which: np.ndarray | None = None) -> Interval | None:
        """The mean with its interval by document, of all questions or of some; None of none."""
        return mean_of(self.right, self.documents, which)


def mean_of(scores: np.ndarray, documents: np.ndarray, which: np.ndarray | None = None) -> Interval | None:
    """A mean over some questions with its interval by document; None of no question."""
    which = np.ones(len(scores), dtype=bool) if which is None else which
    return interval(scores[which].tolist(), documents[which].tolist()) if which.any() else None


def read(logs: Path) -> dict[str, Measured]:
    """Name of a folder -> what was measured there."""
    folders = sorted(path.parent for path in logs.glob("*/results_*.json"))
    return {folder.name: _measured(folder.name, collect([folder]).cells[0]) for folder in folders}


def _measured(name: str, cell: Cell) -> Measured:
    columns = cell.columns
    assert columns is not None, f"{name}: the answers were not logged"
    order = np.argsort(columns.rows)
    figures = {key: values[order] for key, values in columns.figures.items()}
    far = distances(columns)
    nowhere = np.full(len(order), math.nan)
    tokens = figures["model_prompt_tokens"]
    window = cell.first.run.facts.get("kv_window", 0 if cell.first.run.kind == "hf_recall" else math.nan)
    return Measured(
        name,
        cell.model,
        str(cell.first.run.facts.get("dtype")),
        float(window),
        cell.figure("state_bytes"),
        tokens,
        nowhere if far is None else far[order] * tokens / figures["prompt_tokens"],
        columns.scores[METRIC][order],
        columns.clusters[order],
        {rule: figures[rule] for rule in RULES if rule in figures},
    )


def curve(found: dict[str, Measured]) -> list[Measured]:
    """The windows from the narrowest on, then the whole cache."""
    windows = sorted((one for one in found.values() if one.window > 0), key=lambda one: one.window)
    return [*windows, found[WHOLE]]


def others(found: dict[str, Measured]) -> list[Measured]:
    """Models of another kind on the same questions."""
    return [one for one in found.values() if math.isnan(one.window)]


def counted(found: Interval | None) -> str:
    """Percent with the number of questions."""
    return percent(found) if found is None else f"{percent(found)} (n = {found.n})"


def table(found: dict[str, Measured]) -> str:
    """The tables: the curve by where the answer stands, and what stands beside it."""
    whole, without = found[WHOLE], found[CONTROL].right.mean()
    majority = float(whole.rules["majority"].mean())
    first = [
        [
            f"W = {one.window:.0f}" if one.window > 0 else "whole cache",
            f"{one.state / 1000:,.0f}",
            f"{100 * min(1.0, one.window / whole.tokens.mean()) if one.window > 0 else 100:.0f}",
            percent(one.recall()),
            verdict(one.recall(), float(without), majority),
            counted(one.recall(one.inside)),
            percent(whole.recall(one.inside)),
            counted(one.recall(~one.inside)),
        ]
        for one in curve(found)
    ]
    head = (
        "kept", "state, KB", "W of the prompt, %", "contains, %", "recalls", "answer in the window",
        "same questions, whole cache", "answer before it",
    )  # fmt: skip
    second = [[one.model, f"{one.state / 1000:,.0f}", percent(one.recall())] for one in others(found)]
    second += [["SmolLM2-135M without the document", "-", percent(found[CONTROL].recall())]]
    second += [
        [f"no model: {name}", "-", percent(mean_of(whole.rules[rule], whole.documents))]
        for rule, (name, *_) in RULES.items()
        if rule in whole.rules
    ]
    beside = markdown_table(("beside it, on the same questions", "state, KB", "contains, %"), second)
    return f"{said(found)}\n\n{markdown_table(head, first)}\n{beside}"


def said(found: dict[str, Measured]) -> str:
    """What must be read with the numbers: how many, of how many documents, and how long."""
    tokens, documents = found[WHOLE].tokens, len(set(found[WHOLE].documents.tolist()))
    return (
        f"{len(tokens)} questions on {documents} documents; the prompt is {tokens.mean():.0f} of the model's tokens on "
        f"average ({tokens.min():.0f} to {tokens.max():.0f}). ± and [ ]: 95 % intervals by document."
    )


def picture(found: dict[str, Measured]) -> Picture:
    """Recall against bytes of state."""
    return Picture("recall_by_bytes", "Recall against bytes of state", partial(_draw, found))


def _draw(found: dict[str, Measured]) -> tuple[str, Figure]:
    """The curve, what of the whole cache's answers lies in the window, other models, and what needs no document."""
    figure, (axis,) = canvas(2.6)
    kept, whole = curve(found), found[WHOLE]
    bytes_of = [one.state for one in kept]
    axis.set_xscale("log")
    errorbars(axis, bytes_of, [one.number for one in kept], color=COLOURS[0], marker="o", lw=0.8)
    shares = [PERCENT * (whole.right * one.inside).mean() for one in kept]
    axis.plot(bytes_of, shares, color=FAINT, linestyle="--", marker="o", markerfacecolor="none")
    entries = [
        (f"SmolLM2-135M in {whole.dtype}, last W tokens; right: whole cache", line(color=COLOURS[0], marker="o")),
        (
            "whole cache, answers before the window counted as wrong",
            line(color=FAINT, linestyle="--", marker="o", markerfacecolor="none"),
        ),
    ]
    for at, one in enumerate(others(found), 1):
        errorbars(axis, [one.state], [one.number], color=COLOURS[at], marker="s^Dv"[at % 4], lw=0.8)
        entries.append((one.model, line(color=COLOURS[at], marker="s^Dv"[at % 4], linestyle="")))
    axis.axhline(PERCENT * found[CONTROL].right.mean(), color=INK, linestyle=":", lw=1.0)
    axis.axhline(PERCENT * whole.rules["majority"].mean(), color=FAINT, linestyle="-.", lw=0.8)
    entries.append(("SmolLM2-135M without the document", line(color=INK, linestyle=":")))
    entries.append(("the commonest answer to the question elsewhere", line(color=FAINT, linestyle="-.")))
    axis.set(xlabel="state after the prompt, bytes", ylabel="contains, %")
    axis.set_ylim(bottom=0)
    axis.margins(x=0.08)
    log_ticks(axis.xaxis)
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    legend(figure, entries)
    return said(found), figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, default=Path("results/measured/kv-window"))
    parser.add_argument("--page", type=Path, default=Path("docs/recurrent-models.md"))
    parser.add_argument("--picture", type=Path, default=Path("docs/recall_by_bytes.png"))
    given = parser.parse_args()
    found = read(given.logs)
    page = given.page.read_text(encoding="utf-8")
    given.page.write_text(with_block(page, BLOCK, table(found)), encoding="utf-8")
    given.picture.write_bytes(picture(found).saved("png"))


if __name__ == "__main__":
    main()
