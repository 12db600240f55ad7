"""Results as Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jrt_lmeval.report.records import Cell

LAYOUTS = ("once", "flat", "hier")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with the first column left and the others right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def percent(cell: Cell) -> str:
    """`43.2 ± 1.5`, in per cent; a star where only the first rows were run."""
    mean, stderr = cell.mean("contains"), cell.stderr("contains")
    error = "" if math.isnan(stderr) else f" ± {100 * stderr:.1f}"
    return "-" if mean is None else f"{100 * mean:.1f}{error}{'*' if cell.first.partly else ''}"


def number(value: float, digits: int = 0) -> str:
    """A figure with thousands separated, or a dash where there is none."""
    return "-" if math.isnan(value) else f"{value:,.{digits}f}"


def full_table(results: Sequence[Cell]) -> str:
    """One line per model and task: accuracy, rows, and what an answer cost."""
    header = ["model", "task", "control", "contains, %", "f1, %", "rows", "prompt tokens", "state, KB", "s / answer"]
    rows = [
        [
            r.model,
            " ".join(part for part in (r.task, r.setting, "[sample]" if r.first.source == "sample" else "") if part),
            r.control,
            percent(r),
            number(100 * (math.nan if (f1 := r.mean("f1")) is None else f1), 1),
            f"{r.first.asked:,}",
            number(r.figure("prompt_tokens")),
            number(r.figure("state_bytes") / 1000),
            number(r.figure("seconds"), 3),
        ]
        for r in results
    ]
    return markdown_table(header, rows)


def layout_table(results: Sequence[Cell]) -> str:
    """One line per model and benchmark, a column per layout, and the control that shows no document."""
    keys = dict.fromkeys((r.model, r.benchmark) for r in results)
    found = {(r.model, r.benchmark, r.layout, r.control): r for r in results}
    rows = []
    for model, benchmark in keys:
        cells = [found.get((model, benchmark, layout, "none")) for layout in LAYOUTS]
        control = next((r for layout in LAYOUTS if (r := found.get((model, benchmark, layout, "no_context")))), None)
        shown = [cell for cell in (*cells, control) if cell]
        count = max(r.first.asked for r in shown)
        rows.append([model, benchmark, f"{count:,}", *(percent(cell) if cell else "-" for cell in (*cells, control))])
    return markdown_table(["model", "task", "rows", "once", "flat (JRT)", "hier", "no document"], rows)


NOTES = """\
`contains`: the answer stands in what was generated, in per cent, ± one standard error (by document where the samples
were logged; none for fewer than five documents). `[sample]`: generated rows that come with the package, not the
benchmark. `*`: only the first rows (`--limit`).
"""
