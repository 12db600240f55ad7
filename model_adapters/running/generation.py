"""Runs prompts to their answers: batches of rows, and what several prompts begin with read only once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from jrt_lmeval.errors import JRTError
from model_adapters.running.batching import batches
from model_adapters.running.decoding import decode
from model_adapters.running.figures import Answer
from model_adapters.running.rows import Row
from model_adapters.running.runtime import Runtime
from model_adapters.running.sharing import Opening, Start, shared_starts
from model_adapters.running.stopping import Generation


class Generator:
    """Greedy generation.

    Args:
        runtime: the model at work.
        to_text: decodes token ids without special tokens.
        end_ids: which tokens end the text of a row.
        vocabulary: tokens the tokenizer knows.
        reuse: share documents where that is exact.
    """

    def __init__(
        self,
        runtime: Runtime,
        to_text: Callable[[list[int]], str],
        end_ids: Callable[[Generation], frozenset[int]],
        vocabulary: int,
        reuse: bool = True,
    ):
        self.runtime, self.to_text, self.end_ids, self.vocabulary = runtime, to_text, end_ids, vocabulary
        self.shares = reuse and runtime.engine.can_continue

    def run(self, rows: Sequence[Row]) -> Iterator[tuple[Row, Answer]]:
        """Answers as they are finished, in any order; rows marked as skipped get an empty one."""
        for row in rows:
            if row.skipped:
                yield row, Answer("", {"jrt_skipped": 1})
        rows = [row for row in rows if not row.skipped]
        starts, alone = shared_starts([self._opening(row) for row in rows])
        yield from self._run_alone([rows[number] for number in alone])
        yield from self._run_starts(starts, rows, {})

    def _opening(self, row: Row) -> Opening | None:
        end, prefix = row.document_end, row.choice.length
        if not self.shares or not 0 < end < len(row.ids) or prefix > end:
            return None
        return Opening(tuple(row.ids[:end]), prefix)

    def _run_alone(self, rows: Sequence[Row]) -> Iterator[tuple[Row, Answer]]:
        for batch in batches([_cost(row) for row in rows], self.runtime.budget):
            chosen = [rows[number] for number in batch]
            ids = [row.ids for row in chosen]
            logits, state, read = self._read(ids, [row.choice.length for row in chosen], None)
            yield from self._decode(chosen, logits, state, read, sum(map(len, ids)))

    def _run_starts(
        self,
        starts: Sequence[Start],
        rows: Sequence[Row],
        spent: dict[int, float],
        above: Any = None,
        place: Any = None,
    ) -> Iterator[tuple[Row, Answer]]:
        """Read starts, fork their states for the rows and for the longer starts that go on from them.

        Args:
            starts: siblings, or the roots.
            rows: all rows.
            spent: seconds already spent on the part that a row shares, by row number.
            above: the parent's states, None at the roots.
            place: row of `above` for each start.
        """
        for batch in batches([len(start.new_ids) for start in starts], self.runtime.budget):
            chosen = [starts[number] for number in batch]
            ids = [list(start.new_ids) for start in chosen]
            forked = None if above is None else above.select(torch.tensor([place[number] for number in batch]))
            prefixes = [start.prefix if forked is None else 0 for start in chosen]
            _, state, read = self._read(ids, prefixes, forked)
            computed = sum(map(len, ids))
            for start, seconds in zip(chosen, read, strict=True):
                for number in _rows_of(start):
                    spent[number] = spent.get(number, 0.0) + seconds / start.rows_below
            asked = [(number, index) for index, start in enumerate(chosen) for number in start.rows]
            for part in batches([self._fork_cost(rows[number], chosen[i]) for number, i in asked], self.runtime.budget):
                numbers, owners = zip(*(asked[index] for index in part), strict=True)
                yield from self._ask(
                    [rows[n] for n in numbers],
                    [chosen[i] for i in owners],
                    state,
                    owners,
                    [spent.pop(n) for n in numbers],
                    computed,
                )
                computed = 0
            if computed:
                self.runtime.count_computed(computed)
            children = [(child, index) for index, start in enumerate(chosen) for child in start.children]
            if children:
                nodes, owners = zip(*children, strict=True)
                yield from self._run_starts(nodes, rows, spent, state, owners)

    def _ask(
        self, rows: list[Row], starts: list[Start], state: Any, owners: Sequence[int], spent: list[float], computed: int
    ) -> Iterator[tuple[Row, Answer]]:
        rest = [row.ids[len(start.ids) :] for row, start in zip(rows, starts, strict=True)]
        logits, forked, read = self._read(rest, [0] * len(rows), state.select(torch.tensor(owners)))
        seconds = [before + now for before, now in zip(spent, read, strict=True)]
        yield from self._decode(rows, logits, forked, seconds, computed + sum(map(len, rest)))

    def _read(
        self, ids: Sequence[Sequence[int]], prefixes: Sequence[int], state: Any
    ) -> tuple[Tensor, Any, list[float]]:
        """Prefill a batch: logits, state, and each row's share of the seconds."""
        with self.runtime.running():
            logits, state = self.runtime.engine.prefill(ids, prefixes, state)
            finite = bool(logits[:, : self.vocabulary].isfinite().all())
        if not finite:
            raise JRTError(
                "the model's logits are not finite (NaN or infinity): every answer would be nonsense. 'jrt-eval doctor "
                "MODEL' says more; in half precision, try dtype=float32."
            )
        return logits, state, shares(self.runtime.lap(), [len(row) for row in ids])

    def _fork_cost(self, row: Row, start: Start) -> int:
        # A recurrent state weighs the same however long the document was; keys and values are copied for every fork.
        return _cost(row) - (len(start.ids) if self.runtime.engine.constant_state else 0)

    def _decode(
        self, rows: Sequence[Row], logits: Tensor, state: Any, seconds: Sequence[float], computed: int
    ) -> Iterator[tuple[Row, Answer]]:
        runtime = self.runtime
        state_bytes = state.row_bytes()
        goals = [_goal(row) for row in rows]
        runtime.count(rows, computed=computed, state_bytes=max(state_bytes))
        for done in decode(
            runtime.engine,
            logits,
            state,
            goals,
            end_ids=[self.end_ids(goal) for goal in goals],
            vocabulary=self.vocabulary,
            to_text=self.to_text,
            clock=runtime,
        ):
            row = rows[done.row]
            runtime.count_new(done.tokens)
            stats = _stats(row, done.tokens, seconds[done.row] + done.seconds, state_bytes[done.row])
            yield row, Answer(done.text, stats)


def _rows_of(start: Start) -> Iterator[int]:
    yield from start.rows
    for child in start.children:
        yield from _rows_of(child)


def shares(seconds: float, weights: Sequence[int]) -> list[float]:
    """Split a time in proportion to weights."""
    total = sum(weights)
    return [seconds * weight / total for weight in weights]


def _goal(row: Row) -> Generation:
    assert row.goal is not None, "a row without a goal is scored, not continued"
    return row.goal


def _cost(row: Row) -> int:
    return len(row.ids) + _goal(row).max_gen_toks


def _stats(row: Row, new_tokens: int, seconds: float, state_bytes: int) -> dict[str, float]:
    cut = {"jrt_truncated_tokens": row.truncated} if row.truncated else {}
    return {
        "jrt_prefix_tokens": row.choice.length,
        "jrt_prefix_share": row.choice.length / len(row.ids),
        "jrt_entropy": row.choice.entropy,
        "jrt_prompt_tokens": len(row.ids),
        "jrt_new_tokens": new_tokens,
        "jrt_seconds": seconds,
        "jrt_state_bytes": state_bytes,
        **cut,
    }
