"""What pages are about: for each domain its keys, how they may be worded, and what their values look like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jrt_lmeval.data.making.values import COUNTRIES, LANGUAGES, Maker, choice, several, words


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
    menu: tuple[str, ...]
    fields: tuple[Field, ...]
    things: tuple[str, ...]  # rows of lists without keys


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
    "country": choice(";".join(COUNTRIES)),
    "language": several(";".join(LANGUAGES)),
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

_SHOP_MENU = (
    "Search;New Arrivals;Sign In;Help;Cart;Wish List;Deals;Browse;Directory;My Account;Blog;Stores;Contact;Guides;"
    "Categories;Top Rated;Gift Cards;Forum"
)
_SHOP_THINGS = (
    "See details;Add to list;Send to a friend;Report an error;Print this page;Write a review;View larger image"
)


def _field(text: str) -> Field:
    key, _, rest = text.strip().partition("=")
    kind, *wordings = rest.split("|")
    return Field(key, _KINDS[kind] if kind in _KINDS else getattr(Maker, kind), tuple(wordings))


def _domain(name: str, fields: str, menu: str = _SHOP_MENU, things: str = _SHOP_THINGS) -> Domain:
    """A domain from `key=kind|wording|wording; key=kind; ...`, the entity's name first."""
    return Domain(name, words(menu), tuple(map(_field, words(fields))), words(things))


UNIVERSITY = _domain(
    "university",
    "name=school|school name|institution; phone=phone|general information|general phone|telephone|call; "
    "type=school type|college type|institution type; website=url|web site|url|homepage; total "
    "enrollment=count|student population|enrollment; in-state tuition=tuition|tuition (in-state); out-of-state "
    "tuition=tuition; acceptance rate=percent|admitted; founded=year|year founded|established; campus "
    "setting=setting; student-faculty ratio=ratio|student-to-faculty ratio; academic calendar=calendar|calendar; "
    "address=address|main address; chief executive=person|president; room and board=tuition; books and "
    "supplies=tuition; nickname=mascots; application deadline=date; graduation rate=percent|overall graduation "
    "rate; admissions office=phone; endowment=money; application fee=fee",
    "Compare;Overview;Cost;Majors;Campus Life;Photos;College Search;Scholarships;Student Loans;Careers;Guide Me;Apply;"
    "Admission;My Favorites",
    "History;Mathematics;Music;Sociology;Philosophy;Civil Engineering;Social Work;Accounting;Chemistry;Theatre Arts;"
    "Nursing;Geology",
)
FILM = _domain(
    "movie",
    "title=title|movie title|original title; director=people|directed by|directors; genre=genre|genres|category; "
    "mpaa rating=mpaa|mpaa|rated; runtime=duration|running time|length; release date=date|theatrical release "
    "date|released; country=country; language=language|languages; studio=studio|company|distributor; "
    "budget=budget|estimated budget; writer=people|writers|written by; producer=person; composer=person|music by; "
    "cinematographer=person; starring=people; user rating=score; tagline=phrase; aspect ratio=aspect; filming "
    "location=place; upc=code; dvd release date=date; opening weekend=money",
    "Trailers;Showtimes;On DVD;In Theaters;News;Forums;Critics;Box Office;Photos;Companies;Keywords;Characters;Quotes;"
    "Plots;Coming Soon",
    "trivia;goofs;soundtrack listing;crazy credits;memorable quotes;official sites;full cast and crew;company credits;"
    "external reviews",
)
OTHERS = (
    _domain(
        "book",
        "title=title|book title; author=people|by|written by; publisher=company; publication date=date|published; "
        "isbn=code|isbn-13; pages=count|number of pages; binding=binding; list price=money; our price=money; "
        "shipping weight=measure; edition=edition; illustrator=person; series=title; sales rank=count; "
        "dimensions=measure",
    ),
    _domain(
        "restaurant",
        "name=venue|restaurant; address=address|location; phone=phone|reservations; cuisine=cuisine; price "
        "range=money; chef=person|head chef; opening hours=hours|hours; cross street=town; website=url; "
        "parking=phrase; dress code=phrase; neighborhood=town; owner=person; seats=count; rating=score",
    ),
    _domain(
        "camera",
        "model=product|model name; manufacturer=company|brand|made by; price=money; sensor resolution=measure; "
        "optical zoom=zoom; battery life=measure; weight=measure; lens mount=code; display=phrase; "
        "shutter=phrase; color=phrase; warranty=measure; part number=code|mpn; memory card=phrase; "
        "announced=date; viewfinder coverage=percent",
    ),
    _domain(
        "player",
        "name=person|player; team=team|club; position=position; height=height; weight=measure; born=date|date of "
        "birth; birthplace=place|hometown; college=school; draft year=year; agent=person; salary=money; jersey "
        "number=jersey; free throw percentage=percent; career points=count; coach=person",
    ),
    _domain(
        "job",
        "job title=job|position; company=company|employer; location=place; salary=money|pay; "
        "contact=person|recruiter; phone=phone; email=email|e-mail; job code=code|reference code; date "
        "posted=date|posted; required experience=measure; required degree=degree; employment type=employment; "
        "travel=percent; openings=count; industry=phrase",
    ),
    _domain(
        "auto",
        "model=product|vehicle; engine=phrase; price=money|msrp; fuel economy=measure|mpg; mileage=count; "
        "exterior color=phrase; interior=phrase; transmission=gearbox; vin=code; dealer=company|seller; top "
        "speed=measure; curb weight=measure; model year=year; horsepower=count; stock number=code",
    ),
    _domain(
        "auction",
        "lot title=lot|lot; seller=person; current bid=money; starting bid=money; lot number=code; "
        "ends=date|auction ends; condition=phrase; item location=place|ships from; provenance=company; "
        "bids=count; shipping cost=money; estimate=money; material=phrase",
    ),
    _domain(
        "hotel",
        "hotel=venue|property; address=address; nightly rate=money; rooms=count; check-in=hours; manager=person; "
        "nearest airport=town; phone=phone; website=url; guest score=score; year renovated=year; pet "
        "policy=phrase; cancellation=measure; distance to beach=measure",
    ),
    _domain(
        "company",
        "company name=company; headquarters=place; founder=people; chief executive=person|ceo; revenue=money; "
        "employees=count; ticker=code; founded=year; parent company=company; auditor=company; market "
        "share=percent; products=phrase; investor line=phone; fiscal year end=date; website=url",
    ),
    _domain(
        "listing",
        "property=address; asking price=money|price; bedrooms=bedrooms; lot size=measure; year built=year; "
        "listing agent=person; broker=company; mls number=code; school district=town; heating=phrase; "
        "flooring=phrase; annual taxes=money; open house=date; roof=phrase",
    ),
    _domain(
        "album",
        "album=title; artist=person; label=studio|record label; released=date; length=duration; producer=people; "
        "catalog number=code; recorded at=studio; engineer=person; style=phrase; chart position=count; copies "
        "sold=count; cover art=person; bonus track=title",
    ),
    _domain(
        "event",
        "event=gathering; venue=venue; date=date; organizer=company|hosted by; keynote speaker=person; ticket "
        "price=money; capacity=count; doors open=hours; sponsor=company; contact email=email; theme=phrase; "
        "registration deadline=date; city=town; box office=phone",
    ),
)

TEST_DOMAINS = (UNIVERSITY, FILM)
TRAIN_DOMAINS = (UNIVERSITY, FILM, *OTHERS)
# What the recall benchmark asks for; the other fields of these domains only fill the page in the test split.
ASKED = {
    "university": words(
        "name;phone;type;website;total enrollment;in-state tuition;acceptance rate;founded;campus setting;"
        "student-faculty ratio;academic calendar"
    ),
    "movie": words("title;director;genre;mpaa rating;runtime;release date;country;language;studio;budget"),
}
