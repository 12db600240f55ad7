"""All pictures of a report: those that the logs hold, and why the others are not drawn."""

from __future__ import annotations

from jrt_lmeval.report.plots.bars import by_layout
from jrt_lmeval.report.plots.picture import Draw, NotDrawn, Picture
from jrt_lmeval.report.records import Collection
from jrt_lmeval.report.standard import main_metric

PICTURES: dict[str, tuple[str, Draw]] = {
    "recall": ("Recall by prompt layout", by_layout),
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
