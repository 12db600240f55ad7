"""A picture with what must be read with it, how it is written, and what stands in its place if there is none."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib

from jrt_lmeval.report.plots.style import SAVING
from jrt_lmeval.report.records import Collection

PNG_DPI = 300


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
    with matplotlib.rc_context(SAVING):
        picture.figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return out.getvalue()


def png(picture: Picture) -> bytes:
    """The picture as PNG, on white."""
    out = io.BytesIO()
    with matplotlib.rc_context(SAVING):
        picture.figure.savefig(out, format="png", dpi=PNG_DPI, facecolor="white")
    return out.getvalue()
