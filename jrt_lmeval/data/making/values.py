"""Invented names and values: what can stand behind a key on a web page.

Proper names are split for good into training and test names. A name belongs to the test split when a checksum of its
spelling says so, so no list has to be kept in two halves and a name can never stand in both. Names are composed of
parts, which gives thousands: too many for a small model to learn.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from jrt_lmeval.errors import unknown

Split = Literal["train", "test"]
SPLITS = ("train", "test")
TEST_SHARE = 8  # one name in eight is a test name


def words(text: str) -> tuple[str, ...]:
    """The entries of a list written as text: between `;` if there are any, else between spaces."""
    return tuple(text.split(";" if ";" in text else None))


def read_lists(file: str) -> dict[str, Any]:
    """A YAML file beside this module, in which a text stands for the list of its words."""
    content = yaml.safe_load((Path(__file__).parent / file).read_text(encoding="utf-8"))
    return {name: words(entry) if isinstance(entry, str) else entry for name, entry in content.items()}


LISTS = read_lists("words.yaml")
"""Name -> words or phrases."""

STATES, MONTHS = LISTS["states"], LISTS["months"]
_TABLES: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    **{kind: (LISTS[f"{kind} starts"], LISTS[f"{kind} ends"]) for kind in ("first", "last", "town", "brand")},
    "noun": (LISTS["nouns"], ("",)),
}


def in_split(name: str, split: Split) -> bool:
    """Whether a single-word proper name, in any letter case, may be used in `split`."""
    return (zlib.crc32(name.lower().encode()) % TEST_SHARE == 0) == (split == "test")


@cache
def pool(kind: str, split: Split) -> tuple[str, ...]:
    """All single-word names of one kind (`first`, `last`, `town`, `brand`, `noun`) that belong to `split`.

    Raises:
        JRTError: for an unknown kind or split.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if kind not in _TABLES:
        raise unknown("kind of name", kind, _TABLES)
    starts, ends = _TABLES[kind]
    names = (start + end for start in starts for end in ends)
    return tuple(sorted({name for name in names if len(name) > 3 and in_split(name, split)}))


class Maker:
    """Draws values for one page; `rng` and the name pools of `split` are all it depends on."""

    def __init__(self, rng: random.Random, split: Split) -> None:
        self.rng = rng
        self.split = split

    def word(self, kind: str) -> str:
        return self.rng.choice(pool(kind, self.split))

    def first(self) -> str:
        return self.word("first")

    def last(self) -> str:
        roll = self.rng.random()
        if roll < 0.04:
            return f"{self.word('last')}-{self.word('last')}"
        return ("O'" if roll < 0.07 else "Mc" if roll < 0.09 else "de " if roll < 0.1 else "") + self.word("last")

    def person(self) -> str:
        middle = f" {self.rng.choice('ABCDEFGHJKLMNPRSTW')}." if self.rng.random() < 0.15 else ""
        return f"{self.first()}{middle} {self.last()}"

    def people(self) -> str:
        return self.rng.choice((", ", " | ", " and ")).join(
            self.person() for _ in range(self.rng.choice((1, 1, 1, 2, 3)))
        )

    def town(self) -> str:
        lead = self.rng.choice(("", "", "", "", "", "Port ", "Mount ", "Fort ", "New ", "Lake ", "St. "))
        return lead + self.word("town")

    def place(self) -> str:
        return f"{self.town()}, {self.rng.choice(STATES)}"

    def address(self) -> str:
        street = self.rng.choice(("Street", "Road", "Avenue", "Drive", "Lane", "Boulevard", "Way"))
        return (
            f"{self.rng.randint(1, 9899)} {self.word('town')} {street}, {self.place()} {self.rng.randint(10000, 99999)}"
        )

    def company(self) -> str:
        name = self.rng.choice((self.word("brand"), self.word("last"), f"{self.word('last')} {self.word('brand')}"))
        return f"{name} {self.rng.choice(LISTS['company suffixes'])}"

    def studio(self) -> str:
        kind = self.rng.choice(("Pictures", "Films", "Studios", "Entertainment", "Productions", "Cinema", "Media"))
        return f"{self.rng.choice((self.word('brand'), self.word('town'), self.word('last')))} {kind}"

    def title(self) -> str:
        adjective, noun = self.rng.choice(LISTS["adjectives"]), self.word("noun")
        return self.rng.choice(
            (
                f"The {adjective} {noun}",
                f"{adjective} {noun}",
                f"The {noun} of {self.word('town')}",
                f"{self.first()} and the {adjective} {noun}",
                f"A {noun} for {self.first()}",
                f"The {self.last()} {noun}",
                f"{noun} in {self.word('town')}",
                f"The {adjective} {noun} {self.rng.choice(('II', 'III', 'Returns'))}",
            )
        )

    def school(self) -> str:
        kind = self.rng.choice(LISTS["schools"])
        name = self.word(self.rng.choice(("town", "last")))
        return self.rng.choice(
            (
                f"University of {name}",
                f"{name} {kind}",
                f"{name} {kind}",
                f"{self.first()} {name} {kind}",
                f"{self.rng.choice(STATES)} {name} {kind}",
            )
        )

    def product(self) -> str:
        r = self.rng
        return f"{self.word('brand')} {r.choice('ABCDEFGHKLMNPQRSTVXZ')}{r.choice(('', '-', ' '))}{r.randint(2, 9900)}"

    def venue(self) -> str:
        kind = self.rng.choice(
            ("Bistro", "Grill", "Kitchen", "Cafe", "Inn", "Tavern", "House", "Diner", "Lodge", "Hotel")
        )
        return self.rng.choice((f"{self.first()}'s {kind}", f"The {self.word('town')} {kind}", f"{self.last()} {kind}"))

    def url(self) -> str:
        r = self.rng
        name = self.word(r.choice(("brand", "town", "last"))).lower()
        start = r.choice(("www.", "www.", "http://www.", "http://"))
        return f"{start}{name}{r.choice(('', r.randint(1, 99)))}.{r.choice(LISTS['domains of the web'])}"

    def email(self) -> str:
        who = self.rng.choice(("info", "office", "admissions", "hello", self.first().lower()))
        return f"{who}@{self.word('brand').lower()}.{self.rng.choice(LISTS['domains of the web'])}"

    def phone(self) -> str:
        a, b, c = self.rng.randint(201, 989), self.rng.randint(200, 999), self.rng.randint(0, 9999)
        return self.rng.choice(
            (f"({a}) {b}-{c:04d}", f"({a}) {b}-{c:04d}", f"{a}-{b}-{c:04d}", f"{a}.{b}.{c:04d}", f"+1 {a} {b} {c:04d}")
        )

    def money(self) -> str:
        scale = self.rng.choice((10, 100, 1000, 100000))
        amount = self.rng.randint(scale // 5, scale * 10)
        return self.rng.choice(
            (
                f"${amount:,}",
                f"${amount:,}",
                f"${amount:,}.{self.rng.randint(0, 99):02d}",
                f"{amount:,} EUR",
                f"${amount:,},000",
            )
        )

    def tuition(self) -> str:
        return f"${self.rng.randint(2100, 48900):,}"

    def percent(self) -> str:
        return self.rng.choice(
            (
                f"{self.rng.randint(2, 98)}%",
                f"{self.rng.randint(2, 98)}%",
                f"{self.rng.randint(1, 98)}.{self.rng.randint(0, 9)}%",
            )
        )

    def year(self) -> str:
        return str(self.rng.randint(1790, 2023))

    def date(self) -> str:
        day, month, year = self.rng.randint(1, 28), self.rng.randint(1, 12), self.rng.randint(1931, 2023)
        name = MONTHS[month - 1]
        return self.rng.choice(
            (
                f"{day} {name} {year}",
                f"{name} {day}, {year}",
                f"{month}/{day}/{year}",
                f"{year}-{month:02d}-{day:02d}",
                f"{name[:3]} {day}, {year}",
            )
        )

    def count(self) -> str:
        return f"{self.rng.randint(11, self.rng.choice((99, 999, 9999, 99999, 999999))):,}"

    def measure(self) -> str:
        unit = self.rng.choice(LISTS["units"])
        return f"{self.rng.randint(2, 2400)}{self.rng.choice(('', '', '.' + str(self.rng.randint(1, 9))))} {unit}"

    def ratio(self) -> str:
        return f"{self.rng.randint(5, 34)} {self.rng.choice(('to', 'to', ':'))} 1".replace(" : ", ":")

    def code(self) -> str:
        r = self.rng
        letters = "".join(r.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(r.randint(1, 4)))
        return r.choice(
            (
                f"{letters}-{r.randint(100, 99999)}",
                f"{letters}{r.randint(1000, 999999)}",
                str(r.randint(10**6, 10**12)),
                f"{r.randint(10, 99)}-{letters}-{r.randint(10, 9999)}",
            )
        )

    def duration(self) -> str:
        h, m = self.rng.randint(1, 3), self.rng.randint(1, 59)
        return self.rng.choice((f"{h * 60 + m} min", f"{h} hr. {m} min.", f"{h * 60 + m} minutes", f"{h}h {m}m"))

    def score(self) -> str:
        return self.rng.choice(
            (
                f"{self.rng.randint(10, 99) / 10}/10",
                f"{self.rng.randint(2, 9) / 2} out of 5 stars",
                f"{self.rng.randint(20, 99)} / 100",
            )
        )

    def hours(self) -> str:
        r = self.rng
        opens = f"{r.randint(6, 11)}:{r.choice(('00', '15', '30'))} am"
        return f"{opens} - {r.randint(4, 11)}:{r.choice(('00', '30', '45'))} pm"

    def thing(self) -> str:
        r, qualities, things = self.rng, LISTS["qualities"], LISTS["things"]
        start = f"{r.choice(qualities)} {r.choice(things)}"
        return r.choice(
            (
                start,
                f"{r.choice(qualities)} {start}",
                f"{start} {r.choice(LISTS['relations'])} {r.choice(qualities)} {r.choice(things)}",
            )
        )

    def phrase(self) -> str:
        r, qualities = self.rng, LISTS["qualities"]
        return f"{r.choice(qualities)}, {r.choice(qualities)}" if r.random() < 0.2 else self.thing()

    def made_up_key(self) -> str:
        """A key that means nothing, so that only its place on the page tells the value."""
        r, qualities, things = self.rng, LISTS["qualities"], LISTS["things"]
        tails = ("type", "code", "size", "rating", "date", "count", "owner", "supplier", "note")
        tail = r.choice(("", "", "", f" {r.choice(tails)}"))
        return r.choice(
            (f"{r.choice(qualities)} {r.choice(things)}{tail}", f"{r.choice(things)} {r.choice(things)}{tail}")
        )


def choice(options: str) -> Callable[[Maker], str]:
    """A maker of one of the `;`-separated `options`."""
    listed = options.split(";")
    return lambda maker: maker.rng.choice(listed)


def several(options: str, joiners: tuple[str, ...] = (", ", " | ", " / ")) -> Callable[[Maker], str]:
    """A maker of one to three of the `;`-separated `options`."""
    listed = options.split(";")
    return lambda maker: maker.rng.choice(joiners).join(maker.rng.sample(listed, maker.rng.choice((1, 1, 2, 2, 3))))


def anything(maker: Maker) -> str:
    """A value of any kind, for made-up keys."""
    return maker.rng.choice(_ANY)(maker)


_ANY = tuple(
    getattr(Maker, kind)
    for kind in words("person place company url phone money percent date count measure code phrase phrase title town")
)
