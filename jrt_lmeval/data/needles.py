"""Needles in a haystack, as RULER defines them (arXiv 2404.06654), made without a network from text that ships.

A needle says the value of a key; it is hidden in a repeated sentence, in prose or among other needles, and the question
asks for the values of one key or of several. Draws are made in the order in which lm_eval's `ruler` makes them, so that
with its words and its prose the prompts are its prompts (docs/tasks/needles.md says what differs).
"""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jrt_lmeval.data.lists import LISTS
from jrt_lmeval.data.shipped import prose_rows
from jrt_lmeval.data.synthetic import knobs_of
from jrt_lmeval.errors import JRTError, one_of, whole_number
from jrt_lmeval.prompts.tokens import tokenizer_named
from jrt_lmeval.stats import EFFECTIVE

REPEATED = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
NEEDLE = "One of the special magic {kind} for {key} is: {value}."
OPENING = (
    "{Some} special magic {kind} {are} hidden within the following text. Make sure to memorize it. "
    "I will quiz you about the {kind} afterwards.\n"
)
QUESTION = "What {are} the special magic {kind} for {key} mentioned in the provided text?"
STEM = "The special magic {kind} for {key} mentioned in the provided text {are}"
ROOM = 128
"""Tokens that are kept free for the answer."""
DEPTHS = tuple(round(100 * step / 39) for step in range(40))
"""Where needles can stand in prose, in per cent of its sentences."""


@dataclass(frozen=True)
class Form:
    """One of RULER's eight tasks: `keys` are hidden with so many `values` each, and `queries` of them are asked for.

    The haystack is `repeat` (one sentence), `essay` (prose) or `needle`; keys and values are `words`, `numbers` or
    `uuids`.
    """

    haystack: str
    key: str = "words"
    value: str = "numbers"
    keys: int = 1
    values: int = 1
    queries: int = 1


FORMS = {
    "single_1": Form("repeat"),
    "single_2": Form("essay"),
    "single_3": Form("essay", value="uuids"),
    "multikey_1": Form("essay", keys=4),
    "multikey_2": Form("needle"),
    "multikey_3": Form("needle", key="uuids", value="uuids"),
    "multivalue": Form("essay", values=4),
    "multiquery": Form("essay", keys=4, queries=4),
}


@dataclass(frozen=True)
class Needles:
    """Knobs of the eight tasks: `--metadata '{"needles": {"lengths": [1024, 32768]}}'`.

    Attributes:
        lengths: tokens of a prompt that is read once and its answer, in the model's own tokens.
        documents: how many are drawn of each length, a question each.
        seed: of the draws of each length, to which the length is added.
        threshold: per cent of answers that a length must reach to count towards the effective length.
    """

    lengths: tuple[int, ...] = (1024, 2048, 4096)
    documents: int = 100
    seed: int = 0
    threshold: float = 100 * EFFECTIVE

    def __post_init__(self) -> None:
        if not isinstance(self.lengths, (list, tuple)) or not self.lengths:
            raise JRTError(f"needles.lengths must be a list such as [1024, 4096], not {self.lengths!r}.")
        for length in self.lengths:
            whole_number("each of needles.lengths", length, ROOM + 1)
        object.__setattr__(self, "lengths", tuple(sorted(set(self.lengths))))
        whole_number("needles.documents", self.documents, 1)
        whole_number("needles.seed", self.seed, 0)
        number = isinstance(self.threshold, (int, float)) and not isinstance(self.threshold, bool)
        if not number or not 0 <= self.threshold <= 100:
            raise JRTError(f"needles.threshold must be a number from 0 to 100, not {self.threshold!r}.")


def needles_of(metadata: Any) -> Needles:
    """The knobs that a task's metadata give; errors as those of `niah`."""
    return knobs_of(Needles, "needles", (metadata or {}).get("needles"))


def niah(form: str, **metadata: Any) -> dict[str, list[dict[str, Any]]]:
    """Rows of one of RULER's tasks, for `custom_dataset` of a task's YAML.

    Args:
        form: a name in `FORMS`.
        metadata: of the task: `needles`, a mapping with fields of `Needles`, and the name of the model's tokenizer as
            lm_eval's `ruler` looks for it: `tokenizer`, else `pretrained`, else `model`.

    Raises:
        JRTError: unknown form or knob (with the nearest valid one), a value out of its range, no tokenizer, or a length
            that leaves no room for the needles.
    """
    what, knobs = FORMS[one_of("form of needles", form, FORMS)], needles_of(metadata)
    names = (metadata.get(key) for key in ("tokenizer", "pretrained", "model"))
    tokenizer = next((name for name in names if name and isinstance(name, str)), None)
    if tokenizer is None:
        raise JRTError(
            "lengths of needles are counted in the model's tokens, and nothing says which tokenizer that is: give "
            '--metadata \'{"tokenizer": "NAME"}\', a folder or a name on the hub (gpt2 always works).'
        )
    by_length = []
    for length in knobs.lengths:
        # Each length has draws of its own: its rows depend on no other length, and no two lengths share their needles.
        rng, drawn = random.Random(knobs.seed + length), []
        units, step = _calibrated(rng, what, length, tokenizer)
        for number in range(knobs.documents):
            name = f"{form}-{knobs.seed}-{length}-{number}"
            row = _fitting(rng, what, length, tokenizer, units, step)
            drawn.append({"doc_id": name, "needle_length": length, **row})
        by_length.append(drawn)
    # In turn, so that the first rows, which --limit takes, are of all lengths.
    rows = [row for same_number in zip(*by_length, strict=True) for row in same_number]
    return {"test": rows}


def _calibrated(rng: random.Random, form: Form, length: int, tokenizer: str) -> tuple[int, int]:
    """How many units of haystack (words of prose, or lines) fill a length, and in which steps they were tried."""
    # As lm_eval, which however takes steps of 500 words in short prompts too: they leave as little as no haystack.
    step = (500 if form.haystack == "essay" else 25) if length >= 4096 else 25 if form.haystack == "essay" else 5
    fewest = max(form.keys, form.queries) * form.values
    units, total, of_one = max(step, fewest), 0, 0.0
    while total + ROOM < length:
        row = _drawn(rng, form, units)
        # Far from full nothing is counted: the draws alone must be lm_eval's.
        if not of_one or 1.1 * of_one * units + ROOM >= length:
            total = _tokens(_asked(row) + " ".join(row["answer"]), tokenizer)
            of_one = total / units
        units += step if total + ROOM <= length else -step
    return max(units, fewest), step


def _fitting(rng: random.Random, form: Form, length: int, tokenizer: str, units: int, step: int) -> dict[str, Any]:
    for tried in range(units, 0, -step):
        row = _drawn(rng, form, tried) if tried >= form.keys * form.values else None
        if row is not None and _tokens(_asked(row), tokenizer) + ROOM <= length:
            return row
    raise JRTError(f"needles.lengths: {length} tokens leave no room for the needles, the question and {ROOM} tokens.")


def _tokens(text: str, tokenizer: str) -> int:
    return len(tokenizer_named(tokenizer).encode(text))


def _asked(row: dict[str, Any]) -> str:
    """What RULER counts: everything but the words that the answer completes."""
    return f"{row['document']}\n{row['asked']}"


def _drawn(rng: random.Random, form: Form, units: int) -> dict[str, Any]:
    """A document with so many units of haystack, what is asked of it and the answers."""
    hidden: dict[str, list[str]] = {}
    for _ in range(max(form.keys, form.queries)):
        values = hidden.setdefault(_fresh(rng, form.key, hidden), [])
        values += [_word(rng, form.value) for _ in range(form.values)]
    needles = [_needle(form, key, value) for key, values in hidden.items() for value in values]
    random.Random(42).shuffle(needles)
    if form.haystack == "essay":
        sentences = _prose(units)
        depths = sorted(rng.sample(DEPTHS, len(needles)))
        places = [0, *(int(len(sentences) * (depth / 100)) for depth in depths), len(sentences)]
        parts = [" ".join(sentences[places[0] : places[1]])]
        for needle, first, last in zip(needles, places[1:-1], places[2:], strict=True):
            parts += [needle, " ".join(sentences[first:last])]
        context = " ".join(parts)
    else:
        lines = [REPEATED] * units
        if form.haystack == "needle":
            lines = [_needle(form, _fresh(rng, form.key, hidden), _word(rng, form.value)) for _ in range(units)]
        places = sorted(rng.sample(range(units), len(needles)), reverse=True)
        for place, needle in zip(places, needles, strict=True):
            lines.insert(place, needle)
        context = "\n".join(lines)
    keys = list(hidden)
    queries = [keys[place] for place in rng.sample(range(len(keys)), form.queries)]
    one = form.queries * form.values == 1
    words = {
        "kind": form.value[:-1] if one else form.value,
        "key": f"{', '.join(queries[:-1])}, and {queries[-1]}" if len(queries) > 1 else queries[0],
        "are": "is" if one else "are",
    }
    asked = QUESTION.format(**{**words, "are": "is" if one else "are all"})
    return {
        "document": OPENING.format(Some="A" if one else "Some", **words) + context,
        "asked": asked,
        "lead": asked + "\n",
        "question": f"{asked} {STEM.format(**words)}",
        "answer": [value for key in queries for value in hidden[key]],
    }


def _needle(form: Form, key: str, value: str) -> str:
    return NEEDLE.format(kind=form.value, key=key, value=value)


def _fresh(rng: random.Random, kind: str, taken: dict[str, Any]) -> str:
    """A key that no needle asked for has: RULER draws from so many words that two of a kind are rare, we do not."""
    while (key := _word(rng, kind)) in taken:
        pass
    return key


def _word(rng: random.Random, kind: str) -> str:
    if kind == "numbers":
        return str(rng.randint(10**6, 10**7 - 1))
    if kind == "uuids":
        return str(uuid.UUID(int=rng.getrandbits(128), version=4))
    return rng.choice(words())


@lru_cache(maxsize=1)
def words() -> tuple[str, ...]:
    """The keys that are words: an adjective and a noun, as in RULER, from lists of our own."""
    pairs = {f"{adjective}-{noun}".lower() for adjective in LISTS["adjectives"] for noun in LISTS["nouns"]}
    return tuple(sorted(pairs))


@lru_cache(maxsize=1)
def _sentences() -> tuple[tuple[str, ...], ...]:
    """The sentences of the running text that ships, in words."""
    from sentencex import segment

    text = " ".join(" ".join(row["text"] for row in prose_rows()).split())
    return tuple(words for sentence in segment("en", text) if (words := tuple(sentence.split())))


@lru_cache(maxsize=64)
def _prose(words: int) -> tuple[str, ...]:
    """The sentences of the first so many words of that text, the last one cut; at its end it starts again."""
    found: list[str] = []
    left = words
    while left > 0:
        for sentence in _sentences():
            if left > 0:
                found.append(" ".join(sentence[:left]))
                left -= len(sentence)
    return tuple(found)
