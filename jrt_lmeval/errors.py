"""Errors that tell a user what is wrong and what would be right."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class JRTError(ValueError):
    """Bad input from a user: a model argument, a task file, a row of data, a checkpoint."""


def unknown(kind: str, name: object, choices: Iterable[str]) -> JRTError:
    """An error for a name that is not in a registry.

    Args:
        kind: what the name stands for, in the singular, such as `"feature map"`.
        name: what the user wrote.
        choices: the valid names.

    Returns:
        The error (to be raised by the caller), naming the nearest valid choice and all of them.
    """
    options = sorted(str(choice) for choice in choices)
    near = get_close_matches(str(name), options, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    choice = f"Choices: {', '.join(options)}." if options else "There is none to choose from."
    return JRTError(f"unknown {kind} {name!r}.{hint} {choice}")


def one_of(kind: str, value: Any, choices: Iterable[str]) -> str:
    """`value`, which must be one of the names in `choices`.

    Raises:
        JRTError: it is not, or it is no string at all, such as a YAML list; see `unknown`.
    """
    options = list(choices)
    if not isinstance(value, str) or value not in options:
        raise unknown(kind, value, options)
    return value


def whole_number(what: str, value: object, least: int = 1, most: int | None = None) -> int:
    """`value`, which must be a whole number from `least` to `most`.

    Raises:
        JRTError: it is not; names `what` and the bounds.
    """
    number = isinstance(value, int) and not isinstance(value, bool)
    if not number or value < least or (most is not None and value > most):  # type: ignore[operator]
        bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise JRTError(f"{what} must be a whole number {bounds}, not {value!r}.")
    return value  # type: ignore[return-value]
