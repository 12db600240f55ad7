"""Recall against the bytes of a Transformer's state: one model under several windows, on the same rows of `factbook`.

    python benchmarks/recall_by_bytes.py --pretrained DIR --out results/measured/kv-window
    jrt-eval report results/measured/kv-window

The rows are spread evenly over all documents, and are taken in rounds, so that all windows have answered the same rows
whenever it is stopped; what was answered is kept beside `--out` and not asked again.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import torch

from jrt_lmeval.commands.in_process import evaluate, load_model, task_manager
from jrt_lmeval.paper.logs import keep

TASK, WINDOWS = "factbook_once", (64, 128, 256, 512, 1024)


def spread(rows: int, total: int) -> list[int]:
    """`rows` of `total` row numbers, evenly spaced."""
    return [number * total // rows for number in range(rows)]


def rounds(chosen: list[int], count: int) -> list[list[int]]:
    """The rows of each round, with those of the rounds before it: after every round they are spread evenly."""
    return [sorted(row for part in range(done + 1) for row in chosen[part::count]) for done in range(count)]


def ask(arguments: dict[str, Any], rows: list[int], manager: Any, out: Path, cache: Path) -> str:
    """One window on one set of rows: recall and bytes in a line."""
    name = f"w{arguments['kv_window']}"
    written = cache / f"{name}-logs"
    shutil.rmtree(written, ignore_errors=True)
    options: dict[str, Any] = {"samples": {TASK: rows}, "use_cache": str(cache / name)}
    found = evaluate(load_model("hf_recall", arguments), "hf_recall", arguments, [TASK], manager, written, **options)
    assert found is not None
    shutil.rmtree(out / name, ignore_errors=True)
    keep(written, out / name)
    return f"{name}: {len(rows)} rows, contains {found['results'][TASK]['contains,none']:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pretrained", required=True, help="folder of a Llama-like model")
    parser.add_argument("--out", type=Path, default=Path("results/measured/kv-window"))
    parser.add_argument("--cache", type=Path, default=Path("kv-window-cache"), help="folder of the answers so far")
    parser.add_argument("--windows", type=int, nargs="+", default=WINDOWS)
    parser.add_argument("--sinks", type=int, default=4)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--total", type=int, default=985, help="rows of the task")
    parser.add_argument("--batch_tokens", type=int, default=8192)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.cache.mkdir(parents=True, exist_ok=True)
    manager = task_manager({})
    common = {"pretrained": given.pretrained, "kv_sinks": given.sinks, "max_batch_tokens": given.batch_tokens}
    for rows in rounds(spread(given.rows, given.total), given.rounds):
        for window in given.windows:
            print(ask({**common, "kv_window": window}, rows, manager, given.out, given.cache), flush=True)


if __name__ == "__main__":
    main()
