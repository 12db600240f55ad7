"""Which segments of which levels a budget holds."""

from __future__ import annotations

from collections.abc import Sequence


def trim(costs: Sequence[Sequence[int]], room: float) -> list[list[int]]:
    """What is kept of every level where not all of it fits.

    All levels give up the same share of their tokens, as near as whole segments allow. First each level is given one
    segment, if the smallest ones of all levels fit together; then, over and over, the level of which the least has been
    written is given its next one. A segment that does not fit is passed over.

    Args:
        costs: for each level, coarse to fine, the tokens that its segments cost, the first to stay first.
        room: tokens that there are for all.

    Returns:
        For each level, the places in its list of costs that are kept, ascending.
    """
    if sum(map(sum, costs)) <= room:
        return [list(range(len(level))) for level in costs]
    kept: list[list[int]] = [[] for _ in costs]
    left = room

    def keep(level: int, place: int) -> None:
        nonlocal left
        kept[level].append(place)
        left -= costs[level][place]

    for level, one in enumerate(costs):
        others = [min(later) for later in costs[level + 1 :] if later and min(later) <= room]
        first = next((place for place, cost in enumerate(one) if cost + sum(others) <= left), None)
        if first is not None:
            keep(level, first)
    waiting = [[place for place in range(len(one)) if place not in kept[level]] for level, one in enumerate(costs)]
    while any(waiting):
        level = min(
            (level for level, places in enumerate(waiting) if places),
            key=lambda level: sum(costs[level][place] for place in kept[level]) / sum(costs[level]),
        )
        place = waiting[level].pop(0)
        if costs[level][place] <= left:
            keep(level, place)
    return [sorted(places) for places in kept]
