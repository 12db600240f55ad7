"""All forms are equal: outputs, states and gradients, at odd lengths, for every prefix and map."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch import Tensor

from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.attention import banded, blocked, rotary
from jrt_lmeval.modeling.feature_maps import FEATURE_MAPS, build_feature_map, sum_normalised_heads
from jrt_lmeval.modeling.linear_attention import (
    SEGMENT,
    Attended,
    LinearState,
    Prefix,
    attend,
    chunked,
    head_start,
    naive,
    normalise,
    one_token,
    streamed,
)

B, H, D, V = 3, 2, 4, 5
TIGHT = {"rtol": 1e-9, "atol": 1e-10}


def step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    prefix: Prefix | None = None,
    mask: Tensor | None = None,
    state: LinearState | None = None,
    decay: Tensor | None = None,
) -> Attended:
    """The recurrence as the paper writes it, one token after the other; arguments and results as in `naive`."""
    (S, z), (rows, _, T, _) = head_start(k, v, prefix, state), q.shape
    real = torch.ones(rows, T, dtype=q.dtype) if mask is None else mask.to(q.dtype)
    ys, ds = [], []
    for i in range(T):
        here = real[:, i, None, None]
        if decay is not None:
            S = S * torch.exp(decay[:, None] * here)[..., None]
        S = S + (k[:, :, i] * here)[..., None] * v[:, :, i, None, :]
        z = z + k[:, :, i] * here
        ys.append((q[:, :, i, None, :] @ S)[:, :, 0])
        ds.append((q[:, :, i] * z).sum(-1))
    return torch.stack(ys, dim=2), torch.stack(ds, dim=2), LinearState(S, z)


def _inputs(name: str, T: int) -> tuple[dict[str, Tensor], tuple[bool, ...]]:
    """Leaf tensors before the map, and which heads divide by their sum."""
    torch.manual_seed(T)
    raw = {n: torch.randn(B, H, T, D, dtype=torch.float64, requires_grad=True) for n in ("q", "k", "ke")}
    raw |= {n: torch.randn(B, H, T, V, dtype=torch.float64, requires_grad=True) for n in ("v", "ve")}
    return raw, sum_normalised_heads(build_feature_map(name, H, D))


def _run(
    form: str,
    name: str,
    raw: dict[str, Tensor],
    by_sum: tuple[bool, ...],
    lengths: list[int],
    prefixes: list[int] | None,
    start: bool,
) -> tuple[Tensor, LinearState, list[Tensor]]:
    torch.manual_seed(1)
    feature_map = build_feature_map(name, H, D).double()
    T = raw["q"].shape[2]
    order = torch.arange(T)
    mask = order < torch.tensor(lengths)[:, None]
    prefix = None
    if prefixes is not None:
        prefix = Prefix(raw["ke"], raw["ve"], mask & (order < torch.tensor(prefixes)[:, None]))
    features = feature_map.feature_dim
    state = LinearState(torch.rand(B, H, features, V).double(), torch.rand(B, H, features).double()) if start else None
    if form == "step":
        prefix = None if prefix is None else prefix._replace(k=feature_map(prefix.k))
        y, d, end = step(feature_map(raw["q"]), feature_map(raw["k"]), raw["v"], prefix, mask, state)
    else:
        y, d, end = attend(form, feature_map, raw["q"], raw["k"], raw["v"], prefix, mask, state)
    out = normalise(y, d, by_sum).masked_fill(~mask[:, None, :, None], 0.0)
    weight = torch.linspace(0.1, 1.0, out.numel(), dtype=torch.float64).reshape(out.shape)
    used = [t for n, t in raw.items() if prefixes is not None or n not in ("ke", "ve")]
    return out, end, list(torch.autograd.grad((out * weight).sum() + end.S.sum(), used, allow_unused=True))


def _prefixes(kind: str, lengths: list[int]) -> list[int] | None:
    return {
        "causal": None,
        "zero": [0] * B,
        "one": [1] * B,
        "half": [n // 2 for n in lengths],
        "all": lengths,
        "ragged": [0, lengths[1], lengths[2] // 2],
    }[kind]


@pytest.mark.parametrize("kind", ["causal", "zero", "one", "half", "all", "ragged"])
@pytest.mark.parametrize("T", [1, 7, 63, 130])
@pytest.mark.parametrize("name", FEATURE_MAPS)
def test_the_forms_agree(name: str, T: int, kind: str) -> None:
    raw, by_sum = _inputs(name, T)
    lengths = [T, max(1, T - 5), max(1, T // 3)]
    results = [
        _run(form, name, raw, by_sum, lengths, _prefixes(kind, lengths), start=kind == "ragged")
        for form in ("naive", "chunked", "step", "streamed")
    ]
    for out, end, gradients in results[1:]:
        torch.testing.assert_close(out, results[0][0], **TIGHT)
        torch.testing.assert_close(end.S, results[0][1].S, **TIGHT)
        torch.testing.assert_close(end.z, results[0][1].z, **TIGHT)
        for mine, truth in zip(gradients, results[0][2], strict=True):
            if truth is None:
                assert mine is None
            else:  # what takes no part in a pass may have no gradient in place of zeros
                mine = torch.zeros_like(truth) if mine is None else mine
                torch.testing.assert_close(mine, truth, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", FEATURE_MAPS)
def test_streamed_without_gradients_leaves_its_start_alone(name: str) -> None:
    raw, _ = _inputs(name, 130)
    feature_map = build_feature_map(name, H, D).double()
    mask = torch.arange(130) < torch.tensor([130, 100, 3])[:, None]
    prefix = Prefix(raw["ke"], raw["ve"], mask & (torch.arange(130) < torch.tensor([70, 0, 2])[:, None]))
    start = LinearState(
        torch.rand(B, H, feature_map.feature_dim, V).double(), torch.rand(B, H, feature_map.feature_dim).double()
    )
    kept = LinearState(start.S.clone(), start.z.clone())
    arguments = (feature_map, raw["q"], raw["k"], raw["v"], prefix, mask)
    with_gradients = streamed(*arguments, start)
    with torch.no_grad():
        without = streamed(*arguments, start, chunk=17)
    assert torch.equal(start.S, kept.S) and torch.equal(start.z, kept.z)
    torch.testing.assert_close((*without[:2], *without[2]), (*with_gradients[:2], *with_gradients[2]), **TIGHT)


@pytest.mark.parametrize("name", FEATURE_MAPS)
@pytest.mark.parametrize("limit", ["HELD", "CACHED"])
def test_streamed_makes_features_again_and_takes_rows_one_by_one(
    limit: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What long rows and large batches do, at a small size: outputs, states, gradients, the map's own among them."""
    raw, by_sum = _inputs(name, 130)
    feature_map, mask = build_feature_map(name, H, D).double(), torch.arange(130) < torch.tensor([130, 64, 3])[:, None]
    prefix = Prefix(raw["ke"], raw["ve"], torch.arange(130) < torch.tensor([65, 0, 2])[:, None])
    leaves = [*raw.values(), *feature_map.parameters()]

    def results() -> list[Tensor]:
        y, d, end = streamed(feature_map, raw["q"], raw["k"], raw["v"], prefix, mask)
        out = normalise(y, d, by_sum).masked_fill(~mask[:, None, :, None], 0.0)
        loss = (out * torch.linspace(0.1, 1.0, V)).sum() + end.S.sum() + end.z.square().sum()
        return [out, *end, *torch.autograd.grad(loss, leaves)]

    expected = results()
    monkeypatch.setattr(f"jrt_lmeval.modeling.linear_attention.{limit}", 0)
    for mine, truth in zip(results(), expected, strict=True):
        torch.testing.assert_close(mine, truth, **TIGHT)


@pytest.mark.parametrize("name", ["mlp", "hybrid", "poly"])
def test_streamed_teaches_the_map_and_the_start(name: str) -> None:
    raw, by_sum = _inputs(name, 70)
    feature_map = build_feature_map(name, H, D).double()
    start = LinearState(
        *(torch.rand(B, H, feature_map.feature_dim, *size, dtype=torch.float64).requires_grad_() for size in ((V,), ()))
    )
    leaves, found = [*start, *feature_map.parameters()], []
    for y, d, end in (
        streamed(feature_map, raw["q"], raw["k"], raw["v"], state=start, chunk=9),
        naive(feature_map(raw["q"]), feature_map(raw["k"]), raw["v"], state=start),
    ):
        loss = (normalise(y, d, by_sum) * torch.linspace(0.1, 1.0, V)).sum() + end.S.square().sum() + end.z.sum()
        found.append(torch.autograd.grad(loss, leaves))
    torch.testing.assert_close(*found, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", FEATURE_MAPS)
@pytest.mark.parametrize("decay", [None, torch.tensor([-0.01, -0.7], dtype=torch.float64)], ids=["kept", "fades"])
def test_a_token_of_decoding_is_a_step(decay: Tensor | None, name: str) -> None:
    raw, _ = _inputs(name, 1)
    phi = build_feature_map(name, H, D).double()
    start = LinearState(torch.rand(B, H, phi.feature_dim, V).double(), torch.rand(B, H, phi.feature_dim).double())
    q, k, v = raw["q"], raw["k"], raw["v"]
    torch.testing.assert_close(
        one_token(phi, q, k, v, start, decay), step(phi(q), phi(k), v, state=start, decay=decay), **TIGHT
    )
    earlier = LinearState(start.S + phi(k).mT @ v, start.z)  # as published: k v^T enters before the state fades, too
    torch.testing.assert_close(
        one_token(phi, q, k, v, start, decay, twice=True),
        step(phi(q), phi(k), v, state=earlier, decay=decay),
        **TIGHT,
    )


def test_a_misspelt_form_is_refused_by_name() -> None:
    raw, _ = _inputs("relu", 3)
    with pytest.raises(JRTError, match=r"unknown form of linear attention 'chunkd'.*'chunked'"):
        attend("chunkd", build_feature_map("relu", H, D), raw["q"], raw["k"], raw["v"])
    model = tiny.jrt(("prefix_linear",))
    model.linear_attention = "steamed"
    with pytest.raises(JRTError, match=r"'steamed'.*'streamed'"):
        model.prefill(torch.tensor([[1, 2, 3]]))


def test_segments_carry_the_state() -> None:
    torch.manual_seed(0)
    T = SEGMENT + 77
    q, k, v = (torch.rand(1, 1, T, size, dtype=torch.float64) for size in (3, 3, 2))
    for mine, truth in zip(chunked(q, k, v)[:2], naive(q, k, v)[:2], strict=True):
        torch.testing.assert_close(mine, truth, **TIGHT)


@pytest.mark.parametrize("window", [1, 4, 9, 71])
@pytest.mark.parametrize("T", [1, 8, 29, 150])
@pytest.mark.parametrize("read", [[0, 0, 0], [2, 0, 140]])
def test_blocked_window_attention_equals_the_full_mask(window: int, T: int, read: list[int]) -> None:
    torch.manual_seed(T)
    cache = window - 1
    q = torch.randn(B, H, T, D, dtype=torch.float64, requires_grad=True)
    k, v = torch.randn(2, B, H, cache + T, D, dtype=torch.float64).requires_grad_()
    valid = torch.arange(cache + T) >= cache - torch.tensor(read)[:, None]
    results = [form(q, k, v, valid, window) for form in (blocked, banded)]
    torch.testing.assert_close(*results, **TIGHT)
    weight = torch.randn(B, H, T, D, dtype=torch.float64)
    for mine, truth in zip(*(torch.autograd.grad((y * weight).sum(), (q, k, v)) for y in results), strict=True):
        torch.testing.assert_close(mine, truth, **TIGHT)


@pytest.mark.parametrize("kind", ["causal", "ragged"])
@pytest.mark.parametrize("T", [1, 7, 130])
def test_the_forms_agree_where_the_state_fades(T: int, kind: str) -> None:
    torch.manual_seed(T)
    decay = torch.tensor([-0.01, -0.7], dtype=torch.float64)
    q, k, ke = torch.rand(3, B, H, T, D, dtype=torch.float64)
    v, ve = torch.randn(2, B, H, T, V, dtype=torch.float64)
    lengths = [T, max(1, T - 5), max(1, T // 3)]
    mask = torch.arange(T) < torch.tensor(lengths)[:, None]
    prefixes = _prefixes(kind, lengths)
    prefix = None if prefixes is None else Prefix(ke, ve, mask & (torch.arange(T) < torch.tensor(prefixes)[:, None]))
    start = LinearState(torch.rand(B, H, D, V).double(), torch.rand(B, H, D).double())
    truth = naive(q, k, v, prefix, mask, start, decay)
    for form in (chunked, step):
        y, d, end = form(q, k, v, prefix, mask, start, decay)
        for mine, other in ((y, truth[0]), (d, truth[1])):
            torch.testing.assert_close(mine.transpose(1, 2)[mask], other.transpose(1, 2)[mask], **TIGHT)
        torch.testing.assert_close(end.S, truth[2].S, **TIGHT)
        torch.testing.assert_close(end.z, truth[2].z, **TIGHT)
    for row, length in enumerate(lengths):  # padding neither adds nor lets fade
        one = slice(row, row + 1)
        own = None if prefix is None else Prefix(*(x[one, :, :length] for x in prefix[:2]), prefix.mask[one, :length])
        alone = chunked(
            *(x[one, :, :length] for x in (q, k, v)), own, None, LinearState(start.S[one], start.z[one]), decay
        )
        torch.testing.assert_close(alone[2].S, truth[2].S[one], **TIGHT)


def test_segments_carry_a_fading_state() -> None:
    torch.manual_seed(0)
    T = SEGMENT + 77
    q, k, v = (torch.rand(1, 1, T, size, dtype=torch.float64) for size in (3, 3, 2))
    decay = torch.tensor([-0.001], dtype=torch.float64)
    for mine, truth in zip(chunked(q, k, v, decay=decay)[:2], naive(q, k, v, decay=decay)[:2], strict=True):
        torch.testing.assert_close(mine, truth, **TIGHT)


@pytest.mark.parametrize("dim, turned", [(0, 0), (3, 4), (4, 4), (None, 8)])
def test_rotary_turns_pairs_and_leaves_the_rest(dim: int | None, turned: int) -> None:
    x = torch.randn(1, 1, 5, 8, dtype=torch.float64)
    y = rotary(x, torch.arange(5)[None], dim=dim)
    assert torch.equal(y[..., turned:], x[..., turned:])
    half = turned // 2
    for i in range(half):
        pair, other = (z[0, 0, :, i] ** 2 + z[0, 0, :, i + half] ** 2 for z in (x, y))
        torch.testing.assert_close(pair, other, rtol=1e-6, atol=0)
    if dim == 3:  # frequencies 10000^(-2 i / 3), the last of them for an entry beyond the dimension
        angle = torch.arange(5) * 10000.0 ** (-2 / 3)
        expected = x[0, 0, :, 1] * angle.cos() - x[0, 0, :, 3] * angle.sin()
        torch.testing.assert_close(y[0, 0, :, 1], expected, rtol=1e-5, atol=1e-6)


def test_a_text_written_twice_gives_the_same_weighted_mean() -> None:
    """What a layer with a sum normaliser, no decay and no positions has read twice it has read once."""
    torch.manual_seed(0)
    k, v = torch.rand(1, 2, 9, 5).double(), torch.rand(1, 2, 9, 3).double()
    q = torch.rand(1, 2, 1, 5).double()
    end = naive(k, k, v)[2]
    again = naive(k, k, v, state=end)[2]
    means = [normalise(q @ state.S, (q @ state.z[..., None])[..., 0], (True, True), eps=0.0) for state in (end, again)]
    torch.testing.assert_close(*means)
    decay = torch.log(torch.tensor([0.9, 0.5]))
    fading = [naive(k, k, v, state=state, decay=decay)[2] for state in (None, naive(k, k, v, decay=decay)[2])]
    means = [normalise(q @ state.S, (q @ state.z[..., None])[..., 0], (True, True), eps=0.0) for state in fading]
    assert not torch.allclose(*means)
