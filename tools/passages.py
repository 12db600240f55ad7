"""Invented passages with questions, in the forms of SQuAD, Natural Questions, TriviaQA and DROP.

Every answer stands literally in its passage and completes a cloze stem, as in the published sets. What articles say is
in `articles.txt`: under `== topic` the slots as `name=kind; name=kind`, then one sentence a line, each followed by the
questions that it answers, indented, as `slot | words that the answer completes | question`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jrt_lmeval.data.lists import words
from jrt_lmeval.data.making.values import MONTHS, SPLITS, Maker, Split, choice
from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.prompts.tokens import count_tokens, gpt2_tokenizer

READING = ("town", "engineer", "bridge", "company", "expedition", "novel", "festival", "railway")
COUNTING = ("game", "census", "siege")
"""Topics full of dates and counts."""


@dataclass(frozen=True)
class Ask:
    """A question: the slot that answers it, the words it completes, and the question itself."""

    slot: str
    stem: str
    question: str


@dataclass(frozen=True)
class Sentence:
    text: str
    asks: tuple[Ask, ...]


@dataclass(frozen=True)
class Topic:
    """Slots are (name, kind): a kind is one of `KINDS`, a method of `Maker` or `slot+least..most` years on."""

    slots: tuple[tuple[str, str], ...]
    sentences: tuple[Sentence, ...]


KINDS: dict[str, Callable[[Maker], str]] = {
    "since": lambda m: str(m.rng.randint(1790, 1890)),
    "day": lambda m: f"{m.rng.randint(1, 28)} {m.rng.choice(MONTHS)}",
    "month": choice(";".join(MONTHS)),
    "few": lambda m: str(m.rng.randint(11, 48)),
    "some": lambda m: str(m.rng.randint(51, 940)),
    "many": lambda m: f"{m.rng.randint(1100, 98000):,}",
    "lots": lambda m: f"{m.rng.randint(100000, 990000):,}",
    "share": lambda m: f"{m.rng.randint(1, 40)}.{m.rng.randint(1, 9)}%",
    "sum": lambda m: f"${m.rng.randint(11, 990):,},000",
    "name": lambda m: m.word("town"),
    "surname": lambda m: m.word("last"),
    "brand": lambda m: m.word("brand"),
    "noun": lambda m: m.word("noun"),
    "team": lambda m: f"{m.word('town')} {m.word('noun')}s",
    "work": lambda m: f"The {m.word('noun')} of {m.word('town')}",
    "trade": choice("tanner;surveyor;miller;shipwright;printer;clockmaker;merchant;schoolteacher;apothecary"),
    "ware": choice("ploughs;telescopes;typewriters;sewing machines;barometers;bicycles;pumps;locks"),
    "material": choice("granite;wrought iron;sandstone;oak;limestone;steel;brick"),
    "rock": choice("basalt;slate;chalk;gneiss;shale;schist"),
    "instrument": choice("harp;cello;concertina;trumpet;clarinet;zither;bagpipe"),
    "language": choice("Danish;Hungarian;Portuguese;Finnish;Greek;Polish;Korean;Turkish"),
    "illness": choice("pneumonia;typhoid fever;influenza;malaria;scarlet fever"),
}


@cache
def topics() -> dict[str, Topic]:
    """All topics by name: those of `READING` and of `COUNTING`."""
    text = Path(__file__).with_name("articles.txt").read_text(encoding="utf-8")
    blocks = (block.split("\n") for block in text.removeprefix("== ").rstrip().split("\n\n== "))
    return {name: _topic(slots, lines) for name, slots, *lines in blocks}


def _topic(slots: str, lines: list[str]) -> Topic:
    pairs = (part.partition("=") for part in words(slots))
    sentences: list[Sentence] = []
    for line in lines:
        if line.startswith(" "):
            last = sentences.pop()
            slot, stem, question = (part.strip() for part in line.split(" | "))
            sentences.append(Sentence(last.text, (*last.asks, Ask(slot, stem, question))))
        else:
            sentences.append(Sentence(line, ()))
    return Topic(tuple((slot.strip(), kind) for slot, _, kind in pairs), tuple(sentences))


_LATER = re.compile(r"(\w+)\+(\d+)\.\.(\d+)")
_TRIES = 200  # a value that another slot of its article has is drawn again


@dataclass(frozen=True)
class Question:
    """The words that the answer completes, the question itself, and the accepted answers, the literal one first."""

    stem: str
    question: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Passage:
    """An article of one topic: title, text, questions in the order of the text."""

    title: str
    text: str
    questions: tuple[Question, ...]


def _drawn(maker: Maker, topic: Topic) -> dict[str, str]:
    """A value for every slot, none inside another, so that each answer is clear."""
    values: dict[str, str] = {}
    for slot, kind in topic.slots:
        later = _LATER.fullmatch(kind)
        for _ in range(_TRIES):
            if later:
                value = str(int(values[later[1]]) + maker.rng.randint(int(later[2]), int(later[3])))
            else:
                value = KINDS[kind](maker) if kind in KINDS else getattr(maker, kind)()
            if not any(value in other or other in value for other in values.values()):
                break
        values[slot] = value
    return values


def _accepted(kind: str, value: str) -> tuple[str, ...]:
    """The value as written, then other ways to say it."""
    also: list[str] = []
    if kind == "person":
        also = [value.split(" ")[-1]]
    elif kind in ("many", "lots"):
        also = [value.replace(",", "")]
    elif kind == "company":
        also = [re.sub(r" (Inc\.|LLC|Ltd\.|Group|& Sons|Partners|Corporation|GmbH|Company|Holdings)$", "", value)]
    elif kind == "day":
        day, month = value.split(" ")
        also = [f"{month} {day}"]
    elif kind in ("title", "work"):
        also = [value.removeprefix("The ")]
    return tuple(dict.fromkeys((value, *also)))


def _title(name: str, values: dict[str, str]) -> str:
    endings = {"bridge": " Bridge", "company": " Works", "expedition": " Expedition", "festival": " Festival"}
    endings |= {"railway": " Line", "census": " County"}
    if name == "game":
        return f"{values['home']} and {values['away']}"
    return ("Siege of " if name == "siege" else "") + values["name"] + endings.get(name, "")


def _passage(maker: Maker, name: str, sentences: int) -> Passage:
    """The first sentence of a topic and up to `sentences - 1` of the others, in their order."""
    topic = topics()[name]
    values = _drawn(maker, topic)
    others = range(1, len(topic.sentences))
    chosen = [0, *sorted(maker.rng.sample(others, min(sentences - 1, len(others))))]
    kinds = dict(topic.slots)
    questions = tuple(
        Question(ask.stem.format(**values), ask.question.format(**values), _accepted(kinds[ask.slot], values[ask.slot]))
        for place in chosen
        for ask in topic.sentences[place].asks
    )
    text = " ".join(topic.sentences[place].text.format(**values) for place in chosen)
    return Passage(_title(name, values), text, questions)


def generate_passages(
    split: Split, seed: int, topics: tuple[str, ...] = (*READING, *COUNTING), sentences: tuple[int, int] = (5, 8)
) -> Iterator[Passage]:
    """An endless stream of passages; the same arguments give the same passages on every machine.

    Args:
        split: `"train"` or `"test"`; proper names of the two are disjoint.
        seed: any integer.
        topics: what they are about.
        sentences: least and most sentences; a sentence has about 25 GPT-2 tokens.

    Raises:
        JRTError: for an unknown split or topic, or an empty range.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    for topic in topics:
        if topic not in (*READING, *COUNTING):
            raise unknown("topic", topic, (*READING, *COUNTING))
    if not 1 <= sentences[0] <= sentences[1]:
        raise JRTError(f"generate_passages: sentences={sentences} must be (least, most) with 1 <= least <= most")
    return _passages(split, seed, topics, sentences)


def _passages(split: Split, seed: int, topics: tuple[str, ...], sentences: tuple[int, int]) -> Iterator[Passage]:
    number = 0
    while True:
        rng = random.Random(f"passage/{split}/{seed}/{number}")
        # Topics in turn, so that each is as frequent as the others.
        yield _passage(Maker(rng, split), topics[number % len(topics)], rng.randint(*sentences))
        number += 1


def clear(text: str, questions: Iterable[Question]) -> tuple[Question, ...]:
    """Those questions whose answer stands in the text exactly once, so that its place is no matter of chance."""
    return tuple(question for question in questions if text.count(question.answers[0]) == 1)


def article(rng: random.Random, passages: Iterator[Passage], tokens: int) -> tuple[str, tuple[Question, ...]]:
    """Passages one a line, each as `title. text`, to `tokens` GPT-2 tokens; the last is cut short.

    Returns:
        The text and its clear questions, in random order.
    """
    lines: list[str] = []
    questions: list[Question] = []
    while count_tokens("\n".join(lines)) < tokens:
        passage = next(passages)
        lines.append(f"{passage.title}. {passage.text}")
        questions.extend(passage.questions)
    encoded = gpt2_tokenizer().encode("\n".join(lines), add_special_tokens=False)
    text = "\n".join(lines)[: encoded.offsets[tokens - 1][1]].rstrip()
    found = clear(text, questions)
    return text, tuple(rng.sample(found, len(found)))


def token_position(text: str, answer: str) -> int:
    """GPT-2 tokens of `text` in front of the first place where `answer` stands."""
    return count_tokens(text[: text.index(answer)])
