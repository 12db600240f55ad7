"""What generation and scoring share: the engine, the limits, the prefix policy and the running totals."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prefix import PrefixPolicy
from model_adapters.engines.engine import Engine
from model_adapters.running.batching import Budget
from model_adapters.running.figures import Answer, Clock, Memory, Totals, process_peak
from model_adapters.running.rows import PromptRow, fit, with_prefix

log = logging.getLogger("lm_eval.jrt")


class NotFinite(JRTError):
    """The model gave logits with NaN or infinity.

    Args:
        row: number of the row; None where several rows share what was read.
        where: what was being computed, such as `after its prompt`.
    """

    def __init__(self, row: int | None, where: str):
        super().__init__(
            f"the model's logits are not finite (NaN or infinity) {where}, so that what follows would be nonsense. "
            "'jrt-eval doctor MODEL' says more; in half precision, try dtype=float32. Answers finished before this one "
            "are kept where --use_cache is given."
        )
        self.row, self.where = row, where


class Runtime:
    """A model at work.

    Args:
        engine: the model.
        policy: how prefix lengths are chosen.
        budget: what a batch may hold.
        max_length: tokens the model may read, generated ones included; None for no limit.
        on_overflow: what happens to longer prompts.
    """

    def __init__(self, engine: Engine, policy: PrefixPolicy, budget: Budget, max_length: int | None, on_overflow: str):
        self.engine, self.policy, self.budget = engine, policy, budget
        self.max_length, self.on_overflow = max_length, on_overflow
        self._clock, self._memory = Clock(engine.device), Memory(engine.device)
        self._totals = Totals()
        self._process_peak = 0

    @property
    def totals(self) -> Totals:
        """What this process has done so far."""
        self._totals.work_peak_bytes = self._memory.read()
        self._totals.process_peak_memory_bytes = max(self._process_peak, process_peak())
        return self._totals

    def reset(self) -> None:
        """Forget what was done so far: a model may serve several runs."""
        self._totals = Totals()
        self._memory = Memory(self.engine.device)

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """What is done inside does not enter the totals."""
        totals, self._totals = self._totals, Totals()
        try:
            yield
        finally:
            self._totals = totals

    def prepared(self, rows: Sequence[PromptRow], room: Sequence[int]) -> list[PromptRow]:
        """Rows cut to the model's context, with their prefix lengths; `room` as in `rows.fit`."""
        self._process_peak = max(self._process_peak, process_peak())  # before it is reset
        self._memory.started()
        fitted = fit(rows, room, self.max_length, self.on_overflow)
        truncated, skipped = sum(row.truncated > 0 for row in fitted), sum(row.skipped for row in fitted)
        self._totals.rows_truncated += truncated
        self._totals.rows_skipped += skipped
        if truncated or skipped:
            log.warning(
                "on_overflow=%s: %d of %d prompts do not fit into the model's context of %d tokens and %s.",
                *(self.on_overflow, truncated + skipped, len(rows), self.max_length),
                "are read without their start" if truncated else "are not answered; no mean of a task counts them",
            )
        trained = self.engine.trained_length
        if trained is not None:
            beyond = sum(len(row.ids) > trained for row in fitted)
            self._totals.rows_beyond_training += beyond
            if beyond:
                log.warning(
                    "%d of %d prompts are longer than the %d tokens the model was trained on.",
                    beyond,
                    len(rows),
                    trained,
                )
        return [with_prefix(row, self.policy, self.engine.longest_prefix) for row in fitted]

    def running(self) -> AbstractContextManager[None]:
        """Measures the model's time: `with runtime.running(): ...`."""
        return self._clock.running()

    def lap(self) -> float:
        """Seconds of model time since the last lap, added to the totals."""
        seconds = self._clock.lap()
        self._totals.seconds += seconds
        return seconds

    def count(self, rows: Sequence[PromptRow], scored: int = 0, state_bytes: int = 0) -> None:
        """Add a batch to the totals: rows, tokens scored, bytes of the largest row's state."""
        totals = self._totals
        totals.batches += 1
        totals.largest_batch = max(totals.largest_batch, len(rows))
        totals.rows += len(rows)
        totals.prompt_tokens += sum(len(row.ids) for row in rows)
        totals.prefix_tokens += sum(row.choice.length for row in rows)
        totals.entropy += sum(row.choice.entropy for row in rows)
        totals.scored_tokens += scored
        totals.state_bytes_per_row = max(totals.state_bytes_per_row, state_bytes)

    def count_read(self, tokens: int) -> None:
        """Add prompt tokens that went through the model: what several rows share is read once and counts once."""
        self._totals.prompt_tokens_computed += tokens

    def count_answer(self, answer: Answer) -> None:
        """Add a generated answer to the totals."""
        totals, stats = self._totals, answer.stats
        totals.new_tokens += int(stats["jrt_new_tokens"])
        totals.answers_empty += int(stats["jrt_empty_answer"])
        totals.ended[str(stats["jrt_ended"])] += 1
        totals.answer_seconds.append(float(stats["jrt_seconds"]))
