"""One process against two: the same answers, byte for byte, and the time they take.

    python -m benchmarks --only processes

The shipped model on rows of `factbook_jrt`, one thread a process. The time is that of the whole command on the wall,
start included. Where other work keeps the cores busy it says little: two processes then also get twice the share.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Row, row, side_by_side, spent

PROCESSES = 2
WAYS = {
    "torchrun": ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={PROCESSES}"],
    "one process": [],
}
LIMIT, QUICK_LIMIT = 100, 4
RUN = ["-m", "jrt_lmeval", "run", "--model", "jrt_rnn", "--model_args", "prefix=dynamic", "--tasks", "factbook_jrt"]
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def answers(out: Path) -> list[str]:
    """The answers of the run below `out`, in the order of its rows."""
    file = next(out.rglob("samples_*.jsonl"))
    samples = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [sample["resps"][0][0] for sample in sorted(samples, key=lambda sample: sample["doc_id"])]


def rows(quick: bool) -> list[Row]:
    """One line; each command runs once."""
    limit = QUICK_LIMIT if quick else LIMIT
    with tempfile.TemporaryDirectory() as folder:

        def wall(name: str) -> float:
            run = [*RUN, "--limit", str(limit), "--output_path", str(Path(folder, name)), "--log_samples"]
            return spent([sys.executable, *WAYS[name], *run], ENVIRONMENT).wall

        costs = side_by_side({name: (lambda name=name: wall(name)) for name in WAYS}, 1)
        several, one = (answers(Path(folder, name)) for name in WAYS)
    if several != one or len(one) != limit:
        raise AssertionError("torchrun: answers differ from those of one process.")
    what = f"{limit} rows, torchrun with {PROCESSES} processes, on the wall"
    return [row(what, costs, f"identical, {limit} answers", unit="s", scale=1)]
