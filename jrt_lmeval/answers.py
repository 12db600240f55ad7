"""Where an accepted answer stands in a text: the one rule that scores, windows, logs and controls share.

Letter case does not count. A blank answer (white space or nothing), which real data hold beside others, stands nowhere
here: what cannot be read cannot be found. Only the published score counts it (`scoring.contains`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

Span = tuple[int, int]
"""First character of an answer in a text, and the character after its last."""


def find(answer: str, text: str) -> Span | None:
    """Where a string first stands in a text, blank or not; None if nowhere."""
    match = re.search(re.escape(answer), text, re.IGNORECASE)
    return match.span() if match else None


def readable(answers: Iterable[str]) -> list[str]:
    """The answers that are not blank, in their order."""
    return [answer for answer in answers if answer.strip()]


def stands(answers: Iterable[str], text: str) -> bool:
    """Whether any of the answers stands in the text."""
    return any(find(answer, text) for answer in readable(answers))


def spans(answers: Iterable[str], text: str) -> list[Span]:
    """Where the answers stand, first places first; several answers may share a place.

    Occurrences of one answer do not overlap each other.
    """
    return sorted(
        match.span() for answer in readable(answers) for match in re.finditer(re.escape(answer), text, re.IGNORECASE)
    )


def replaced(answers: Iterable[str], text: str, *, new: str) -> str:
    """The text with another string wherever any of the answers stood, also inside longer words."""
    # The longest first: "Maarten" would leave "Ilse " of "Ilse Maarten".
    longest_first = sorted(readable(answers), key=len, reverse=True)
    if not longest_first:
        return text
    return re.sub("|".join(map(re.escape, longest_first)), lambda _: new, text, flags=re.IGNORECASE)


def stands_as_words(answer: str, text: str) -> bool:
    """Whether an answer stands in a text as whole words: "5" is not found in "2015", nor in "5.2" or "1,500"."""
    answer = answer.strip()
    if not answer:
        return False
    # A separator between digits belongs to the number: a bare \b would find "5" in "5.2".
    before = r"(?<!\w)(?<!\d[.,])" if answer[0].isdigit() else r"(?<!\w)"
    after = r"(?!\w)(?![.,]\d)" if answer[-1].isdigit() else r"(?!\w)"
    return re.search(before + re.escape(answer) + after, text, re.IGNORECASE) is not None
