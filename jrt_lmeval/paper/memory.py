"""A picture of recall against bytes of state: recurrent models, and a Transformer that keeps ever less of the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.ticker import EngFormatter

from jrt_lmeval.paper.measured import METRIC, measured, recall
from jrt_lmeval.paper.plan import WINDOWED, Entry, Suite
from jrt_lmeval.report.plots.picture import Picture
from jrt_lmeval.report.plots.style import COLOURS, FAINT, INK, canvas, legend, line, log_ticks, styled
from jrt_lmeval.report.records import Cell
from jrt_lmeval.report.stats import Interval

FULL = "Llama"
GROUPS: Mapping[str, tuple[str, str]] = {
    "Llama, whole and windowed": (COLOURS[0], "o"),
    "JRT-RNN, by feature map": (COLOURS[1], "s"),
    "Based": (COLOURS[2], "D"),
    "Mamba": (COLOURS[4], "^"),
}
LEFT_OUT = "Softmax in its place"
"""The students' teacher, no model of its own kind: its state grows with the text as Llama's does."""

Point = tuple[str, float, Interval]
"""Label, bytes, recall."""


def points(entries: Sequence[Entry], logs: Path, benchmark: str) -> list[Point]:
    """What the rows of the table `memory` keep and recall on a benchmark, by bytes."""
    found = []
    for entry in entries:
        if entry.table == "memory" and entry.row != LEFT_OUT:
            cell = measured(logs, entry.run).get(f"{benchmark}_once")
            score = recall(cell)
            if cell is not None and score is not None:
                found.append((entry.row, cell.figure("state_bytes"), score))
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
    counted = []
    for axis, benchmark in zip(axes, suite.benchmarks, strict=True):
        found = points(entries, logs, benchmark)
        curve = [point for point in found if group_of(point[0]) == next(iter(GROUPS))]
        axis.plot([x for _, x, _ in curve], [100 * y.mean for _, _, y in curve], color=COLOURS[0], lw=0.8)
        for row, x, y in found:
            colour, marker = GROUPS[group_of(row)]
            bars = [[100 * (y.mean - y.low)], [100 * (y.high - y.mean)]]
            axis.errorbar(x, 100 * y.mean, yerr=bars, color=colour, marker=marker, lw=0.6, alpha=0.9)
        sample = _first(entries, logs, benchmark)
        mark = " [sample]" if sample is not None and sample.first.source == "sample" else ""
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


def _first(entries: Sequence[Entry], logs: Path, benchmark: str) -> Cell | None:
    cells = (measured(logs, entry.run).get(f"{benchmark}_once") for entry in entries if entry.table == "memory")
    return next((cell for cell in cells if cell is not None), None)
