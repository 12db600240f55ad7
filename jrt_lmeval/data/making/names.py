"""NameIndex and MiddleMatch: lists of names of which one is asked for by its place or by its neighbours.

They are the two made tasks of "Prompt Repetition Improves Non-Reasoning LLMs" (arXiv 2512.14982), where repeating the
whole prompt helps most. Each row can be asked once, twice, or once after periods that make it as long as twice.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from jrt_lmeval.data.making.values import pool
from jrt_lmeval.data.synthetic import knobs_of
from jrt_lmeval.errors import whole_number
from jrt_lmeval.prompts.tokens import count_tokens, fill

IGNORE = "Ignore these periods, they mean nothing:"


@dataclass(frozen=True)
class NameIndex:
    """Knobs: `names` in a list, all different; the place asked for, from 1 (0 draws one for each list); lists; seed."""

    names: int = 50
    index: int = 25
    documents: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        whole_number("name_index.names", self.names, 1, 1000)
        whole_number("name_index.index", self.index, 0, self.names)
        whole_number("name_index.documents", self.documents, 1)


@dataclass(frozen=True)
class MiddleMatch:
    """Knobs: `names` in a list, which are drawn from so many `distinct` ones; lists; seed."""

    names: int = 40
    distinct: int = 10
    documents: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        whole_number("middle_match.names", self.names, 3, 1000)
        whole_number("middle_match.distinct", self.distinct, 3, self.names)
        whole_number("middle_match.documents", self.documents, 1)


def name_index(**metadata: Any) -> dict[str, list[dict[str, Any]]]:
    """Rows of NameIndex, for `custom_dataset` of a task's YAML: which name is the 25th of 50?

    Args:
        metadata: of the task; `name_index`, a mapping with fields of `NameIndex`, is what is read of it.

    Raises:
        JRTError: unknown knob (with the nearest valid one), or a value out of its range.
    """
    knobs = knobs_of(NameIndex, "name_index", metadata.get("name_index"))
    rng, rows = random.Random(f"name_index {knobs.seed}"), []
    for number in range(knobs.documents):
        names, place = _names(rng, knobs.names), knobs.index or rng.randint(1, knobs.names)
        document = f"Here's a list of names: {', '.join(names)}."
        question = f"What's the {_ordinal(place)} name?"
        rows.append(_row(f"name-index-{knobs.seed}-{number}", document, question, names[place - 1]))
    return {"test": rows}


def middle_match(**metadata: Any) -> dict[str, list[dict[str, Any]]]:
    """Rows of MiddleMatch, likewise: which single name stands between two others, once or more often?"""
    knobs = knobs_of(MiddleMatch, "middle_match", metadata.get("middle_match"))
    rng, rows = random.Random(f"middle_match {knobs.seed}"), list[dict[str, Any]]()
    while len(rows) < knobs.documents:
        known = _names(rng, knobs.distinct)
        names = [rng.choice(known) for _ in range(knobs.names)]
        between: dict[tuple[str, str], set[str]] = {}
        for (first, middle), (_, last) in pairwise(pairwise(names)):
            between.setdefault((first, last), set()).add(middle)
        alone = [ends for ends, middles in between.items() if len(middles) == 1 and len({*ends, *middles}) == 3]
        if not alone:
            continue
        first, last = rng.choice(alone)
        document = f"Here's a list (potentially with repetitions) of names: {', '.join(names)}."
        question = f"What is the single name that appears right between {first} and {last}?"
        (answer,) = between[first, last]
        rows.append(_row(f"middle-match-{knobs.seed}-{len(rows)}", document, question, answer))
    return {"test": rows}


def _row(name: str, document: str, question: str, answer: str) -> dict[str, Any]:
    asked = f"{question} Answer:"
    once = f"{document} {asked}"
    twice = count_tokens(f"{once}\n{once}")
    periods = IGNORE + fill(IGNORE, " ." * twice, f"\n{once}", twice)
    row = {"doc_id": name, "document": document, "question": asked, "lead": f"{question} ", "answer": answer}
    return {**row, "periods": periods}


def _names(rng: random.Random, count: int) -> list[str]:
    """Different names, each a first and a last one; none is part of another."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[f"{rng.choice(pool('first', 'test'))} {rng.choice(pool('last', 'test'))}"] = None
    return list(found)


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
