"""Recall against the bytes of a Transformer's state: one model under several windows, on the same rows of `factbook`.

    python -m experiments.recall_by_bytes --pretrained DIR --out results/measured/kv-window
    jrt-eval report results/measured/kv-window

Beside the windows stand the whole cache, the same model without the document, and shipped models of this package. The
rows are spread evenly over all documents, and are taken in rounds, so that all settings have answered the same rows
whenever it is stopped; what was answered is kept in `--cache` and not asked again. `experiments.bytes_page` draws it.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from jrt_lmeval.runner import evaluate, keep, load_model, task_manager

TASK, WINDOWS = "factbook_once", (16, 32, 64, 128, 256)
WHOLE, CONTROL = "whole", "whole-no_context"


@dataclass(frozen=True)
class Setting:
    """What one line of the table is measured under.

    Attributes:
        name: of its folder.
        model: of lm_eval.
        arguments: of the model, beside the size of its batches.
        block: laid over the task's `jrt:` block, beside the length of documents.
    """

    name: str
    model: str
    arguments: dict[str, Any]
    block: dict[str, Any] = field(default_factory=dict)


SHIPPED = (
    Setting("jrt-mlp", "jrt_rnn", {"feature_map": "mlp", "prefix": "full"}),
    Setting("jrt-taylor", "jrt_rnn", {"feature_map": "taylor", "prefix": "full"}),
    Setting("softmax-teacher", "based", {"pretrained": "softmax-teacher"}),
)


def settings(base: dict[str, Any], windows: Sequence[int], sinks: int) -> list[Setting]:
    """Shipped models, then the model of `base`: its whole cache, the control, a window each.

    The widest and the narrowest window come last: they say least where the time is short.
    """
    between = sorted(windows, key=lambda window: abs(windows.index(window) - len(windows) // 2))
    return [
        *SHIPPED,
        Setting(WHOLE, "hf_recall", base),
        Setting(CONTROL, "hf_recall", base, {"control": "no_context"}),
        *(Setting(f"w{w}", "hf_recall", {**base, "kv_window": w, "kv_sinks": sinks}) for w in between),
    ]


def spread(rows: int, total: int) -> list[int]:
    """`rows` of `total` row numbers, evenly spaced."""
    return [number * total // rows for number in range(rows)]


def rounds(chosen: list[int], count: int) -> list[list[int]]:
    """The rows of each round, with those of the rounds before it: after every round they are spread evenly."""
    return [sorted(row for part in range(done + 1) for row in chosen[part::count]) for done in range(count)]


def ask(setting: Setting, given: argparse.Namespace, rows: list[int]) -> str:
    """One setting on one set of rows: its recall in a line."""
    arguments = {**setting.arguments, "max_batch_tokens": given.batch_tokens}
    written = given.cache / f"{setting.name}-logs"
    shutil.rmtree(written, ignore_errors=True)
    manager = task_manager({"jrt": {**setting.block, "window": {"context_length": given.context_length}}})
    options: dict[str, Any] = {"samples": {TASK: rows}, "use_cache": str(given.cache / setting.name)}
    model = load_model(setting.model, arguments)
    found = evaluate(model, setting.model, arguments, [TASK], manager, written, **options)
    assert found is not None
    shutil.rmtree(given.out / setting.name, ignore_errors=True)
    keep(written, given.out / setting.name)
    return f"{setting.name}: {len(rows)} rows, contains {found['results'][TASK]['contains,none']:.3f}"


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
    parser.add_argument("--context_length", type=int, default=300, help="of the task's window, in GPT-2 tokens")
    parser.add_argument("--batch_tokens", type=int, default=8192)
    parser.add_argument("--dtype", default="float32", help="bfloat16 where the processor multiplies it faster")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.cache.mkdir(parents=True, exist_ok=True)
    base = {"pretrained": given.pretrained, "dtype": given.dtype}
    for rows in rounds(spread(given.rows, given.total), given.rounds):
        for setting in settings(base, given.windows, given.sinks):
            print(ask(setting, given, rows), flush=True)


if __name__ == "__main__":
    main()
