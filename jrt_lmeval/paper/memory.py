"""A picture of recall against bytes of state: recurrent models, and a Transformer that keeps ever less of the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.ticker import EngFormatter

from jrt_lmeval.paper.measured import METRIC, measured, recall
from jrt_lmeval.paper.plan import WINDOWED, Entry, Suite
from jrt_lmeval.report.cells import Cell
from jrt_lmeval.report.plots.picture import COLOURS, FAINT, INK, Picture, canvas, legend, line, log_ticks, reach, styled
from jrt_lmeval.report.tables import PERCENT, Number
from jrt_lmeval.stats import Interval

FULL = "Llama"
GROUPS: Mapping[str, tuple[str, str]] = {
    "Llama, whole and windowed": (COLOURS[0], "o"),
    "JRT-RNN, by feature map": (COLOURS[1], "s"),
    "Based": (COLOURS[2], "D"),
    "Mamba-2": (COLOURS[4], "^"),
}
LEFT_OUT = "Softmax in its place"
"""The students' teacher, no model of its own kind: its state grows with the text as Llama's does."""

Point = tuple[str, float, Interval]
"""Label, bytes, recall."""
Rows = Mapping[str, Mapping[str, Cell]]
"""Label -> what was measured by task."""


def points(entries: Sequence[Entry], logs: Path, benchmark: str) -> list[Point]:
    """What the rows of the table `memory` keep and recall on a benchmark, by bytes."""
    return _points(_rows(entries, logs), benchmark)


def _rows(entries: Sequence[Entry], logs: Path) -> Rows:
    return {entry.row: measured(logs, entry.run) for entry in entries if entry.table == "memory"}


def _points(rows: Rows, benchmark: str) -> list[Point]:
    found = []
    for row, cells in rows.items():
        cell = cells.get(f"{benchmark}_once")
        score = recall(cell)
        if row != LEFT_OUT and cell is not None and score is not None:
            found.append((row, cell.figure("state_bytes"), score))
    return sorted(found, key=lambda point: point[1])


def group_of(row: str) -> str:
    """The group of `GROUPS` that a row of the table is drawn with."""
    transformer, jrt, *others = GROUPS
    if row == FULL or row.startswith(WINDOWED):
        return transformer
    return row if row in others else jrt


@styled
def memory_picture(entries: Sequence[Entry], logs: Path, suite: Suite) -> Picture:
    """One panel a benchmark: Llama's windows as a curve, the others as points; bars are 95 % intervals by document."""
    figure, axes = canvas(1.7 * len(suite.benchmarks), rows=len(suite.benchmarks), sharex=True)
    rows, counted = _rows(entries, logs), []
    for axis, benchmark in zip(axes, suite.benchmarks, strict=True):
        found = _points(rows, benchmark)
        curve = [point for point in found if group_of(point[0]) == next(iter(GROUPS))]
        axis.plot([x for _, x, _ in curve], [PERCENT * y.mean for _, _, y in curve], color=COLOURS[0], lw=0.8)
        for row, x, y in found:
            colour, marker = GROUPS[group_of(row)]
            below, above = reach(Number(y.mean, PERCENT, 1, y))
            axis.errorbar(x, PERCENT * y.mean, yerr=[[below], [above]], color=colour, marker=marker, lw=0.6, alpha=0.9)
        asked = [cells[f"{benchmark}_once"] for cells in rows.values() if f"{benchmark}_once" in cells]
        mark = " [sample]" if asked and asked[0].first.source == "sample" else ""
        axis.set_title(f"{benchmark}{mark}, read once", color=INK)
        axis.set_ylabel(f"{METRIC}, %")
        axis.set_ylim(-3, 100)
        axis.grid(axis="y", color=FAINT, lw=0.3, alpha=0.5)
        counted += [f"{found[0][2].n} questions on {found[0][2].clusters} documents of {benchmark}"] if found else []
    axes[-1].set_xscale("log")
    log_ticks(axes[-1].xaxis)
    axes[-1].xaxis.set_major_formatter(EngFormatter(sep=""))
    axes[-1].set_xlabel("state after the prompt, bytes (mean)")
    entries_of = [(name, line(color=colour, marker=marker)) for name, (colour, marker) in GROUPS.items()]
    legend(figure, entries_of, columns=2)
    caption = f"{METRIC} against the bytes of a sequence's state; {'; '.join(counted)}; bars: 95 % by document."
    return Picture("recall_memory", "Recall against memory", caption, figure)
