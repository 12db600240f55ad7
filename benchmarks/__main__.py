"""python -m benchmarks [--only NAME ...] [--quick] [--out FOLDER] [--page docs/performance.md]

Runs benchmarks one after the other, prints one table of ratios, and with --out keeps speed.json, ratios.png and
lengths.png. Results already in FOLDER stay, those of the benchmarks that ran are replaced: run one with --only when the
machine is quiet. --before FILE adds a column with the ratios of an earlier speed.json.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.extrapolate import SOURCES, suite_table
from benchmarks.page import Result, fill, machines, plot_lengths, plot_ratios, read, table, write
from benchmarks.registry import BENCHMARKS
from benchmarks.row import Options
from jrt_lmeval.errors import JRTError, unknown

FILE, BEFORE = "speed.json", "before.json"


def measure(name: str, options: Options) -> Result:
    """Run one benchmark and note the machine around it."""
    import torch

    from model_adapters.running.figures import machine

    facts, started = machine(), time.perf_counter()
    rows = BENCHMARKS[name].rows(options)
    loads = {"load_before": facts.pop("load_average") or 0.0, "load_after": machine()["load_average"] or 0.0}
    versions: dict[str, Any] = {"cores": os.cpu_count(), "torch": torch.__version__}
    spent = {"seconds": round(time.perf_counter() - started, 1), "date": time.strftime("%Y-%m-%d")}
    command = f"python -m benchmarks --only {name}{f' --rounds {options.rounds}' if options.rounds else ''}"
    return Result(name, command, {**facts, **versions, **loads, **spent}, tuple(rows), options.quick)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 1 where a benchmark failed: the others have run and are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", default=list(BENCHMARKS), help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds: to see that it runs")
    parser.add_argument("--rounds", type=int, help="how often each pair is timed")
    parser.add_argument(
        "--threads", type=int, default=1, help="of torch; with more than one, times are of all together"
    )
    parser.add_argument("--out", type=Path, help=f"folder for {FILE} and the pictures")
    parser.add_argument("--before", type=Path, help=f"an earlier {FILE}; default: {BEFORE} in the folder of --out")
    parser.add_argument("--page", type=Path, help="a page between whose marks the tables are written")
    parser.add_argument("--no-run", action="store_true", help="draw again what lies in --out")
    given = parser.parse_args(argv)
    names = [name for words in given.only for name in words.split(",")]
    for name in names:
        if name not in BENCHMARKS:
            print(f"benchmarks: {unknown('benchmark', name, BENCHMARKS)}", file=sys.stderr)
            return 2
    if not given.no_run:
        import torch

        torch.set_num_threads(given.threads)
    kept = read(given.out / FILE) if given.out else {}
    options = Options(given.quick, given.rounds)
    failed = []
    for name in [] if given.no_run else names:
        print(f"{name}: {BENCHMARKS[name].what} ...", file=sys.stderr, flush=True)
        try:
            kept[name] = measure(name, options)
        except (Exception, SystemExit):
            traceback.print_exc()
            failed.append(name)
    results = [kept[name] for name in BENCHMARKS if name in kept]
    before = read(given.before or (given.out or Path()) / BEFORE)
    ratios, around = table(results, before), machines(results)
    suite = suite_table([row for name in SOURCES if name in kept for row in kept[name].rows])
    print(ratios, around, suite, sep="\n")
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        write(results, given.out / FILE)
        plot_ratios(results, given.out / "ratios.png")
        plot_lengths(results, given.out / "lengths.png")
    if given.page:
        quick = [result.name for result in results if result.quick]
        if quick:
            raise JRTError(f"measured with --quick, which belongs into no page: {', '.join(quick)}.")
        fill(given.page, table=f"{ratios}\n{around}", suite=suite)
    if failed:
        print(f"benchmarks: failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
