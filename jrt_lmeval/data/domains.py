"""What pages are about: for each domain its keys, how they may be worded, and what their values look like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jrt_lmeval.data.values import COUNTRIES, LANGUAGES, Maker, choice, several


@dataclass(frozen=True)
class Field:
    """One attribute: the key that is asked for, other wordings found on pages, and the maker of its values."""

    key: str
    make: Callable[[Maker], str]
    wordings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Domain:
    """A kind of page. The first field is the entity's name, which often stands only as the page's heading."""

    name: str
    menu: str
    fields: tuple[Field, ...]
    things: str  # rows of lists without keys


def _f(key: str, make: Callable[[Maker], str], *wordings: str) -> Field:
    return Field(key, make, wordings)


_GENRES = several(
    "Drama;Comedy;Thriller;Horror;Western;War;Crime;Mystery;Romance;Adventure;Science Fiction;Family;Musical;"
    "Documentary;Fantasy;Biography;History;Animation;Sport;Film-Noir"
)
_COUNTRY = choice(";".join(COUNTRIES))
_LANGUAGE = several(";".join(LANGUAGES))

UNIVERSITY = Domain(
    "university",
    "Compare;Overview;Cost;Majors;Campus Life;Photos;College Search;Scholarships;Student Loans;Careers;"
    "Guide Me;Apply;Admission;My Favorites",
    (
        _f("name", Maker.school, "school name", "institution"),
        _f("phone", Maker.phone, "general information", "general phone", "telephone", "call"),
        _f(
            "type",
            several(
                "4-year;Public;2-year;Private not-for-profit;Private for-profit;primarily associate's;Liberal arts;"
                "Coed;Religious affiliation;Land-grant",
                (", ",),
            ),
            "college type",
            "institution type",
        ),
        _f("website", Maker.url, "web site", "url", "homepage"),
        _f("total enrollment", Maker.count, "student population", "enrollment"),
        _f("in-state tuition", Maker.tuition, "tuition (in-state)"),
        _f("out-of-state tuition", Maker.tuition),
        _f("acceptance rate", Maker.percent, "admitted"),
        _f("founded", Maker.year, "year founded", "established"),
        _f(
            "campus setting",
            choice("Rural;Urban;Suburban;City: Small;City: Large;Town: Remote;Suburb: Midsize;Town: Fringe"),
        ),
        _f("student-faculty ratio", Maker.ratio, "student-to-faculty ratio"),
        _f("academic calendar", choice("Semester;Trimester;Quarter;4-1-4;Continuous;Differs by program"), "calendar"),
        _f("address", Maker.address, "main address"),
        _f("chief executive", Maker.person, "president"),
        _f("room and board", Maker.tuition),
        _f("books and supplies", Maker.tuition),
        _f("nickname", lambda m: f"{m.word('town')} {m.word('noun')}s"),
        _f("application deadline", Maker.date),
        _f("graduation rate", Maker.percent, "overall graduation rate"),
        _f("admissions office", Maker.phone),
        _f("endowment", Maker.money),
        _f("application fee", lambda m: f"${m.rng.randint(2, 19) * 5}"),
    ),
    "History;Mathematics;Music;Sociology;Philosophy;Civil Engineering;Social Work;Accounting;Chemistry;Theatre Arts;Nursing;Geology",
)

FILM = Domain(
    "movie",
    "Trailers;Showtimes;On DVD;In Theaters;News;Forums;Critics;Box Office;Photos;Companies;Keywords;Characters;Quotes;"
    "Plots;Coming Soon",
    (
        _f("title", Maker.title, "movie title", "original title"),
        _f("director", Maker.people, "directed by", "directors"),
        _f("genre", _GENRES, "genres", "category"),
        _f(
            "mpaa rating",
            choice("G;PG;PG-13;R;NC-17;Rated G;Rated PG;Rated R;Not Rated;Unrated;Rated PG-13 for language"),
            "mpaa",
            "rated",
        ),
        _f("runtime", Maker.duration, "running time", "length"),
        _f("release date", Maker.date, "theatrical release date", "released"),
        _f("country", _COUNTRY),
        _f("language", _LANGUAGE, "languages"),
        _f("studio", Maker.studio, "company", "distributor"),
        _f("budget", lambda m: f"${m.rng.randint(2, 399) * 500000:,}", "estimated budget"),
        _f("writer", Maker.people, "writers", "written by"),
        _f("producer", Maker.person),
        _f("composer", Maker.person, "music by"),
        _f("cinematographer", Maker.person),
        _f("starring", Maker.people),
        _f("user rating", Maker.score),
        _f("tagline", Maker.phrase),
        _f("aspect ratio", choice("1.33 : 1;1.85 : 1;2.35 : 1;1.66 : 1")),
        _f("filming location", Maker.place),
        _f("upc", Maker.code),
        _f("dvd release date", Maker.date),
        _f("opening weekend", Maker.money),
    ),
    "trivia;goofs;soundtrack listing;crazy credits;memorable quotes;official sites;full cast and crew;company credits;external reviews",
)


def _train(name: str, title: Field, keys: tuple[Field, ...]) -> Domain:
    menu = "Search;New Arrivals;Sign In;Help;Cart;Wish List;Deals;Browse;Directory;My Account;Blog;Stores;Contact;Guides;Categories;Top Rated;Gift Cards;Forum"
    return Domain(
        name,
        menu,
        (title, *keys),
        "See details;Add to list;Send to a friend;Report an error;Print this page;Write a review;View larger image",
    )


OTHERS = (
    _train(
        "book",
        _f("title", Maker.title, "book title"),
        (
            _f("author", Maker.people, "by", "written by"),
            _f("publisher", Maker.company),
            _f("publication date", Maker.date, "published"),
            _f("isbn", Maker.code, "isbn-13"),
            _f("pages", Maker.count, "number of pages"),
            _f("binding", choice("Hardcover;Paperback;Library binding;Spiral-bound;E-book")),
            _f("list price", Maker.money),
            _f("our price", Maker.money),
            _f("shipping weight", Maker.measure),
            _f("edition", choice("First;Second;Revised;Third;Illustrated;Abridged")),
            _f("illustrator", Maker.person),
            _f("series", Maker.title),
            _f("sales rank", Maker.count),
            _f("dimensions", Maker.measure),
        ),
    ),
    _train(
        "restaurant",
        _f("name", Maker.venue, "restaurant"),
        (
            _f("address", Maker.address, "location"),
            _f("phone", Maker.phone, "reservations"),
            _f("cuisine", several("Thai;Ethiopian;Seafood;Vegan;Cajun;Tapas;Steakhouse;Diner;Sushi;Bakery")),
            _f("price range", Maker.money),
            _f("chef", Maker.person, "head chef"),
            _f("opening hours", Maker.hours, "hours"),
            _f("cross street", Maker.town),
            _f("website", Maker.url),
            _f("parking", Maker.phrase),
            _f("dress code", Maker.phrase),
            _f("neighborhood", Maker.town),
            _f("owner", Maker.person),
            _f("seats", Maker.count),
            _f("rating", Maker.score),
        ),
    ),
    _train(
        "camera",
        _f("model", Maker.product, "model name"),
        (
            _f("manufacturer", Maker.company, "brand", "made by"),
            _f("price", Maker.money),
            _f("sensor resolution", Maker.measure),
            _f("optical zoom", lambda m: f"{m.rng.randint(2, 60)}x"),
            _f("battery life", Maker.measure),
            _f("weight", Maker.measure),
            _f("lens mount", Maker.code),
            _f("display", Maker.phrase),
            _f("shutter", Maker.phrase),
            _f("color", Maker.phrase),
            _f("warranty", Maker.measure),
            _f("part number", Maker.code, "mpn"),
            _f("memory card", Maker.phrase),
            _f("announced", Maker.date),
            _f("viewfinder coverage", Maker.percent),
        ),
    ),
    _train(
        "player",
        _f("name", Maker.person, "player"),
        (
            _f("team", lambda m: f"{m.town()} {m.word('noun')}s", "club"),
            _f("position", choice("Guard;Forward;Center;Goalkeeper;Midfielder;Pitcher;Shortstop;Wing;Striker")),
            _f("height", lambda m: f"{m.rng.randint(5, 7)}-{m.rng.randint(0, 11)}"),
            _f("weight", Maker.measure),
            _f("born", Maker.date, "date of birth"),
            _f("birthplace", Maker.place, "hometown"),
            _f("college", Maker.school),
            _f("draft year", Maker.year),
            _f("agent", Maker.person),
            _f("salary", Maker.money),
            _f("jersey number", lambda m: str(m.rng.randint(0, 99))),
            _f("free throw percentage", Maker.percent),
            _f("career points", Maker.count),
            _f("coach", Maker.person),
        ),
    ),
    _train(
        "job",
        _f(
            "job title",
            lambda m: (
                f"{m.rng.choice(('Senior', 'Junior', 'Lead', 'Assistant', 'Staff', 'Regional'))} {m.rng.choice(('Analyst', 'Welder', 'Nurse', 'Planner', 'Editor', 'Buyer', 'Technician', 'Engineer'))}"
            ),
            "position",
        ),
        (
            _f("company", Maker.company, "employer"),
            _f("location", Maker.place),
            _f("salary", Maker.money, "pay"),
            _f("contact", Maker.person, "recruiter"),
            _f("phone", Maker.phone),
            _f("email", Maker.email, "e-mail"),
            _f("job code", Maker.code, "reference code"),
            _f("date posted", Maker.date, "posted"),
            _f("required experience", Maker.measure),
            _f("required degree", choice("Bachelor's;Master's;None;Associate's;High school diploma")),
            _f("employment type", several("Full-time;Part-time;Contract;Seasonal;Temporary")),
            _f("travel", Maker.percent),
            _f("openings", Maker.count),
            _f("industry", Maker.phrase),
        ),
    ),
    _train(
        "auto",
        _f("model", Maker.product, "vehicle"),
        (
            _f("engine", Maker.phrase),
            _f("price", Maker.money, "msrp"),
            _f("fuel economy", Maker.measure, "mpg"),
            _f("mileage", Maker.count),
            _f("exterior color", Maker.phrase),
            _f("interior", Maker.phrase),
            _f("transmission", choice("5-speed manual;6-speed automatic;CVT;8-speed automatic;4-speed manual")),
            _f("vin", Maker.code),
            _f("dealer", Maker.company, "seller"),
            _f("top speed", Maker.measure),
            _f("curb weight", Maker.measure),
            _f("model year", Maker.year),
            _f("horsepower", Maker.count),
            _f("stock number", Maker.code),
        ),
    ),
    _train(
        "auction",
        _f("lot title", lambda m: f"{m.phrase().capitalize()} by {m.last()}", "lot"),
        (
            _f("seller", Maker.person),
            _f("current bid", Maker.money),
            _f("starting bid", Maker.money),
            _f("lot number", Maker.code),
            _f("ends", Maker.date, "auction ends"),
            _f("condition", Maker.phrase),
            _f("item location", Maker.place, "ships from"),
            _f("provenance", Maker.company),
            _f("bids", Maker.count),
            _f("shipping cost", Maker.money),
            _f("estimate", Maker.money),
            _f("material", Maker.phrase),
        ),
    ),
    _train(
        "hotel",
        _f("hotel", Maker.venue, "property"),
        (
            _f("address", Maker.address),
            _f("nightly rate", Maker.money),
            _f("rooms", Maker.count),
            _f("check-in", Maker.hours),
            _f("manager", Maker.person),
            _f("nearest airport", Maker.town),
            _f("phone", Maker.phone),
            _f("website", Maker.url),
            _f("guest score", Maker.score),
            _f("year renovated", Maker.year),
            _f("pet policy", Maker.phrase),
            _f("cancellation", Maker.measure),
            _f("distance to beach", Maker.measure),
        ),
    ),
    _train(
        "company",
        _f("company name", Maker.company),
        (
            _f("headquarters", Maker.place),
            _f("founder", Maker.people),
            _f("chief executive", Maker.person, "ceo"),
            _f("revenue", Maker.money),
            _f("employees", Maker.count),
            _f("ticker", Maker.code),
            _f("founded", Maker.year),
            _f("parent company", Maker.company),
            _f("auditor", Maker.company),
            _f("market share", Maker.percent),
            _f("products", Maker.phrase),
            _f("investor line", Maker.phone),
            _f("fiscal year end", Maker.date),
            _f("website", Maker.url),
        ),
    ),
    _train(
        "listing",
        _f("property", Maker.address),
        (
            _f("asking price", Maker.money, "price"),
            _f("bedrooms", lambda m: str(m.rng.randint(1, 9))),
            _f("lot size", Maker.measure),
            _f("year built", Maker.year),
            _f("listing agent", Maker.person),
            _f("broker", Maker.company),
            _f("mls number", Maker.code),
            _f("school district", Maker.town),
            _f("heating", Maker.phrase),
            _f("flooring", Maker.phrase),
            _f("annual taxes", Maker.money),
            _f("open house", Maker.date),
            _f("roof", Maker.phrase),
        ),
    ),
    _train(
        "album",
        _f("album", Maker.title),
        (
            _f("artist", Maker.person),
            _f("label", Maker.studio, "record label"),
            _f("released", Maker.date),
            _f("length", Maker.duration),
            _f("producer", Maker.people),
            _f("catalog number", Maker.code),
            _f("recorded at", Maker.studio),
            _f("engineer", Maker.person),
            _f("style", Maker.phrase),
            _f("chart position", Maker.count),
            _f("copies sold", Maker.count),
            _f("cover art", Maker.person),
            _f("bonus track", Maker.title),
        ),
    ),
    _train(
        "event",
        _f(
            "event",
            lambda m: (
                f"{m.word('town')} {m.word('noun')} {m.rng.choice(('Fair', 'Summit', 'Conference', 'Meetup', 'Expo'))}"
            ),
        ),
        (
            _f("venue", Maker.venue),
            _f("date", Maker.date),
            _f("organizer", Maker.company, "hosted by"),
            _f("keynote speaker", Maker.person),
            _f("ticket price", Maker.money),
            _f("capacity", Maker.count),
            _f("doors open", Maker.hours),
            _f("sponsor", Maker.company),
            _f("contact email", Maker.email),
            _f("theme", Maker.phrase),
            _f("registration deadline", Maker.date),
            _f("city", Maker.town),
            _f("box office", Maker.phone),
        ),
    ),
)

TEST_DOMAINS = (UNIVERSITY, FILM)
TRAIN_DOMAINS = (UNIVERSITY, FILM, *OTHERS)
# What the recall benchmark asks for; other fields of these domains only fill the page in the test split.
ASKED = {
    "university": (
        "name",
        "phone",
        "type",
        "website",
        "total enrollment",
        "in-state tuition",
        "acceptance rate",
        "founded",
        "campus setting",
        "student-faculty ratio",
        "academic calendar",
    ),
    "movie": (
        "title",
        "director",
        "genre",
        "mpaa rating",
        "runtime",
        "release date",
        "country",
        "language",
        "studio",
        "budget",
    ),
}
