"""Learning curves: recall on held-out rows over the tokens that were read in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jrt_lmeval.report.plots.picture import Picture
from jrt_lmeval.report.plots.shared import batched, numbered
from jrt_lmeval.report.plots.style import COLOURS, canvas, file_name, legend, line, listed, look, styled
from jrt_lmeval.report.records import Collection
from jrt_lmeval.report.trainings import FROM_STEPS, HELD_OUT, SMOOTHED, STEPS, Training

MOST_MARKERS = 30
Curve = Sequence[tuple[float, float]]
"""Tokens and a share from 0 to 1."""


def learning_curves(collection: Collection, metric: str) -> list[Picture] | str:
    """A picture a set of held-out rows, and one of the batches of trainings that kept none; a line a training."""
    found: dict[tuple[str, bool], list[Training]] = {}
    for training in collection.trainings:
        for name in training.curves:
            found.setdefault((name, training.held_out), []).append(training)
    if not found:
        return f"no folder of a training is among those read (its {HELD_OUT} or {STEPS})"
    return [
        learning(name, part, held_out, number)
        for (name, held_out), members in found.items()
        for number, part in enumerate(batched(members, len(COLOURS)), 1)
    ]


@styled
def learning(name: str, members: Sequence[Training], held_out: bool, number: int = 1) -> Picture:
    """The curves of several trainings on one set."""
    figure, (axis,) = canvas(2.0)
    draw_curves(axis, {training.name: training.curves[name] for training in members})
    axis.set_ylabel("exact recall, held out, %" if held_out else "answer tokens right, %")
    axis.set_title(f"held-out rows: {name}" if held_out else "training batches")
    legend(figure, [(training.name, line(**look(at))) for at, training in enumerate(members)], columns=2)
    ends = listed(
        f"{t.name} {100 * t.curves[name][-1][1]:.1f} % after {t.curves[name][-1][0]:,.0f} tokens" for t in members
    )
    what = (
        f"Recall on the held-out rows '{name}' over the tokens read in training"
        if held_out
        else f"Share of answer tokens that were the likeliest ({FROM_STEPS}) in the batches themselves, means of "
        f"{SMOOTHED} steps: not held out"
    )
    caption = f"{what}: {ends}. Without error bars: the logs of trainings keep means alone."
    return Picture(numbered(f"learning_{file_name(name)}", number), f"Learning curves, {name}", caption, figure)


def draw_curves(axis: Any, curves: Mapping[str, Curve]) -> None:
    """Lines over millions of tokens, in per cent."""
    for at, (name, curve) in enumerate(curves.items()):
        x, y = [tokens / 1e6 for tokens, _ in curve], [100 * share for _, share in curve]
        shown = look(at) | ({"marker": ""} if len(curve) > MOST_MARKERS else {})
        axis.plot(x, y, **shown, label=name)
    axis.set_xlabel("training tokens, millions")
    axis.set_ylim(bottom=0)
