"""From prompts to answers: each prompt is read, alone or from a copy of a shared state, and continued greedily.

`Generator` reads batches of prompts, `decode` continues them token by token while finished rows leave the batch, and
`StopStrings` says where an answer stops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from model_adapters.engines.engine import Engine
from model_adapters.running.batching import Opening, batches, forks, shared_starts
from model_adapters.running.rows import Goal, PromptRow
from model_adapters.running.runtime import Answer, Clock, NotFinite, Runtime
from model_adapters.running.saved import SavedStates

STOP, EOS, LENGTH = "stop", "eos", "length"

READ_AT_ONCE = 4096
"""Tokens of a row that are read at once, its prefix aside, which is never divided."""


class StopStrings:
    """Finds stop strings in a text that grows token by token.

    A special token vanishes when tokens are decoded for an answer. A stop string that is one is therefore looked for
    among the tokens; for a stop string that holds one beside other text, tokens are decoded with the special ones.

    Args:
        until: the stop strings.
        decode: turns token ids into text, with or without the special tokens (second argument).
        special: ids of the special tokens by their text.
        think_end: text or token id that ends a model's reasoning. Stop strings before it do not count, and the answer
            is what follows it; None for a model that does not reason.
    """

    def __init__(
        self,
        until: tuple[str, ...],
        decode: Callable[[list[int], bool], str],
        special: Mapping[str, int],
        think_end: str | int | None = None,
    ):
        self.until = until
        self._decode = decode
        self._ids = frozenset(special[stop] for stop in until if stop in special)
        self._mixed = any(text in stop and text != stop for stop in until for text in special)
        self._special = tuple(special)
        self._think_end = special.get(think_end, think_end) if isinstance(think_end, str) else think_end
        # tokens that hold the longest stop string even if every token is one byte of it
        self._reach = max((len(stop.encode()) for stop in until), default=0) + 8

    def hit(self, ids: list[int]) -> bool:
        """Whether the last token has completed a stop string. Only the end of the text is decoded at each step."""
        if ids[-1] in self._ids:
            return True
        if not self.until:
            return False
        if self._think_end is not None:
            return self._cut(ids)[1]
        end = self._decode(ids[-self._reach :], self._mixed)
        return any(stop in end for stop in self.until) and self._cut(ids)[1]

    def answer(self, ids: list[int], ended: bool) -> str:
        """The text of an answer before the first stop string; `ended` leaves out the last token, which ended it."""
        text, _ = self._cut(ids[:-1] if ended or ids[-1] in self._ids else ids)
        for special in self._special if self._mixed else ():
            text = text.replace(special, "")
        return text

    def _cut(self, ids: list[int]) -> tuple[str, bool]:
        """The text before the first stop string, and whether there was one."""
        thought = True
        if isinstance(self._think_end, int):
            end = len(ids) - ids[::-1].index(self._think_end) if self._think_end in ids else 0
            thought, ids = end > 0, ids[end:]
        text = self._decode(ids, self._mixed)
        if isinstance(self._think_end, str):
            thought, text = self._think_end in text, text.split(self._think_end)[-1]
        text = text if self._think_end is None else text.lstrip()
        places = [place for stop in self.until if (place := text.find(stop)) >= 0]
        return (text[: min(places)], thought) if places else (text, False)


class Generator:
    """Greedy generation.

    Args:
        runtime: the model at work.
        stops: makes what finds the stop strings of a row.
        end_ids: the model's end tokens.
        vocabulary: tokens the tokenizer knows.
        reuse: share documents where that is exact.
        saved: keeps the states of long documents.
    """

    def __init__(
        self,
        runtime: Runtime,
        stops: Callable[[Goal], StopStrings],
        end_ids: frozenset[int],
        vocabulary: int,
        reuse: bool = True,
        saved: SavedStates | None = None,
    ):
        self.runtime, self.stops, self.end_ids, self.vocabulary = runtime, stops, end_ids, vocabulary
        self.saved = saved
        self.shares = reuse and runtime.engine.can_continue

    def run(self, rows: Sequence[PromptRow]) -> Iterator[tuple[PromptRow, Answer]]:
        """Answers as they are finished, in any order; rows marked as skipped get an empty one."""
        for row in rows:
            if row.skipped:
                yield row, Answer("", {"jrt_skipped": 1})
        for batch in self._prefilled([row for row in rows if not row.skipped]):
            yield from self._continued(*batch)

    def _prefilled(
        self, rows: Sequence[PromptRow]
    ) -> Iterator[tuple[Sequence[PromptRow], Tensor, Any, Sequence[float]]]:
        """Batches of rows after their prompts: logits, states, and the seconds spent on each."""
        budget = self.runtime.budget
        costs = [len(row.ids) + row.room for row in rows]
        starts, alone = shared_starts([self._opening(row) for row in rows])
        for numbers in batches([costs[number] for number in alone], budget):
            chosen = [rows[alone[number]] for number in numbers]
            read = self.read([row.ids for row in chosen], [row.choice.length for row in chosen], None, chosen)
            yield chosen, *read
        # a recurrent state weighs the same however long the document was; keys and values are copied for every fork
        spared = int(self.runtime.engine.constant_state)
        for forked in forks(starts, self._keep, budget, lambda row, known: costs[row] - known * spared):
            chosen = [rows[number] for number in forked.rows]
            rest = [row.ids[known:] for row, known in zip(chosen, forked.known, strict=True)]
            logits, state, seconds = self.read(rest, [0] * len(rest), forked.state, chosen)
            yield chosen, logits, state, [a + b for a, b in zip(forked.seconds, seconds, strict=True)]

    def run_chunks(self, rows: Sequence[PromptRow]) -> Iterator[tuple[PromptRow, Answer]]:
        """Answers of prompts whose document was cut (`rows.chunks_of`): of each, that of its surest chunk.

        Every chunk is read with the question from a state of its own. The surest one is that after which the entropy of
        the next token is least (arXiv 2505.07793); it is read once more, and continued. What it cost stands in the
        figures: `jrt_tokens_read` with all chunks and that second reading, where a document that several questions
        share counts for each of them.
        """
        skipped = {row.index: row for row in rows if row.skipped}
        yield from self.run([*skipped.values()])
        read: dict[int, list[tuple[float, int, float, PromptRow]]] = {}
        for batch, logits, _, spent in self._prefilled([row for row in rows if row.index not in skipped]):
            shares = logits[:, : self.vocabulary].float().softmax(-1)
            entropies = -torch.xlogy(shares, shares).sum(-1)
            for row, entropy, seconds in zip(batch, entropies.tolist(), spent, strict=True):
                # rounded, so that which rows share a batch does not decide between equals
                read.setdefault(row.index, []).append((round(entropy, 3), row.chunk, seconds, row))
        surest = {index: min(found, key=lambda one: one[:2]) for index, found in read.items()}
        for row, answer in self.run([one[-1] for one in surest.values()]):
            found = read[row.index]
            answer.stats |= {
                "jrt_chunks": len(found),
                "jrt_chunk": row.chunk,
                "jrt_chunk_entropy": surest[row.index][0],
                "jrt_tokens_read": sum(len(one[-1].ids) for one in found) + len(row.ids),
                "jrt_seconds": answer.stats["jrt_seconds"] + sum(seconds for _, _, seconds, _ in found),
            }
            yield row, answer

    def _opening(self, row: PromptRow) -> Opening | None:
        end, prefix = row.document_end, row.choice.length
        if not self.shares or not 0 < end < len(row.ids) or prefix > end:
            return None
        return Opening(prefix, tuple(row.ids[:end]))

    def _keep(self, ids: Sequence[Sequence[int]], prefixes: Sequence[int], state: Any) -> tuple[Any, list[float]]:
        return self.read(ids, prefixes, state)[1:]

    def read(
        self, ids: Sequence[Sequence[int]], prefixes: Sequence[int], state: Any, rows: Sequence[PromptRow] = ()
    ) -> tuple[Tensor, Any, list[float]]:
        """Prefill a batch: logits, state, and each row's share of the seconds. `rows` are named in an error."""
        with self.runtime.running():
            logits, state = self.in_parts(ids, prefixes, state)
            finite = logits[:, : self.vocabulary].isfinite().all(1).tolist()
        if not all(finite):
            raise NotFinite(rows[finite.index(False)].index if rows else None, "after its prompt")
        total, seconds = sum(len(row) for row in ids), self.runtime.lap()
        self.runtime.sums.prompt_tokens_computed += total
        return logits, state, [seconds * len(row) / total for row in ids]

    def in_parts(self, ids: Sequence[Sequence[int]], prefixes: Sequence[int], state: Any) -> tuple[Tensor, Any]:
        """As the engine's `prefill`, with long rows read part by part, so that the work takes no more memory for them.

        The first part holds the whole prefix. With `saved`, the state after a part is kept, and what an earlier run has
        read is not read again.
        """
        engine, saved = self.runtime.engine, self.saved if state is None else None
        first, shortest = max(READ_AT_ONCE, *prefixes), min(map(len, ids))
        ends = [*range(first, shortest, READ_AT_ONCE)] if engine.can_continue else []
        done = 0
        for end in reversed(ends):
            if saved and (state := saved.load([row[:end] for row in ids], prefixes)) is not None:
                done = end
                break
        for end in (end for end in ends if end > done):
            part = [row[done:end] for row in ids]
            _, state = engine.prefill(part, prefixes if not done else [0] * len(ids), state)
            if saved:
                saved.save([row[:end] for row in ids], prefixes, state, done)
            done = end
        return engine.prefill([row[done:] for row in ids], prefixes if not done else [0] * len(ids), state)

    def _continued(
        self, rows: Sequence[PromptRow], logits: Tensor, state: Any, seconds: Sequence[float]
    ) -> Iterator[tuple[PromptRow, Answer]]:
        """The answers of a batch whose prompts have been read in so many seconds each."""
        engine, sums = self.runtime.engine, self.runtime.sums
        state_bytes, window_bytes = state.row_bytes(), engine.window_bytes(state)
        sums.count(rows, max(state_bytes))
        goals = [row.goal or Goal() for row in rows]
        finished = decode(engine, logits, state, goals, self.end_ids, self.vocabulary, self.stops, self.runtime)
        try:
            for done in finished:
                row, kept, windows = rows[done.row], state_bytes[done.row], window_bytes[done.row]
                text = done.text
                stats = {
                    "jrt_prefix_tokens": row.choice.length,
                    "jrt_prefix_share": row.choice.length / len(row.ids),
                    "jrt_entropy": row.choice.entropy,
                    "jrt_features": dict(row.choice.known),
                    "jrt_prompt_tokens": len(row.ids),
                    "jrt_new_tokens": done.tokens,
                    "jrt_seconds": seconds[done.row] + done.seconds + row.draft_seconds,
                    "jrt_ended": done.ended,
                    "jrt_empty_answer": int(not text.strip()),
                    **row.drafted,
                    **({"jrt_truncated_tokens": row.truncated} if row.truncated else {}),
                    "jrt_state_bytes": kept,
                    "jrt_window_bytes": windows,
                    **({"jrt_recurrent_bytes": kept - windows} if engine.constant_state else {}),
                }
                answer = Answer(text, stats)
                sums.count_answer(answer)
                yield row, answer
        except NotFinite as error:
            raise NotFinite(None if error.row is None else rows[error.row].index, error.where) from None


@dataclass
class Running:
    """A row that is being continued.

    Attributes:
        row: its place in the batch.
        stops: finds its stop strings.
        ids: what was generated so far, the token that ended it included.
        seconds: its share of the time spent on steps.
        ended: what ended it: `stop` (a stop string), `eos` (the model's end token) or `length` (`max_gen_toks`).
    """

    row: int
    stops: StopStrings
    ids: list[int] = field(default_factory=list)
    seconds: float = 0.0
    ended: str = ""
    logprob: float = 0.0

    @property
    def sure(self) -> float:
        """The geometric mean of the probabilities of its tokens, where `decode` was asked for it."""
        return math.exp(self.logprob / self.tokens)

    @property
    def tokens(self) -> int:
        """How many tokens were generated, the stop included."""
        return len(self.ids)

    @property
    def text(self) -> str:
        """The answer, cut before the stop string; the end-of-text token is not part of it."""
        return self.stops.answer(self.ids, self.ended == EOS)


def decode(
    engine: Engine,
    logits: Tensor,
    state: Any,
    goals: Sequence[Goal],
    end_ids: frozenset[int],
    vocabulary: int,
    stops: Callable[[Goal], StopStrings],
    clock: Clock,
    sure: bool = False,
) -> Iterator[Running]:
    """Continue every row of a batch until it is done, and yield rows as they finish.

    Args:
        logits, state: after the prompts, `[B, vocabulary or more]`; the state is used up.
        goals: where each row stops.
        vocabulary: tokens the tokenizer knows; embedding rows beyond are never chosen.
        clock: its laps are shared among the rows that ran.
        sure: find `Running.sure`.

    Raises:
        NotFinite: after the rows that finish with the same step have been yielded.
    """
    running = [Running(row, stops(goal)) for row, goal in enumerate(goals)]
    while running:
        with clock.running():
            best = logits[:, :vocabulary].max(-1)
            tokens, largest = best.indices.tolist(), best.values.tolist()
            totals = logits[:, :vocabulary].float().logsumexp(-1).tolist() if sure else largest
        share = clock.lap() / len(running)
        staying, broken = [], None
        for place, (row, token) in enumerate(zip(running, tokens, strict=True)):
            row.seconds += share
            # a maximum is NaN or infinite where any of the logits is
            if not math.isfinite(largest[place]):
                broken = broken or NotFinite(row.row, f"at token {row.tokens + 1} of its answer")
                continue
            row.ids.append(token)
            row.logprob += largest[place] - totals[place]
            if token in end_ids:
                row.ended = EOS
            elif row.stops.hit(row.ids):
                row.ended = STOP
            elif row.tokens >= goals[row.row].max_gen_toks:
                row.ended = LENGTH
            if row.ended:
                yield row
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
