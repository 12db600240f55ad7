"""What a row's fields must hold to be asked, and what is said where they do not."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from jrt_lmeval.errors import JRTError

DOCUMENT_ID = "jrt_doc_id"
"""Field of a row whose document was rewritten: what told it from others, so that its rows belong together."""


def document_id(row: Mapping[str, Any], named_by: str | None, document: str) -> str:
    """What tells one document from another: the field that names it, or 16 hexadecimal digits of the text's SHA-256."""
    given = row.get(DOCUMENT_ID, row.get(named_by) if named_by else None)
    return str(given) if given is not None else hashlib.sha256(document.encode()).hexdigest()[:16]


def filled(value: Any, what: str, role: str) -> None:
    """Raise unless a value is a text that is not blank."""
    if not isinstance(value, str):
        raise JRTError(f"{what} is {value!r}: it must be a string, {role}.")
    if not value.strip():
        raise JRTError(f"{what} is empty: it must hold {role}.")
    unicode(value, what)


def unicode(value: Any, what: str) -> None:
    """Raise for a text or list of texts that no tokenizer can read.

    A JSON file of good UTF-8 can still hold an escape such as "\\ud800".
    """
    for text in value if isinstance(value, (list, tuple)) else [value]:
        try:
            _ = text.encode() if isinstance(text, str) else b""
        except UnicodeEncodeError as error:
            raise JRTError(
                f"{what} holds {text[error.start]!r} at character {error.start + 1}: half of a surrogate pair, "
                "which is no Unicode text. Decode the source again, or put a replacement there (errors='replace')."
            ) from None


def answers(value: Any, what: str) -> list[str]:
    """The accepted answers as a list of texts; raises unless one of them is not blank."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    strange = any(not isinstance(one, (str, int, float)) or (isinstance(one, float) and one != one) for one in values)
    if strange or not any(str(one).strip() for one in values):
        raise JRTError(
            f"{what} is {value!r}: it must hold the accepted answer or a list of them, not all of them empty."
        )
    unicode(values, what)
    return [str(one) for one in values]


def missing(field: str, row: Mapping[str, Any]) -> JRTError:
    """The error for a field that a row does not have, with the nearest that it has."""
    near = get_close_matches(field, list(row), n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return JRTError(f"field {field!r} is missing.{hint} The row has: {', '.join(row)}.")
