"""A report as one HTML page: everything in it, nothing fetched."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jrt_lmeval import __version__
from jrt_lmeval.report.misses import KINDS
from jrt_lmeval.report.page.browser import MOST_QUESTIONS, Browser, browser
from jrt_lmeval.report.page.facets import NAMES, facets
from jrt_lmeval.report.page.view import SECTIONS, View, view
from jrt_lmeval.report.records import Collection
from jrt_lmeval.report.tables import Report

if TYPE_CHECKING:
    from jrt_lmeval.report.plots.picture import NotDrawn, Picture

    Inlined = tuple[Picture, str, str]

FOLDER = Path(__file__).parent
ROOM = 980_000
"""Bytes of a page without samples: pictures have what the tables leave of it."""
SCRIPTS = ("page.js", "list.js", "prompt.js")


def page(report: Report, collection: Collection, metric: str, most: int = MOST_QUESTIONS) -> str:
    """The page.

    Args:
        report: the tables.
        collection: the runs behind them.
        metric: what is drawn, and what decides whether an answer is right.
        most: questions in the browser of answers; 0 leaves it out.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from jrt_lmeval.report.plots.gallery import gallery
    from jrt_lmeval.report.plots.picture import svg

    cells = collection.cells
    drawn, missing = gallery(collection, metric)
    inlined = [(picture, own(picture.name), inline(svg(picture), picture.name)) for picture in drawn]
    script = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    render = partial(
        environment.get_template("page.html").render,
        version=__version__,
        report=report,
        sections=sections([view(table, cells) for table in report.tables]),
        metric=metric,
        facet_names=NAMES,
        choices=choices(collection),
        facets=embedded([facets(cell) for cell in cells]),
        kinds=[kind.replace(" ", "-") for kind in KINDS],
        css=(FOLDER / "page.css").read_text(encoding="utf-8"),
        script=script,
        # the only script that runs: one that a log smuggled in would not
        script_hash=base64.b64encode(sha256(script.encode()).digest()).decode(),
    )
    bare = render(pictures=[], missing=missing, samples=None, samples_size="")
    shown, left = within(inlined, ROOM - len(bare.encode()))
    found = browser(cells, metric, most)
    return render(pictures=shown, missing=[*missing, *left], samples=found, samples_size=_size(found))


def within(pictures: Sequence[Inlined], budget: int) -> tuple[list[Inlined], list[NotDrawn]]:
    """The pictures that a page has room for, in their order, and the others: the first of each kind come first."""
    from jrt_lmeval.report.plots.picture import NotDrawn

    rank: dict[str, int] = {}
    kinds = [picture.name.partition("_")[0] for picture, _, _ in pictures]
    turns = []
    for at, kind in enumerate(kinds):
        rank[kind] = rank.get(kind, -1) + 1
        turns.append((rank[kind], at))
    taken: set[int] = set()
    for _, at in sorted(turns):
        if len(pictures[at][2]) <= budget:
            budget -= len(pictures[at][2])
            taken.add(at)
    why = "left out to keep the page small; `jrt-eval report --out FOLDER` writes every picture"
    left = [NotDrawn(one.name, one.title, why) for at, (one, _, _) in enumerate(pictures) if at not in taken]
    return [pictures[at] for at in sorted(taken)], left


def sections(views: Sequence[View]) -> list[tuple[str, str, list[View]]]:
    """Section, title and tables, in the order of the page; empty sections left out."""
    placed = {name: section for section, (_, names) in SECTIONS.items() for name in names}
    last = list(SECTIONS)[-1]
    found = [
        (section, title, [one for one in views if placed.get(one.table.name, last) == section])
        for section, (title, _) in SECTIONS.items()
    ]
    return [(section, title, inside) for section, title, inside in found if inside]


def choices(collection: Collection) -> dict[str, list[str]]:
    """What each filter can be set to."""
    rows = [facets(cell) for cell in collection.cells]
    return {name: list(dict.fromkeys(row[at] for row in rows)) for at, name in enumerate(NAMES)}


def embedded(content: Any) -> str:
    """JSON for a script element: nothing in it can end the element."""
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")


def own(name: str) -> str:
    """A picture's name as the start of its ids."""
    return "picture-" + re.sub(r"\W", "_", name)


def inline(svg: str, name: str) -> str:
    """A picture for the page: its ids are its own, its ink is the page's, its words are read out as one picture."""
    from jrt_lmeval.report.plots.style import FAINT, INK

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", svg)
    mark = own(name)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{mark}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{mark}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{mark}-\1)", svg)
    svg = svg.replace(INK, "currentColor").replace(FAINT, "var(--dim)")
    svg = re.sub(r'\s(?:d|x|y|points)="[^"]*"', lambda match: re.sub(r"(\.\d\d)\d+", r"\1", match[0]), svg)
    return svg.replace("<svg", f'<svg role="img" aria-labelledby="{mark}-title"', 1)


def _size(found: Browser | None) -> str:
    if found is None:
        return ""
    return f"{found.size / 1e6:.1f} MB" if found.size > 1e6 else f"{found.size / 1e3:.0f} KB"
