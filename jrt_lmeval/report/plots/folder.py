"""The pictures of a report as files, and the page that says what lies in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jrt_lmeval.errors import JRTError
from jrt_lmeval.report.plots.gallery import gallery
from jrt_lmeval.report.plots.picture import NotDrawn, Picture, png, svg
from jrt_lmeval.report.records import Collection
from jrt_lmeval.report.tables import Report

FOLDER = "pictures"
INDEX = "index.md"


def write_folder(folder: Path, collection: Collection, report: Report, metric: str, files: Sequence[Path]) -> None:
    """Write all pictures as PNG and SVG below a folder, and its index.

    Args:
        folder: of the report; is there already.
        collection: what is drawn.
        report: what was read and skipped, for the index.
        metric: what is drawn; the main one where empty.
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
    """The index as Markdown: what was read, the files, every picture with its caption, and those not drawn."""
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
