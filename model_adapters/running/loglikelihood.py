"""Log-likelihoods: contexts and continuations as rows, rolling windows over long texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jrt_lmeval.errors import JRTError
from model_adapters.running.batching import batches
from model_adapters.running.rows import PromptRow
from model_adapters.running.runtime import NotFinite, Runtime

SKIPPED = (float("-inf"), False)


@dataclass(frozen=True)
class Continuation:
    """A context row and the continuation tokens to score after it."""

    row: PromptRow
    continuation: list[int]

    @property
    def tokens(self) -> list[int]:
        return self.row.ids + self.continuation


def score(runtime: Runtime, items: Sequence[Continuation]) -> Iterator[tuple[int, tuple[float, bool]]]:
    """Score continuations.

    The prefix is chosen on the context alone, so no continuation token is ever part of it.

    Yields:
        `(row.index, (sum of log-probabilities, whether greedy decoding would produce it))` as they are finished, in
        any order; rows that were skipped for their length get minus infinity.

    Raises:
        NotFinite: the logits are not finite.
    """
    rows = runtime.prepared([item.row for item in items], [len(item.continuation) - 1 for item in items])
    items = [Continuation(row, item.continuation) for row, item in zip(rows, items, strict=True)]
    for item in items:
        if item.row.skipped:
            yield item.row.index, SKIPPED
    items = [item for item in items if not item.row.skipped]
    for batch in batches([len(item.tokens) for item in items], runtime.budget):
        chosen = [items[place] for place in batch]
        with runtime.running():
            scores = runtime.engine.score(
                [item.tokens for item in chosen],
                [item.row.choice.length for item in chosen],
                [len(item.row.ids) for item in chosen],
            )
        runtime.lap()
        read, scored = (sum(len(ids) for ids in part) for part in _parts(chosen))
        runtime.count_read(read)
        runtime.count([item.row for item in chosen], scored=scored)
        broken = None
        for item, result in zip(chosen, scores, strict=True):
            if bool(result.logprobs.isnan().any()):
                broken = broken or NotFinite(item.row.index, "while it was scored")
                continue
            yield item.row.index, (float(result.logprobs.double().sum()), bool(result.greedy.all()))
        if broken is not None:
            raise broken


def _parts(items: Sequence[Continuation]) -> tuple[list[list[int]], list[list[int]]]:
    return [item.row.ids for item in items], [item.continuation for item in items]


def require_tokens(context: Sequence[int], continuation: Sequence[int], text: str) -> None:
    """Raise JRTError if there is nothing to score, or nothing before it."""
    if not continuation or not context:
        missing = "context before" if continuation else "token of its own in"
        raise JRTError(f"there is no {missing} the continuation {text!r}; the task must offer a longer one.")


def rolling_windows(ids: Sequence[int], first: int, limit: int | None) -> Iterator[tuple[list[int], list[int]]]:
    """Cut a text into (context, continuation) pairs in which every token is scored exactly once.

    As lm_eval does with one token of context: the first window follows the token `first`; the last one is filled up
    with as much context as fits.

    Args:
        ids: the text.
        first: BOS or end-of-text, which the first token follows.
        limit: tokens the model can read at once; None takes the text as one window.
    """
    if not ids:
        return
    if limit is None or len(ids) <= limit:
        yield [first], list(ids)
        return
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    windows = get_rolling_token_windows(list(ids), prefix_token=first, max_seq_len=limit, context_len=1)
    yield from map(make_disjoint_window, windows)
