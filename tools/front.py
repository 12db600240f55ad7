"""What README and the model cards say in numbers, from a suite's logs alone.

    python -m tools.front results/measured README.md docs/reading-twice.md docs/recall_memory.png

rewrites what stands between the markers `<!-- measured -->` and `<!-- /measured -->` of both pages, the picture, and
the measured figures on the cards of the shipped models.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from jrt_lmeval.checkpoints.found import shipped_for, shipped_models
from jrt_lmeval.markdown import markdown_table, with_block
from jrt_lmeval.paper.claims import ALPHA, JRT_SAYS, LEAD, METRIC, SECOND_COPY, Logs, percent, recall, rule, verdict
from jrt_lmeval.paper.plan import (
    AT_EQUAL_MEMORY,
    COUNTERFACTUAL,
    LAYOUT_ENDINGS,
    SUITES,
    TEACHER,
    TRAINED_SO,
    WINDOWED,
    WRONG_CONTEXT,
    Suite,
    TableRow,
    plan,
)
from jrt_lmeval.paper.tables import figure, paper_report
from jrt_lmeval.paths import published_dir
from jrt_lmeval.prompts.layouts import LAYOUTS
from jrt_lmeval.report.cells import Cell
from jrt_lmeval.report.collect import collect
from jrt_lmeval.report.plots.picture import (
    COLOURS,
    FAINT,
    INK,
    Picture,
    canvas,
    errorbars,
    legend,
    line,
    log_ticks,
)
from jrt_lmeval.report.tables import PERCENT, Number, Report
from jrt_lmeval.report.tables import TableEntry as Shown
from jrt_lmeval.runner import EvalRun
from jrt_lmeval.stats import Interval
from jrt_lmeval.task.rules import RULES

READ_TWICE = (JRT_SAYS, SECOND_COPY, LEAD)
BLOCK = "measured"
STEPS = published_dir().parent / "training"
"""Logs of the steps of the shipped models, a file for each."""


FULL = "Llama"
GROUPS: Mapping[str, tuple[str, str]] = {
    "Llama, whole and windowed": (COLOURS[0], "o"),
    "JRT-RNN, by feature map": (COLOURS[1], "s"),
    "Based": (COLOURS[2], "D"),
    "Mamba-2": (COLOURS[4], "^"),
}


class Point(NamedTuple):
    """A row of the table `memory` in the picture."""

    label: str
    size: float
    recall: Interval
    sample: bool


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def front(logs: Logs, suite: Suite, real: Sequence[Cell] = ()) -> str:
    """The README's table: recall of each family on the suite's first benchmark, and the bytes of its state.

    Args:
        logs: of the suite.
        suite: what was run.
        real: SmolLM2 on the same benchmark, read once and twice.
    """
    benchmark = suite.benchmarks[0]
    once, flat = (benchmark + LAYOUT_ENDINGS[layout] for layout in ("once", "flat"))
    rows, asked, controls = [], {}, []
    for label, model, given in (("JRT-RNN", "jrt_rnn", {**suite.default, "prefix": "dynamic"}), *suite.others):
        blocks = ({}, WRONG_CONTEXT, COUNTERFACTUAL)
        cells, another, replaced = (logs.cells(EvalRun(model, given, (), block)) for block in blocks)
        if once not in cells or label in (TEACHER, AT_EQUAL_MEMORY, TRAINED_SO):
            continue
        asked[label] = cells[once]
        if once in another and once in replaced:
            controls.append((another[once].mean(METRIC) or 0.0, replaced[once].mean(METRIC) or 0.0))
        scores = (cells[once], cells.get(flat))
        state = figure({benchmark: cells[once]}, "state_bytes", 0.001, 0)
        rows.append([label, *(percent(recall(score)) for score in scores), _text(state)])
    for cell in (one for one in real if one.layout == "once"):
        twice = next((one for one in real if one.layout == "flat"), None)
        state = figure({benchmark: cell}, "state_bytes", 0.001, 0)
        label = f"SmolLM2-135M, {cell.first.asked} questions"
        rows.append([label, percent(recall(cell)), percent(recall(twice)), _text(state)])
    layouts = [LAYOUTS[name].label for name in ("once", "flat")]
    table = markdown_table([f"`{benchmark}`, answers recalled, %", *layouts, "state, KB (median)"], rows)
    first = next(iter(asked.values()))
    found = recall(first)
    size = "" if found is None else f"{found.n:,} questions on {found.clusters:,} documents; "
    told = ""
    if controls:
        others, low, high = max(one for one, _ in controls), *(f(two for _, two in controls) for f in (min, max))
        told = (
            f"Shown the document of another question, the models of the suite score at most {_share(others)} %; where "
            f"another answer is written into the document, they give that one in {_share(low)} to {_share(high)} %. "
        )
    return (
        f"{table}\n{size}95 % intervals by document. {told}The most frequent answer to each question scores "
        f"{_share(rule(first, 'majority'))} %.\n"
    )


def reading_twice(report: Report) -> str:
    """What reading twice gives each family, what of it the second copy gives, and what the question in front."""
    rows = next((table.rows for table in report.tables if table.name == "claims"), ())
    shown = [row for row in rows if any(str(row[0]).endswith(f"({words})") for words in READ_TWICE)]
    header = ["what is compared", "benchmark", "points [95 %]", "smallest effect seen", "p (Holm)", "verdict"]
    lines = [[row[0], row[1], row[3], _text(row[4]), _text(row[5]), row[8]] for row in shown]
    told = sum(isinstance(row[5], Number) and row[5].value < ALPHA for row in shown)
    table = markdown_table(header, lines, left=2)
    return (
        f"{table}\nSignificant at 5 % once p is corrected: {told} of these {len(shown)} differences. Softmax attention "
        "and generated samples are in results/tables.md, explored and not judged.\n"
    )


def _text(entry: Shown) -> str:
    return entry.text() if isinstance(entry, Number) else str(entry)


def card_rows(logs: Logs, suite: Suite) -> dict[str, list[dict[str, Any]]]:
    """Name of a shipped model -> what its card says was measured."""
    kinds = [("jrt_rnn", {**given, "prefix": "full"}) for given in suite.maps.values()]
    kinds += [(model, dict(given)) for _, model, given in suite.others]
    found: dict[str, list[dict[str, Any]]] = {}
    for model, given in kinds:
        cells, another = (logs.cells(EvalRun(model, given, (), block)) for block in ({}, WRONG_CONTEXT))
        rows = []
        for benchmark in suite.benchmarks:
            task = f"{benchmark}_once"
            if task not in cells:
                continue
            cell, score = cells[task], recall(cells[task])
            control = another[task].mean(METRIC) if task in another else None
            majority = rule(cell, "majority")
            rows.append(
                {
                    "task": task + (" [sample]" if cell.first.source == "sample" else ""),
                    "questions": "-" if score is None else score.n,
                    "contains, % [95 % by document]": percent(score),
                    "on another document, %": _share(control),
                    f"{RULES['majority'].label}, %": _share(majority),
                    "recalls": verdict(score, control, majority),
                }
            )
        if rows:
            found[_name_of(model, given)] = rows
    return found


def _name_of(model: str, given: Mapping[str, Any]) -> str:
    return str(given.get("pretrained") or Path(shipped_for(model, given.get("feature_map")).name).name)


def points(entries: Sequence[TableRow], logs: Logs, benchmark: str) -> list[Point]:
    """What the rows of the table `memory` keep and recall on a benchmark, by bytes."""
    found = []
    for row in (entry for entry in entries if entry.table == "memory" and entry.label != TEACHER):
        cell = logs.cells(row.run).get(f"{benchmark}_once")
        score = recall(cell)
        if cell is not None and score is not None:
            found.append(Point(row.label, cell.figure("state_bytes"), score, cell.first.source == "sample"))
    return sorted(found, key=lambda point: point.size)


def group_of(row: str) -> str:
    """The group of `GROUPS` that a row of the table is drawn with."""
    transformer, jrt, *others = GROUPS
    if row == FULL or row.startswith(WINDOWED):
        return transformer
    return row if row in others else jrt


def memory_picture(entries: Sequence[TableRow], logs: Logs, suite: Suite) -> Picture:
    """Recall of the rows of the table `memory` against the bytes of their state."""
    return Picture("recall_memory", "Recall against memory", partial(_draw_memory, entries, logs, suite))


def _draw_memory(entries: Sequence[TableRow], logs: Logs, suite: Suite) -> tuple[str, Figure]:
    """One panel a benchmark: Llama's windows as a curve, the others as points; bars are 95 % intervals by document."""
    figure, axes = canvas(1.7 * len(suite.benchmarks), rows=len(suite.benchmarks), sharex=True)
    counted = []
    for axis, benchmark in zip(axes, suite.benchmarks, strict=True):
        found = points(entries, logs, benchmark)
        curve = [point for point in found if group_of(point.label) == next(iter(GROUPS))]
        values = [PERCENT * point.recall.mean for point in curve]
        axis.plot([point.size for point in curve], values, color=COLOURS[0], lw=0.8)
        for label, size, score, _ in found:
            colour, marker = GROUPS[group_of(label)]
            number = Number(score.mean, PERCENT, 1, score)
            errorbars(axis, [size], [number], color=colour, marker=marker, lw=0.6, alpha=0.9)
        mark = " [sample]" if any(point.sample for point in found) else ""
        axis.set_title(f"{benchmark}{mark}, read once", color=INK)
        axis.set_ylabel(f"{METRIC}, %")
        axis.set_ylim(-3, 100)
        axis.grid(axis="y", color=FAINT, lw=0.3, alpha=0.5)
        first = found[0].recall if found else None
        counted += [] if first is None else [f"{first.n} questions on {first.clusters} documents of {benchmark}"]
    axes[-1].set_xscale("log")
    log_ticks(axes[-1].xaxis)
    axes[-1].xaxis.set_major_formatter(EngFormatter(sep=""))
    axes[-1].set_xlabel("state after the prompt, bytes (mean)")
    entries_of = [(name, line(color=colour, marker=marker)) for name, (colour, marker) in GROUPS.items()]
    legend(figure, entries_of, columns=2)
    caption = f"{METRIC} against the bytes of a sequence's state; {'; '.join(counted)}; bars: 95 % by document."
    return caption, figure


def main(argv: list[str]) -> int:
    """Bring a page and the cards of the shipped models up to date."""
    from jrt_lmeval.training.card import write_card

    logs, suite = Logs(Path(argv[0]) / "bundled"), SUITES["bundled"]
    real = collect([Path(argv[0]) / "smollm2-600"]).cells
    entries = plan(suite)
    blocks = {argv[1]: front(logs, suite, real), argv[2]: reading_twice(paper_report(entries, logs))}
    for page, block in blocks.items():
        Path(page).write_text(with_block(Path(page).read_text(encoding="utf-8"), BLOCK, block), encoding="utf-8")
    Path(argv[3]).write_bytes(memory_picture(entries, logs, suite).saved("png"))
    for name, rows in card_rows(logs, suite).items():
        write_card(shipped_models()[name].folder, name, rows, STEPS / f"{name}.jsonl")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
