"""What an answer scores, and what is made of all scores of a task: means, with errors by document."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from jrt_lmeval import scoring
from jrt_lmeval.errors import unknown
from jrt_lmeval.stats import clustered_stderr

SCORES: dict[str, Callable[[str, list[str]], float]] = {
    "contains": scoring.contains,
    "contains_word": scoring.contains_word,
    "contains_normalised": scoring.contains_normalised,
    "exact": scoring.exact,
    "f1": scoring.f1,
    "string_match_all": scoring.string_match_all,
}
UNNAMED = ("contains", "contains_word", "contains_normalised", "exact", "f1")
"""The scores of a task whose YAML names none."""
FIGURES = (
    "prompt_tokens", "document_tokens", "jrt_prompt_tokens", "jrt_prefix_tokens", "jrt_prefix_share", "jrt_entropy",
    "jrt_state_bytes", "jrt_window_bytes", "jrt_recurrent_bytes", "jrt_tokens_read", "jrt_empty_answer",
)  # fmt: skip
"""What is known of an answer beside its scores and is worth a mean; lm_eval's table is spared it."""
MEDIANS = ("jrt_seconds",)
"""The same with a median: a mean of seconds is that of the slowest, and times have no error that means anything."""
SKIPPED = "jrt_skipped"
TRUNCATED = "jrt_truncated_tokens"
CUT_CHARACTERS = "jrt_truncated_characters"
ENDED = "jrt_ended"
ERROR = "_stderr"


class Scored(float):
    """A score that knows of which document it is, and what else is known of the answer.

    Attributes:
        document: what tells the document from others.
        facts: what the samples log says of prompt and answer.
    """

    document: str
    facts: Mapping[str, Any]

    def __new__(cls, value: float, document: str = "", facts: Mapping[str, Any] | None = None) -> Scored:
        score = super().__new__(cls, value)
        score.document, score.facts = document, facts or {}
        return score


def metric_list(names: Sequence[str]) -> list[dict[str, Any]]:
    """lm_eval's key of this name for scores of ours; what lm_eval would ask a registry for is all said."""
    return [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in names]


def name_of(entry: Any) -> Any:
    """The metric that an entry of `metric_list` is about."""
    return entry.get("metric") if isinstance(entry, Mapping) else entry


def named_scores(metric_list: Sequence[Any] | None, others: bool) -> list[str]:
    """The scores that a YAML's `metric_list` names; those of `UNNAMED` if it names none.

    Raises:
        JRTError: a metric that is not ours, unless a function of the YAML's own computes `others`. lm_eval would
            silently leave it out.
    """
    names = [name_of(entry) for entry in metric_list or ()]
    for name in names:
        if name not in SCORES and not others:
            raise unknown("metric in metric_list", name, SCORES)
    return [name for name in SCORES if name in names] or list(UNNAMED)


def scored(answer: str, labels: list[str], names: Sequence[str], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of an answer for lm_eval, each followed by what its standard error is made of.

    lm_eval knows the standard errors of means of independent values only. Questions on one document are not
    independent, so that the error is handed to it as a metric of its own, of the name that it would give to it.
    A prompt that the model did not read has no score: what stands there for lm_eval is in no mean (`read`).
    """
    document = str(facts["doc_id"])
    values: dict[str, Any] = {}
    for name in names:
        score = Scored(0.0 if facts.get(SKIPPED) else SCORES[name](answer, labels), document, facts)
        values |= {name: score, name + ERROR: (document, None if facts.get(SKIPPED) else float(score))}
    return values


def read(scores: Sequence[Scored]) -> list[Scored]:
    """The scores of prompts that the model read."""
    return [score for score in scores if not getattr(score, "facts", {}).get(SKIPPED)]


def aggregations(names: Sequence[str]) -> dict[str, Callable[[Sequence[Any]], Any]]:
    """How the values of `scored` become a task's figures."""
    return dict.fromkeys(names, mean_of_read) | dict.fromkeys([name + ERROR for name in names], error)


def mean_of_read(scores: Sequence[Scored]) -> float:
    """The mean over the prompts that the model read."""
    return mean(read(scores))


def mean(values: Sequence[float]) -> float:
    """The mean; NaN of none."""
    return sum(values) / len(values) if values else math.nan


def error(values: Sequence[tuple[str, float | None]]) -> float | str:
    """The standard error by document of (document, score); `N/A`, as lm_eval says, for too few documents."""
    known = [(document, score) for document, score in values if score is not None]
    found = clustered_stderr([score for _, score in known], [document for document, _ in known])
    return "N/A" if math.isnan(found) else found


def found(scores: Sequence[Scored], baselines: Sequence[str]) -> dict[str, Any]:
    """What was found beside the scores, over all answers.

    Returns:
        `documents`: how many there are; `means`: figure -> mean over the answers that have it, rows that the model
        skipped left out, and `medians`, of seconds; `skipped` and `truncated`: prompts that were not read, or not
        wholly, where there are any;
        `ended`: what ended the answers (`stop`, `eos`, `length`) -> how many, where the model says so;
        `without_a_model`: rule -> share of questions that it answers, with its error by document.
    """
    beyond = {
        "skipped": len(scores) - len(read(scores)),
        "truncated": sum(TRUNCATED in score.facts for score in scores),
    }
    answered = read(scores)
    ended = Counter(str(score.facts[ENDED]) for score in answered if ENDED in score.facts)
    known = {
        name: [score.facts[name] for score in answered if _is_number(score.facts.get(name))]
        for name in (*FIGURES, *MEDIANS)
    }
    guessed = {
        name: [(score.document, float(score.facts[name])) for score in scores if name in score.facts]
        for name in baselines
    }
    return {
        "documents": len({score.document for score in scores}),
        **({"ended": dict(ended)} if ended else {}),
        **{name: count for name, count in beyond.items() if count},
        "means": {name: mean(known[name]) for name in FIGURES if known[name]},
        "medians": {name: median(known[name]) for name in MEDIANS if known[name]},
        "without_a_model": {
            name: {"contains": mean([value for _, value in values]), "stderr": error(values)}
            for name, values in guessed.items()
            if values
        },
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
