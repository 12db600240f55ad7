"""What reading a shared document once saves: many questions on each document, with and without reuse, side by side.

    python -m benchmarks --only reuse

The same prompts are asked of the shipped model with reuse and without, in turns; the answers must be identical. A line
gives the model's seconds, and beside them how many tokens went through the model.

    whole     every question is on a whole document
    flat      the document twice, as `lead: false` writes it

The document twice after a question of its own, as published, shares nothing and costs the same either way.
"""

from __future__ import annotations

import os
import time
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from benchmarks.measure import Row, rounds, row, side_by_side
from jrt_lmeval.data.shipped import factbook_rows
from jrt_lmeval.prompts import Prompt
from jrt_lmeval.runner import load_model

QUESTIONS = (
    "Area", "Population", "Capital", "Climate", "Terrain", "Coastline", "Languages", "Religions", "Government",
    "Budget", "Exports", "Imports", "Currency", "Airports", "Railways", "Waterways",
)  # fmt: skip
SIZES = {"whole": (4, 1400), "flat": (2, 700)}
"""Layout -> how many documents, and how many tokens of the model each has."""
QUICK_SIZES, QUICK_QUESTIONS = dict.fromkeys(SIZES, (2, 80)), QUESTIONS[:3]
NEW_TOKENS = 12


def prompts(lm: Any, layout: str, questions: tuple[str, ...], documents: int, tokens: int) -> list[Prompt]:
    """The questions on each document, which are cut from the country pages that ship with the package."""
    pages = dict.fromkeys(row["text"] for row in factbook_rows())
    ids = lm.tok_encode("\n".join(pages))[: documents * tokens]
    asked = []
    for number, stem in enumerate(questions):
        for start in range(0, documents * tokens, tokens):
            document = lm.tok_decode(ids[start : start + tokens])
            before = f"{document}\n" if layout == "flat" else ""
            asked.append(
                Prompt(f"{before}{document}\n{stem} ({number}):", len(before), len(before) + len(document), document)
            )
    return asked


def answer(lm: Any, asked: list[Prompt], reuse: bool) -> tuple[list[str], dict[str, Any]]:
    """Answers, and the totals of the run."""
    lm.runtime.reset()
    lm._generator.shares = reuse and lm.engine.can_continue
    requests = [SimpleNamespace(args=(p, {"until": ["\n"], "max_gen_toks": NEW_TOKENS})) for p in asked]
    with patch.object(time, "perf_counter", time.process_time):  # what the model's clock reads: see measure.py
        answers = lm.generate_until(requests, disable_tqdm=True)
    return [str(answer) for answer in answers], lm.get_model_info()["jrt"]


def rows(quick: bool) -> list[Row]:
    """A line for each layout."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    lm = load_model("jrt_rnn", {"prefix": "document"}, batch_size="auto")
    return [_compared(lm, layout, quick) for layout in SIZES]


def _compared(lm: Any, layout: str, quick: bool) -> Row:
    documents, tokens = (QUICK_SIZES if quick else SIZES)[layout]
    questions = QUICK_QUESTIONS if quick else QUESTIONS
    asked = prompts(lm, layout, questions, documents, tokens)
    answers: dict[bool, list[str]] = {}
    read: dict[bool, int] = {}

    def timed(reuse: bool) -> float:
        answers[reuse], totals = answer(lm, asked, reuse)
        read[reuse] = totals["prompt_tokens_computed"]
        return totals["seconds"]

    timed(True)  # the first run of a shape is slower
    costs = side_by_side({"read once": lambda: timed(True), "read afresh": lambda: timed(False)}, rounds(quick))
    what = f"{layout}: {len(questions)} questions x {documents} documents of {tokens:,} tokens"
    if answers[True] != answers[False]:
        different = sum(a != b for a, b in zip(answers[True], answers[False], strict=True))
        raise AssertionError(f"{what}: {different} of {len(asked)} answers differ between reuse and none.")
    same = f"identical, {len(asked)} answers; {read[True]:,} tokens read, not {read[False]:,}"
    return row(what, costs, same, unit="s", scale=1)
