"""`NeedlesTask`: recall by length of the prompt, and the length up to which a model can be relied on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jrt_lmeval.data.needles import needles_of
from jrt_lmeval.prompts.prompt import Prompt
from jrt_lmeval.stats import effective_length, interval
from jrt_lmeval.task.base import SplitRow, source_row
from jrt_lmeval.task.recall import RecallTask
from jrt_lmeval.task.scores import ERROR, Scored, error, mean, read

SCORE = "string_match_all"
EFFECTIVE = "effective_length"
LENGTH = "needle_length"
"""Field of a row with the length that it was made for."""


class NeedlesTask(RecallTask):
    """A `RecallTask` whose rows have several lengths: its score is also given by length, as lm_eval's `ruler` has it.

    `effective_length` is the longest at which the score stays above the threshold; its interval is in the results under
    `config.metadata.jrt_found`.
    """

    @property
    def lengths(self) -> tuple[str, ...]:
        """The names of the scores by length, the shortest first."""
        return tuple(map(str, needles_of(self.config.metadata).lengths))

    def process_results(self, doc: dict[str, Any], results: list[Any]) -> dict[str, Any]:
        """The score, under its length as well."""
        values = super().process_results(doc, results)
        if SCORE not in values:
            return values
        document, score = values[SCORE + ERROR]
        for length in self.lengths:
            pair = (document, score if str(source_row(doc)[LENGTH]) == length else None)
            values |= {length: pair, length + ERROR: pair}
        return values | {EFFECTIVE: values[SCORE]}

    def aggregation(self) -> dict[str, Any]:
        """As in other tasks, by length as well."""
        made = super().aggregation()
        for length in self.lengths:
            made |= {length: _mean_known, length + ERROR: error}
        made[EFFECTIVE] = self._effective_length
        return made

    def higher_is_better(self) -> dict[str, bool]:
        """Of all metrics, the lengths included."""
        return {**super().higher_is_better(), **dict.fromkeys((*self.lengths, EFFECTIVE), True)}

    def _facts(self, row: SplitRow, prompt: Prompt, labels: list[str]) -> dict[str, Any]:
        return super()._facts(row, prompt, labels) | {LENGTH: row[LENGTH]}

    def _effective_length(self, scores: Sequence[Scored]) -> int:
        knobs, by_length = needles_of(self.config.metadata), dict[int, list[Scored]]()
        for score in read(scores):
            by_length.setdefault(score.facts[LENGTH], []).append(score)
        recall = {at: interval(list(part), [score.document for score in part]) for at, part in by_length.items()}
        found = effective_length(recall, knobs.threshold / 100)
        what = {"length": found.length, "low": found.low, "high": found.high, "threshold": knobs.threshold}
        self.config.metadata.setdefault("jrt_found", {})[EFFECTIVE] = what
        return found.length


def _mean_known(values: Sequence[tuple[str, float | None]]) -> float:
    return mean([value for _, value in values if value is not None])
