"""Which rows run together. Pure: lengths in, lists of row numbers out; results never depend on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# A very short row still costs its logits and a place in every step, so it counts as this many tokens.
LEAST_COST = 128


@dataclass(frozen=True)
class Budget:
    """Limits of a batch: rows, and tokens counted as rows x longest row; None for no limit."""

    rows: int | None = None
    tokens: int | None = None


def batches(lengths: Sequence[int], budget: Budget) -> Iterator[list[int]]:
    """Split rows into batches, longest first, so that rows of like length share a batch and memory runs out at once.

    Args:
        lengths: tokens of each row.
        budget: what a batch may hold; a single row over the budget still gets a batch of its own.

    Yields:
        Row numbers of each batch, ordered by falling length, then by number.
    """
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    batch: list[int] = []
    for row in order:
        longest = max(LEAST_COST, lengths[batch[0]] if batch else lengths[row])
        full = budget.rows is not None and len(batch) >= budget.rows
        full |= budget.tokens is not None and (len(batch) + 1) * longest > budget.tokens
        if batch and full:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
