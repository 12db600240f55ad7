"""`jrt-eval compare A B`: two runs on the same questions, in the terminal."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jrt_lmeval.errors import JRTError
from jrt_lmeval.report.cells import Cell, Difference, chosen, difference, value_of
from jrt_lmeval.report.collect import collect
from jrt_lmeval.report.misses import explain, first_line
from jrt_lmeval.report.samples import Sample
from jrt_lmeval.stats import holm

EPILOG = """examples:
  jrt-eval compare runs/mlp runs/taylor                       every task that both were asked
  jrt-eval compare out out --a layout=once --b layout=hier    two layouts of one run
  jrt-eval compare runs/a runs/b --metric f1 --show 30
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0."""
    parser = argparse.ArgumentParser(
        prog="jrt-eval compare",
        description="Wins, losses and ties of B against A on the same questions, and where they disagree.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", type=Path, help="results file of lm_eval, or a folder")
    parser.add_argument("b", type=Path, help="the other")
    parser.add_argument(
        "--a", action="append", default=[], dest="where_a", metavar="NAME=VALUE", help="only such runs of A"
    )
    parser.add_argument(
        "--b", action="append", default=[], dest="where_b", metavar="NAME=VALUE", help="only such runs of B"
    )
    parser.add_argument("--metric", default="contains", help="what is compared (default: contains)")
    parser.add_argument("--show", type=int, default=10, help="disagreements of each task that are shown (default: 10)")
    arguments = parser.parse_args(argv)
    cells = collect(dict.fromkeys([arguments.a, arguments.b])).cells
    first = chosen(_below(cells, arguments.a), arguments.where_a)
    second = chosen(_below(cells, arguments.b), arguments.where_b)
    found = [pair for a, b in couples(first, second) if (pair := difference(a, b, arguments.metric)) is not None]
    if not found:
        raise JRTError(
            f"nothing to compare: {arguments.a} and {arguments.b} have no logged questions in common with "
            f"{arguments.metric}; run both with --log_samples."
        )
    show(found, arguments.metric, arguments.show, Console())
    return 0


def _below(cells: Sequence[Cell], path: Path) -> tuple[Cell, ...]:
    place = path.resolve()
    return tuple(
        cell
        for cell in cells
        if any(place in (file := result.run.file.resolve(), *file.parents) for result in cell.results)
    )


def couples(first: Sequence[Cell], second: Sequence[Cell]) -> list[tuple[Cell, Cell]]:
    """Which cells are compared: those of one task and part; where there are none, those of one benchmark.

    Raises:
        JRTError: a task has several runs on one side: which is meant cannot be known.
    """
    for names in (("task", "control", "part"), ("benchmark", "control", "part"), ("benchmark", "part")):
        found = []
        for a in first:
            place = [value_of(a, name) for name in names]
            others = [b for b in second if [value_of(b, name) for name in names] == place and b is not a]
            rivals = [c for c in first if [value_of(c, name) for name in names] == place]
            if others and (len(others) > 1 or len(rivals) > 1):
                told = sorted({f"{cell.model}, {cell.label}" for cell in (*others, *rivals)})
                raise JRTError(f"more than one run of {' '.join(place)}: {'; '.join(told)}. Choose with --a and --b.")
            found += [(a, b) for b in others]
        if found:
            return found
    return []


def show(found: Sequence[Difference], metric: str, most: int, console: Console) -> None:
    """Print a table of all pairs, and below it what they disagree on."""
    table = Table(title=f"B less A, {metric}", caption=CAPTION, caption_justify="left", show_edge=False)
    table.add_column("task", overflow="fold")
    for name in (
        "A %",
        "B %",
        "B - A",
        "95 % interval",
        "wins",
        "losses",
        "ties",
        "p, Holm",
        "McNemar",
        "n",
        "documents",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    corrected = holm([pair.paired.p for pair in found])
    for pair, p in zip(found, corrected, strict=True):
        table.add_row(*_row(pair, p, metric))
    one = found[0]
    console.print(Text(f"A: {one.first.model}\nB: {one.second.model}"))
    console.print(table)
    for pair in found:
        _disagreements(pair, metric, most, console)


CAPTION = (
    "Interval and p: bootstrap over documents, p by Holm over the tasks. McNemar: exact, takes questions as "
    "independent."
)


def _row(pair: Difference, p: float, metric: str) -> list[str]:
    found = pair.paired
    name = pair.first.label if pair.first.label == pair.second.label else f"{pair.first.label} → {pair.second.label}"
    means = [100 * (cell.mean(metric) or 0.0) for cell in (pair.first, pair.second)]
    return [
        name,
        *(f"{mean:.1f}" for mean in means),
        f"{100 * found.difference:+.1f}",
        "-" if math.isnan(found.low) else f"{100 * found.low:+.1f} to {100 * found.high:+.1f}",
        *(f"{count:,}" for count in (found.wins, found.losses, found.ties)),
        "-" if math.isnan(p) else f"{p:.4f}",
        "-" if found.mcnemar is None else f"{found.mcnemar:.4f}",
        f"{found.n:,}",
        f"{found.clusters:,}",
    ]


def disagreements(pair: Difference, metric: str) -> Iterator[tuple[Sample, Sample]]:
    """The questions on which the two scored differently, in the order of the first log."""
    theirs = {sample.row: sample for sample in pair.second.first.samples()}
    for sample in pair.first.first.samples():
        other = theirs.get(sample.row)
        if other is not None and sample.scores.get(metric) != other.scores.get(metric):
            yield sample, other


def _disagreements(pair: Difference, metric: str, most: int, console: Console) -> None:
    shown = list(islice(disagreements(pair, metric), most))
    if not shown:
        return
    total = pair.paired.wins + pair.paired.losses
    title = f"{pair.second.label}: the first {len(shown)} of {total} disagreements"
    table = Table(title=Text(title), show_edge=False, show_lines=False)
    for name in ("document", "question", "accepted", "A", "B"):
        table.add_column(name, overflow="fold")
    for one, other in shown:
        answers = [_answer(side, metric) for side in (one, other)]
        table.add_row(Text(one.document[:24]), Text(one.question), Text(" | ".join(one.gold)), *answers)
    console.print(table)


def _answer(sample: Sample, metric: str) -> Text:
    if sample.answer is None:
        return Text(f"{sample.scores.get(metric, math.nan):g} (not logged)")
    right = sample.scores.get(metric, 0.0) >= 1.0
    miss = None if right or sample.scores.get("contains") != 0 else explain(sample)
    why = f"  [{miss.kind}{': ' + miss.key if miss.key else ''}]" if miss and miss.kind != "unknown" else ""
    mark = "right: " if right else ""
    return Text(f"{mark}{first_line(sample.answer) or '(nothing)'}{why}", style="green" if right else "")
