"""Answers to real questions with features chunk by chunk and with the quadratic form: they must be the same.

python -m benchmarks --only answers
"""

from __future__ import annotations

import os
from typing import Any

from benchmarks.reuse import run
from benchmarks.row import Options, Row, row, side_by_side
from jrt_lmeval.commands.in_process import load_model
from jrt_lmeval.data.shipped import factbook_rows
from jrt_lmeval.prompts import Prompt

QUESTIONS, QUICK_QUESTIONS = 200, 3
LETTERS = 1500  # of a document: what is quadratic would take minutes of whole ones
MODELS = ("jrt-taylor", "jrt-mlp")
FAST, PLAIN = "streamed", "naive"


def rows(options: Options) -> list[Row]:
    """A line for a model whose map has a closed kernel, and one for a learned map."""
    return [same_answers(name, options) for name in MODELS]


def asked(count: int) -> list[Prompt]:
    """`count` rows of `factbook`, spread evenly: the document's beginning, then its question."""
    facts = factbook_rows()
    chosen = [facts[number * len(facts) // count] for number in range(count)]
    texts = [one["text"][:LETTERS] for one in chosen]
    return [Prompt(f"{text}\n{one['key']}:", 0, len(text), text) for text, one in zip(texts, chosen, strict=True)]


def same_answers(name: str, options: Options) -> Row:
    """Seconds of a shipped model for 200 questions with both forms.

    Raises:
        AssertionError: an answer differs.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    lm: Any = load_model("jrt_rnn", {"pretrained": name, "prefix": "document"}, batch_size="auto")
    prompts = asked(QUICK_QUESTIONS if options.quick else QUESTIONS)
    answers: dict[str, list[str]] = {}

    def timed(form: str) -> float:
        lm.engine.model.linear_attention = form
        answers[form], totals = run(lm, prompts, reuse=False)
        return totals["seconds"]

    costs = side_by_side({form: (lambda form=form: timed(form)) for form in (FAST, PLAIN)}, 1)
    different = sum(a != b for a, b in zip(answers[FAST], answers[PLAIN], strict=True))
    if different:
        raise AssertionError(f"{name}: {different} of {len(prompts)} answers differ between {FAST} and {PLAIN}.")
    what, same = f"{name}, {len(prompts)} questions of factbook", f"identical, {len(prompts)} answers"
    return row(what, costs, FAST, PLAIN, same, weights="trained", unit="s", scale=1)
