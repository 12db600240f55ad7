"""`jrt-eval paper`: run what the tables need, then write the tables."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from tqdm import tqdm

from jrt_lmeval.errors import unknown
from jrt_lmeval.paper.plan import SUITES, TableRow, plan, runs, without
from jrt_lmeval.paper.times import take_times
from jrt_lmeval.plugin import register, tasks_ready
from jrt_lmeval.runner import EvalRun, Options, execute, finished, metadata, task_manager

ROWS_COUNTED = 8
"""Rows of a task whose prompts a dry run makes; the tokens of all are estimated from theirs."""

EPILOG = """examples:
  jrt-eval paper --suite bundled --limit 100
      all tables from the models that come with the package; resumable: call it again after a stop
  jrt-eval paper --suite bundled --dry-run
      what would be run, about how many tokens that is, and how long it takes
  jrt-eval paper --suite bundled --times
      then, on an idle machine: the times of all rows, taken in turn
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
    p.add_argument(
        "--times",
        action="store_true",
        help="take the times of all rows in turn, in one process on a machine that should be idle, then write the "
        "tables; rows that are not timed so show none",
    )
    p.add_argument(
        "--large",
        action="store_true",
        help="also ask the benchmarks of more questions, on which the claims are then decided (several times as long)",
    )
    p.add_argument("--limit", type=int, help="only the first rows of each task; marked in every table")
    p.add_argument("--batch_size", default="auto", help="rows of a batch, or auto (default: %(default)s)")
    p.add_argument("--device", help="such as cpu or cuda (default: a GPU if there is one)")
    p.add_argument("--dry-run", action="store_true", help="list runs, rows, tokens and time; run nothing")
    return p


@dataclass(frozen=True)
class Estimate:
    """Estimated cost of a run: rows, GPT-2 tokens of its prompts, and seconds at a measured speed."""

    run: EvalRun
    rows: int
    tokens: int
    seconds: float | None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 1 if some run could not be made."""
    arguments = parser().parse_args(argv)
    if arguments.suite not in SUITES:
        raise unknown("suite", arguments.suite, SUITES)
    suite = SUITES[arguments.suite]
    rows = plan(suite)
    todo = runs(rows if arguments.large else without(rows, suite.decisive))
    options = Options(arguments.limit, arguments.batch_size, arguments.device, compact=True)
    if arguments.dry_run:
        # Only the tasks are registered: our models would import transformers, which takes most of ten seconds.
        tasks_ready(import_module("lm_eval.tasks"))
        listed = list(estimates(todo, arguments.out, options))
        for one in listed:
            time = "" if one.seconds is None else f"  about {one.seconds:,.0f} s"
            size = f"{one.rows:6,} rows, about {one.tokens:10,} tokens{time}"
            print(f"{size}  {one.run.label}: {', '.join(one.run.tasks)}")
        known = [one.seconds for one in listed if one.seconds is not None]
        total = f"about {sum(known) / 60:,.0f} min" if known else "time unknown until a first run is finished"
        print(f"{len(listed)} runs, about {sum(one.tokens for one in listed):,} tokens left, {total}")
        return 0
    if arguments.times:
        missing = take_times(without(rows, suite.decisive), arguments.out, options, print)
    else:
        missing = [] if arguments.tables_only else _run(todo, arguments.out, options)
    for run, why in missing:
        print(f"not run: {run.label}: {why}")
    for file in write_tables(rows, arguments.out, arguments.tables or arguments.out):
        print(f"wrote {file}")
    return int(bool(missing))


def write_tables(rows: Sequence[TableRow], logs: Path, out: Path) -> list[Path]:
    """Write the tables of a suite from its logs in every format; returns the files."""
    from jrt_lmeval.paper.claims import Logs
    from jrt_lmeval.paper.tables import paper_report
    from jrt_lmeval.report.tables import WRITERS, save

    report = paper_report(rows, Logs(logs))
    files = {out / f"tables.{name}": write(report) for name, (_, write) in WRITERS.items()}
    for file, text in files.items():
        save(file, text.encode("utf-8"))
    return list(files)


def _run(todo: Sequence[EvalRun], out: Path, options: Options) -> list[tuple[EvalRun, str]]:
    register()
    with tqdm(total=len(todo), unit="run") as bar:

        def tell(run: EvalRun, number: int, seconds: float) -> None:
            bar.set_postfix_str(f"{run.label} {seconds:.0f} s", refresh=False)
            bar.update()

        return execute(todo, out, options, tell)


def estimates(runs: Sequence[EvalRun], out: Path, options: Options) -> Iterator[Estimate]:
    """Rows, tokens and time of each run that is left, at the speed of the runs that are finished in `out`."""
    sizes: dict[tuple[str, str], tuple[int, int]] = {}
    given: dict[str, Any] = {"jrt": {}}
    manager = task_manager(given)  # it hands on what stands in the mapping when a task is loaded
    speed = measured_speed(out)
    for run in runs:
        done = finished(out, run, options)
        rows = tokens = 0
        for task in (task for task in run.tasks if task not in done):
            block = json.dumps(run.block, sort_keys=True)
            if (task, block) not in sizes:
                given.update({"jrt": {}, **metadata(run, options)})
                sizes[task, block] = _size(task, manager, options.limit)
            rows, tokens = rows + sizes[task, block][0], tokens + sizes[task, block][1]
        yield Estimate(run, rows, tokens, tokens / speed if speed else None)


def _size(task: str, manager: Any, limit: float | None) -> tuple[int, int]:
    """Rows of a task, and an estimate of their prompts' tokens from a few of them."""
    from jrt_lmeval.prompts.tokens import count_tokens

    if task not in manager.all_tasks:
        return 0, 0
    loaded = manager.load([task])["tasks"][task]
    rows = len(loaded.eval_docs) if limit is None else min(int(limit), len(loaded.eval_docs))
    chosen = sorted({(2 * at + 1) * rows // (2 * ROWS_COUNTED) for at in range(ROWS_COUNTED)})
    loaded.build_all_requests(samples=chosen, rank=0, world_size=1)
    tokens = [count_tokens(str(request.args[0])) for request in loaded.instances]
    return rows, round(rows * sum(tokens) / max(1, len(tokens)))


def measured_speed(out: Path) -> float | None:
    """Prompt tokens per second over all finished runs below `out`, or None if there are none."""
    tokens = seconds = 0.0
    for file in out.glob("*/results_*.json"):
        facts = (json.loads(file.read_text(encoding="utf-8"))["config"].get("jrt")) or {}
        tokens, seconds = tokens + facts.get("prompt_tokens", 0), seconds + facts.get("seconds", 0.0)
    return tokens / seconds if seconds else None
