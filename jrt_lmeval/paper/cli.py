"""`jrt-eval paper`: run what the tables need, then write the tables."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from jrt_lmeval.errors import unknown
from jrt_lmeval.paper.plan import SUITES, Run, plan, runs

THRESHOLDS = {"wide": (0.62, 0.82), "narrow": (0.70, 0.74)}
"""Of the appendix, (low, high): fewer documents change their prefix, and more of them."""

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
    p.add_argument("--tables", type=Path, help="where the tables go (default: tables.md, .tex and .csv in --out)")
    p.add_argument("--limit", type=int, help="only the first rows of each task; marked in every table")
    p.add_argument("--batch_size", default="auto", help="rows of a batch, or auto (default: %(default)s)")
    p.add_argument("--device", help="such as cpu or cuda (default: a GPU if there is one)")
    p.add_argument("--dry-run", action="store_true", help="list runs, rows, tokens and time; run nothing")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 1 where some run could not be made."""
    from jrt_lmeval.paper.execute import Options, estimates, execute

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
    from jrt_lmeval.plugin import register

    register()
    with tqdm(total=len(todo), unit="run") as bar:

        def tell(run: Run, number: int, seconds: float) -> None:
            bar.set_postfix_str(f"{run.name} {seconds:.0f} s", refresh=False)
            bar.update()

        missing = execute(todo, arguments.out, options, tell)
    for run, why in missing:
        print(f"not run: {run.name}: {why}")
    return int(bool(missing))
