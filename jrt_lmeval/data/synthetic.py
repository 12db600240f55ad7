"""Tasks whose answers are known because they are made: multi-query associative recall and set disjointness.

Both come from the literature on recurrent models: multi-query associative recall (MQAR) as zoology defines it
(arXiv 2312.04927), set disjointness as JRT does (arXiv 2407.05483). They hold no words, so that nothing can be answered
from what a model has learned about the world. The same draws are written as text for tokenised models (`mqar`,
`set_disjointness`: what the YAML files name) and as token ids for small models trained on them
(experiments/capacity.py).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import product
from typing import Any, TypeVar, cast

from jrt_lmeval.errors import JRTError, one_of, unknown, whole_number

NUMBERS = tuple(str(number) for number in range(100, 1000))
"""How keys, and elements of sets, are written."""
CODES = tuple("".join(pair) for pair in product("BCDFGHJKLMNPQRSTVWXZ", repeat=2))
"""How values are written: two capital consonants, which stand in no word and in no other value."""
OTHERS = tuple("".join(letters) for letters in product("aeiou", repeat=3))
"""How symbols are written that are neither key nor value: three vowels, in which no value stands."""
NAMED, ORDERS = ("one", "all"), ("small_first", "large_first")


@dataclass(frozen=True)
class MQAR:
    """Knobs of multi-query associative recall.

    Attributes:
        facts: pairs of a key and its value in a document; keys are distinct in it, and so are values.
        questions: keys asked for on each document, a row each.
        named: whether the lead names the `one` key that the row asks for, or `all` keys asked for on its document.
        distance: other symbols between the last fact and the question.
        keys, values: size of the vocabularies that both are drawn from.
        documents: how many are drawn.
        seed: of the draws.
    """

    facts: int = 16
    questions: int = 4
    named: str = "one"
    distance: int = 0
    keys: int = len(NUMBERS)
    values: int = len(CODES)
    documents: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        whole_number("mqar.keys", self.keys, 1, len(NUMBERS))
        whole_number("mqar.values", self.values, 1, len(CODES))
        whole_number("mqar.facts", self.facts, 1, min(self.keys, self.values))
        whole_number("mqar.questions", self.questions, 1, self.facts)
        whole_number("mqar.distance", self.distance, 0)
        whole_number("mqar.documents", self.documents, 1)
        one_of("mqar.named", self.named, NAMED)


@dataclass(frozen=True)
class SetDisjointness:
    """Knobs of set disjointness: two sets that have one element in common, which is the answer.

    Attributes:
        small, large: elements of either set.
        order: which of them is read first.
        vocabulary: how many elements there are to draw from.
        documents: how many are drawn, a row each.
        seed: of the draws.
    """

    small: int = 4
    large: int = 32
    order: str = "large_first"
    vocabulary: int = len(NUMBERS)
    documents: int = 400
    seed: int = 0

    def __post_init__(self) -> None:
        whole_number("set_disjointness.vocabulary", self.vocabulary, 1, len(NUMBERS))
        whole_number("set_disjointness.small", self.small, 1, self.large)
        whole_number("set_disjointness.large", self.large, 1, self.vocabulary - self.small + 1)
        whole_number("set_disjointness.documents", self.documents, 1)
        one_of("set_disjointness.order", self.order, ORDERS)


def draw_facts(rng: random.Random, knobs: MQAR) -> tuple[list[int], list[int], list[int]]:
    """Keys and values of a document, pair by pair, and the places of the pairs that are asked for."""
    keys = rng.sample(range(knobs.keys), knobs.facts)
    values = rng.sample(range(knobs.values), knobs.facts)
    return keys, values, rng.sample(range(knobs.facts), knobs.questions)


def draw_sets(rng: random.Random, knobs: SetDisjointness) -> tuple[list[int], list[int], int]:
    """The small and the large set, each in the order in which it is read, and the one element that is in both."""
    elements = rng.sample(range(knobs.vocabulary), knobs.small + knobs.large - 1)
    small, large = elements[: knobs.small], elements[knobs.small :]
    common = rng.choice(small)
    large.insert(rng.randrange(knobs.large), common)
    return small, large, common


def mqar(**metadata: Any) -> dict[str, list[dict[str, Any]]]:
    """Rows of multi-query associative recall, for `custom_dataset` of a task's YAML.

    A document is `482 = QF, 117 = PB, ...`, a question `482 =`, its answer `QF`, a lead `482 = ?`.

    Args:
        metadata: of the task; `mqar`, a mapping with fields of `MQAR`, is what is read of it.

    Raises:
        JRTError: unknown knob (with the nearest valid one), or a value out of its range.
    """
    knobs = knobs_of(MQAR, "mqar", metadata.get("mqar"))
    rng, rows = random.Random(f"mqar {knobs.seed}"), []
    for number in range(knobs.documents):
        keys, values, asked = draw_facts(rng, knobs)
        others = [rng.choice(OTHERS) for _ in range(knobs.distance)]
        pairs = [f"{NUMBERS[key]} = {CODES[value]}" for key, value in zip(keys, values, strict=True)]
        leads = [f"{NUMBERS[keys[place]]} = ? " for place in asked]
        for place, lead in zip(asked, leads, strict=True):
            rows.append(
                {
                    "doc_id": f"mqar-{knobs.seed}-{number}",
                    "document": ", ".join([*pairs, *others]) + ".",
                    "lead": lead if knobs.named == "one" else "".join(leads),
                    "question": f"{NUMBERS[keys[place]]} =",
                    "answer": CODES[values[place]],
                }
            )
    return {"test": rows}


def set_disjointness(**metadata: Any) -> dict[str, list[dict[str, Any]]]:
    """Rows of set disjointness, for `custom_dataset` of a task's YAML.

    A document is `A: 482 117. B: 903 117 ...`, the question `In both A and B:`, the answer the element in both.

    Args:
        metadata: of the task; `set_disjointness`, a mapping with fields of `SetDisjointness`, is what is read of it.

    Raises:
        JRTError: unknown knob (with the nearest valid one), or a value out of its range.
    """
    knobs = knobs_of(SetDisjointness, "set_disjointness", metadata.get("set_disjointness"))
    rng, rows = random.Random(f"set_disjointness {knobs.seed}"), []
    for number in range(knobs.documents):
        small, large, common = draw_sets(rng, knobs)
        sets = (small, large) if knobs.order == "small_first" else (large, small)
        first, second = (" ".join(NUMBERS[element] for element in elements) for elements in sets)
        rows.append(
            {
                "doc_id": f"set-disjointness-{knobs.seed}-{number}",
                "document": f"A: {first}. B: {second}.",
                "lead": "Which number is in both A and B? ",
                "question": "In both A and B:",
                "answer": NUMBERS[common],
            }
        )
    return {"test": rows}


Knobs = TypeVar("Knobs")


def knobs_of(kind: type[Knobs], name: str, given: Any) -> Knobs:
    """The knobs that a block of a task's metadata gives.

    Args:
        kind: their dataclass, which checks their values.
        name: of the block, for messages.
        given: the block; None for defaults.

    Raises:
        JRTError: no mapping, an unknown knob (with the nearest valid one), or a value out of its range.
    """
    if not isinstance(given or {}, Mapping):
        raise JRTError(f"the {name} block must be a mapping of its knobs, not {given!r}.")
    names = [field.name for field in fields(cast(Any, kind))]
    for key in given or {}:
        if key not in names:
            raise unknown(f"key of the {name} block", str(key), names)
    return kind(**(given or {}))
