"""What reading a shared document once saves: many questions on each document, with and without reuse, side by side.

    python -m benchmarks --only reuse

The same prompts are asked of the shipped model with `reuse=True` and `reuse=False`, in turns; the answers must be
identical. A line gives the model's seconds, and beside them how many tokens went through the model.

    whole     every question is on a whole document
    nested    half of the questions are on the first half of a document
    flat      the document twice, as `lead: false` writes it

The document twice after a question of its own, as published, shares nothing and costs the same either way.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from lm_eval.utils import simple_parse_args_string

from benchmarks.measure import Options, Row, row, side_by_side
from jrt_lmeval.data.shipped import factbook_rows
from jrt_lmeval.prompts import Prompt
from jrt_lmeval.runner import load_model

QUESTIONS = (
    "Area", "Population", "Capital", "Climate", "Terrain", "Coastline", "Languages", "Religions", "Government",
    "Budget", "Exports", "Imports", "Currency", "Airports", "Railways", "Waterways",
)  # fmt: skip
NEW_TOKENS = 12


@dataclass(frozen=True)
class Case:
    """One way of asking.

    Attributes:
        layout: see the head of this file.
        prefix: prefix policy, as in `--model_args`.
        questions, documents, tokens: questions on each of so many documents of so many tokens of the model.
    """

    layout: str
    prefix: str
    questions: int = 16
    documents: int = 4
    tokens: int = 1400

    @property
    def what(self) -> str:
        """Its name in the table."""
        asked = f"{self.questions} questions x {self.documents} documents of {self.tokens:,} tokens"
        return f"{self.layout}, {self.prefix.replace(',', ' ')}: {asked}"


CASES = (
    Case("whole", "prefix=document", questions=4),
    Case("whole", "prefix=document"),
    Case("nested", "prefix=document", documents=2),
    Case("flat", "prefix=document", documents=2, tokens=700),
    Case("whole", "prefix=dynamic,prefix_length=256", documents=2),
)
QUICK_CASES = (Case("whole", "prefix=fixed,prefix_length=9", 3, 2, 60), Case("nested", "prefix=document", 4, 2, 60))


def documents(lm: Any, count: int, tokens: int) -> list[str]:
    """Texts of about `tokens` tokens of the model, cut from the country pages that ship with the package."""
    pages = dict.fromkeys(row["text"] for row in factbook_rows())
    ids = lm.tok_encode("\n".join(pages))[: count * tokens]
    return [lm.tok_decode(ids[start : start + tokens]) for start in range(0, count * tokens, tokens)]


def prompts(texts: list[str], questions: int, layout: str) -> list[Prompt]:
    """`questions` on each text."""
    asked = []
    for number in range(questions):
        stem = f"{QUESTIONS[number % len(QUESTIONS)]} ({number}):"
        for text in texts:
            half = layout == "nested" and number % 2
            document = text[: text.rfind(" ", 0, len(text) // 2)] if half else text
            before = f"{document}\n" if layout == "flat" else ""
            asked.append(Prompt(f"{before}{document}\n{stem}", len(before), len(before) + len(document), document))
    return asked


def answer(lm: Any, asked: list[Prompt], reuse: bool) -> tuple[list[str], dict[str, Any]]:
    """Answers, and the totals of the run."""
    lm.runtime.reset()
    lm._generator.shares = reuse and lm.engine.can_continue
    requests = [SimpleNamespace(args=(p, {"until": ["\n"], "max_gen_toks": NEW_TOKENS})) for p in asked]
    with patch.object(time, "perf_counter", time.process_time):  # what the model's clock reads: see measure.py
        answers = lm.generate_until(requests, disable_tqdm=True)
    return [str(answer) for answer in answers], lm.get_model_info()["jrt"]


def rows(options: Options) -> list[Row]:
    """A line for each case."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    found = []
    for case in QUICK_CASES if options.quick else CASES:
        lm = load_model("jrt_rnn", simple_parse_args_string(case.prefix), batch_size="auto")
        found.append(_compared(lm, case, options))
    return found


def _compared(lm: Any, case: Case, options: Options) -> Row:
    asked = prompts(documents(lm, case.documents, case.tokens), case.questions, case.layout)
    answers: dict[bool, list[str]] = {}
    tokens: dict[bool, int] = {}

    def timed(reuse: bool) -> float:
        answers[reuse], totals = answer(lm, asked, reuse)
        tokens[reuse] = totals["prompt_tokens_computed"]
        return totals["seconds"]

    timed(True)  # the first run of a shape is slower
    costs = side_by_side({"read once": lambda: timed(True), "read afresh": lambda: timed(False)}, options.repeats(3))
    if answers[True] != answers[False]:
        different = sum(a != b for a, b in zip(answers[True], answers[False], strict=True))
        raise AssertionError(f"{case.what}: {different} of {len(asked)} answers differ between reuse and none.")
    same = f"identical, {len(asked)} answers; {tokens[True]:,} tokens read, not {tokens[False]:,}"
    return row(case.what, costs, "read once", "read afresh", same, weights="trained", unit="s", scale=1)
