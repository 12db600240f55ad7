"""What a row costs in a large batch, with freed memory kept (`jrt_lmeval/heap.py`) and given back to the kernel.

    python -m benchmarks --only batches

How memory is managed cannot be changed back, so each way has a process of its own; both read the same rows in turns.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import IO, Any, cast

from benchmarks.command import python
from benchmarks.row import Options, Row, row, side_by_side

ROWS, TOKENS, QUICK_TOKENS = 16, 1400, 40
KEPT, GIVEN_BACK = "kept", "given back"
AT_ONCE, ONE_BY_ONE = f"{ROWS} at once", "one by one"


def rows(options: Options) -> list[Row]:
    """Large batches both ways, and each way's large batches against its single rows."""
    tokens = QUICK_TOKENS if options.quick else TOKENS
    readers = {memory: _Reader(memory, tokens) for memory in (KEPT, GIVEN_BACK)}
    try:
        ways = {
            f"{memory}, {how}": (lambda reader=reader, batch=batch: reader.seconds(batch))
            for memory, reader in readers.items()
            for how, batch in ((AT_ONCE, ROWS), (ONE_BY_ONE, 1))
        }
        for work in ways.values():
            work()  # the first of each size asks for memory, whoever keeps it
        costs = side_by_side(ways, options.repeats(5))
    finally:
        for reader in readers.values():
            reader.close()
    chosen = {token for reader in readers.values() for token in reader.found}
    if len(chosen) != 1:
        raise AssertionError("the next tokens differ between batches or processes.")
    same, read = f"identical, {ROWS} next tokens", f"{ROWS} rows of {tokens:,} tokens"
    found = []
    for how in (AT_ONCE, ONE_BY_ONE):
        pair = {memory: costs[f"{memory}, {how}"] for memory in readers}
        found.append(row(f"{read}, {how}", pair, KEPT, GIVEN_BACK, same, weights="trained"))
    for memory in readers:
        pair = {how: costs[f"{memory}, {how}"] for how in (AT_ONCE, ONE_BY_ONE)}
        found.append(row(f"{read}, memory {memory}", pair, AT_ONCE, ONE_BY_ONE, same, weights="trained"))
    return found


class _Reader:
    """A process that reads the rows whenever it is told how many of them to take at a time."""

    def __init__(self, memory: str, tokens: int):
        command = python("-m", "benchmarks.batches", memory, str(tokens))
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.asks, self.says = cast(IO[str], self.process.stdin), cast(IO[str], self.process.stdout)
        self.found: set[str] = set()

    def seconds(self, batch: int) -> float:
        """Of the processor, to read all rows."""
        print(batch, file=self.asks, flush=True)
        told: dict[str, Any] = json.loads(self.says.readline())
        self.found.add(str(told["tokens"]))
        return told["seconds"]

    def close(self) -> None:
        """End the process."""
        self.asks.close()
        self.process.wait()


def read(memory: str, tokens: int) -> None:
    """What a process of `_Reader` does until nobody asks any more."""
    import torch

    from benchmarks.row import seconds
    from jrt_lmeval import heap
    from jrt_lmeval.checkpoints.found import shipped_for
    from jrt_lmeval.checkpoints.load import load_model
    from model_adapters.engines.jrt import JRTEngine

    torch.set_num_threads(1)
    torch.manual_seed(0)
    if memory == KEPT:
        heap.keep_freed()
    checkpoint = shipped_for("jrt_rnn", "mlp")
    engine = JRTEngine(load_model(checkpoint, torch.float32, torch.device("cpu"), {}))
    ids = torch.randint(300, 4000, (ROWS, tokens)).tolist()
    for line in sys.stdin:
        batch, chosen = int(line), []

        def work(batch: int = batch, chosen: list[int] = chosen) -> None:
            for start in range(0, ROWS, batch):
                part = ids[start : start + batch]
                chosen += engine.prefill(part, [tokens // 2] * len(part))[0].argmax(-1).tolist()

        print(json.dumps({"seconds": seconds(work), "tokens": chosen}), flush=True)


if __name__ == "__main__":
    read(sys.argv[1], int(sys.argv[2]))
