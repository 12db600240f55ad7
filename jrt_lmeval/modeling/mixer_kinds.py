"""What is to be known of each mixer without building it. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class MixerKind:
    """A mixer's facts.

    Attributes:
        linear: whether it is linear attention, with a feature map.
        prefix: whether a prefix gives it a head start.
        grows: whether its state keeps every token, so that it grows with the text.
    """

    linear: bool = False
    prefix: bool = False
    grows: bool = False


MIXER_KINDS: dict[str, MixerKind] = {
    "conv": MixerKind(),
    "swa": MixerKind(),
    "attention": MixerKind(grows=True),
    "attention_nope": MixerKind(grows=True),
    "linear": MixerKind(linear=True),
    "prefix_linear": MixerKind(linear=True, prefix=True),
}
"""By the names of `mixers.MIXERS`, which builds them."""


def with_prefix(mixers: Sequence[str]) -> bool:
    """Whether a prefix gives any of the layers a head start: what makes a model a JRT-RNN."""
    return any(kind.prefix and name in mixers for name, kind in MIXER_KINDS.items())


def with_feature_map(mixers: Sequence[str]) -> bool:
    """Whether any of the layers is linear attention."""
    return any(kind.linear and name in mixers for name, kind in MIXER_KINDS.items())


def growing_layers(mixers: Sequence[str]) -> frozenset[int]:
    """The layers whose state grows with the text, from 0."""
    return frozenset(layer for layer, name in enumerate(mixers) if MIXER_KINDS[name].grows)
