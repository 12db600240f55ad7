"""`jrt-eval compare A B`: two runs on the same questions, as lines of text that are the same at any width."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.report.cells import Cell, Difference, chosen, difference, metrics, value_of
from jrt_lmeval.report.collect import collect_both
from jrt_lmeval.report.misses import explain, first_line
from jrt_lmeval.report.samples import Sample
from jrt_lmeval.stats import holm

EPILOG = """examples:
  jrt-eval compare runs/mlp runs/taylor                       every task that both were asked
  jrt-eval compare out out --a layout=once --b layout=hier    two layouts of one run
  jrt-eval compare runs/a runs/b --metric f1 --show 30
"""
NOTE = """[ ]: 95 % bootstrap interval over documents. p of the same bootstrap, corrected
by Holm's method for the number of tasks. McNemar's exact p takes questions as
independent. Questions on which A and B score the same are ties."""


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
    for side in "ab":
        what = f"only such runs of {side.upper()}"
        parser.add_argument(
            f"--{side}", action="append", default=[], dest=f"where_{side}", metavar="NAME=VALUE", help=what
        )
    parser.add_argument("--metric", default="contains", help="what is compared (default: contains)")
    parser.add_argument("--show", type=int, default=10, help="disagreements of each task that are shown (default: 10)")
    arguments = parser.parse_args(argv)
    first, second = collect_both(arguments.a, arguments.b)
    first = chosen(first, arguments.where_a, "--a")
    second = chosen(second, arguments.where_b, "--b")
    if arguments.metric not in (known := metrics([*first, *second])):
        raise unknown("metric", arguments.metric, known)
    pairs = couples(first, second)
    found = [pair for a, b in pairs if (pair := difference(a, b, arguments.metric)) is not None]
    if not found:
        raise JRTError(f"nothing to compare: {_why(first, second, pairs, arguments.metric)}")
    sides = {"A": [pair.first for pair in found], "B": [pair.second for pair in found]}
    for name, compared in sides.items():
        print(f"{name}: {'; '.join(dict.fromkeys(cell.model for cell in compared))}")
    print()
    for pair, p in zip(found, holm([pair.paired.p for pair in found]), strict=True):
        print(described(pair, p, arguments.metric))
    for (name, compared), cells in zip(sides.items(), (first, second), strict=True):
        if left := [cell.label for cell in cells if cell not in compared]:
            print(f"Not compared, of {name}: {'; '.join(left)}")
    print(NOTE)
    for pair in found:
        for line in disagreements_told(pair, arguments.metric, arguments.show):
            print(line)
    return 0


def _why(first: Sequence[Cell], second: Sequence[Cell], pairs: Sequence[tuple[Cell, Cell]], metric: str) -> str:
    """Why no pair can be compared, in a sentence."""
    if not pairs:
        asked = ["; ".join(cell.label for cell in cells) for cells in (first, second)]
        return f"A was asked {asked[0]} and B {asked[1]}, which have no benchmark in common."
    unlogged = [cell.first.run.file for pair in pairs for cell in pair if not cell.by_document(metric)]
    if unlogged:
        return f"{unlogged[0]} has no log of answers with {metric}; run both with --log_samples."
    return "no question of A is one of B's: they are of other rows, or of logs too old to tell."


def couples(first: Sequence[Cell], second: Sequence[Cell]) -> list[tuple[Cell, Cell]]:
    """Pairs of cells that are compared: those of one task or, if there are none, those of one benchmark.

    Parts of a task (`--limit`) are compared on the questions that they have in common.

    Raises:
        JRTError: a task has several runs on one side, so that it is not clear which is meant.
    """
    for names in (("task", "control"), ("benchmark", "control"), ("benchmark",)):
        found = []
        for a in first:
            place = [value_of(a, name) for name in names]
            rivals, others = ([c for c in side if [value_of(c, n) for n in names] == place] for side in (first, second))
            others = [b for b in others if b.task != a.task or b.first.run.file.resolve() != a.first.run.file.resolve()]
            if len(others) > 1 or len(rivals) > 1:
                others = [b for b in others if b.first.partly == a.first.partly]
                rivals = [c for c in rivals if c.first.partly == a.first.partly]
            if others and (len(others) > 1 or len(rivals) > 1):
                told = sorted({f"{cell.model}, {cell.label}" for cell in (*others, *rivals)})
                raise JRTError(f"more than one run of {' '.join(place)}: {'; '.join(told)}. Choose with --a and --b.")
            found += [(a, b) for b in others]
        if found:
            return found
    return []


def described(pair: Difference, corrected: float, metric: str) -> str:
    """A pair in lines of at most 80 characters, labels aside; `corrected` is its p by Holm's method."""
    found = pair.paired
    name = pair.first.label if pair.first.label == pair.second.label else f"{pair.first.label} → {pair.second.label}"
    means = "  ".join(f"{side} {100 * mean:.1f} %" for side, mean in zip("AB", pair.means, strict=True))
    ends = "" if math.isnan(found.low) else f" [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    told = [
        f"{metric}:  {means}  B - A {100 * found.difference:+.1f}{ends} points",
        f"B wins {found.wins:,}, loses {found.losses:,}, ties {found.ties:,}, of {found.n:,} questions on "
        f"{found.clusters:,} documents",
        f"p (Holm) {_p(corrected)}  McNemar {_p(math.nan if found.mcnemar is None else found.mcnemar)}",
    ]
    only = [f"{count:,} only of {side}" for side, count in (("A", pair.only_first), ("B", pair.only_second)) if count]
    told += [f"not compared: {', '.join(only)}"] if only else []
    return "\n  ".join([name, *told]) + "\n"


def _p(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def disagreements_told(pair: Difference, metric: str, most: int) -> Iterator[str]:
    """The first disagreements of a pair: document, question, accepted answers, and what both wrote."""
    theirs = {sample.row: sample for sample in pair.second.first.samples()}
    common = ((sample, theirs[sample.row]) for sample in pair.first.first.samples() if sample.row in theirs)
    differ = ((one, other) for one, other in common if one.scores.get(metric) != other.scores.get(metric))
    shown = list(islice(differ, most))
    if shown:
        total = pair.paired.wins + pair.paired.losses
        yield f"\n{pair.second.label}: the first {len(shown)} of {total} disagreements"
    for one, other in shown:
        yield f"\n  {one.document[:24]}: {one.question or '(the log names no question)'}"
        yield f"    accepted  {' | '.join(one.gold) or '(not in the log)'}"
        yield f"    A  {_answer(one, metric)}"
        yield f"    B  {_answer(other, metric)}"


def _answer(sample: Sample, metric: str) -> str:
    if sample.answer is None:
        return f"{sample.scores.get(metric, math.nan):g} (answer not logged)"
    right = sample.scores.get(metric, 0.0) >= 1.0
    miss = None if right or sample.scores.get("contains") != 0 else explain(sample)
    why = f"  [{miss.kind}{': ' + miss.key if miss.key else ''}]" if miss and miss.kind != "unknown" else ""
    return f"{'right: ' if right else ''}{first_line(sample.answer) or '(nothing)'}{why}"
