"""What pages are about: for each domain its keys, how they may be worded, and what their values look like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jrt_lmeval.data.making.values import LISTS, Maker, choice, read_lists, several


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


_RANKS = ("Senior", "Junior", "Lead", "Assistant", "Staff", "Regional")
_TRADES = ("Analyst", "Welder", "Nurse", "Planner", "Editor", "Buyer", "Technician", "Engineer")
_GATHERINGS = ("Fair", "Summit", "Conference", "Meetup", "Expo")

# Kinds of values by name; any other name is a method of Maker.
_KINDS: dict[str, Callable[[Maker], str]] = {
    "school type": several(
        "4-year;Public;2-year;Private not-for-profit;Private for-profit;primarily associate's;Liberal arts;Coed;"
        "Religious affiliation;Land-grant",
        (", ",),
    ),
    "setting": choice("Rural;Urban;Suburban;City: Small;City: Large;Town: Remote;Suburb: Midsize;Town: Fringe"),
    "calendar": choice("Semester;Trimester;Quarter;4-1-4;Continuous;Differs by program"),
    "mascots": lambda m: f"{m.word('town')} {m.word('noun')}s",
    "fee": lambda m: f"${m.rng.randint(2, 19) * 5}",
    "genre": several(
        "Drama;Comedy;Thriller;Horror;Western;War;Crime;Mystery;Romance;Adventure;Science Fiction;Family;Musical;"
        "Documentary;Fantasy;Biography;History;Animation;Sport;Film-Noir"
    ),
    "mpaa": choice("G;PG;PG-13;R;NC-17;Rated G;Rated PG;Rated R;Not Rated;Unrated;Rated PG-13 for language"),
    "country": choice(";".join(LISTS["countries"])),
    "language": several(";".join(LISTS["languages"])),
    "budget": lambda m: f"${m.rng.randint(2, 399) * 500000:,}",
    "aspect": choice("1.33 : 1;1.85 : 1;2.35 : 1;1.66 : 1"),
    "binding": choice("Hardcover;Paperback;Library binding;Spiral-bound;E-book"),
    "edition": choice("First;Second;Revised;Third;Illustrated;Abridged"),
    "cuisine": several("Thai;Ethiopian;Seafood;Vegan;Cajun;Tapas;Steakhouse;Diner;Sushi;Bakery"),
    "zoom": lambda m: f"{m.rng.randint(2, 60)}x",
    "team": lambda m: f"{m.town()} {m.word('noun')}s",
    "position": choice("Guard;Forward;Center;Goalkeeper;Midfielder;Pitcher;Shortstop;Wing;Striker"),
    "height": lambda m: f"{m.rng.randint(5, 7)}-{m.rng.randint(0, 11)}",
    "jersey": lambda m: str(m.rng.randint(10, 99)),
    "job": lambda m: f"{m.rng.choice(_RANKS)} {m.rng.choice(_TRADES)}",
    "degree": choice("Bachelor's;Master's;None;Associate's;High school diploma"),
    "employment": several("Full-time;Part-time;Contract;Seasonal;Temporary"),
    "gearbox": choice("5-speed manual;6-speed automatic;CVT;8-speed automatic;4-speed manual"),
    "lot": lambda m: f"{m.phrase().capitalize()} by {m.last()}",
    "bedrooms": lambda m: f"{m.rng.randint(1, 9)} bedrooms",
    "gathering": lambda m: f"{m.word('town')} {m.word('noun')} {m.rng.choice(_GATHERINGS)}",
}


def _field(key: str, described: str) -> Field:
    kind, *wordings = described.split(" | ")
    return Field(key, _KINDS[kind] if kind in _KINDS else getattr(Maker, kind), tuple(wordings))


def _domain(name: str, given: dict[str, Any]) -> Domain:
    fields = tuple(_field(*field) for field in given["fields"].items())
    return Domain(name, given.get("menu", _PAGES["shop menu"]), fields, given.get("things", _PAGES["shop things"]))


_PAGES = read_lists("domains.yaml")
TRAIN_DOMAINS = tuple(_domain(name, given) for name, given in _PAGES["domains"].items())
TEST_DOMAINS = TRAIN_DOMAINS[:2]

ASKED = {name: given["asked"] for name, given in _PAGES["domains"].items() if "asked" in given}
"""What the recall benchmark asks for; the other fields of these domains only fill the page in the test split."""
