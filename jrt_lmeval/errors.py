"""Errors that tell a user what is wrong and what would be right."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


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
    return JRTError(f"unknown {kind} {name!r}.{hint} Choices: {', '.join(options)}.")
