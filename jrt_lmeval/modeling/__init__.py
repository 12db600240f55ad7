"""The models: prefix linear attention and the layers around it. Imports no torch and knows nothing of lm_eval.

Glossary, used in every shape comment of this package:

B  rows of a batch            T  tokens of a row (padded)      M  prefix length: tokens that give the head start
H  heads                      D  head dimension of q and k     F  features, after the feature map
V  head dimension of values   C  hidden size                   W  window of sliding attention, the token itself included
S  state: sum of phi(k) v^T   z  normaliser: sum of phi(k)     ke, ve  keys and values of the prefix projections

The functions below say what follows from the names of a model's mixers (`mixers.MIXERS` builds them).
"""

from __future__ import annotations

from collections.abc import Sequence

PREFIX_MIXERS = ("prefix_linear",)
LINEAR_MIXERS = ("linear", *PREFIX_MIXERS)
GROWING_MIXERS = ("attention", "attention_nope")
MEMORY_MIXERS = {"jrt_rnn": "prefix_linear", "based": "linear", "softmax": "attention_nope", "mamba2": "mamba2"}
"""Kernel of a memory layer (`retrofit`) -> the mixer that it is. `jrt_rnn`: a prefix gives the head start. `based`:
causal. `mamba2`: a state that fades, without a feature map. `softmax`: exact scores, a state that grows with the text:
what a constant state is compared with, and started from."""
MAPPED = ("jrt_rnn", "based")
"""Kernels with a feature map."""


def with_prefix(mixers: Sequence[str]) -> bool:
    """Whether a prefix gives any of the layers a head start, which makes a model a JRT-RNN."""
    return any(name in PREFIX_MIXERS for name in mixers)


def with_feature_map(mixers: Sequence[str]) -> bool:
    """Whether any of the layers is linear attention."""
    return any(name in LINEAR_MIXERS for name in mixers)


def growing_layers(mixers: Sequence[str]) -> frozenset[int]:
    """The layers, from 0, whose state keeps every token and so grows with the text."""
    return frozenset(layer for layer, name in enumerate(mixers) if name in GROWING_MIXERS)
