"""Runs prompts to their answers: batches of rows, and documents that several prompts share read only once.

Sharing is exact where a document's state does not depend on the question: without a prefix, and with a prefix that ends
where the document ends. The state is then kept, forked for every question and continued with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from model_adapters.running.batching import batches, shared_starts
from model_adapters.running.decoding import decode
from model_adapters.running.figures import Answer
from model_adapters.running.rows import Row
from model_adapters.running.runtime import Runtime
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
        engine, policy = runtime.engine, runtime.policy.policy
        self.shares = reuse and engine.can_continue and (policy in ("none", "document") or not engine.has_prefix)

    def run(self, rows: Sequence[Row]) -> Iterator[tuple[Row, Answer]]:
        """Answers as they are finished, in any order; rows marked as skipped get an empty one."""
        for row in rows:
            if row.skipped:
                yield row, Answer("", _stats(row, 0, 0.0, 0))
        rows = [row for row in rows if not row.skipped]
        groups, alone = shared_starts([self._start(row) for row in rows])
        yield from self._run_alone([rows[place] for place in alone])
        yield from self._run_groups([[rows[place] for place in group] for group in groups])

    def _start(self, row: Row) -> tuple[int, ...] | None:
        end = row.document_end
        if not self.shares or not 0 < end < len(row.ids) or row.choice.length not in (0, end):
            return None
        return tuple(row.ids[:end])

    def _run_alone(self, rows: Sequence[Row]) -> Iterator[tuple[Row, Answer]]:
        for batch in batches([_cost(row) for row in rows], self.runtime.budget):
            chosen = [rows[place] for place in batch]
            with self.runtime.running():
                logits, state = self.runtime.engine.prefill(
                    [row.ids for row in chosen], [row.choice.length for row in chosen]
                )
            read = shares(self.runtime.lap(), [len(row.ids) for row in chosen])
            yield from self._decode(chosen, logits, state, read)

    def _run_groups(self, groups: Sequence[Sequence[Row]]) -> Iterator[tuple[Row, Answer]]:
        engine = self.runtime.engine
        for batch in batches([group[0].document_end for group in groups], self.runtime.budget):
            documents = [groups[place] for place in batch]
            heads = [group[0] for group in documents]
            with self.runtime.running():
                _, state = engine.prefill(
                    [head.ids[: head.document_end] for head in heads], [head.choice.length for head in heads]
                )
            read = shares(self.runtime.lap(), [head.document_end for head in heads])
            asked = [(row, number) for number, group in enumerate(documents) for row in group]
            seconds = [read[number] / len(documents[number]) for _, number in asked]
            reused = sum((len(group) - 1) * group[0].document_end for group in documents)
            for part in batches([self._fork_cost(row) for row, _ in asked], self.runtime.budget):
                chosen = [asked[place][0] for place in part]
                with self.runtime.running():
                    forked = state.select(torch.tensor([asked[place][1] for place in part]))
                    logits, forked = engine.prefill(
                        [row.ids[row.document_end :] for row in chosen], [0] * len(chosen), forked
                    )
                asking = shares(self.runtime.lap(), [len(row.ids) - row.document_end for row in chosen])
                spent = [seconds[place] + more for place, more in zip(part, asking, strict=True)]
                yield from self._decode(chosen, logits, forked, spent, reused)
                reused = 0

    def _fork_cost(self, row: Row) -> int:
        # A recurrent state weighs the same however long the document was; keys and values are copied for every fork.
        return _cost(row) - (row.document_end if self.runtime.engine.constant_state else 0)

    def _decode(
        self, rows: Sequence[Row], logits: Tensor, state: Any, seconds: Sequence[float], reused: int = 0
    ) -> Iterator[tuple[Row, Answer]]:
        runtime = self.runtime
        state_bytes = state.row_bytes()
        goals = [_goal(row) for row in rows]
        runtime.count(rows, reused=reused, state_bytes=max(state_bytes))
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
    return {
        "jrt_prefix_tokens": row.choice.length,
        "jrt_entropy": row.choice.entropy,
        "jrt_prompt_tokens": len(row.ids),
        "jrt_new_tokens": new_tokens,
        "jrt_seconds": seconds,
        "jrt_state_bytes": state_bytes,
    }
