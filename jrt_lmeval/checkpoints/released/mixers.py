"""What one kind of released mixer is in our terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jrt_lmeval.errors import JRTError


@dataclass(frozen=True)
class ReleasedMixer:
    """A mixer class of the released code.

    Attributes:
        kind: the name of ours, a key of `jrt_lmeval.modeling.mixers.MIXERS`.
        names: parameter of theirs -> parameter of ours.
        settings: from the mixer's fields and the whole configuration to fields of `JRTConfig`.
    """

    kind: str
    names: Mapping[str, str]
    settings: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]


def must_be(fields: Mapping[str, Any], allowed: Mapping[str, tuple[Any, ...]], where: str) -> None:
    """Refuse fields that would change the mathematics in a way that no released model has.

    Raises:
        JRTError: a field that is there has another value than those allowed.
    """
    for name, values in allowed.items():
        if name in fields and fields[name] not in values:
            wanted = " or ".join(repr(value) for value in dict.fromkeys(values))
            raise JRTError(f"{where}: {name} is {fields[name]!r}; only {wanted} is supported.")


def positive(fields: Mapping[str, Any], name: str, where: str, default: int | None = None) -> int:
    """A whole number of at least 1.

    Raises:
        JRTError: it is missing or something else.
    """
    value = fields.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise JRTError(f"{where}: {name} is {value!r}; it must be a whole number of at least 1.")
    return value
