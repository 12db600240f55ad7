"""Answers to real questions with one form of linear attention and with another: they must be the same."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from benchmarks.row import Options, Row, row, side_by_side
from jrt_lmeval.commands.in_process import load_model
from jrt_lmeval.data.shipped import factbook_rows
from jrt_lmeval.prompts import Prompt

QUESTIONS, QUICK_QUESTIONS = 200, 3
NEW_TOKENS = 12


def asked(count: int) -> list[Prompt]:
    """`count` rows of `factbook`, spread evenly over its documents: the document once, then its question."""
    rows = factbook_rows()
    chosen = [rows[number * len(rows) // count] for number in range(count)]
    return [Prompt(f"{one['text']}\n{one['key']}:", 0, len(one["text"]), one["text"]) for one in chosen]


def same_answers(name: str, options: Options, fast: str = "streamed", plain: str = "naive") -> Row:
    """Seconds of a shipped model for 200 questions with both forms.

    Raises:
        AssertionError: an answer differs.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    lm: Any = load_model("jrt_rnn", {"pretrained": name, "prefix": "document"}, batch_size="auto")
    lm._generator.shares = False
    prompts = asked(QUICK_QUESTIONS if options.quick else QUESTIONS)
    requests = [SimpleNamespace(args=(prompt, {"until": ["\n"], "max_gen_toks": NEW_TOKENS})) for prompt in prompts]
    answers: dict[str, list[str]] = {}

    def timed(form: str) -> float:
        lm.runtime.reset()
        lm.engine.model.linear_attention = form
        with patch.object(time, "perf_counter", time.process_time):  # what the model's clock reads: see row.py
            answers[form] = [str(answer) for answer in lm.generate_until(requests, disable_tqdm=True)]
        return lm.get_model_info()["jrt"]["seconds"]

    costs = side_by_side({form: (lambda form=form: timed(form)) for form in (fast, plain)}, 1)
    different = sum(a != b for a, b in zip(answers[fast], answers[plain], strict=True))
    if different:
        raise AssertionError(f"{name}: {different} of {len(prompts)} answers differ between {fast} and {plain}.")
    what, same = f"{name}, {len(prompts)} questions of factbook", f"identical, {len(prompts)} answers"
    return row(what, costs, fast, plain, same, weights="trained", unit="s", scale=1)
