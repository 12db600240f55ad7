"""Makes the sample rows that ship with the package, from the test splits of the generators.

    python -m tools.make_samples swde fda
    python -m tools.make_samples all

A sample shows that a task runs; it is not the benchmark and its scores cannot be compared with published ones.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from jrt_lmeval.data.making.pages import generate_pages
from jrt_lmeval.data.rowfiles import write_rows
from jrt_lmeval.errors import unknown
from jrt_lmeval.paths import samples_dir
from jrt_lmeval.prompts.benchmarks import benchmark_of
from jrt_lmeval.prompts.tokens import count_tokens
from tools.clinical import generate_summaries
from tools.passages import COUNTING, READING, Question, article, clear, generate_passages, token_position

Row = dict[str, Any]

SEEDS = {
    "swde": 2000, "fda": 2001, "squadv2": 2002, "nq_512": 2003, "nq_1024": 2004, "nq_2048": 2005,
    "triviaqa": 2006, "drop": 2007, "swde_uniform": 2008,
}  # fmt: skip

SWDE_ROWS = 72
SWDE_TOKENS = (300, 1000)  # GPT-2 tokens of a page
SWDE_QUESTIONS = 6  # on each page
FDA_DOCUMENTS, FDA_QUESTIONS, FDA_TOKENS = 9, 8, (1000, 2000)
NQ_ARTICLES = 12
NQ_QUESTIONS = {512: 5, 1024: 5, 2048: 4}  # on each article
CONTEXTS, QUESTIONS = 24, 3  # of SQuAD, TriviaQA, DROP


def swde_rows(name: str) -> list[Row]:
    """Rows in the schema of `hazyresearch/based-swde-v2`, the same every time; `swde_uniform` has facts anywhere."""
    rng, anywhere = random.Random(SEEDS[name]), name == "swde_uniform"
    rows: list[Row] = []
    for page in generate_pages("test", SEEDS[name], facts=(8, 22), words=(150, 480), anywhere=anywhere):
        # Rows whose answer is a single character are dropped by the published window.
        facts = [fact for fact in page.facts if len(fact[1]) > 1]
        if len(facts) < SWDE_QUESTIONS or not SWDE_TOKENS[0] <= count_tokens(page.text) <= SWDE_TOKENS[1]:
            continue
        number = page.doc_id.rpartition("_")[2]
        joiner = "\n" if "\n" in page.text else " "
        for key, value in rng.sample(facts, SWDE_QUESTIONS):
            text = f"{page.text}{joiner}Summary of information above... {key}:"
            rows.append({"doc_id": page.doc_id, "file_name": f"{number}.htm", "key": key, "value": value, "text": text})
        if len(rows) >= SWDE_ROWS:
            return rows
    raise AssertionError("generate_pages never ends")


def fda_rows() -> list[Row]:
    """Rows in the schema of `hazyresearch/based-fda`, the same every time."""
    rng = random.Random(SEEDS["fda"])
    rows: list[Row] = []
    for page in islice(generate_summaries("test", SEEDS["fda"], FDA_TOKENS), FDA_DOCUMENTS):
        name = f"{dict(page.facts)['510(k) number']}.txt"
        for key, value in rng.sample(page.facts, FDA_QUESTIONS):
            text = f"{page.text} {key[0].upper()}{key[1:]}:"
            rows.append({"doc_id": page.doc_id, "file_name": name, "key": key, "value": value, "text": text})
    return rows


def squad_rows() -> list[Row]:
    """Rows in the schema of `hazyresearch/based-squad`, the same every time."""
    rng, passages = random.Random(SEEDS["squadv2"]), generate_passages("test", SEEDS["squadv2"], READING, (6, 9))
    rows: list[Row] = []
    for number in range(CONTEXTS):
        first, second = next(passages), next(passages)
        context = f"{first.text} {second.text}"
        title = first.title.replace(" ", "_")
        for question in rng.sample(clear(context, first.questions + second.questions), QUESTIONS):
            rows.append(
                {
                    "doc_id": f"{title}_p{number:03d}",
                    "text": f"{context} {question.stem}",
                    "value": question.answers[0],
                    "title": title,
                    "context": context,
                    "question": question.question,
                }
            )
    return rows


def _cloze_row(context: str, question: Question) -> Row:
    return {
        "context": context,
        "question": question.stem,
        "orig_question": question.question,
        "answers": list(question.answers),
    }


def nq_rows(tokens: int) -> list[Row]:
    """Rows in the schema of `hazyresearch/based_nq_512` and its kin, the same every time."""
    seed = SEEDS[f"nq_{tokens}"]
    rng, passages = random.Random(seed), generate_passages("test", seed, READING, (4, 8))
    rows: list[Row] = []
    for _ in range(NQ_ARTICLES):
        context, questions = article(rng, passages, tokens - rng.randint(1, 26))
        for question in questions[: NQ_QUESTIONS[tokens]]:
            position = token_position(context, question.answers[0])
            rows.append({**_cloze_row(context, question), "tok_pos": position})
    return rows


def triviaqa_rows() -> list[Row]:
    """Rows in the schema of `hazyresearch/based_triviaqa`, the same every time; half of the evidence has marks."""
    seed = SEEDS["triviaqa"]
    rng, passages = random.Random(seed), generate_passages("test", seed, READING, (5, 9))
    rows: list[Row] = []
    for number in range(CONTEXTS):
        parts = list(islice(passages, rng.randint(2, 3)))
        if number % 2:
            context = " ".join(f"[DOC] [TLE] {part.title} [PAR] {part.text}" for part in parts)
        else:
            context = "\n".join(f"{part.title}\n{part.text}" for part in parts)
        questions = clear(context, (question for part in parts for question in part.questions))
        for place, question in enumerate(rng.sample(questions, QUESTIONS)):
            rows.append({**_cloze_row(context, question), "doc_id": f"sample_{number:03d}_{place}"})
    return rows


def drop_rows() -> list[Row]:
    """Rows in the schema of `hazyresearch/based_drop`, the same every time; every second passage has two topics."""
    seed = SEEDS["drop"]
    rng, passages = random.Random(seed), generate_passages("test", seed, COUNTING, (7, 9))
    rows: list[Row] = []
    for number in range(CONTEXTS):
        parts = list(islice(passages, 1 + number % 2))
        context = " ".join(part.text for part in parts)
        questions = clear(context, (question for part in parts for question in part.questions))
        rows.extend(_cloze_row(context, question) for question in rng.sample(questions, QUESTIONS))
    return rows


MAKERS: dict[str, Callable[[], list[Row]]] = {
    "swde": partial(swde_rows, "swde"),
    "swde_uniform": partial(swde_rows, "swde_uniform"),
    "fda": fda_rows,
    "squadv2": squad_rows,
    "nq_512": partial(nq_rows, 512),
    "nq_1024": partial(nq_rows, 1024),
    "nq_2048": partial(nq_rows, 2048),
    "triviaqa": triviaqa_rows,
    "drop": drop_rows,
}
"""Name of a recipe -> what makes the rows of its sample."""


def write_sample(name: str, folder: Path) -> Path:
    """Make one sample file in `folder`.

    Raises:
        JRTError: there is no sample of that name.
    """
    if name not in MAKERS:
        raise unknown("sample", name, MAKERS)
    file = folder / str(benchmark_of(name).sample)
    write_rows(file, MAKERS[name]())
    return file


if __name__ == "__main__":
    for wanted in MAKERS if sys.argv[1:] in ([], ["all"]) else sys.argv[1:]:
        print(write_sample(wanted, samples_dir()))
