"""Which rows run together, and what they share. Results never depend on either.

`batches` splits rows by their lengths. `shared_starts` finds what several prompts begin with (pure: token ids in, a
tree of shared starts out), and `forks` reads every start once, keeps its state and copies it for each prompt. A start
may be shared by rows with the same prefix length M if M lies inside it: every token of the prefix is then in it, and
what comes after is read causally. Without a prefix any common start will do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

# A very short row still costs its logits and a place in every step, so it counts as this many tokens.
LEAST_COST = 128


@dataclass(frozen=True)
class Budget:
    """Limits of a batch: rows, and tokens counted as rows x longest row; None for no limit."""

    rows: int | None = None
    tokens: int | None = None


def batches(lengths: Sequence[int], budget: Budget) -> Iterator[list[int]]:
    """Split rows of so many tokens each into batches of row numbers, longest first: rows of like length share a batch,
    and memory runs out at once. A single row over the budget still gets a batch of its own."""
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


class Opening(NamedTuple):
    """What a row may share: its prefix length M, and its tokens up to the end of the document, M of them or more."""

    prefix: int
    ids: tuple[int, ...]


@dataclass
class Start:
    """A node of the tree: tokens whose state is kept while everything below it runs.

    Attributes:
        opening: all tokens from the beginning, the parent's included, and M of all rows below.
        known: tokens that the parent's state holds already.
        rows: numbers of the rows that go on from here.
        children: longer starts that go on from here.
    """

    opening: Opening
    known: int = 0
    rows: list[int] = field(default_factory=list)
    children: list[Start] = field(default_factory=list)

    @property
    def new_ids(self) -> tuple[int, ...]:
        """The tokens that remain to be read after the parent's state."""
        return self.opening.ids[self.known :]

    @property
    def rows_below(self) -> list[int]:
        """Rows that need this state, directly or through a child."""
        return [*self.rows, *(row for child in self.children for row in child.rows_below)]


class Forks(NamedTuple):
    """Copies of kept states, to be used up, one for each of a batch of rows; how many tokens of the row each has read,
    and the row's share of the seconds spent on that."""

    rows: list[int]
    state: Any
    known: list[int]
    seconds: list[float]


Reader = Callable[[Sequence[Sequence[int]], Sequence[int], Any], tuple[Any, list[float]]]
"""Token ids per row, prefix lengths, and states to go on from or None -> states, and each row's share of the time."""


def forks(
    starts: Sequence[Start],
    read: Reader,
    budget: Budget,
    cost: Callable[[int, int], int],
    above: Any = None,
    parents: Sequence[int] = (),
    spent: dict[int, float] | None = None,
) -> Iterator[Forks]:
    """Read every start once; its state is kept while what goes on from it runs, and is copied for each of that.

    Args:
        starts: roots of trees.
        read: reads a batch.
        budget: what a batch may hold.
        cost: tokens that a row counts for in a batch that goes on from a start of so many tokens.
        above: below a root, the states that `starts` go on from.
        parents: the row of `above` that each of them goes on from.
        spent: seconds so far by row.
    """
    spent = {} if spent is None else spent
    for batch in batches([len(start.new_ids) for start in starts], budget):
        chosen = [starts[number] for number in batch]
        copies = None if above is None else above.select(torch.tensor([parents[number] for number in batch]))
        # where a state is given, the prefix has been read
        prefixes = [start.opening.prefix if copies is None else 0 for start in chosen]
        state, seconds = read([start.new_ids for start in chosen], prefixes, copies)
        for start, share in zip(chosen, seconds, strict=True):
            below = start.rows_below
            for row in below:
                spent[row] = spent.get(row, 0.0) + share / len(below)
        known = [len(start.opening.ids) for start in chosen]
        waiting = [(row, owner) for owner, start in enumerate(chosen) for row in start.rows]
        for part in batches([cost(row, known[owner]) for row, owner in waiting], budget):
            rows, owners = zip(*(waiting[number] for number in part), strict=True)
            copied = state.select(torch.tensor(owners))
            yield Forks(list(rows), copied, [known[owner] for owner in owners], [spent.pop(row) for row in rows])
        children = [(child, owner) for owner, start in enumerate(chosen) for child in start.children]
        if children:
            nodes, owners = zip(*children, strict=True)
            yield from forks(nodes, read, budget, cost, state, owners, spent)


def shared_starts(openings: Sequence[Opening | None]) -> tuple[list[Start], list[int]]:
    """Arrange rows by what they begin with; an opening is None for a row that shares nothing.

    Returns the roots of the trees, in each of which every state serves at least two rows or children, and the rows that
    share nothing. Every row stands in exactly one place.
    """
    alone = [row for row, opening in enumerate(openings) if opening is None]
    groups: dict[Opening, list[int]] = {}
    for row, opening in enumerate(openings):
        if opening is not None:
            groups.setdefault(opening, []).append(row)
    root = Start(Opening(-1, ()))
    stack = [root]
    for opening in sorted(groups):  # in this order a start stands right after the longest start that it begins with
        while len(stack) > 1 and not _begins(opening, stack[-1].opening):
            stack.pop()
        node = Start(opening, rows=groups[opening])
        stack[-1].children.append(node)
        stack.append(node)
    kept: list[Start] = []
    for child in root.children:
        nodes, rows = _pruned(child, 0)
        kept += nodes
        alone += rows
    return kept, sorted(alone)


def _begins(opening: Opening, other: Opening) -> bool:
    return opening.prefix == other.prefix and opening.ids[: len(other.ids)] == other.ids


def _pruned(node: Start, known: int) -> tuple[list[Start], list[int]]:
    """The tree without states that serve a single row: what is left of it, and the rows that moved to its parent."""
    below: list[Start] = []
    rows = list(node.rows)
    for child in node.children:
        nodes, freed = _pruned(child, len(node.opening.ids))
        below += nodes
        rows += freed
    if len(rows) + len(below) < 2:
        for child in below:
            child.known = known
        return below, rows
    return [Start(node.opening, known, sorted(rows), below)], []
