"""Texts in few bytes: pieces that the page's script unpacks when they are looked at."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any


def packed(content: Any) -> str:
    """JSON, deflated (zlib), in base64: no character of it means anything to HTML."""
    text = json.dumps(content, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode("ascii"), 6)).decode("ascii")


class Pieces:
    """A list in pieces of a fixed number of entries, each packed as soon as it is full.

    Args:
        size: entries of a piece.
    """

    def __init__(self, size: int) -> None:
        self.size, self.count = size, 0
        self._packed: list[str] = []
        self._open: list[Any] = []

    def add(self, entry: Any) -> int:
        """Keep an entry; returns its number."""
        self._open.append(entry)
        self.count += 1
        if len(self._open) == self.size:
            self._close()
        return self.count - 1

    @property
    def starts(self) -> bool:
        """Whether the next entry is the first of its piece."""
        return not self._open

    def close(self) -> list[str]:
        """All pieces."""
        if self._open:
            self._close()
        return self._packed

    def _close(self) -> None:
        self._packed.append(packed(self._open))
        self._open = []


class Prompts:
    """Prompts with where the answers stand in them, each kept once, written as what differs from the one before.

    Args:
        size: prompts of a piece.
    """

    def __init__(self, size: int = 64) -> None:
        self.pieces = Pieces(size)
        self._known: dict[bytes, int] = {}
        self._last = ""

    def add(self, text: str, spans: Sequence[tuple[int, int]], whole: bool) -> int:
        """Keep a prompt; returns its number, which an equal one has got before.

        Args:
            text: the prompt.
            spans: where accepted answers stand in it, in characters, without overlaps.
            whole: False for a document that stands for a prompt that was not logged.
        """
        key = blake2b(f"{spans}{whole}{text}".encode(errors="surrogatepass"), digest_size=12).digest()
        if key in self._known:
            return self._known[key]
        shared = 0 if self.pieces.starts else shared_start(self._last, text)
        places = utf16(text, [place for span in spans for place in span])
        self._known[key] = number = self.pieces.add([*utf16(text, [shared]), text[shared:], places, int(whole)])
        self._last = text
        return number


def shared_start(one: str, other: str) -> int:
    """How many characters two texts share from their start."""
    same, most = 0, min(len(one), len(other))
    while same < most:  # halves: comparing slices is far faster than comparing characters
        middle = (same + most + 1) // 2
        if one[same:middle] == other[same:middle]:
            same = middle
        else:
            most = middle - 1
    return same


def utf16(text: str, places: Sequence[int]) -> list[int]:
    """Places in a text as JavaScript counts them, in UTF-16 units; ascending places."""
    if text.isascii() or max(text, default="") <= "\uffff":
        return list(places)
    found, units, before = [], 0, 0
    for place in places:
        units += len(text[before:place].encode("utf-16-le", "surrogatepass")) // 2
        before = place
        found.append(units)
    return found


def merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted spans with those that overlap made one."""
    found: list[tuple[int, int]] = []
    for start, end in spans:
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found
