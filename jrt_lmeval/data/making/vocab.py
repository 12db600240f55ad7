"""Invented proper names, split for good into training and test names.

A name belongs to the test split when a checksum of its spelling says so, so no list has to be kept in two halves and a
name can never stand in both. Names are composed of parts, which gives thousands: too many for a small model to learn.
"""

from __future__ import annotations

import zlib
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
