"""All pictures of a report: those that the logs hold, and why the others are not drawn."""

from __future__ import annotations

from jrt_lmeval.report.plots.bars import by_layout
from jrt_lmeval.report.plots.cost import recall_and_cost
from jrt_lmeval.report.plots.depth import depth_and_length
from jrt_lmeval.report.plots.distance import recall_by_distance
from jrt_lmeval.report.plots.entropy import prefix_by_entropy
from jrt_lmeval.report.plots.learning import learning_curves
from jrt_lmeval.report.plots.picture import Draw, NotDrawn, Picture
from jrt_lmeval.report.plots.sensitivity import overlap, step
from jrt_lmeval.report.records import Collection
from jrt_lmeval.report.standard import main_metric

PICTURES: dict[str, tuple[str, Draw]] = {
    "recall": ("Recall by prompt layout", by_layout),
    "cost": ("Recall against state and time", recall_and_cost),
    "depth": ("Recall by answer depth and context length", depth_and_length),
    "distance": ("Recall by distance of the last copy", recall_by_distance),
    "entropy": ("Prefix length against entropy", prefix_by_entropy),
    "step": ("Recall by the step of the dynamic prefix", step),
    "overlap": ("Recall by the overlap of segments", overlap),
    "learning": ("Learning curves", learning_curves),
}
"""Kind of picture -> its title and what draws it, in the order in which they are shown."""


def gallery(collection: Collection, metric: str = "") -> tuple[list[Picture], list[NotDrawn]]:
    """Every picture that the logs hold, and every other one with the reason.

    Args:
        collection: everything collected (`collect.collect`).
        metric: what is drawn; by default `contains` where any run has it, else the next best known.
    """
    metric = metric or main_metric(collection.cells)
    found: list[Picture] = []
    missing: list[NotDrawn] = []
    for name, (title, draw) in PICTURES.items():
        drawn = draw(collection, metric)
        if isinstance(drawn, str):
            missing.append(NotDrawn(name, title, drawn))
        else:
            found += drawn
    return found, missing


def pictures(collection: Collection, metric: str = "") -> list[Picture]:
    """Every picture that the logs hold; see `gallery`."""
    return gallery(collection, metric)[0]
