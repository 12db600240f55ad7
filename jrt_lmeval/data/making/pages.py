"""Documents that look like web pages whose tags were dropped, with the facts that stand in them.

The test split imitates the pages of SWDE: university and film pages of six invented sites. The training split adds a
dozen other domains, a new site layout on every page and keys that mean nothing, so that a model learns to look a key
up and not what a certain key's values look like. Proper names of the two splits are disjoint (see `values`). Around the
facts stands what a web page has besides: menus, advertisements, prose, reviews, related links, headlines, footers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jrt_lmeval.data.lists import LISTS, read_lists
from jrt_lmeval.data.making.values import SPLITS, STATES, Maker, Split, anything
from jrt_lmeval.errors import JRTError, unknown

FLATTENED = 0.25  # share of pages on a single line
_ACRONYMS = {"mpaa", "upc", "isbn", "vin", "mls", "url", "dvd", "msrp", "mpn", "mpg", "ceo"}
Lines = list[str]


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


def _field(key: str, described: str) -> Field:
    kind, *wordings = described.split(" | ")
    return Field(key, lambda maker: str(getattr(maker, kind)()), tuple(wordings))


def _domain(name: str, given: dict[str, Any]) -> Domain:
    fields = tuple(_field(*field) for field in given["fields"].items())
    return Domain(name, given.get("menu", _PAGES["shop menu"]), fields, given.get("things", _PAGES["shop things"]))


_PAGES = read_lists("domains.yaml")
TRAIN_DOMAINS = tuple(_domain(name, given) for name, given in _PAGES["domains"].items())
TEST_DOMAINS = TRAIN_DOMAINS[:2]

ASKED = {name: given["asked"] for name, given in _PAGES["domains"].items() if "asked" in given}
"""What the recall benchmark asks for; the other fields of these domains only fill the page in the test split."""


@dataclass(frozen=True)
class Page:
    """A document and its facts; every value stands literally in `text`, and no key twice in `facts`."""

    doc_id: str
    site: str
    text: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Style:
    """How one site writes its pages."""

    site: str
    slogan: str
    separator: str  # between a key and its value
    case: str  # letter case of keys: title, sentence, lower, upper
    menu_joiner: str  # empty: one menu entry per line
    reworded: float  # chance that a key is worded otherwise than asked for
    name_as_key: bool  # the entity's name also stands behind its key, not only in the heading
    bare: float  # chance that a value that explains itself stands without its key
    suffix: str  # what follows some values, such as a link


def _style(rng: random.Random, site: str, plain: bool) -> Style:
    separators, weights = (": ", " ", ":\n", "\n", " - ", " : "), ((8, 1, 1, 0, 0, 0) if plain else (16, 3, 1, 2, 1, 1))
    return Style(
        site=site,
        slogan=rng.choice(LISTS["slogans"]),
        separator=rng.choices(separators, weights=weights)[0],
        case=rng.choice(("title", "title", "sentence", "sentence", "lower", "upper")),
        menu_joiner=rng.choice((" | ", " ", "", "", " - ")),
        reworded=rng.choice((0.0, 0.1, 0.3)),
        name_as_key=rng.random() < 0.6,
        bare=rng.choice((0.0, 0.0, 0.08)),
        suffix=rng.choice(("", "", "", " more", " »", " (edit)", " see all")),
    )


def _test_site(domain: Domain, number: int) -> Style:
    # A site's layout does not depend on the seed: several pages share it, as in SWDE.
    rng = random.Random(f"site/{domain.name}/{number}")
    maker = Maker(rng, "test")
    return _style(
        rng,
        f"{maker.word('brand').lower()}{['guide', 'finder', 'shelf', 'board', 'compass', 'atlas'][rng.randrange(6)]}",
        plain=True,
    )


def _cased(key: str, case: str) -> str:
    if case == "upper":
        return key.upper()
    if case == "title":
        key = " ".join("-".join(part[:1].upper() + part[1:] for part in word.split("-")) for word in key.split(" "))
    elif case == "sentence":
        key = key[:1].upper() + key[1:]
    return key if case == "lower" else " ".join(w.upper() if w.lower() in _ACRONYMS else w for w in key.split(" "))


def _chosen(maker: Maker, domain: Domain, count: int) -> list[tuple[Field, str]]:
    """`count` fields with distinct keys and distinct values, the name first; made-up keys fill up in training."""
    rng = maker.rng
    name, *others = domain.fields
    if maker.split == "train":
        made_up = rng.choice((0.0, 0.0, 0.0, 0.3, 0.6, 0.9))
        others = [field for field in others if rng.random() >= made_up]
    rng.shuffle(others)
    fields = [name, *others][:count]
    keys = {field.key for field in fields}
    while maker.split == "train" and len(fields) < count:
        key = maker.made_up_key()
        if key not in keys:
            keys.add(key)
            fields.append(Field(key, anything))
    facts, seen = [], set()
    for field in fields:
        value = field.make(maker)
        if value not in seen:
            seen.add(value)
            facts.append((field, value))
    return facts


def _lines(maker: Maker, style: Style, facts: list[tuple[Field, str]]) -> list[str]:
    """The key-value lines of a page, each fact once."""
    rng = maker.rng
    keys = {field.key for field, _ in facts}
    lines = []
    for field, value in facts:
        if field.wordings and rng.random() < style.bare:
            lines.append(value)
            continue
        key = field.key
        if field.wordings and rng.random() < style.reworded:
            wording = rng.choice(field.wordings)
            key = key if wording in keys else wording
            keys.add(key)
        suffix = style.suffix if rng.random() < 0.25 else ""
        lines.append(f"{_cased(key, style.case)}{style.separator}{value}{suffix}")
    return lines


def _header(maker: Maker, domain: Domain, site: str, slogan: str, menu: Lines, name: str, menu_joiner: str) -> Lines:
    """Site name, menu, an advertisement and a breadcrumb that ends in the entity's name."""
    rng = maker.rng
    lines = [site, slogan, *([menu_joiner.join(menu)] if menu_joiner else menu)]
    if rng.random() < 0.6:
        lines.insert(rng.randint(1, len(lines)), rng.choice(LISTS["advertisements"]))
    if rng.random() < 0.6:
        joiner = rng.choice((" > ", " : ", " / ", " » "))
        lines.append(joiner.join(("Home", domain.name.title(), rng.choice(menu), name)))
    return lines


def _footer(maker: Maker, name: str) -> Lines:
    return [maker.fill(line, name=name) for line in maker.rng.sample(LISTS["footers"], maker.rng.randint(1, 2))]


def _prose(maker: Maker, name: str, mentions: list[tuple[str, str]]) -> Lines:
    """A paragraph about the entity that may repeat some of its facts in running text."""
    rng = maker.rng
    sentences = [maker.fill(template, name=name) for template in rng.sample(LISTS["prose"], rng.randint(1, 4))]
    for key, value in mentions:
        sentences.insert(
            rng.randint(0, len(sentences)),
            rng.choice(
                (f"Its {key} is {value}.", f"The {key}, {value}, is well known.", f"Ask about the {key} ({value}).")
            ),
        )
    return [rng.choice((f"About {name}", "Description", "Overview", "Summary", "Plot")), " ".join(sentences)]


def _reviews(maker: Maker, domain: Domain, name: str) -> Lines:
    rng = maker.rng
    who = rng.choice(
        (
            lambda: f"{rng.randint(1, 5)} of 5 stars. ",
            lambda: f"{maker.first().lower()}{rng.randint(3, 999)} {maker.date()}: ",
            lambda: "",
            lambda: f"{maker.person()}: ",
        )
    )
    return [who() + maker.fill(rng.choice(LISTS["reviews"]), name=name) for _ in range(rng.randint(2, 6))]


def _related(maker: Maker, domain: Domain, name: str) -> Lines:
    rng = maker.rng
    tail = rng.choice(
        (
            lambda: f" ({rng.randint(1931, 2019)})",
            lambda: f" ${rng.randint(3, 49)}.99",
            lambda: f" - {rng.randint(3, 99)}% match",
            lambda: f" {rng.randint(20, 99) / 10}",
            lambda: "",
        )
    )
    return [domain.fields[0].make(maker) + tail() for _ in range(rng.randint(3, 9))]


def _templated(
    templates: Sequence[str], least: int, most: int, suffix: Callable[[Maker], str] = lambda maker: ""
) -> Callable[[Maker, Domain, str], Lines]:
    return lambda maker, domain, name: [
        maker.fill(t, name=name) + suffix(maker) for t in maker.rng.sample(templates, maker.rng.randint(least, most))
    ]


def _list(maker: Maker, domain: Domain, name: str) -> Lines:
    chosen = maker.rng.sample(domain.things, maker.rng.randint(2, len(domain.things)))
    if maker.rng.random() < 0.4:
        chosen = [f"{thing} {maker.rng.randint(1, 199)} {maker.rng.randint(1, 60)} -" for thing in chosen]
    return chosen if maker.rng.random() < 0.7 else [", ".join(chosen)]


def _states(maker: Maker, domain: Domain, name: str) -> Lines:
    return [" ".join(STATES[: maker.rng.randint(12, len(STATES))])]


_BLOCKS: dict[str, Callable[[Maker, Domain, str], Lines]] = {
    "reviews": _reviews,
    "related": _related,
    "news": _templated(LISTS["news"], 2, 8),
    "board": _templated(LISTS["board"], 2, 6, lambda maker: f" {maker.first().lower()}{maker.rng.randint(3, 999)}"),
    "questions": _templated(LISTS["questions"], 1, 4),
    "list": _list,
    "states": _states,
}


def _block(maker: Maker, domain: Domain, name: str) -> Lines:
    """One block of lines that hold no fact of the page, under a heading."""
    kind = maker.rng.choices(tuple(_BLOCKS), weights=(6, 5, 4, 3, 2, 4, 1))[0]
    heading = "Browse by State" if kind == "states" else maker.rng.choice(LISTS["headings"][kind])
    return [heading, *_BLOCKS[kind](maker, domain, name)]


def _words(lines: list[str]) -> int:
    return sum(line.count(" ") + 1 for line in lines)


def _page(
    maker: Maker, domain: Domain, style: Style, facts: list[tuple[Field, str]], words: int, anywhere: bool
) -> str:
    rng = maker.rng
    name = facts[0][1]
    listed = facts if style.name_as_key else facts[1:]
    if rng.random() < 0.5:
        listed = rng.sample(listed, len(listed))
    lines = _lines(maker, style, listed)
    parts: list[list[str]] = []
    while lines:
        size = rng.choice((4, 7, 11, 30))
        heading = [rng.choice(LISTS["sections"])] if rng.random() < 0.7 else []
        parts.append(heading + lines[:size])
        lines = lines[size:]
    parts.insert(0, [name + rng.choice(("", "", "", f" ({rng.randint(1931, 2019)})", f" - {maker.town()}"))])
    room = words - sum(map(_words, parts))
    if room > 30:
        menu = rng.sample(domain.menu, rng.randint(3, 10))
        parts.insert(0, _header(maker, domain, style.site, style.slogan, menu, name, style.menu_joiner))
        parts.append(_footer(maker, name))
        room -= _words(parts[0]) + _words(parts[-1])
    first = 1 if room < words - 60 else 0
    while room > 15:
        if rng.random() < 0.2:
            mentions = [
                (field.key, value) for field, value in rng.sample(facts, min(len(facts), rng.choice((0, 1, 2))))
            ]
            part = _prose(maker, name, mentions)
        else:
            part = _block(maker, domain, name)
        while len(part) > 2 and _words(part) > room + 10:
            part.pop()
        room -= _words(part)
        # Mostly after the facts, as on real pages, but also before and between them; or in each gap with equal chances.
        last = not anywhere and rng.random() < 0.6
        at = len(parts) - 1 if last else rng.randint(first, len(parts) - 1)
        parts.insert(max(at, first), part)
    joiner = " " if rng.random() < FLATTENED else "\n"
    text = joiner.join(line for part in parts for line in part if line)
    return text.replace("\n", " ") if joiner == " " else text


def generate_pages(
    split: Split,
    seed: int,
    facts: tuple[int, int] = (4, 24),
    words: tuple[int, int] = (60, 600),
    anywhere: bool = False,
) -> Iterator[Page]:
    """An endless stream of pages; the same arguments give the same pages on every machine.

    Args:
        split: `"train"` or `"test"`; proper names of the two are disjoint.
        seed: any integer.
        facts: least and most key-value lines on a page. Short pages hold fewer, about one for each eight words; test
            pages hold no more than their domain has keys, and only the benchmark's keys are in `Page.facts`.
        words: least and most words of a page, roughly; a word of such a page has about 1.6 GPT-2 tokens.
        anywhere: facts stand at the end of a page as often as at its beginning; else most of what is no fact follows
            them, so that a model that sees only the last tokens sees few facts.

    Raises:
        JRTError: for an unknown split or an empty or negative range.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    for label, (low, high) in {"facts": facts, "words": words}.items():
        if not 1 <= low <= high:
            raise JRTError(f"generate_pages: {label}=({low}, {high}) must be (least, most) with 1 <= least <= most")
    return _pages(split, seed, facts, words, anywhere)


def _pages(split: Split, seed: int, facts: tuple[int, int], words: tuple[int, int], anywhere: bool) -> Iterator[Page]:
    number = 0
    while True:
        rng = random.Random(f"{split}/{seed}/{number}")
        maker = Maker(rng, split)
        if split == "test":
            domain = rng.choice(TEST_DOMAINS)
            style = _test_site(domain, rng.randrange(3))
        else:
            # The two test domains in a third of the pages, so that their menus and keys are not new to a model.
            domain = rng.choice(TRAIN_DOMAINS if rng.random() < 0.75 else TRAIN_DOMAINS[:2])
            style = _style(
                rng,
                rng.choice(
                    (maker.word("brand"), f"{maker.word('brand')}{rng.choice(('Guide', 'Shop', 'Base', 'Hub'))}")
                ),
                plain=False,
            )
        length = rng.randint(*words)
        count = max(1, min(rng.randint(*facts), length // 8))
        drawn = _chosen(maker, domain, count)
        text = _page(maker, domain, style, drawn, length, anywhere)
        asked = ASKED[domain.name] if split == "test" else {field.key for field, _ in drawn}
        yield Page(
            f"{domain.name}-{style.site}(2000)_{number:04d}",
            style.site,
            text,
            tuple((f.key, v) for f, v in drawn if f.key in asked),
        )
        number += 1
