"""What benchmarks found, as a JSON file, a Markdown table and pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.row import Row
from jrt_lmeval.markdown import markdown_table

HEADER = (
    "what",
    "ours",
    "twin",
    "ours, median",
    "twin, median",
    "ratio",
    "quartiles",
    "rounds",
    "before",
    "same",
    "from",
)
TICKS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
MARKS = {"table": ("<!-- table -->", "<!-- end of table -->"), "suite": ("<!-- suite -->", "<!-- end of suite -->")}


@dataclass(frozen=True)
class Result:
    """A benchmark that has run.

    Attributes:
        name: in the registry.
        command: what runs it again.
        machine: processor, cores, threads, load when it began and when it ended.
        rows: its lines.
        quick: measured with `--quick`; such a result is in no page.
    """

    name: str
    command: str
    machine: dict[str, Any]
    rows: tuple[Row, ...] = field(default=())
    quick: bool = False


def read(file: Path) -> dict[str, Result]:
    """The results in a file that `write` made; none where there is no file."""
    if not file.exists():
        return {}
    found = json.loads(file.read_text(encoding="utf-8"))["results"]
    results = (Result(**{**one, "rows": tuple(Row(**row) for row in one["rows"])}) for one in found)
    return {result.name: result for result in results}


def write(results: Iterable[Result], file: Path) -> None:
    """Write results, one name a block."""
    text = json.dumps({"results": [asdict(result) for result in results]}, indent=1)
    file.write_text(text + "\n", encoding="utf-8")


def figure(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(results: Iterable[Result], before: Mapping[str, Result] | None = None) -> str:
    """The one table: a line for each row, and the ratio it had `before` where that is known."""
    lines = []
    for result in results:
        earlier = before.get(result.name) if before else None
        known = {row.what: row.ratio for row in earlier.rows} if earlier else {}
        for row in result.rows:
            lines.append(
                [
                    f"{row.what}{' (geometry)' if row.weights == 'geometry' else ''}",
                    row.ours,
                    row.twin,
                    f"{figure(row.ours_median)} {row.unit}",
                    f"{figure(row.twin_median)} {row.unit}",
                    f"**{figure(row.ratio)}**",
                    f"{figure(row.low)} to {figure(row.high)}" if row.repeats > 1 else "-",
                    row.repeats or "counted",
                    figure(known[row.what]) if row.what in known else "",
                    row.same,
                    f"`{result.name}`",
                ]
            )
    return markdown_table(HEADER, lines, left=3)


def machines(results: Iterable[Result]) -> str:
    """Which command made which lines, on what machine and under what load."""
    header = ("name", "command", "processor", "cores", "threads", "load at start", "load at end", "seconds")
    lines = []
    for one in results:
        facts = one.machine
        loads = [f"{facts[key]:.1f}" for key in ("load_before", "load_after")]
        sizes = [facts["processor"], facts["cores"], facts["threads"]]
        lines.append([f"`{one.name}`", f"`{one.command}`", *sizes, *loads, f"{facts['seconds']:.0f}"])
    return markdown_table(header, lines, left=3)


def fill(page: Path, **parts: str) -> None:
    """Write each part between its marks in a page."""
    text = page.read_text(encoding="utf-8")
    for name, part in parts.items():
        start, end = MARKS[name]
        text, found = re.subn(
            f"{re.escape(start)}.*?{re.escape(end)}", lambda _, s=start, p=part, e=end: f"{s}\n{p}{e}", text, flags=re.S
        )
        if found != 1:
            raise ValueError(f"{page}: has {found} places between {start} and {end}; it must have one.")
    page.write_text(text, encoding="utf-8")


def plot_ratios(results: Sequence[Result], file: Path) -> None:
    """A bar for each row, as long as its ratio on a logarithmic axis, with its quartiles."""
    plt = _pyplot()
    rows = [(result.name, row) for result in results for row in result.rows][::-1]
    figure, axis = plt.subplots(figsize=(9, 1.2 + 0.24 * len(rows)))
    for place, (_, row) in enumerate(rows):
        axis.barh(
            place, row.ratio - 1, left=1, color="#4c78a8" if row.ratio >= 1 else "#e4572e",
            xerr=[[max(0.0, row.ratio - row.low)], [max(0.0, row.high - row.ratio)]], capsize=2,
        )  # fmt: skip
    axis.set_yticks(range(len(rows)), [f"{name}: {row.what}" for name, row in rows], fontsize=7)
    axis.set_xscale("log")
    ticks = [tick for tick in TICKS if tick <= 2 * max(row.ratio for _, row in rows)]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.grid(axis="x", linewidth=0.4)
    axis.set_axisbelow(True)
    axis.margins(y=0.01)
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_xlabel("times cheaper than its twin")
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, dpi=130)
    plt.close(figure)


def panels(results: Sequence[Result]) -> dict[str, list[Row]]:
    """Rows that differ in nothing but their length and their twin, by what they share; only of several lengths."""
    found: dict[str, list[Row]] = {}
    for result in results:
        for row in result.rows:
            if row.T is not None:
                shared = row.what.replace(f", T = {row.T}", "").replace(f", {row.twin}", "")
                found.setdefault(f"{result.name}\n{shared}", []).append(row)
    return {name: rows for name, rows in found.items() if len({row.T for row in rows}) > 1}


def plot_lengths(results: Sequence[Result], file: Path) -> bool:
    """Cost against tokens, a panel for each thing that was measured at several lengths. Returns whether any was."""
    found = panels(results)
    if not found:
        return False
    plt = _pyplot()
    across = min(3, len(found))
    figure, axes = plt.subplots(
        -(-len(found) // across), across, figsize=(1 + 4 * across, 3.6 * -(-len(found) // across)), squeeze=False
    )
    for axis in axes.flat[len(found) :]:
        axis.remove()
    for axis, (name, rows) in zip(axes.flat, found.items(), strict=False):
        ways: dict[str, dict[int, float]] = {}
        for row in rows:
            assert row.T is not None
            ways.setdefault(row.ours, {})[row.T] = row.ours_median
            ways.setdefault(row.twin, {})[row.T] = row.twin_median
        for way, points in ways.items():
            axis.plot(*zip(*sorted(points.items()), strict=True), marker="o", markersize=3, label=way)
        axis.set(xscale="log", yscale="log", xlabel="tokens", ylabel=rows[0].unit)
        axis.set_title(name, fontsize=9)
        lengths = sorted({row.T for row in rows if row.T is not None})
        axis.set_xticks(lengths, [f"{T:,}" for T in lengths], fontsize=7)
        axis.minorticks_off()
        axis.legend(fontsize=7, frameon=False)
    figure.tight_layout()
    figure.savefig(file, dpi=130)
    plt.close(figure)
    return True


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt
