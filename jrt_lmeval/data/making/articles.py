"""What invented articles say: for each topic its slots, its sentences, and the questions that a sentence answers.

They stand in `articles.txt`: under `== topic` the slots as `name=kind; name=kind`, then one sentence a line, each
followed by its questions, indented, as `slot | words that the answer completes | question`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from jrt_lmeval.data.making.values import MONTHS, Maker, choice
from jrt_lmeval.data.making.vocab import words

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
    text = files("jrt_lmeval.data.making").joinpath("articles.txt").read_text(encoding="utf-8")
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
