"""All pictures of a report, the reasons why others are not drawn, and the folder with both."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from jrt_lmeval.errors import JRTError
from jrt_lmeval.report.cells import Collection
from jrt_lmeval.report.plots.lines import by_setting, learning_curves, prefix_by_entropy, recall_by_distance
from jrt_lmeval.report.plots.picture import Draw, NotDrawn, Picture, png, svg
from jrt_lmeval.report.plots.recall import by_layout, depth_and_length, recall_and_cost
from jrt_lmeval.report.standard import main_metric
from jrt_lmeval.report.tables import Report

PICTURES: dict[str, tuple[str, Draw]] = {
    "recall": ("Recall by prompt layout", by_layout),
    "cost": ("Recall against state and time", recall_and_cost),
    "depth": ("Recall by answer depth and context length", depth_and_length),
    "distance": ("Recall by distance of the last copy", recall_by_distance),
    "entropy": ("Prefix length against entropy", prefix_by_entropy),
    "step": ("Recall by the step of the dynamic prefix", partial(by_setting, name="prefix_step")),
    "overlap": ("Recall by the overlap of segments", partial(by_setting, name="overlap")),
    "learning": ("Learning curves", learning_curves),
}
"""Kind of picture -> its title and what draws it, in the order in which they are shown."""


def gallery(collection: Collection, metric: str = "") -> tuple[list[Picture], list[NotDrawn]]:
    """Every picture that the logs allow, and every other one with the reason.

    Args:
        collection: everything collected (`collect.collect`).
        metric: what is drawn; by default that of `standard.main_metric`.
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


FOLDER = "pictures"
INDEX = "index.md"


def write_folder(folder: Path, collection: Collection, report: Report, metric: str, files: Sequence[Path]) -> None:
    """Write all pictures as PNG and SVG below a folder, and its index.

    Args:
        folder: of the report; it exists.
        collection: what is drawn.
        report: what was read and skipped, for the index.
        metric: as `gallery`.
        files: written beside the pictures.

    Raises:
        JRTError: a file cannot be written.
    """
    drawn, missing = gallery(collection, metric)
    try:
        (folder / FOLDER).mkdir(exist_ok=True)
        for picture in drawn:
            (folder / FOLDER / f"{picture.name}.png").write_bytes(png(picture))
            (folder / FOLDER / f"{picture.name}.svg").write_text(svg(picture), encoding="utf-8")
        (folder / INDEX).write_text(index(report, drawn, missing, files), encoding="utf-8")
    except OSError as error:
        raise JRTError(f"{folder}: its pictures cannot be written ({error.strerror}).") from None


def index(report: Report, drawn: Sequence[Picture], missing: Sequence[NotDrawn], files: Sequence[Path]) -> str:
    """The index as Markdown: what was read, the files, the pictures with their captions, and those not drawn."""
    parts = ["# Report\n", *(f"{line}\n" for line in report.about)]
    parts.append("".join(f"- [{file.name}]({file.name})\n" for file in files))
    if report.problems:
        parts.append("Skipped:\n\n" + "".join(f"- {problem}\n" for problem in report.problems))
    for picture in drawn:
        file = f"{FOLDER}/{picture.name}"
        parts += [
            f"## {picture.title}\n",
            f"![{picture.title}]({file}.png)\n",
            f"{picture.caption} [SVG]({file}.svg)\n",
        ]
    if missing:
        parts.append("## Not drawn\n\n" + "".join(f"- {one.title}: {one.why}.\n" for one in missing))
    return "\n".join(parts)
