"""A report as one HTML page, which holds everything and fetches nothing, with a browser of the answers."""

from __future__ import annotations

import base64
import json
import math
import re
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jrt_lmeval import __version__
from jrt_lmeval.answers import spans
from jrt_lmeval.report.cells import Cell, Collection, axes, condition, value_of
from jrt_lmeval.report.misses import KINDS, document_of, explain, first_line
from jrt_lmeval.report.samples import Sample
from jrt_lmeval.report.tables import NOTES, PERCENT, Number, Report, Table, TableEntry, spread

if TYPE_CHECKING:
    from jrt_lmeval.report.plots.picture import NotDrawn, Picture

    Inlined = tuple[Picture, str, str]

MOST_QUESTIONS = 20_000
FOLDER = Path(__file__).parent
ROOM = 980_000
"""Bytes of a page without samples: pictures may take what the tables leave of it."""
SCRIPTS = ("page.js", "list.js", "prompt.js")
FILTERS = ("model", "task", "layout", "prefix")
"""The filters in the order in which they are shown; one more, `text`, is for answers alone."""
SECTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "summary": ("Summary", ("recall", "pivot", "rules", "published", "others")),
    "comparisons": ("Paired comparisons", ("differences",)),
    "misses": ("Misses", ("misses", "distance")),
    "runs": ("Runs", ("runs",)),
}
"""Section -> its title and the names of its tables. Tables without a section are in the last one."""
_BARS = frozenset(("recall", "pivot", "rules"))
_ROWS = {
    "dropped": "dropped", "document_cut": "with the document cut",
    "answer_outside": "without the answer in what is read",
    "no_counterfactual": "without a counterfactual", "question_missing": "without a question",
    "over_budget": "over the budget", "levels_missing": "without a level",
    "answer_displaced": "with the answer displaced", "no_question_match": "without a word of the question",
    "blank_answer": "with a blank accepted answer", "skipped": "not read by the model",
}  # fmt: skip
"""Counts of rows, as tasks log them -> their words."""


def page(report: Report, collection: Collection, metric: str, most: int = MOST_QUESTIONS) -> str:
    """The page of a report's tables and of the runs behind them.

    Args:
        metric: what is drawn and what decides whether an answer is right.
        most: number of questions in the browser of answers; 0 leaves it out.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from jrt_lmeval.report.plots.gallery import gallery

    cells = collection.cells
    drawn, missing = gallery(collection, metric)
    script = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
    # what each cell has for each filter; `-` for a model without a prefix policy
    axis = {"task": "benchmark", "layout": "condition"}
    facets = [tuple(value_of(cell, axis.get(name, name)) or "-" for name in FILTERS) for cell in cells]
    places = {name: section for section, (_, names) in SECTIONS.items() for name in names}
    views = [view(table, cells) for table in report.tables]
    sections = [
        (section, title, [one for one in views if places.get(one["table"].name, list(SECTIONS)[-1]) == section])
        for section, (title, _) in SECTIONS.items()
    ]
    options: dict[str, Any] = {
        "autoescape": True,
        "undefined": StrictUndefined,
        "trim_blocks": True,
        "lstrip_blocks": True,
    }
    environment = Environment(loader=FileSystemLoader(FOLDER), **options)
    render = partial(
        environment.get_template("page.html").render,
        version=__version__,
        report=report,
        sections=[section for section in sections if section[2]],
        metric=metric,
        facet_names=FILTERS,
        choices={name: list(dict.fromkeys(row[at] for row in facets)) for at, name in enumerate(FILTERS)},
        # nothing in it can end the script element
        facets=json.dumps(facets, separators=(",", ":")).replace("<", "\\u003c"),
        kinds=[kind.replace(" ", "-") for kind in KINDS],
        css=(FOLDER / "page.css").read_text(encoding="utf-8"),
        script=script,
        # the only script that may run, so that one from a log may not
        script_hash=base64.b64encode(sha256(script.encode()).digest()).decode(),
    )
    bare = render(pictures=[], missing=missing, samples=None, samples_size="")
    shown, left = within(drawn, ROOM - len(bare.encode()))
    found = browser(cells, metric, most)
    size = 0 if found is None else found.size
    told = f"{size / 1e6:.1f} MB" if size > 1e6 else f"{size / 1e3:.0f} KB"
    return render(pictures=shown, missing=[*missing, *left], samples=found, samples_size=told if found else "")


def within(pictures: Sequence[Picture], budget: int) -> tuple[list[Inlined], list[NotDrawn]]:
    """The pictures for which a page has room, in their order, and the others; the first of each kind go first.

    Those that a page has no room for are not even drawn.
    """
    from jrt_lmeval.report.plots.picture import NotDrawn

    kinds = [picture.name.partition("_")[0] for picture in pictures]
    taken: dict[int, Inlined] = {}
    for at in sorted(range(len(pictures)), key=lambda at: (kinds[:at].count(kinds[at]), at)):
        drawn = inline(pictures[at].saved("svg").decode(), pictures[at].name)
        budget -= len(drawn)
        if budget < 0:
            break
        taken[at] = (pictures[at], own(pictures[at].name), drawn)
    why = "left out to keep the page small; `jrt-eval report --out FOLDER` writes every picture"
    left = [NotDrawn(one.name, one.title, why) for at, one in enumerate(pictures) if at not in taken]
    return [taken[at] for at in sorted(taken)], left


def own(name: str) -> str:
    """A picture's name as the start of its ids."""
    return "picture-" + re.sub(r"\W", "_", name)


def inline(svg: str, name: str) -> str:
    """A picture for the page: its ids are its own, it has the page's ink, and it is read out as one picture."""
    from jrt_lmeval.report.plots.picture import FAINT, INK

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


# -------------------------------------------------------------------- a table of the page


def view(table: Table, cells: Sequence[Cell]) -> dict[str, Any]:
    """A table with what the page needs to filter it and to draw its bars.

    Returns:
        `table`; `lines`, each with its `entries`, the numbers of the `cells` that it is about and the `parts` of a
        stacked bar; `columns`, for each column the numbers of its cells, none for a column about all; `groups`, each a
        heading, a note and the numbers of the lines below it; `left_out`, the column that headings replace, or -1.
    """
    found = [e.interval for row in table.rows for e in row if isinstance(e, Number) and e.interval is not None]
    ends = [abs(end) for one in found for end in (one.low, one.high) if not math.isnan(end)]
    reach = max(ends, default=1.0) or 1.0
    named = Behind(cells)
    lines: list[dict[str, Any]] = []
    for row in table.rows:
        parts: list[tuple[str, float]] = []
        if table.name == "misses":
            shares = [entry for entry in row if isinstance(entry, Number) and entry.scale == PERCENT]
            parts = [(kind, one.scaled) for kind, one in zip(KINDS, shares, strict=False) if one.value > 0]
        entries = [_shown(entry, table.name, reach) for entry in row]
        lines.append({"entries": entries, "cells": named.row(table, row), "parts": parts})
    columns: list[list[int]] = [[] for _ in table.header]
    if table.name == "recall":
        columns = [[at for at, cell in enumerate(cells) if condition(cell) == name] for name in table.header]
    at = table.header.index("benchmark") if table.name == "recall" and "benchmark" in table.header else -1
    groups: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(table.rows):
        groups[str(row[at]) if at >= 0 else ""].append(number)
    headed = []
    for name, rows in groups.items():
        asked = _asked([cells[cell] for number in rows for cell in lines[number]["cells"]]) if at >= 0 else ""
        headed.append((name, asked, rows))
    return {
        "table": table, "lines": lines, "columns": columns, "groups": headed or [("", "", [])], "left_out": at,
    }  # fmt: skip


def _shown(entry: TableEntry, name: str, reach: float) -> dict[str, Any]:
    """An entry: its text without and with the interval, what it is sorted by, its marks, and the ends of its bar."""
    if not isinstance(entry, Number):
        return {
            **dict.fromkeys(("rest", "value", "best", "marks", "bar", "centred")),
            "text": entry or "–",
            "marks": (),
        }
    text, _, rest = entry.text().replace("-", "−" if entry.value < 0 else "–").partition(" ")
    centred = name == "differences"
    bar, found = None, entry.interval
    if found is not None and entry.scale == PERCENT and (name in _BARS or centred) and not math.isnan(found.low):
        # low, high and value in per cent of the bar's length; the middle of a centred bar is 0
        ends = (50 + 50 * end / reach if centred else 100 * end for end in (found.low, found.high, entry.value))
        bar = [round(min(100.0, max(0.0, place)), 1) for place in ends]
    return {
        "text": text, "rest": rest, "value": "" if math.isnan(entry.value) else f"{entry.value:.8g}",
        "best": entry.best, "marks": [(mark, NOTES[mark]) for mark in entry.marks], "bar": bar, "centred": centred,
    }  # fmt: skip


class Behind:
    """Finds the cells that the words of a row name, which are none for published figures."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells, self.axes = cells, frozenset(axes(cells))
        self.names = [f"{cell.model}, {cell.label}" for cell in cells]

    def row(self, table: Table, row: Sequence[object]) -> list[int]:
        words = dict(zip(table.header[: table.left], map(str, row), strict=False))
        if "first" in words and "second" in words:
            one = self._numbers(words["first"])
            # the second is named without its model if both have the same
            model = f"{self.cells[one[0]].model}, " if one else ""
            return one + (self._numbers(words["second"]) or self._numbers(model + words["second"]))
        known = {name: word for name, word in words.items() if name in self.axes}
        return [
            at
            for at, cell in enumerate(self.cells)
            if known and all(value_of(cell, name) == word or _names(cell, name, word) for name, word in known.items())
        ]

    def _numbers(self, name: str) -> list[int]:
        return [at for at, known in enumerate(self.names) if known == name]


def _names(cell: Cell, axis: str, word: str) -> bool:
    """Whether a word in the column `task` stands for a cell, with its settings and marks or without."""
    return axis == "task" and (word in (cell.task, cell.label) or word.startswith(f"{cell.label} ["))


def _asked(cells: Sequence[Cell]) -> str:
    """How much was asked, of which part, and what was cut or dropped, over the runs of a benchmark."""
    # rows without the answer are intended in a control
    cells = [cell for cell in cells if cell.control == "none"] or cells
    parts = [f"n = {spread({cell.first.asked for cell in cells})} questions"]
    documents = {cell.columns.documents for cell in cells if cell.columns is not None and cell.columns.by_document}
    parts += [f"{spread(documents)} documents"] if documents else []
    parted = [cell.first for cell in cells if cell.first.partly]
    parts += sorted({f"only part asked: {first.partly} of {first.total:,}" for first in parted})
    counts: dict[str, set[int]] = defaultdict(set)
    for cell in cells:
        rows = cell.first.block.get("rows")
        skipped = {} if cell.columns is None else {"skipped": cell.columns.skipped}
        for name, count in ({**rows, **skipped} if isinstance(rows, dict) else skipped).items():
            counts[name].add(count)
    parts += [f"{spread(counts[name])} {words}" for name, words in _ROWS.items() if any(counts[name])]
    return "; ".join(parts)


# -------------------------------------------------------------------- the browser of answers

FIGURES = {
    "prompt_tokens": "prompt, GPT-2 tokens",
    "model_prompt_tokens": "read, model's tokens",
    "prefix_tokens": "prefix M, model's tokens",
    "entropy": "entropy H of the document",
    "new_tokens": "generated tokens",
    "state_bytes": "state, bytes",
    "seconds": "seconds",
}
"""Figures that are shown with an answer -> their names."""


@dataclass(frozen=True)
class Browser:
    """The content of the browser, packed.

    Attributes:
        index: what the list shows and searches.
        prompts: pieces of `[text, places of answers, whether it is a prompt]`, each kept once for all runs. Of prompts
            on one document zlib keeps what differs.
        details: pieces of what is shown with an answer.
        questions: number of questions in the page.
        of: number of questions in the logs.
    """

    index: str
    prompts: tuple[str, ...]
    details: tuple[str, ...]
    questions: int
    of: int

    @property
    def size(self) -> int:
        """Bytes in the page."""
        return len(self.index) + sum(map(len, self.prompts)) + sum(map(len, self.details))


SIDE = ("cells", "question", "score", "answer", "kind", "prompt", "detail")
"""Columns of the answers of one model under one condition on all tasks; `cells` are the numbers of its cells."""
PROMPTS, DETAILS = 64, 256
"""Numbers of entries in a piece, which is unpacked when one of them is shown."""


def browser(cells: Sequence[Cell], metric: str, most: int = MOST_QUESTIONS) -> Browser | None:
    """Read the logs of answers of a report's cells, of several seeds the first.

    Args:
        metric: what decides whether an answer is right.
        most: number of questions; if there are more, each task gets its share, and those on which runs differ go first.

    Returns:
        None if no run has a log of answers or `most` is 0.
    """
    logged = [(number, cell) for number, cell in enumerate(cells) if cell.first.columns is not None]
    by_task: dict[str, list[Cell]] = defaultdict(list)
    for _, cell in logged:
        by_task[value_of(cell, "benchmark")].append(cell)
    if not logged or most < 1:
        return None
    chosen, total = chosen_rows(by_task, metric, most)
    tasks, known, prompts = list(by_task), dict[Any, int](), dict[Any, int]()
    questions: list[tuple[int, str, str, tuple[str, ...]]] = []  # task, document, what was asked, accepted answers
    details: list[list[Any]] = []
    sides: dict[tuple[str, ...], dict[str, list[Any]]] = {}
    for number, cell in logged:
        name = (cell.model, condition(cell), " ".join(part for part in (cell.setting, cell.first.partly) if part))
        side = sides.setdefault(name, {"name": list(name), **{column: [] for column in SIDE}})
        side["cells"].append(number)
        task = value_of(cell, "benchmark")
        wanted, scores = chosen[task], _scores(cell, metric)
        for sample in cell.first.samples():
            if wanted is None or sample.row in wanted:
                at = known.setdefault((task, sample.row, sample.gold), len(questions))
                if at == len(questions):
                    questions.append((tasks.index(task), sample.document, sample.question, sample.gold))
                side["question"].append(at)
                side["detail"].append(len(details))
                details.append(_keep(side, sample, scores.get(sample.row, {}), prompts))
    index = {
        "metric": metric,
        "tasks": tasks,
        "kinds": list(KINDS.items()),
        "figures": list(FIGURES.values()),
        "questions": list(zip(*questions, strict=True)) or [()] * 4,
        "sides": list(sides.values()),
        "sizes": [PROMPTS, DETAILS],
    }
    packs = in_pieces(list(prompts), PROMPTS), in_pieces(details, DETAILS)
    return Browser(packed(index), *packs, len(questions), max(total, len(questions)))


def _scores(cell: Cell, metric: str) -> dict[int, dict[str, float]]:
    """Row -> its scores, after `--rescore` the present ones; a question that was not read has none."""
    columns = cell.first.columns
    assert columns is not None
    found: dict[int, dict[str, float]] = {row: {} for row in columns.rows.tolist()}
    for name, key in ((metric, "score"), ("contains", "contains")):
        for row, score in zip(columns.rows.tolist(), columns.scores.get(name, np.empty(0)).tolist(), strict=False):
            found[row][key] = score
    return found


def _keep(
    side: dict[str, list[Any]], sample: Sample, scores: Mapping[str, float], prompts: dict[Any, int]
) -> list[Any]:
    """Add an answer to its side; returns what is shown with it: the rest of it, the prefix's end, figures, a copy."""
    score, prompt = scores.get("score", math.nan), sample.prompt
    miss = explain(sample) if scores.get("contains") == 0 else None
    line = None if sample.answer is None else first_line(sample.answer)
    text = document_of(sample) if prompt is None else prompt
    entry = (text, tuple(merged(spans(sample.gold, text))), int(prompt is not None))
    side["score"].append(None if math.isnan(score) else score)
    side["answer"].append(line)
    side["kind"].append(list(KINDS).index(miss.kind) if miss else -1)
    side["prompt"].append(prompts.setdefault(entry, len(prompts)) if text else -1)
    copied, end = None, sample.figures.get("prefix_characters")
    figures = [sample.figures.get(name, math.nan) for name in FIGURES]
    if miss and miss.place is not None and prompt:
        copied = [round(miss.place * len(document_of(sample))), miss.key]
    return [
        sample.answer if sample.answer != line else None,
        None if end is None or prompt is None else int(end),
        [None if math.isnan(x) else float(f"{x:.4g}") if x % 1 else int(x) for x in figures],
        copied,
    ]


def chosen_rows(
    by_task: Mapping[str, Sequence[Cell]], metric: str, most: int
) -> tuple[dict[str, frozenset[int] | None], int]:
    """The questions of each task that the page holds, None for all, and the number of questions of all tasks.

    Of a task with more than its share, questions on which runs differ are taken first, in the order of asking.
    """
    ordered: dict[str, np.ndarray] = {}
    for task, cells in by_task.items():
        logs = [cell.columns for cell in cells if cell.columns is not None]
        rows = np.concatenate([log.rows for log in logs])
        scores = np.concatenate([log.scores.get(metric, np.full(len(log), np.nan)) for log in logs])
        found, first, place = np.unique(rows, return_index=True, return_inverse=True)
        low, high = np.full(len(found), np.inf), np.full(len(found), -np.inf)
        np.fmin.at(low, place, scores)
        np.fmax.at(high, place, scores)
        ordered[task] = found[np.lexsort((first, ~(high > low)))]
    total = sum(map(len, ordered.values()))
    if total <= most:
        return dict.fromkeys(by_task), total
    shares = {task: math.ceil(most * len(rows) / total) for task, rows in ordered.items()}
    return {task: frozenset(rows[: shares[task]].tolist()) for task, rows in ordered.items()}, total


def packed(content: Any) -> str:
    """JSON, compressed with zlib, in base64, which has no character with a meaning in HTML."""
    text = json.dumps(content, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode("ascii"), 9)).decode("ascii")


def in_pieces(entries: Sequence[Any], size: int) -> tuple[str, ...]:
    """The entries in packed pieces of so many."""
    return tuple(packed(entries[at : at + size]) for at in range(0, len(entries), size))


def merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted spans with those that overlap merged."""
    found: list[tuple[int, int]] = []
    for start, end in spans:
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found
