"""How the default `prefix_length` was chosen: recall on development documents by how much of them the prefix covers.

    python experiments/prefix_length.py [--arguments feature_map=mlp] [--questions 6]

The documents are the held-out sets `long` and `sheets` of `jrt_lmeval.training.heldout`: no test row, and nothing that
the suite's models were trained on. A line a prefix: `fixed` with a fraction of what comes before the question, then
the whole prompt and no prefix (`document` is `fixed` with 1.0). `outside` is the share of questions whose answer's last
copy begins after the prefix.
"""

from __future__ import annotations

import argparse
import os
import random
from dataclasses import dataclass
from itertools import islice
from types import SimpleNamespace
from typing import Any

from jrt_lmeval.answers import spans
from jrt_lmeval.markdown import markdown_table
from jrt_lmeval.prefix import prefix_policy
from jrt_lmeval.prompts import Parts, Prompt, build, layout_spec
from jrt_lmeval.runner import load_model
from jrt_lmeval.scoring import contains
from jrt_lmeval.stats import interval
from jrt_lmeval.training.heldout import QUESTIONS, SEED, SETS

LENGTHS = (0.6, 0.8, 0.9, 1.0)
LAYOUTS = ("once", "hier")
STOP = {"until": ["\n"], "max_gen_toks": 32}


@dataclass(frozen=True)
class Question:
    """A prompt, its answer, and the document that it is on."""

    prompt: Prompt
    answer: str
    document: str


def questions(name: str, layout: str, each: int) -> list[Question]:
    """The questions of a held-out set in a layout."""
    make, documents = SETS[name]
    rng, found = random.Random(f"{name}/{SEED}"), []
    for page in islice((page for page in make() if len(page.facts) >= 2), documents):
        for key, value in rng.sample(page.facts, min(each, len(page.facts))):
            stem = key[:1].upper() + key[1:]
            parts = Parts(page.text.strip("\n").strip(".") + ".", f"{stem}:", f"Information about {stem}. ")
            found.append(Question(build(parts, layout_spec({"layout": layout})), value, page.doc_id))
    return found


def measure(lm: Any, asked: list[Question], prefix: str, length: float | None) -> list[str]:
    """Recall with its interval by document, and the share of questions whose last copy is outside the prefix."""
    lm.policy = lm.runtime.policy = prefix_policy(prefix, prefix_length=length)
    requests = [SimpleNamespace(args=(question.prompt, STOP)) for question in asked]
    answers = lm.generate_until(requests, disable_tqdm=True)
    found = interval(
        [float(contains(answer, [question.answer])) for answer, question in zip(answers, asked, strict=True)],
        [question.document for question in asked],
    )
    outside = sum(_outside(lm, question, answer) for question, answer in zip(asked, answers, strict=True))
    return [f"{100 * found.mean:.1f} ± {100 * found.half:.1f}", f"{100 * outside / len(asked):.0f}"]


def _outside(lm: Any, question: Question, answer: Any) -> bool:
    prompt = question.prompt
    last = max((start for start, _ in spans([question.answer], prompt[: prompt.document_end])), default=0)
    return len(lm.tok_encode(prompt[:last])) >= answer.stats["jrt_prefix_tokens"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arguments", default="feature_map=mlp", help="as --model_args of lm_eval")
    parser.add_argument("--questions", type=int, default=QUESTIONS, help="on each document")
    given = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    lm = load_model("jrt_rnn", dict(part.split("=", 1) for part in given.arguments.split(",") if part))
    columns = [(name, layout) for name in ("long", "sheets") for layout in LAYOUTS]
    asked = {column: questions(*column, given.questions) for column in columns}
    settings = [*(("fixed", length) for length in LENGTHS), *((p, None) for p in ("full", "none"))]
    lines = []
    for prefix, length in settings:
        cells = [cell for column in columns for cell in measure(lm, asked[column], prefix, length)]
        lines.append([f"{prefix} {length}" if length else prefix, *cells])
        print(lines[-1], flush=True)
    header = ["prefix", *(word for name, layout in columns for word in (f"{name}, {layout}, %", "outside, %"))]
    print(markdown_table(header, lines), end="")
    print({" ".join(column): len(rows) for column, rows in asked.items()})


if __name__ == "__main__":
    main()
