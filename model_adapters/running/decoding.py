"""Greedy decoding: stop at the stop string, and let finished rows leave the batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from model_adapters.engines.engine import Engine
from model_adapters.running.figures import Timer
from model_adapters.running.runtime import NotFinite
from model_adapters.running.stopping import Goal, StopStrings

STOP, EOS, LENGTH = "stop", "eos", "length"


@dataclass
class Finished:
    """One generated text.

    Attributes:
        row: its place in the batch that was passed in.
        text: cut before the stop string; the end-of-text token is not part of it.
        tokens: how many tokens were generated, the stop included.
        seconds: the row's share of the time spent on steps.
        ended: what ended it: `stop` (a stop string), `eos` (the model's end token) or `length` (`max_gen_toks`).
    """

    row: int
    text: str
    tokens: int
    seconds: float
    ended: str


@dataclass
class _Running:
    row: int
    stops: StopStrings
    limit: int
    end_ids: frozenset[int]
    ids: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def ended(self) -> str | None:
        """What ends the text with the token that was generated last, as `Finished.ended`; None if it goes on."""
        if self.ids[-1] in self.end_ids:
            return EOS
        if self.stops.hit(self.ids):
            return STOP
        return LENGTH if len(self.ids) >= self.limit else None


def decode(
    engine: Engine,
    logits: Tensor,
    state: Any,
    wanted: Sequence[Goal],
    *,
    end_ids: frozenset[int],
    vocabulary: int,
    stops: Callable[[Goal], StopStrings],
    clock: Timer,
) -> Iterator[Finished]:
    """Continue every row of a batch until it is done.

    Args:
        engine: the model.
        logits: `[B, vocabulary or more]` after the prompts.
        state: after the prompts; used up.
        wanted: where each row stops.
        end_ids: the model's end tokens.
        vocabulary: tokens the tokenizer knows; embedding rows beyond are never chosen.
        stops: makes what finds the stop strings of a row.
        clock: its laps are shared among the rows that ran.

    Yields:
        Rows as they finish.

    Raises:
        NotFinite: after the rows that finish with the same step have been yielded.
    """
    running = [_Running(row, stops(goal), goal.max_gen_toks, end_ids) for row, goal in enumerate(wanted)]
    while running:
        with clock.running():
            best = logits[:, :vocabulary].max(-1)
            tokens, largest = best.indices.tolist(), best.values.tolist()
        share = clock.lap() / len(running)
        staying, broken = [], None
        for place, (row, token) in enumerate(zip(running, tokens, strict=True)):
            row.seconds += share
            # a maximum is NaN or infinite where any of the logits is
            if not math.isfinite(largest[place]):
                broken = broken or NotFinite(row.row, f"at token {len(row.ids) + 1} of its answer")
                continue
            row.ids.append(token)
            ended = row.ended()
            if ended:
                yield Finished(row.row, row.stops.answer(row.ids, ended == EOS), len(row.ids), row.seconds, ended)
            else:
                staying.append(place)
        if broken is not None:
            raise broken
        if not staying:
            return
        with clock.running():
            if len(staying) < len(running):
                state = state.select(torch.tensor(staying))
            logits, state = engine.step(torch.tensor([tokens[place] for place in staying]), state)
        running = [running[place] for place in staying]
