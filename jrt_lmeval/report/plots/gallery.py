"""All pictures of a report, the reasons why others are not drawn, and the folder with both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jrt_lmeval.report.cells import Cell, Collection, condition, value_of
from jrt_lmeval.report.plots import drawings
from jrt_lmeval.report.plots.picture import COLOURS, Names, NotDrawn, Picture, file_name
from jrt_lmeval.report.standard import main_metric
from jrt_lmeval.report.tables import Report, save


@dataclass(frozen=True)
class Kind:
    """A kind of picture of some runs.

    Attributes:
        about: its title in the list of what is not drawn.
        title: of a picture, in which `{metric}`, `{benchmark}`, `{layout}` and `{model}` are filled in.
        draw: from the runs of one picture and a metric to the caption and the figure.
        fits: whether a run can be in such a picture.
        why: what the logs lack if no run fits; `{metric}` is filled in.
        each: a picture is drawn for each combination of these.
        series: the name of a run, from the `Names` of a picture; runs with one name are drawn as one series.
        most: number of series in a picture; if there are more, they are drawn in several pictures.
    """

    about: str
    title: str
    draw: Callable[[Sequence[Cell], str], drawings.Drawn]
    fits: Callable[[Cell, str], bool]
    why: str
    each: tuple[str, ...] = ("benchmark",)
    series: Callable[[Names, Cell], str] = Names.label
    most: int = len(COLOURS)


KINDS: dict[str, Kind] = {
    "recall": Kind(
        "Recall by prompt layout", "{metric} on {benchmark} by prompt layout", drawings.by_layout,
        lambda cell, metric: cell.mean(metric) is not None, "no run has {metric}", most=8,
    ),
    "cost": Kind(
        "Recall against state and time", "{metric} on {benchmark} against state and time", drawings.by_cost,
        drawings.has_cost, "no run with {metric} logged the bytes of its state or the seconds of its answers",
    ),
    "depth": Kind(
        "Recall by answer depth and context length", "{metric} on {benchmark} by answer depth and context length",
        drawings.by_depth, drawings.has_depth,
        "no log of answers of a document read once says how deep the answer stands and how long the document is "
        "(answer_position and document_tokens)", series=lambda _, cell: cell.model, most=6,
    ),
    "distance": Kind(
        "Recall by distance of the last copy", "{metric} on {benchmark}, {layout}, by distance of the last copy",
        drawings.by_distance, drawings.has_distance,
        "no log of answers says where the answer's last copy stands (answer_last_token and prompt_tokens)",
        ("benchmark", "layout"), Names.full,
    ),
    "entropy": Kind(
        "Prefix length against entropy", "Prefix length against entropy on {benchmark}: {model}", drawings.by_entropy,
        drawings.has_entropy, "no run with prefix=dynamic logged jrt_entropy and jrt_prefix_tokens of its answers",
        ("benchmark", "model"), Names.series,
    ),
}  # fmt: skip
SETTINGS = {
    "step": ("Recall by the step of the dynamic prefix", "prefix_step"),
    "overlap": ("Recall by the overlap of segments", "overlap"),
}
"""Kind of picture -> its title and the one setting in which its runs differ."""
LEARNING = "learning"
PICTURES = (*KINDS, *SETTINGS, LEARNING)
"""All kinds, in the order in which they are shown."""


def gallery(collection: Collection, metric: str = "") -> tuple[list[Picture], list[NotDrawn]]:
    """Every picture that the logs allow, and every other one with the reason.

    Args:
        collection: everything collected (`collect.collect`).
        metric: what is drawn; by default that of `standard.main_metric`.
    """
    metric = metric or main_metric(collection.cells)
    found: list[Picture] = []
    missing: list[NotDrawn] = []
    for name, kind in KINDS.items():
        made = _pictures(name, kind, collection.cells, metric)
        found += made
        missing += [] if made else [NotDrawn(name, kind.about, kind.why.format(metric=metric))]
    for name, (about, setting) in SETTINGS.items():
        groups = drawings.families(collection.cells, metric, setting)
        why = f"no two runs with {metric} differ in {setting} and in nothing else"
        missing += [] if groups else [NotDrawn(name, about, why)]
        found += _in_parts(setting, f"{metric} by {setting}", groups, partial(drawings.by_setting, setting, metric))
    curves: dict[tuple[str, bool], list] = defaultdict(list)
    for training in collection.trainings:
        for rows in training.curves:
            curves[rows, training.held_out].append(training)
    for (rows, held_out), trained in curves.items():
        draw = partial(drawings.by_tokens, rows, held_out)
        found += _in_parts(f"{LEARNING}_{file_name(rows)}", f"Learning curves, {rows}", trained, draw)
    if not curves:
        missing.append(NotDrawn(LEARNING, "Learning curves", drawings.NO_TRAINING))
    return found, missing


def _pictures(name: str, kind: Kind, cells: Sequence[Cell], metric: str) -> list[Picture]:
    groups: dict[tuple[str, ...], list[Cell]] = defaultdict(list)
    for cell in cells:
        if kind.fits(cell, metric):
            words = {"layout": condition(cell), "benchmark": value_of(cell, "benchmark"), "model": cell.model}
            groups[tuple(words[axis] for axis in kind.each)].append(cell)
    made = []
    for place, members in groups.items():
        names = Names(members)
        series: dict[str, list[Cell]] = defaultdict(list)
        for cell in members:
            series[kind.series(names, cell)].append(cell)
        words = dict(zip(kind.each, place, strict=True))
        short = {**words, "layout": members[0].layout}
        file = "_".join([name, *(file_name(short[axis]) for axis in kind.each)])
        draw = partial(_joined, kind.draw, metric)
        made += _in_parts(file, kind.title.format(metric=metric, **words), list(series.values()), draw, kind.most)
    return made


def _joined(
    draw: Callable[[Sequence[Cell], str], drawings.Drawn], metric: str, series: list[list[Cell]]
) -> drawings.Drawn:
    return draw([cell for cells in series for cell in cells], metric)


def _in_parts(
    name: str, title: str, items: list, draw: Callable[[list], drawings.Drawn], most: int = len(COLOURS)
) -> list[Picture]:
    """Pictures of at most so many series each, numbered from the second on, so that none needs to leave any out."""
    return [
        Picture(name if at == 0 else f"{name}_{at // most + 1}", title, partial(draw, items[at : at + most]))
        for at in range(0, len(items), most)
    ]


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
    for picture in drawn:
        for kind in ("png", "svg"):
            save(folder / FOLDER / f"{picture.name}.{kind}", picture.saved(kind))
    save(folder / INDEX, _index(report, drawn, missing, files).encode("utf-8"))


def _index(report: Report, drawn: Sequence[Picture], missing: Sequence[NotDrawn], files: Sequence[Path]) -> str:
    """The index as Markdown: what was read, the files, the pictures with their captions, and those not drawn."""
    parts = ["# Report\n", *(f"{line}\n" for line in report.about)]
    parts.append("".join(f"- [{file.name}]({file.name})\n" for file in files))
    if report.problems:
        parts.append("Skipped:\n\n" + "".join(f"- {problem}\n" for problem in report.problems))
    for picture in drawn:
        file = f"{FOLDER}/{picture.name}"
        parts.append(f"## {picture.title}\n\n![{picture.title}]({file}.png)\n")
        parts.append(f"{picture.caption} [SVG]({file}.svg)\n")
    if missing:
        parts.append("## Not drawn\n\n" + "".join(f"- {one.title}: {one.why}.\n" for one in missing))
    return "\n".join(parts)
