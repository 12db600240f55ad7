"""Invented names and values: what can stand behind a key on a web page.

Proper names are split for good into training and test names. A name belongs to the test split when a checksum of its
spelling says so, so no list has to be kept in two halves and a name can never stand in both. Names are composed of
parts, which gives thousands: too many for a small model to learn.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Literal

from jrt_lmeval.data.lists import LISTS, read_yaml, words
from jrt_lmeval.errors import unknown

Split = Literal["train", "test"]
SPLITS = ("train", "test")
TEST_SHARE = 8  # one name in eight is a test name

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


KINDS = read_yaml("kinds.yaml")
"""Kind of value -> what it is made of: see the head of the file."""
_FIELD = re.compile(r"\{([^{}]*)\}")


class Maker:
    """Draws values for one page; `rng` and the name pools of `split` are all it depends on.

    Every kind of value is a method without arguments: those of `KINDS`, and those below whose draws depend on others.
    """

    def __init__(self, rng: random.Random, split: Split) -> None:
        self.rng = rng
        self.split = split

    def word(self, kind: str) -> str:
        return self.rng.choice(pool(kind, self.split))

    def fill(self, described: Any, **known: str) -> str:
        """A value of what is described as in `KINDS`, or a template with what stands in braces drawn, left to right.

        `{@town}` is a name of one pool, `{@town|last:lower}` one of either in small letters; `{2..60:04d}` a number
        with its format; `{$units}` an entry of a word list; `{a|b}` one of the texts; `{town}` a kind of value, or what
        is known by that name.
        """
        if isinstance(described, dict) and "several" in described:
            between = self.rng.choice(described.get("between", (", ", " | ", " / ")))
            return between.join(self.rng.sample(described["several"], self.rng.choice((1, 1, 2, 2, 3))))
        if isinstance(described, dict):
            for name, one in described.items():
                known[name] = self.fill(one, **known)
            return known["is"]
        if isinstance(described, list):
            return self.rng.choice([self.fill(one, **known) for one in described])
        return _FIELD.sub(lambda field: self._drawn(field[1], known), described)

    def _drawn(self, field: str, known: Mapping[str, str]) -> str:
        if field in known:
            return known[field]
        if field.startswith("$"):
            return self.rng.choice(LISTS[field[1:]])
        if field.startswith("@"):
            kinds, _, form = field[1:].partition(":")
            several = kinds.split("|")
            word = self.word(self.rng.choice(several) if len(several) > 1 else kinds)
            return word.lower() if form == "lower" else word
        if "|" in field:
            return self.rng.choice(field.split("|"))
        if ".." in field:
            bounds, _, form = field.partition(":")
            return format(self.rng.randint(*map(int, bounds.split(".."))), form)
        return str(getattr(self, field)())

    def __getattr__(self, kind: str) -> Callable[[], str]:
        if kind not in KINDS:
            raise AttributeError(f"there is no kind of value called {kind!r}")
        return lambda: self.fill(KINDS[kind])

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

    def fee(self) -> str:
        return f"${self.rng.randint(2, 19) * 5}"

    def budget(self) -> str:
        return f"${self.rng.randint(2, 399) * 500000:,}"

    def language(self) -> str:
        return self.fill({"several": LISTS["languages"]})

    def lot(self) -> str:
        return f"{self.phrase().capitalize()} by {self.last()}"

    def phrase(self) -> str:
        r, qualities = self.rng, LISTS["qualities"]
        return f"{r.choice(qualities)}, {r.choice(qualities)}" if r.random() < 0.2 else self.thing()


def choice(options: str) -> Callable[[Maker], str]:
    """A maker of one of the `;`-separated `options`."""
    listed = options.split(";")
    return lambda maker: maker.rng.choice(listed)


def anything(maker: Maker) -> str:
    """A value of any kind, for made-up keys."""
    return str(getattr(maker, maker.rng.choice(_ANY))())


_ANY = words("person place company url phone money percent date count measure code phrase phrase title town")
