"""A picture with what must be read with it, how it is written, and what stands in its place if there is none."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib

from jrt_lmeval.report.plots.style import SAVING, styled
from jrt_lmeval.report.records import Collection

DPI = 300


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
        name: short, for file names, such as `recall_factbook`; no two pictures of a report share one.
        title: what it shows.
        caption: everything that must be read with it: metric, unit, n, documents, what error bars are.
        figure: a `matplotlib.figure.Figure`, a column wide (3.3 in).
    """

    name: str
    title: str
    caption: str
    figure: Any

    def __post_init__(self) -> None:
        # Laid out once: each further time moves everything by a millionth, and two files of it would differ.
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")


@dataclass(frozen=True)
class NotDrawn:
    """A picture that these logs do not hold.

    Attributes:
        name, title: of the picture.
        why: what the logs would have to hold.
    """

    name: str
    title: str
    why: str


Draw = Callable[[Collection, str], "list[Picture] | str"]
"""What draws: from everything collected and the name of a metric to pictures, or to the reason why there are none."""


def svg(picture: Picture) -> str:
    """The picture as SVG: the same text for the same records; words stay words, the ground is transparent.

    What is written or ruled in `style.INK` may be replaced by `currentColor`.
    """
    out = io.StringIO()
    _save(picture, out, format="svg", transparent=True, metadata={"Date": None})
    return out.getvalue()


def png(picture: Picture) -> bytes:
    """The picture as PNG, on white."""
    out = io.BytesIO()
    _save(picture, out, format="png", facecolor="white")
    return out.getvalue()


def pdf(picture: Picture) -> bytes:
    """The picture as PDF."""
    out = io.BytesIO()
    _save(picture, out, format="pdf", metadata={"CreationDate": None})
    return out.getvalue()


@styled
def _save(picture: Picture, out: Any, **how: Any) -> None:
    with matplotlib.rc_context(SAVING):
        picture.figure.savefig(out, dpi=DPI, **how)


SAVED: dict[str, Callable[[Picture], bytes]] = {
    ".png": png,
    ".svg": lambda picture: svg(picture).encode(),
    ".pdf": pdf,
}
"""Ending of a file -> its content."""
