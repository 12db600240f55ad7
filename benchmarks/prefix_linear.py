"""Prefix linear attention from raw queries and keys against quadratic forms, at the geometry of the 1.3B layer.

    python -m benchmarks --only prefix_linear

Feature maps are part of what is timed, projections are not. The published form writes out its 1 + D + D^2 Taylor
features for whole rows, the scores of all pairs of tokens, and running sums for the normaliser. Further lines: how the
time of a token grows with the length, memory, and questions that two shipped models must answer identically with both
forms.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import Row, compared, peak, rounds, row, seconds, side_by_side
from benchmarks.reuse import answer
from jrt_lmeval.data.shipped import factbook_rows
from jrt_lmeval.modeling.feature_maps import FeatureMap, build_feature_map, sum_normalised_heads
from jrt_lmeval.modeling.linear_attention import Prefix, chunked, naive, normalise, streamed
from jrt_lmeval.prompts import Prompt
from jrt_lmeval.runner import load_model

H, D, V = 16, 16, 112
LENGTHS, QUICK_LENGTHS = (1024, 2048, 32768), (96, 128, 256)
"""Tokens of a row: against a learned map's quadratic form, against the published form, and the longest."""
TOLERANCE = 5e-3
MEGABYTE = 2**20
MODELS = ("jrt-taylor", "jrt-mlp")
"""One whose map has a closed kernel, and one whose map is learned."""
QUESTIONS, QUICK_QUESTIONS = 200, 3
LETTERS = 1500
"""Of each document: the quadratic form would take minutes over whole ones."""

Inputs = tuple[Tensor, Tensor, Tensor, Prefix]


def inputs(T: int) -> Inputs:
    """Queries and keys before the map `[1, H, T, D]`, values, and a prefix of all T tokens."""
    generator = torch.Generator().manual_seed(T)
    q, k, ke = (torch.randn(1, H, T, D, generator=generator) for _ in range(3))
    v, ve = (torch.randn(1, H, T, V, generator=generator) for _ in range(2))
    return q, k, v, Prefix(ke, ve, torch.ones(1, T, dtype=torch.bool))


def published_features(x: Tensor) -> Tensor:
    """1 + D + D^2 features of the second-order Taylor expansion, every product twice (JRT's `TaylorExp`)."""
    squares = (x[..., :, None] * x[..., None, :]).flatten(-2) / (2 * D) ** 0.5
    return torch.cat([torch.ones_like(x[..., :1]), x * D**-0.25, squares], dim=-1)


def published(q: Tensor, k: Tensor, v: Tensor, prefix: Prefix) -> Tensor:
    """The quadratic form of the published code, `[1, H, T, V]`."""
    real = prefix.mask[:, None, :, None]
    q, k, ke = published_features(q), published_features(k), published_features(prefix.k) * real
    y = (q @ k.mT).tril() @ v + (q @ ke.mT) @ (prefix.v * real)
    return y / ((q * (k.cumsum(2) + ke.sum(2, keepdim=True))).sum(-1, keepdim=True) + 1e-6)


def ours(feature_map: FeatureMap, given: Inputs) -> Tensor:
    """Features chunk by chunk, as models read a prompt, `[1, H, T, V]`."""
    y, d, _ = streamed(feature_map, *given)
    return normalise(y, d, sum_normalised_heads(feature_map))


def at_once(feature_map: FeatureMap, given: Inputs, form: Callable = naive) -> Tensor:
    """The same, but all features of the row are made first."""
    q, k, v, prefix = given
    y, d, _ = form(feature_map(q), feature_map(k), v, prefix._replace(k=feature_map(prefix.k)))
    return normalise(y, d, sum_normalised_heads(feature_map))


def prepared(way: Callable[..., Tensor], T: int) -> Callable[[], object]:
    """One pass over T tokens: what `peak` measures."""
    return torch.inference_mode()(partial(way, build_feature_map("taylor", H, D), inputs(T)))


def rows(quick: bool) -> list[Row]:
    """The published form over ours, a learned map's quadratic form over ours, growth, memory, and answers."""
    short, T, long = QUICK_LENGTHS if quick else LENGTHS
    taylor, one, other = build_feature_map("taylor", H, D), inputs(T), inputs(short)
    torch.manual_seed(0)
    mlp = build_feature_map("mlp", H, D)
    against_published = {"chunk by chunk": partial(ours, taylor, one), "published": partial(published, *one)}
    against_quadratic = {"chunk by chunk": partial(ours, mlp, other), "quadratic": partial(at_once, mlp, other)}
    with torch.inference_mode():
        found = [
            compared(f"taylor, published quadratic form, M = T = {T}", against_published, TOLERANCE, quick),
            compared(f"mlp, quadratic form, M = T = {short}", against_quadratic, TOLERANCE, quick),
            _a_token(T, long, quick),
        ]
    return [*found, _memory(long), *(_answers(name, quick) for name in MODELS)]


def _a_token(first: int, other: int, quick: bool) -> Row:
    """Time of a token at one length over that at another: about 1 where time is linear."""
    taylor = build_feature_map("taylor", H, D)
    given = {f"T = {T}": inputs(T) for T in (other, first)}
    ways = {name: lambda one=one: seconds(partial(ours, taylor, one)) / one[0].shape[2] for name, one in given.items()}
    for way in ways.values():
        way()
    costs = side_by_side(ways, rounds(quick))
    return row(f"taylor, time of a token, {' and '.join(ways)}", costs, "-", unit="us", scale=1e6)


def _memory(T: int) -> Row:
    """Peak of a pass over T tokens beyond its inputs."""
    mine, theirs = (peak(prepared, way, T) / MEGABYTE for way in (ours, partial(at_once, form=chunked)))
    ways = ("chunk by chunk", "features at once")
    return Row(f"taylor, peak memory, M = T = {T}", *ways, mine, theirs, *[theirs / mine] * 3, "-", unit="MB")


def _answers(name: str, quick: bool) -> Row:
    """Model seconds of a shipped model over questions of `factbook`, with features chunk by chunk and quadratic.

    Raises:
        AssertionError: an answer differs.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    lm: Any = load_model("jrt_rnn", {"pretrained": name, "prefix": "document"}, batch_size="auto")
    asked = questions(QUICK_QUESTIONS if quick else QUESTIONS)
    fast, plain = "streamed", "naive"
    answers: dict[str, list[str]] = {}

    def timed(form: str) -> float:
        lm.engine.model.linear_attention = form
        answers[form], totals = answer(lm, asked, reuse=False)
        return totals["seconds"]

    costs = side_by_side({form: (lambda form=form: timed(form)) for form in (fast, plain)}, 1)
    different = sum(a != b for a, b in zip(answers[fast], answers[plain], strict=True))
    if different:
        raise AssertionError(f"{name}: {different} of {len(asked)} answers differ between {fast} and {plain}.")
    what, same = f"{name}, {len(asked)} questions of factbook", f"identical, {len(asked)} answers"
    return row(what, costs, same, unit="s", scale=1)


def questions(count: int) -> list[Prompt]:
    """`count` rows of `factbook`, spread evenly: the beginning of the document, then its question."""
    facts = factbook_rows()
    chosen = [facts[number * len(facts) // count] for number in range(count)]
    texts = [one["text"][:LETTERS] for one in chosen]
    return [Prompt(f"{text}\n{one['key']}:", 0, len(text), text) for text, one in zip(texts, chosen, strict=True)]
