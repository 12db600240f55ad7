"""python -m benchmarks [--only NAME ...] [--quick] [--out FOLDER] [--page docs/performance.md]

Runs benchmarks one after the other, prints one table of ratios, and with --out keeps speed.json. Results already in
FOLDER stay, and those of the benchmarks that ran are replaced: run one with --only when the machine is quiet.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.measure import Options, Row
from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.markdown import markdown_table, with_block

BENCHMARKS = {
    "prefix_linear": "prefix linear attention against quadratic forms, in time, memory and answers",
    "mamba_scan": "Mamba's and Mamba-2's scans of a prompt on a CPU",
    "reuse": "many questions on a document that is read once",
    "processes": "documents split among processes",
    "start": "the start-up hook, and a run's way to its first prompt",
}
"""Name of a module in this folder -> what it measures. Each is imported when it runs."""
FILE, BLOCK = "speed.json", "speed"


@dataclass(frozen=True)
class Result:
    """A benchmark that has run.

    Attributes:
        name: of its module.
        command: what runs it again.
        machine: processor, cores, threads, load when it began and when it ended.
        rows: its lines.
        quick: measured with `--quick`; no such result is written into a page.
    """

    name: str
    command: str
    machine: dict[str, Any]
    rows: tuple[Row, ...]
    quick: bool = False


def rows_of(name: str, options: Options) -> list[Row]:
    """The lines of a benchmark, measured now."""
    found: list[Row] = import_module(f"benchmarks.{name}").rows(options)
    return found


def measure(name: str, options: Options) -> Result:
    """Run one benchmark and note the machine around it."""
    import torch

    from model_adapters.running.figures import machine

    facts, started = machine(), time.perf_counter()
    rows = rows_of(name, options)
    loads = {"load_before": facts.pop("load_average") or 0.0, "load_after": machine()["load_average"] or 0.0}
    versions: dict[str, Any] = {"cores": os.cpu_count(), "torch": torch.__version__}
    spent = {"seconds": round(time.perf_counter() - started, 1), "date": time.strftime("%Y-%m-%d")}
    command = f"python -m benchmarks --only {name}{f' --rounds {options.rounds}' if options.rounds else ''}"
    return Result(name, command, {**facts, **versions, **loads, **spent}, tuple(rows), options.quick)


def read(file: Path) -> dict[str, Result]:
    """The results in a file that `write` made; none where there is no file."""
    if not file.exists():
        return {}
    found = json.loads(file.read_text(encoding="utf-8"))["results"]
    results = (Result(**{**one, "rows": tuple(Row(**row) for row in one["rows"])}) for one in found)
    return {result.name: result for result in results}


def write(results: Iterable[Result], file: Path) -> None:
    """Write results as JSON."""
    text = json.dumps({"results": [asdict(result) for result in results]}, indent=1)
    file.write_text(text + "\n", encoding="utf-8")


def figure(value: float) -> str:
    """Three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(results: Iterable[Result]) -> str:
    """The one table: a line for each row."""
    header = ("what", "ours", "beside", "ours takes", "beside takes", "ratio", "quartiles", "results", "from")
    lines = [
        [
            f"{row.what}{' (geometry)' if row.weights == 'geometry' else ''}",
            row.ours,
            row.twin,
            f"{figure(row.ours_median)} {row.unit}",
            f"{figure(row.twin_median)} {row.unit}",
            f"**{figure(row.ratio)}**",
            f"{figure(row.low)} to {figure(row.high)}" if row.repeats > 1 else "-",
            row.same,
            f"`{result.name}`",
        ]
        for result in results
        for row in result.rows
    ]
    return markdown_table(header, lines, left=3)


def machines(results: Iterable[Result]) -> str:
    """Which command made which lines, when, on what machine and under what load."""
    header = ("command", "processor", "date", "cores", "threads", "load at start and end", "seconds")
    lines = []
    for one in results:
        facts = one.machine
        loads = " and ".join(f"{facts[key]:.1f}" for key in ("load_before", "load_after"))
        sizes = [facts["processor"], facts["date"], facts["cores"], facts["threads"]]
        lines.append([f"`{one.command}`", *sizes, loads, f"{facts['seconds']:.0f}"])
    return markdown_table(header, lines, left=3)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 1 where a benchmark failed: the others have run and are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", default=list(BENCHMARKS), help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds: to see that it runs")
    parser.add_argument("--rounds", type=int, help="how often each pair is timed")
    parser.add_argument(
        "--threads", type=int, default=1, help="of torch; with more than one, times are of all together"
    )
    parser.add_argument("--out", type=Path, help=f"folder for {FILE}")
    parser.add_argument("--page", type=Path, help="a page between whose marks the tables are written")
    parser.add_argument("--no-run", action="store_true", help="print again what lies in --out")
    given = parser.parse_args(argv)
    names = [name for words in given.only for name in words.split(",")]
    for name in names:
        if name not in BENCHMARKS:
            print(f"benchmarks: {unknown('benchmark', name, BENCHMARKS)}", file=sys.stderr)
            return 2
    kept = read(given.out / FILE) if given.out else {}
    failed = []
    if not given.no_run:
        import torch

        torch.set_num_threads(given.threads)
        for name in names:
            print(f"{name}: {BENCHMARKS[name]} ...", file=sys.stderr, flush=True)
            try:
                kept[name] = measure(name, Options(given.quick, given.rounds))
            except (Exception, SystemExit):
                traceback.print_exc()
                failed.append(name)
    results = [kept[name] for name in BENCHMARKS if name in kept]
    text = f"{table(results)}\n{machines(results)}"
    print(text)
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        write(results, given.out / FILE)
    if given.page:
        quick = [result.name for result in results if result.quick]
        if quick:
            raise JRTError(f"Measured with --quick, which belongs into no page: {', '.join(quick)}.")
        page = given.page.read_text(encoding="utf-8")
        given.page.write_text(with_block(page, BLOCK, text), encoding="utf-8")
    if failed:
        print(f"benchmarks: failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
