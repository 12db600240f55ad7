"""What reading a shared document once saves: many questions on each document, with and without reuse, side by side.

    python benchmarks/reuse.py [--model jrt_rnn] [--arguments prefix=document] [--questions 16] [--tokens 1400]

The same prompts are asked with `reuse=True` and `reuse=False`, in turns, so that other work on the machine disturbs
both alike. The answers must be identical. Prints, for each way of asking, the median over the rounds of the ratios:
tokens that went through the model and the model's seconds, without reuse over with reuse.

    whole     every question is on a whole document
    nested    half of the questions are on the first half of a document
"""

from __future__ import annotations

import argparse
import os
from statistics import median
from types import SimpleNamespace
from typing import Any

from jrt_lmeval.commands.in_process import load_model
from jrt_lmeval.data.shipped import factbook_rows
from jrt_lmeval.prompts import Prompt
from model_adapters.running.figures import machine

QUESTIONS = (
    "Area", "Population", "Capital", "Climate", "Terrain", "Coastline", "Languages", "Religions", "Government",
    "Budget", "Exports", "Imports", "Currency", "Airports", "Railways", "Waterways",
)  # fmt: skip


def documents(lm: Any, count: int, tokens: int) -> list[str]:
    """Texts of about `tokens` tokens of the model, cut from the country pages that ship with the package."""
    pages = dict.fromkeys(row["text"] for row in factbook_rows())
    ids = lm.tok_encode("\n".join(pages))[: count * tokens]
    return [lm.tok_decode(ids[start : start + tokens]) for start in range(0, count * tokens, tokens)]


def prompts(texts: list[str], questions: int, nested: bool) -> list[Prompt]:
    """`questions` on each text; with `nested` every other one is on its first half."""
    asked = []
    for number in range(questions):
        stem = f"\n{QUESTIONS[number % len(QUESTIONS)]} ({number}):"
        for text in texts:
            document = text[: text.rfind(" ", 0, len(text) // 2)] if nested and number % 2 else text
            asked.append(Prompt(document + stem, 0, len(document), document))
    return asked


def run(lm: Any, asked: list[Prompt], reuse: bool, new_tokens: int) -> tuple[list[str], dict[str, Any]]:
    """Answers and totals."""
    lm.runtime.reset()
    lm._generator.shares = reuse and lm.engine.can_continue
    requests = [SimpleNamespace(args=(p, {"until": ["\n"], "max_gen_toks": new_tokens})) for p in asked]
    answers = lm.generate_until(requests, disable_tqdm=True)
    return [str(answer) for answer in answers], lm.get_model_info()["jrt"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="jrt_rnn")
    parser.add_argument("--arguments", default="prefix=document", help="as --model_args of lm_eval")
    parser.add_argument("--documents", type=int, default=4)
    parser.add_argument("--questions", type=int, default=16, help="on each document")
    parser.add_argument("--tokens", type=int, default=1400, help="of a document, in tokens of the model")
    parser.add_argument("--new-tokens", type=int, default=12, help="of an answer, at most")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    arguments = dict(part.split("=", 1) for part in given.arguments.split(",") if part)
    lm = load_model(given.model, arguments)
    texts = documents(lm, given.documents, given.tokens)
    print(f"{given.model} {given.arguments}, {given.documents} documents of {given.tokens} tokens, {machine()}")
    print("questions  documents  tokens without  tokens with  fewer  model time")
    for questions in sorted({4, given.questions}):
        for nested in (False, True):
            asked = prompts(texts, questions, nested)
            ratios = []
            run(lm, asked, True, given.new_tokens)  # the first run of a shape is slower
            for number in range(given.rounds):
                order = (True, False) if number % 2 else (False, True)
                found = {reuse: run(lm, asked, reuse, given.new_tokens) for reuse in order}
                (apart, slow), (shared, fast) = found[False], found[True]
                if apart != shared:
                    different = sum(a != b for a, b in zip(apart, shared, strict=True))
                    raise SystemExit(f"{different} of {len(asked)} answers differ between reuse and none.")
                ratios.append(slow["seconds"] / fast["seconds"])
            before, after = slow["prompt_tokens_computed"], fast["prompt_tokens_computed"]
            name = "nested" if nested else "whole"
            print(
                f"{questions:9}  {name:9}  {before:14}  {after:11}  {before / after:4.1f}x  {median(ratios):9.1f}x",
                flush=True,
            )


if __name__ == "__main__":
    main()
