"""What several prompts begin with is read once: a tree of shared starts, whose states are kept and forked.

Pure: token ids in, a plan out; `generation.py` carries it out. A start may be shared by rows with the same prefix
length M if M lies inside it: every token of the prefix is then in it, and what comes after is read causally. Without a
prefix any common start will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Opening:
    """What a row may share.

    Attributes:
        ids: its tokens up to the end of the document.
        prefix: M, at most as long as `ids`.
    """

    ids: tuple[int, ...]
    prefix: int


@dataclass
class Start:
    """A node of the tree: tokens whose state is kept while everything below it runs.

    Attributes:
        ids: all tokens from the beginning, the parent's included.
        prefix: M of all rows below.
        known: tokens that the parent's state holds already.
        rows: numbers of the rows that go on from here.
        children: longer starts that go on from here.
    """

    ids: tuple[int, ...]
    prefix: int
    known: int = 0
    rows: list[int] = field(default_factory=list)
    children: list[Start] = field(default_factory=list)

    @property
    def new_ids(self) -> tuple[int, ...]:
        """The tokens to read when the parent's state is at hand."""
        return self.ids[self.known :]

    @property
    def rows_below(self) -> int:
        """Rows that need this state, directly or through a child."""
        return len(self.rows) + sum(child.rows_below for child in self.children)


def shared_starts(openings: Sequence[Opening | None]) -> tuple[list[Start], list[int]]:
    """Arrange rows by what they begin with.

    Args:
        openings: per row what it may share, or None if nothing.

    Returns:
        The roots of the trees, in each of which every state serves at least two rows or children, and the rows that
        share nothing. Every row stands in exactly one place.
    """
    alone = [row for row, opening in enumerate(openings) if opening is None]
    groups: dict[Opening, list[int]] = {}
    for row, opening in enumerate(openings):
        if opening is not None:
            groups.setdefault(opening, []).append(row)
    roots: list[Start] = []
    stack: list[Start] = []
    # in this order a start stands right after the longest start that it begins with
    for opening in sorted(groups, key=lambda one: (one.prefix, one.ids)):
        node = Start(opening.ids, opening.prefix, rows=groups[opening])
        while stack and not _begins(node, stack[-1]):
            stack.pop()
        (stack[-1].children if stack else roots).append(node)
        stack.append(node)
    kept: list[Start] = []
    for root in roots:
        nodes, rows = _pruned(root, 0)
        kept += nodes
        alone += rows
    return kept, sorted(alone)


def _begins(node: Start, parent: Start) -> bool:
    return node.prefix == parent.prefix and node.ids[: len(parent.ids)] == parent.ids


def _pruned(node: Start, known: int) -> tuple[list[Start], list[int]]:
    """The tree without states that nobody shares: what is left of it, and the rows that went up to its parent."""
    below: list[Start] = []
    rows = list(node.rows)
    for child in node.children:
        nodes, freed = _pruned(child, len(node.ids))
        below += nodes
        rows += freed
    if len(rows) + len(below) < 2:
        for child in below:
            child.known = known
        return below, rows
    return [Start(node.ids, node.prefix, known, sorted(rows), below)], []
