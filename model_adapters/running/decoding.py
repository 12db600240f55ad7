"""Greedy decoding: stop at the stop string, and let finished rows leave the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from model_adapters.engines.engine import Engine
from model_adapters.running.figures import Timer
from model_adapters.running.stopping import Goal, StopStrings


@dataclass
class Finished:
    """One generated text.

    Attributes:
        row: its place in the batch that was passed in.
        text: cut before the stop string; the end-of-text token is not part of it.
        tokens: how many tokens were generated, the stop included.
        seconds: the row's share of the time spent on steps.
    """

    row: int
    text: str
    tokens: int
    seconds: float


@dataclass
class _Running:
    row: int
    stops: StopStrings
    limit: int
    end_ids: frozenset[int]
    ids: list[int] = field(default_factory=list)
    seconds: float = 0.0
    ended: bool = False


def decode(
    engine: Engine,
    logits: Tensor,
    state: Any,
    wanted: Sequence[Goal],
    *,
    end_ids: Sequence[frozenset[int]],
    vocabulary: int,
    to_text: Callable[[list[int]], str],
    clock: Timer,
) -> Iterator[Finished]:
    """Continue every row of a batch until it is done.

    Args:
        engine: the model.
        logits: `[B, vocabulary or more]` after the prompts.
        state: after the prompts; used up.
        wanted: where each row stops.
        end_ids: per row the token ids that end its text.
        vocabulary: tokens the tokenizer knows; embedding rows beyond are never chosen.
        to_text: decodes token ids.
        clock: its laps are shared among the rows that ran.

    Yields:
        Rows as they finish.
    """
    running = [
        _Running(row, StopStrings(goal.until, to_text), goal.max_gen_toks, ends)
        for row, (goal, ends) in enumerate(zip(wanted, end_ids, strict=True))
    ]
    while running:
        with clock.running():
            tokens = logits[:, :vocabulary].argmax(-1).tolist()
        share = clock.lap() / len(running)
        staying = []
        for place, (row, token) in enumerate(zip(running, tokens, strict=True)):
            row.seconds += share
            row.ids.append(token)
            row.ended = token in row.end_ids
            if row.ended or len(row.ids) >= row.limit or row.stops.hit(row.ids):
                yield _finished(row, to_text)
            else:
                staying.append(place)
        if not staying:
            return
        with clock.running():
            if len(staying) < len(running):
                state = state.select(torch.tensor(staying))
            logits, state = engine.step(torch.tensor([tokens[place] for place in staying]), state)
        running = [running[place] for place in staying]


def _finished(row: _Running, to_text: Callable[[list[int]], str]) -> Finished:
    text = to_text(row.ids[:-1] if row.ended else row.ids)
    return Finished(row.row, row.stops.cut(text)[0], len(row.ids), row.seconds)
