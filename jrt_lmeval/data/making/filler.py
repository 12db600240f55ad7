"""The rest of a web page: menus, advertisements, prose, reviews, related links, headlines, footers."""

from __future__ import annotations

from collections.abc import Callable

from jrt_lmeval.data.making.domains import Domain
from jrt_lmeval.data.making.values import STATES, Maker

Lines = list[str]

_HEADINGS = {
    "reviews": ("Customer Reviews", "User Reviews", "Reviews", "What people say", "Student Reviews", "Readers"),
    "related": (
        "You might also like",
        "Recommendations",
        "Related",
        "Recently viewed",
        "Similar items",
        "People also looked at",
    ),
    "news": ("Headlines", "News and Advice", "From the blog", "Latest stories", "In the news"),
    "board": ("Message Boards", "Recent posts (updated daily)", "Forum", "Latest discussions"),
    "questions": ("Ask a question", "Questions & Answers", "FAQ"),
    "list": ("More", "Categories", "Top Links", "Tools", "Did You Know?", "On this page"),
}
_ADS = (
    "Advertisement",
    "Advertise with us | Report this ad",
    "[Ad] Compare prices from 4 stores and save today!",
    "Free shipping over $25",
    "Sponsored links: Cheap textbooks | Online degrees in 18 months",
    "Sponsored: Refinance in minutes",
    "Save 15% with your first order",
    "Subscribe now and get two months free",
    "Sign up for our newsletter",
    "Your Cart (0 items)",
    "Register Login Help",
    "Welcome, guest! Log in or sign up",
)
_REVIEWS = (
    "Not for everyone, but those who like {thing} will be rewarded.",
    "I went in with low expectations and came out humming.",
    "The {thing} alone is worth the trip.",
    "{person} was helpful and the {thing} exceeded my hopes.",
    "Overlong, overloud and over here for a limited time only.",
    "{name} starts slowly and never quite finds its footing.",
    "My kids loved it. I checked my watch twice.",
    "Bring a coat; the {thing} is colder than it looks.",
    "We drove from {town} for this and would do it again.",
    "I asked for a {thing} and got something else entirely.",
    "Nothing wrong with {name}, but nothing to write home about.",
    "Parking is a nightmare. Bring a bike.",
    "Ask for {person}, who knows everything about it.",
    "The second visit was better than the first.",
    "It took {count} days to arrive and the {thing} was scratched.",
    "Friendly people, cold winters, good coffee.",
    "If you liked {title}, you will like this.",
    "A friend from {town} recommended it and I am glad I listened.",
    "Would buy again, though {thing} would have been nicer.",
    "Somebody at {company} should read these comments.",
)
_NEWS = (
    "{company} to open office in {town}",
    "Ten questions to ask before you decide",
    "{person} to receive lifetime honor",
    "How to read the small print",
    "{town} council votes on {thing} rules",
    "Why {thing} prices went up again",
    "Restored classic tours twelve cities",
    "What to pack and what to leave at home",
    "Interview: {person} on starting over",
    "Scams and how to avoid them",
    "{state} survey finds {percent} are satisfied",
    "Our readers' favorite {thing} tips",
    "{title} opens to mixed notices",
)
_BOARD = (
    "Is there a longer version?",
    "Where was this photo taken?",
    "Looking for something similar",
    "Anyone know the {thing}?",
    "Problem with the {thing}",
    "Best thing in {town}?",
    "Who else was there?",
    "Does anybody remember {person}?",
    "Worst {thing} ever",
    "Was it always like this?",
)
_QUESTIONS = (
    "Q: Is there a bus into town? A: Every half hour until ten in the evening.",
    "Q: Does it come with a {thing}? A: No, that is sold separately.",
    "Q: Can I change my mind later? A: Within {count} days.",
    "Q: Who do I write to? A: The office in {town} answers mail.",
    "Q: Is the {thing} included? A: Yes, at no extra charge.",
    "Q: What is the nearest airport? A: A small regional one about forty minutes away.",
)
_FOOTERS = (
    "About Us | Contact | Terms of Use | Privacy Policy | Site Map",
    "Copyright {year}. Data comes from third parties and may have changed.",
    "Site Map | Contact Us | Privacy Policy | Terms",
    "© {year} All rights reserved. Data provided for personal, non-commercial use only.",
    "Back to top",
    "Powered by {brand}",
    "Mobile site | Full site | RSS | Help",
)
_PROSE = (
    "{name} has been around for longer than most people think, and its {thing} is still talked about in {town}.",
    "When {person} first wrote about {name}, nobody expected much.",
    "The story goes that a {thing} and {count} dollars were all there was at the start.",
    "Visitors from {state} make up about {percent} of the total.",
    "Critics have called it a {thing} among its kind; others disagree.",
    "It was {person} who suggested the name.",
    "Much of the early work was done in {town} by {company}.",
    "A second part is planned, though nothing has been announced.",
    "For details see {url} or ask at the counter.",
    "The {thing} was added later, after {person} had left.",
)


def fill(maker: Maker, template: str, name: str) -> str:
    """`template` with its `{kinds}` replaced by fresh values and `{name}` by the page's entity."""
    while "{" in template:
        start, end = template.index("{"), template.index("}")
        kind = template[start + 1 : end]
        value = {
            "name": lambda: name,
            "state": lambda: maker.rng.choice(STATES),
            "brand": lambda: maker.word("brand"),
        }.get(kind)
        template = template[:start] + str(value() if value else getattr(maker, kind)()) + template[end + 1 :]
    return template


def header(maker: Maker, domain: Domain, site: str, slogan: str, menu: Lines, name: str, menu_joiner: str) -> Lines:
    """Site name, menu, an advertisement and a breadcrumb that ends in the entity's name."""
    rng = maker.rng
    lines = [site, slogan, *([menu_joiner.join(menu)] if menu_joiner else menu)]
    if rng.random() < 0.6:
        lines.insert(rng.randint(1, len(lines)), rng.choice(_ADS))
    if rng.random() < 0.6:
        joiner = rng.choice((" > ", " : ", " / ", " » "))
        lines.append(joiner.join(("Home", domain.name.title(), rng.choice(menu), name)))
    return lines


def footer(maker: Maker, name: str) -> Lines:
    return [fill(maker, line, name) for line in maker.rng.sample(_FOOTERS, maker.rng.randint(1, 2))]


def prose(maker: Maker, name: str, mentions: list[tuple[str, str]]) -> Lines:
    """A paragraph about the entity that may repeat some of its facts in running text."""
    rng = maker.rng
    sentences = [fill(maker, template, name) for template in rng.sample(_PROSE, rng.randint(1, 4))]
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
    return [who() + fill(maker, rng.choice(_REVIEWS), name) for _ in range(rng.randint(2, 6))]


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
    templates: tuple[str, ...], least: int, most: int, suffix: Callable[[Maker], str] = lambda maker: ""
) -> Callable[[Maker, Domain, str], Lines]:
    return lambda maker, domain, name: [
        fill(maker, t, name) + suffix(maker) for t in maker.rng.sample(templates, maker.rng.randint(least, most))
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
    "news": _templated(_NEWS, 2, 8),
    "board": _templated(_BOARD, 2, 6, lambda maker: f" {maker.first().lower()}{maker.rng.randint(3, 999)}"),
    "questions": _templated(_QUESTIONS, 1, 4),
    "list": _list,
    "states": _states,
}


def block(maker: Maker, domain: Domain, name: str) -> Lines:
    """One block of lines that hold no fact of the page, under a heading."""
    kind = maker.rng.choices(tuple(_BLOCKS), weights=(6, 5, 4, 3, 2, 4, 1))[0]
    heading = "Browse by State" if kind == "states" else maker.rng.choice(_HEADINGS[kind])
    return [heading, *_BLOCKS[kind](maker, domain, name)]
