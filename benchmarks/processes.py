"""One process against two, under both launchers: the same answers, byte for byte, and the time they take.

    python -m benchmarks --only processes

The shipped model on rows of `factbook_jrt`, one thread a process. The time is that of the whole command on the wall,
start included. Where other work keeps the cores busy it says little: two processes then also get twice the share.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from benchmarks.measure import Options, Row, python, row, side_by_side, spent

PROCESSES = 2
LAUNCHERS = {
    "torchrun": ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={PROCESSES}"],
    # on a CPU too: without --multi_gpu accelerate starts a single process there
    "accelerate launch": [
        *("-m", "accelerate.commands.launch", "--multi_gpu", f"--num_processes={PROCESSES}", "--num_machines=1"),
        *("--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"),
    ],
}
LIMIT, QUICK_LIMIT = 100, 4


def command(launcher: list[str], limit: int, out: Path) -> list[str]:
    """The run under a launcher, none for one process."""
    run = ["--model", "jrt_rnn", "--model_args", "prefix=dynamic", "--tasks", "factbook_jrt", "--limit", str(limit)]
    return python(*launcher, "-m", "jrt_lmeval", "run", *run, "--output_path", str(out), "--log_samples")


def answers(out: Path) -> list[str]:
    """Of the last run below `out`, by row."""
    file = max(out.rglob("samples_*.jsonl"), key=lambda path: path.stat().st_mtime)
    samples = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [sample["resps"][0][0] for sample in sorted(samples, key=lambda sample: sample["doc_id"])]


def rows(options: Options) -> list[Row]:
    """A line for each launcher."""
    limit, rounds = (QUICK_LIMIT, 1) if options.quick else (LIMIT, options.repeats(3))
    environment = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    found = []
    with tempfile.TemporaryDirectory() as folder:
        ways = {"one process": [], **LAUNCHERS}
        outs = {name: Path(folder) / name.replace(" ", "-") for name in ways}
        timed = {
            name: lambda name=name: spent(command(ways[name], limit, outs[name]), environment).wall for name in ways
        }
        costs = side_by_side(timed, rounds)
        given = {name: answers(out) for name, out in outs.items()}
    for name in LAUNCHERS:
        if given[name] != given["one process"] or len(given[name]) != limit:
            raise AssertionError(f"{name}: answers differ from those of one process.")
        same = f"identical, {limit} answers"
        what = f"{limit} rows, {name} with {PROCESSES} processes, on the wall"
        found.append(row(what, costs, name, "one process", same, weights="trained", unit="s", scale=1))
    return found
