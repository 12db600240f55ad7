"""`jrt-eval paper`: run what the tables need, then write the tables."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from jrt_lmeval.errors import unknown
from jrt_lmeval.paper.execute import Options, estimates
from jrt_lmeval.paper.plan import SUITES, THRESHOLDS, Entry, Run, plan, runs

EPILOG = """examples:
  jrt-eval paper --suite bundled --limit 100
      all tables from the models that come with the package; resumable: call it again after a stop
  jrt-eval paper --suite bundled --dry-run
      what would be run, how many tokens that is, and how long it takes
  jrt-eval paper --suite released --device cuda --out runs/released
      the same tables from the published checkpoints, where there is a GPU and a hub
"""


def parser() -> argparse.ArgumentParser:
    """The command line of `jrt-eval paper`."""
    p = argparse.ArgumentParser(
        prog="jrt-eval paper",
        description="Run every configuration that the paper's tables need, and write the tables beside the published "
        "numbers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    suites = "; ".join(f"{name}: {suite.about}" for name, suite in SUITES.items())
    p.add_argument("--suite", default="bundled", help=f"{suites} (default: %(default)s)")
    p.add_argument("--out", type=Path, default=Path("runs/paper"), help="folder of the logs (default: %(default)s)")
    p.add_argument("--tables", type=Path, help="folder for tables.md, .tex, .csv and .json (default: --out)")
    p.add_argument("--tables-only", action="store_true", help="run nothing; write the tables from what is there")
    p.add_argument("--limit", type=int, help="only the first rows of each task; marked in every table")
    p.add_argument("--batch_size", default="auto", help="rows of a batch, or auto (default: %(default)s)")
    p.add_argument("--device", help="such as cpu or cuda (default: a GPU if there is one)")
    p.add_argument("--dry-run", action="store_true", help="list runs, rows, tokens and time; run nothing")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 1 where some run could not be made."""
    arguments = parser().parse_args(argv)
    if arguments.suite not in SUITES:
        raise unknown("suite", arguments.suite, SUITES)
    entries = plan(SUITES[arguments.suite], THRESHOLDS)
    todo = runs(entries)
    options = Options(arguments.limit, arguments.batch_size, arguments.device)
    if arguments.dry_run:
        listed = list(estimates(todo, arguments.out, options))
        for one in listed:
            time = "" if one.seconds is None else f"  about {one.seconds:,.0f} s"
            print(f"{one.rows:6,} rows {one.tokens:10,} tokens{time}  {one.run.name}: {', '.join(one.run.tasks)}")
        known = [one.seconds for one in listed if one.seconds is not None]
        total = f"about {sum(known) / 60:,.0f} min" if known else "time unknown until a first run is finished"
        print(f"{len(listed)} runs, {sum(one.tokens for one in listed):,} tokens left, {total}")
        return 0
    missing = [] if arguments.tables_only else _run(todo, arguments.out, options)
    for run, why in missing:
        print(f"not run: {run.name}: {why}")
    for file in write_tables(entries, arguments.out, arguments.tables or arguments.out):
        print(f"wrote {file}")
    return int(bool(missing))


def write_tables(entries: Sequence[Entry], logs: Path, out: Path) -> list[Path]:
    """Write the tables of a suite from its logs in every format; returns the files."""
    from jrt_lmeval.paper.tables import paper_report
    from jrt_lmeval.report.tables import WRITERS

    report = paper_report(entries, logs)
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for name, (_, write) in WRITERS.items():
        files.append(out / f"tables.{name}")
        files[-1].write_text(write(report), encoding="utf-8")
    return files


def _run(todo: Sequence[Run], out: Path, options: Options) -> list[tuple[Run, str]]:
    from jrt_lmeval.paper.execute import execute
    from jrt_lmeval.plugin import register

    register()
    with tqdm(total=len(todo), unit="run") as bar:

        def tell(run: Run, number: int, seconds: float) -> None:
            bar.set_postfix_str(f"{run.name} {seconds:.0f} s", refresh=False)
            bar.update()

        return execute(todo, out, options, tell)
