"""From prompts to answers: each prompt is read, alone or from a fork of what it shares, and continued to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from model_adapters.running.batching import batches
from model_adapters.running.decoding import Finished, decode
from model_adapters.running.figures import Answer
from model_adapters.running.rows import Row
from model_adapters.running.runtime import NotFinite, Runtime
from model_adapters.running.sharing import Opening, Start, forks, shared_starts
from model_adapters.running.stopping import Goal, StopStrings


@dataclass(frozen=True)
class Batch:
    """Rows whose prompts have been read: logits after each, states, and seconds spent on each so far."""

    rows: list[Row]
    logits: Tensor  # [B, vocabulary or more]
    state: Any
    seconds: list[float]


class Generator:
    """Greedy generation.

    Args:
        runtime: the model at work.
        stops: makes what finds the stop strings of a row.
        end_ids: the model's end tokens.
        vocabulary: tokens the tokenizer knows.
        reuse: share documents where that is exact.
    """

    def __init__(
        self,
        runtime: Runtime,
        stops: Callable[[Goal], StopStrings],
        end_ids: frozenset[int],
        vocabulary: int,
        reuse: bool = True,
    ):
        self.runtime, self.stops, self.end_ids, self.vocabulary = runtime, stops, end_ids, vocabulary
        self.shares = reuse and runtime.engine.can_continue

    def run(self, rows: Sequence[Row]) -> Iterator[tuple[Row, Answer]]:
        """Answers as they are finished, in any order; rows marked as skipped get an empty one."""
        for row in rows:
            if row.skipped:
                yield row, Answer("", {"jrt_skipped": 1})
        for batch in self._batches([row for row in rows if not row.skipped]):
            yield from self._decode(batch)

    def _opening(self, row: Row) -> Opening | None:
        end, prefix = row.document_end, row.choice.length
        if not self.shares or not 0 < end < len(row.ids) or prefix > end:
            return None
        return Opening(tuple(row.ids[:end]), prefix)

    def _batches(self, rows: Sequence[Row]) -> Iterator[Batch]:
        """Every row once, after its prompt."""
        starts, alone = shared_starts([self._opening(row) for row in rows])
        for numbers in batches([_cost(rows[number]) for number in alone], self.runtime.budget):
            chosen = [rows[alone[number]] for number in numbers]
            read = self._read([row.ids for row in chosen], [row.choice.length for row in chosen], None, chosen)
            yield Batch(chosen, *read)
        for forked in forks(starts, self._keep, self.runtime.budget, lambda row, start: self._cost(rows[row], start)):
            chosen = [rows[number] for number in forked.rows]
            rest = [row.ids[known:] for row, known in zip(chosen, forked.known, strict=True)]
            logits, state, seconds = self._read(rest, [0] * len(rest), forked.state, chosen)
            yield Batch(chosen, logits, state, [a + b for a, b in zip(forked.seconds, seconds, strict=True)])

    def _keep(self, ids: Sequence[Sequence[int]], prefixes: Sequence[int], state: Any) -> tuple[Any, list[float]]:
        return self._read(ids, prefixes, state)[1:]

    def _read(
        self, ids: Sequence[Sequence[int]], prefixes: Sequence[int], state: Any, rows: Sequence[Row] = ()
    ) -> tuple[Tensor, Any, list[float]]:
        """Prefill a batch: logits, state, and each row's share of the seconds. `rows` are named in an error."""
        with self.runtime.running():
            logits, state = self.runtime.engine.prefill(ids, prefixes, state)
            finite = logits[:, : self.vocabulary].isfinite().all(1).tolist()
        if not all(finite):
            raise NotFinite(rows[finite.index(False)].index if rows else None, "after its prompt")
        lengths = [len(row) for row in ids]
        self.runtime.count_read(sum(lengths))
        return logits, state, shares(self.runtime.lap(), lengths)

    def _cost(self, row: Row, start: Start) -> int:
        # A recurrent state weighs the same however long the document was; keys and values are copied for every fork.
        return _cost(row) - (len(start.ids) if self.runtime.engine.constant_state else 0)

    def _decode(self, batch: Batch) -> Iterator[tuple[Row, Answer]]:
        runtime, state_bytes = self.runtime, batch.state.row_bytes()
        window_bytes = runtime.engine.window_bytes(batch.state)
        goals = [_goal(row) for row in batch.rows]
        runtime.count(batch.rows, state_bytes=max(state_bytes))
        finished = decode(
            runtime.engine,
            batch.logits,
            batch.state,
            goals,
            end_ids=self.end_ids,
            vocabulary=self.vocabulary,
            stops=self.stops,
            clock=runtime,
        )
        try:
            for done in finished:
                row = batch.rows[done.row]
                stats = _stats(row, done, batch.seconds[done.row])
                parts = self._state_parts(state_bytes[done.row], window_bytes[done.row])
                answer = Answer(done.text, stats | parts)
                runtime.count_answer(answer)
                yield row, answer
        except NotFinite as error:
            raise NotFinite(None if error.row is None else batch.rows[error.row].index, error.where) from None

    def _state_parts(self, state: int, window: int) -> dict[str, float]:
        parts: dict[str, float] = {"jrt_state_bytes": state, "jrt_window_bytes": window}
        return {**parts, "jrt_recurrent_bytes": state - window} if self.runtime.engine.constant_state else parts


def shares(seconds: float, weights: Sequence[int]) -> list[float]:
    """Split a time in proportion to weights."""
    total = sum(weights)
    return [seconds * weight / total for weight in weights]


def _goal(row: Row) -> Goal:
    assert row.goal is not None, "a row without a goal is scored, not continued"
    return row.goal


def _cost(row: Row) -> int:
    return len(row.ids) + _goal(row).max_gen_toks


def _stats(row: Row, done: Finished, seconds: float) -> dict[str, Any]:
    """Figures of an answer; `seconds` were spent on its prompt."""
    cut = {"jrt_truncated_tokens": row.truncated} if row.truncated else {}
    return {
        "jrt_prefix_tokens": row.choice.length,
        "jrt_prefix_share": row.choice.length / len(row.ids),
        "jrt_entropy": row.choice.entropy,
        "jrt_prompt_tokens": len(row.ids),
        "jrt_new_tokens": done.tokens,
        "jrt_seconds": seconds + done.seconds,
        "jrt_ended": done.ended,
        "jrt_empty_answer": int(not done.text.strip()),
        **cut,
    }
