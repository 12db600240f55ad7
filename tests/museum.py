"""A page of four sentences and what is asked of it, for tests of layouts."""

from __future__ import annotations

from jrt_lmeval.prompts import Parts

LINES = [
    "The museum in Oslo keeps nine old ships.",
    "Its keeper is Ida Moen of Bergen.",
    "The harbor office counts four hundred boats.",
    "The library lists all of the maps.",
]
DOCUMENT = "\n".join(LINES)
PARTS = Parts(DOCUMENT, "Keeper:", lead="Information about Keeper. ", query="keeper")
