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
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.measure import Row
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

Result = Mapping[str, Any]
"""What `measure` found: `quick`, the `machine` around it, and its `rows`, the fields of `Row` each."""


def measure(name: str, quick: bool) -> Result:
    """Run one benchmark on one thread and note the machine around it."""
    import torch

    from model_adapters.running.runtime import machine

    torch.set_num_threads(1)
    before, started = machine(), time.perf_counter()
    rows = [asdict(row) for row in import_module(f"benchmarks.{name}").rows(quick)]
    facts = {
        "processor": before["processor"],
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "loads": [before["load_average"] or 0.0, machine()["load_average"] or 0.0],
        "seconds": round(time.perf_counter() - started, 1),
        "date": time.strftime("%Y-%m-%d"),
    }
    return {"quick": quick, "machine": facts, "rows": rows}


def figure(value: float) -> str:
    """Three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(results: Mapping[str, Result]) -> str:
    """The one table: a line for each row."""
    header = ("what", "ours", "beside", "ours takes", "beside takes", "ratio", "quartiles", "results", "from")
    lines = []
    for name, result in results.items():
        for row in (Row(**fields) for fields in result["rows"]):
            costs = [f"{figure(cost)} {row.unit}" for cost in (row.ours_median, row.twin_median)]
            spread = f"{figure(row.low)} to {figure(row.high)}" if row.low < row.high else "-"
            ratio = f"**{figure(row.ratio)}**"
            lines.append([row.what, row.ours, row.twin, *costs, ratio, spread, row.same, f"`{name}`"])
    return markdown_table(header, lines, left=3)


def machines(results: Mapping[str, Result]) -> str:
    """Which benchmark was measured when, on what machine and under what load."""
    lines = []
    for name, result in results.items():
        facts = result["machine"]
        sizes = [facts["processor"], facts["date"], facts["cores"]]
        loads = " and ".join(f"{load:.1f}" for load in facts["loads"])
        lines.append([f"`{name}`", *sizes, loads, f"{facts['seconds']:.0f}"])
    return markdown_table(("from", "processor", "date", "cores", "load at start and end", "seconds"), lines, left=3)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 1 where a benchmark failed: the others have run and are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", default=list(BENCHMARKS), help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds: to see that it runs")
    parser.add_argument("--out", type=Path, help=f"folder for {FILE}")
    parser.add_argument("--page", type=Path, help="a page between whose marks the tables are written")
    parser.add_argument("--no-run", action="store_true", help="print again what lies in --out")
    given = parser.parse_args(argv)
    for name in given.only:
        if name not in BENCHMARKS:
            raise unknown("benchmark", name, BENCHMARKS)
    file = given.out and given.out / FILE
    kept: dict[str, Result] = json.loads(file.read_text(encoding="utf-8")) if file and file.exists() else {}
    failed = []
    for name in () if given.no_run else given.only:
        print(f"{name}: {BENCHMARKS[name]} ...", file=sys.stderr, flush=True)
        try:
            kept[name] = measure(name, given.quick)
        except (Exception, SystemExit):
            traceback.print_exc()
            failed.append(name)
    results = {name: kept[name] for name in BENCHMARKS if name in kept}
    text = f"{table(results)}\n{machines(results)}"
    print(text)
    if file:
        given.out.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if given.page:
        if quick := [name for name, result in results.items() if result["quick"]]:
            raise JRTError(f"Measured with --quick, which belongs into no page: {', '.join(quick)}.")
        page = given.page.read_text(encoding="utf-8")
        given.page.write_text(with_block(page, BLOCK, text), encoding="utf-8")
    if failed:
        print(f"benchmarks: failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except JRTError as error:
        sys.exit(f"benchmarks: {error}")
