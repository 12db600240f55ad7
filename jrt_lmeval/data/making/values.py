"""Invented names and values: what can stand behind a key on a web page.

Proper names are split for good into training and test names. A name belongs to the test split when a checksum of its
spelling says so, so no list has to be kept in two halves and a name can never stand in both. Names are composed of
parts, which gives thousands: too many for a small model to learn.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from functools import cache
from typing import Literal

from jrt_lmeval.errors import unknown

Split = Literal["train", "test"]
SPLITS = ("train", "test")
TEST_SHARE = 8  # one name in eight is a test name


def words(text: str) -> tuple[str, ...]:
    """The entries of a list written as text: between `;` if there are any, else between spaces."""
    return tuple(text.split(";" if ";" in text else None))


_FIRST_STARTS = words(
    "Al An Ar Be Bri Ca Ce Cla Da De Do Ed El Em Es Fa Fe Fi Ga Ge Gi Ha He Hu Il In Is Ja Je Jo Ju Ka Ke Ki La "
    "Le Li Lo Lu Ma Me Mi Mo Na Ne Ni No Ol Or Pa Pe Phi Ra Re Ri Ro Ru Sa Se Si So Ste Su Ta Te Ti To Tu Ul Va "
    "Ve Vi Wa We Wi Xa Ya Ye Yo Za Ze Zo"
)
_FIRST_ENDS = words(
    "bert bina brina cia dan delle dine don dra drick fina gan la lan lena lia lina lis lo lora lyn mar mas mina "
    "mon na nald ne nika nora phine ra ran red rian rick rin rina ris ron rosa ryn sa sander sha sia son stan ta "
    "tine tor tria van vera vin wen xton ya zel"
)
_LAST_STARTS = words(
    "Abern Ainsl Ald Anders Arm Ash Bal Bancr Bar Beck Bell Berg Birk Black Bligh Bor Brad Bram Bren Brock Cal "
    "Car Castel Chal Clar Cor Cran Dal Dem Din Dor Drum Dun Eber Eck Ell Em Fair Fen Fitz Frost Gal Gar Glen Gold "
    "Grim Had Hal Har Hask Hawk Holl Horn Ing Jan Jar Kal Kel Kest Kirk Kor Lam Lang Lar Lind Lock Lom Mac Mal "
    "Mar Mer Mor Nor Oak Okon Oz Pal Pem Pet Pol Quin Rad Ram Rav Ros Roth Sal San Sav Schell Sel Shep Stan Sten "
    "Strat Sud Sut Tal Tar Thorn Tor Trem Und Val Van Ver Vor Wal War Weath Wes Whit Wil Win Wolf Yar Zab Zel"
)
_LAST_ENDS = words(
    "aker ano ard aro ato bach bank berg berry bourne bridge burn by combe cott dale den ding dorf elli ema enko "
    "er ersen eth ez field ford gard gate grave grove ham han hart helm hurst iani ick ier in ington inski ison "
    "itz land ley lin lock man mann mark mere mond more nell nick ola olo oni osa ossi ott ova over ovic owski "
    "ridge rick roth sen shaw sky smith son stead stein ston strom thal ton toft vale vik wald wall ward way well "
    "wick win wood worth"
)
_TOWN_STARTS = words(
    "Alder Amber Ash Bay Bear Bell Birch Black Blue Bram Bridge Bright Brook Cedar Clay Clear Cliff Cold Copper "
    "Crow Deer Dover Dun East Elder Elm Fair Fall Fern Flint Fox Frost Glen Gold Granite Green Grey Harbor Haw "
    "Hazel Heron High Holly Iron Ivy Juniper Kings Lake Lark Laurel Lime Linden Long Lynn Maple March Mead Mill "
    "Moss North Oak Old Orchard Otter Pine Plum Quail Raven Red River Rock Rose Rush Salt Sand Shadow Silver Snow "
    "South Spring Stone Sugar Summer Swan Thorn Timber Vale Walnut Water West White Wild Willow Wind Winter Wolf"
)
_TOWN_ENDS = words(
    "bank bend boro bourne bridge brook burg bury by castle cliff combe creek crest dale den field ford fork gate "
    "glen grove ham harbor haven hill holm hurst land leigh ley lock march mere mill minster mont moor more mouth "
    "park point pool port ridge shore side spring stead stoke stow thorpe ton vale view ville water way well wick "
    "wood worth"
)
_BRAND_STARTS = words(
    "Acu Aero Alti Aqua Arca Avi Axi Bio Calo Cine Civi Cora Cryo Cyra Delta Dura Dyna Eco Ekta Ember Enta Equi "
    "Evo Fero Flexi Fluo Geno Glo Helio Hexa Hydro Indi Inno Ito Jovi Kine Kolo Lumi Luxo Magni Medi Mono Nano "
    "Navi Neo Nova Octo Omni Opti Orbi Oxy Para Penta Photo Poly Prima Proxi Quadra Quanta Radi Reso Sola Sono "
    "Spectra Stella Syna Tecto Tele Terra Theta Titan Tri Ultra Uni Vecto Veri Vesta Vita Volta Xeno Zeni Zeta"
)
_BRAND_ENDS = words(
    "bex bit cast cel cor cron dex don dyne fab fex field flow form gen graph grid ion kon lab lane lex line link "
    "lith logic lon lux max med metric mont nex nix north pact path phase plex point pro quest rex rion scan "
    "scape sense set shift sonic span sphere stat stem sys tech tek tex tone tra tron vance vex via vue ware wave "
    "worx zen zon"
)
_NOUNS = words(
    "Abbey Accord Acrobat Alibi Almanac Anchor Anthem Apprentice Archive Armada Arrow Atlas Attic Avalanche "
    "Ballad Banquet Barge Basilica Bazaar Beacon Bell Blizzard Bonfire Border Bouquet Boulevard Bramble Brigade "
    "Butcher Cabin Canal Candle Canyon Caravan Carnival Cartographer Cathedral Cellar Chapel Choir Cipher Circus "
    "Cliff Clockmaker Colony Comet Compass Conductor Confession Cornfield Cottage Courier Cradle Crossing Crown "
    "Cyclone Daughter Debt Deluge Desert Diary Diplomat Dowry Dragonfly Drifter Drummer Duchess Duel Eclipse "
    "Elegy Embassy Ember Emigrant Empire Engine Envoy Epilogue Errand Estuary Exile Express Fable Falcon Ferryman "
    "Festival Fiddler Fisherman Flood Forger Fortress Fountain Foxglove Frontier Gallery Gambler Garden Garrison "
    "Geyser Glacier Gondola Granary Guardian Guitar Hangar Harbor Harvest Heiress Heron Hideaway Highway Horizon "
    "Hostage Hourglass Hunter Hurricane Idol Inferno Inheritance Inkwell Interpreter Island Jester Jewel Journey "
    "Jubilee Juggler Jury Keeper Kettle Kingdom Kiosk Kite Labyrinth Lagoon Lantern Ledger Legend Letter "
    "Lighthouse Lily Locket Lullaby Machine Magician Mansion Marathon Masquerade Meadow Medallion Melody "
    "Messenger Meteor Mirage Mirror Monsoon Monument Mosaic Motel Mountain Mural Navigator Necklace Nightingale "
    "Nomad Notebook Oasis Oath Observatory Odyssey Opera Oracle Orchard Orphan Outpost Overture Palace Parade "
    "Passage Patrol Pavilion Pearl Pendulum Pigeon Pilgrim Pioneer Plantation Platform Poacher Portrait Postcard "
    "Prairie Prisoner Promise Prophet Puppet Pyramid Quarry Quartet Quest Railway Ransom Raven Rebel Recital "
    "Regatta Refuge Reunion Revenge Riddle Ritual River Robber Rooftop Saddle Safari Sailor Sanctuary Sapphire "
    "Satellite Scarecrow School Sculptor Season Secret Sentinel Serenade Shepherd Shipwreck Silence Skyline "
    "Smuggler Sonata Sorcerer Souvenir Sparrow Spectacle Spiral Stairway Station Statue Storm Stranger Surgeon "
    "Suspect Swindler Symphony Tailor Talisman Tapestry Tavern Telegram Tempest Temple Theater Thicket Thief "
    "Thunder Tiger Tinker Tower Translator Traveler Treasure Treaty Trial Tribute Trumpet Tunnel Twilight Typist "
    "Umbrella Uprising Valley Vanguard Verdict Veteran Village Vineyard Violin Visitor Volcano Voyage Waltz "
    "Warden Warrior Watchman Waterfall Wedding Whisper Widow Wilderness Window Winter Witness Workshop Wreck "
    "Zeppelin Zodiac"
)

_TABLES = {
    "first": (_FIRST_STARTS, _FIRST_ENDS),
    "last": (_LAST_STARTS, _LAST_ENDS),
    "town": (_TOWN_STARTS, _TOWN_ENDS),
    "brand": (_BRAND_STARTS, _BRAND_ENDS),
    "noun": (_NOUNS, ("",)),
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


STATES = words(
    "Alabama Alaska Arizona Arkansas California Colorado Connecticut Delaware Florida Georgia Hawaii Idaho "
    "Illinois Indiana Iowa Kansas Kentucky Louisiana Maine Maryland Massachusetts Michigan Minnesota Mississippi "
    "Missouri Montana Nebraska Nevada Ohio Oklahoma Oregon Pennsylvania Tennessee Texas Utah Vermont Virginia "
    "Washington Wisconsin Wyoming"
)
MONTHS = words("January February March April May June July August September October November December")
COUNTRIES = words(
    "USA;UK;Canada;France;Germany;Italy;Spain;Sweden;Japan;Mexico;Brazil;India;Australia;Ireland;"
    "Norway;Poland;Chile;South Korea;New Zealand;Argentina;Denmark;Finland;Portugal;Greece;Austria"
)
LANGUAGES = words(
    "English French German Italian Spanish Swedish Japanese Hindi Portuguese Danish Polish Korean Greek Finnish "
    "Arabic Turkish Dutch Czech Hungarian Norwegian"
)
_ADJECTIVES = words(
    "Golden Silent Broken Lonely Hidden Crimson Paper Hollow Burning Distant Forgotten Glass Last Second Midnight "
    "Salt Scarlet Secret Borrowed Crooked Electric Emerald Endless Faded Fallen First Frozen Gentle Haunted Idle "
    "Invisible Jealous Painted Perfect Quiet Restless Savage Seventh Shattered Sleeping Stolen Tender Twisted "
    "Unlikely Velvet Wandering Wayward Whispering Wooden Yellow"
)
_THINGS = words(
    "adapter battery bearing binding blade bracket buffer cable canvas carrier case channel charger circuit "
    "clutch coating collar cover cushion dial drawer engine fabric filter frame fuse gasket grip handle harness "
    "heater hinge index kit lamp latch lens lever lid liner lock meter module motor mount nozzle panel pedal pump "
    "rack relay ribbon rotor seal sensor shaft shell sleeve socket spring strap switch tank timer tray trigger "
    "tube valve vent wheel wire zipper"
)
_QUALITIES = words(
    "adjustable aluminum anodized black blue braided bright brown brushed ceramic coarse compact copper cotton "
    "dark deep double dual dry elastic fast fine fixed flat folding front glossy green heavy hollow insulated "
    "large leather light linen long low magnetic manual matte metal narrow natural oak orange padded pine plain "
    "plastic polished portable purple quick rear red removable reinforced ribbed rigid round rubber satin sealed "
    "short silver single slim smooth soft solid spare square stainless steel stiff striped textured thick thin "
    "tinted upright walnut warm waxed white wide wool woven yellow"
)
_RELATIONS = words("with for without and under beside over plus on near inside")
_SUFFIXES = ("Inc.", "LLC", "Ltd.", "Group", "& Sons", "Partners", "Corporation", "GmbH", "Company", "Holdings")
_SCHOOLS = words(
    "University;College;Institute;Academy;Institute of Technology;Community College;State University;"
    "School of Art;Bible College"
)
_UNITS = words("kg;lbs;mm;cm;inches;hours;days;MB;watts;miles;sq ft;mph;pages;oz")
_TLDS = ("com", "com", "com", "org", "net", "edu", "info", "co.uk", "de", "us")


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
        return f"{name} {self.rng.choice(_SUFFIXES)}"

    def studio(self) -> str:
        kind = self.rng.choice(("Pictures", "Films", "Studios", "Entertainment", "Productions", "Cinema", "Media"))
        return f"{self.rng.choice((self.word('brand'), self.word('town'), self.word('last')))} {kind}"

    def title(self) -> str:
        adjective, noun = self.rng.choice(_ADJECTIVES), self.word("noun")
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
        kind = self.rng.choice(_SCHOOLS)
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
        return f"{start}{name}{r.choice(('', r.randint(1, 99)))}.{r.choice(_TLDS)}"

    def email(self) -> str:
        who = self.rng.choice(("info", "office", "admissions", "hello", self.first().lower()))
        return f"{who}@{self.word('brand').lower()}.{self.rng.choice(_TLDS)}"

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
        unit = self.rng.choice(_UNITS)
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
        r = self.rng
        start = f"{r.choice(_QUALITIES)} {r.choice(_THINGS)}"
        return r.choice(
            (
                start,
                f"{r.choice(_QUALITIES)} {start}",
                f"{start} {r.choice(_RELATIONS)} {r.choice(_QUALITIES)} {r.choice(_THINGS)}",
            )
        )

    def phrase(self) -> str:
        r = self.rng
        return f"{r.choice(_QUALITIES)}, {r.choice(_QUALITIES)}" if r.random() < 0.2 else self.thing()

    def made_up_key(self) -> str:
        """A key that means nothing, so that only its place on the page tells the value."""
        r = self.rng
        tails = ("type", "code", "size", "rating", "date", "count", "owner", "supplier", "note")
        tail = r.choice(("", "", "", f" {r.choice(tails)}"))
        return r.choice(
            (f"{r.choice(_QUALITIES)} {r.choice(_THINGS)}{tail}", f"{r.choice(_THINGS)} {r.choice(_THINGS)}{tail}")
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
