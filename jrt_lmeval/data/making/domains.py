"""What pages are about: for each domain its keys, how they may be worded, and what their values look like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jrt_lmeval.data.making.values import LISTS, Maker, read_lists, several


@dataclass(frozen=True)
class Field:
    """One attribute: the key that is asked for, the maker of its values, and other wordings found on pages."""

    key: str
    make: Callable[[Maker], str]
    wordings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Domain:
    """A kind of page. The first field is the entity's name, which often stands only as the page's heading."""

    name: str
    menu: Sequence[str]
    fields: tuple[Field, ...]
    things: Sequence[str]  # rows of lists without keys


# Kinds of values by name; any other name is a method of Maker.
_KINDS: dict[str, Callable[[Maker], str]] = {
    "school type": several(
        "4-year;Public;2-year;Private not-for-profit;Private for-profit;primarily associate's;Liberal arts;Coed;"
        "Religious affiliation;Land-grant",
        (", ",),
    ),
    "fee": lambda m: f"${m.rng.randint(2, 19) * 5}",
    "genre": several(
        "Drama;Comedy;Thriller;Horror;Western;War;Crime;Mystery;Romance;Adventure;Science Fiction;Family;Musical;"
        "Documentary;Fantasy;Biography;History;Animation;Sport;Film-Noir"
    ),
    "language": several(";".join(LISTS["languages"])),
    "budget": lambda m: f"${m.rng.randint(2, 399) * 500000:,}",
    "cuisine": several("Thai;Ethiopian;Seafood;Vegan;Cajun;Tapas;Steakhouse;Diner;Sushi;Bakery"),
    "lot": lambda m: f"{m.phrase().capitalize()} by {m.last()}",
    "employment": several("Full-time;Part-time;Contract;Seasonal;Temporary"),
}


def _field(key: str, described: str) -> Field:
    kind, *wordings = described.split(" | ")
    return Field(key, _KINDS.get(kind) or (lambda maker: str(getattr(maker, kind)())), tuple(wordings))


def _domain(name: str, given: dict[str, Any]) -> Domain:
    fields = tuple(_field(*field) for field in given["fields"].items())
    return Domain(name, given.get("menu", _PAGES["shop menu"]), fields, given.get("things", _PAGES["shop things"]))


_PAGES = read_lists("domains.yaml")
TRAIN_DOMAINS = tuple(_domain(name, given) for name, given in _PAGES["domains"].items())
TEST_DOMAINS = TRAIN_DOMAINS[:2]

ASKED = {name: given["asked"] for name, given in _PAGES["domains"].items() if "asked" in given}
"""What the recall benchmark asks for; the other fields of these domains only fill the page in the test split."""
