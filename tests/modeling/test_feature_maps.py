"""Feature maps: kernels, ranges, errors."""

from __future__ import annotations

import math

import pytest
import torch

from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.feature_maps import FEATURE_MAPS, build_feature_map, sum_normalised_heads


def _qk(heads: int = 2, dim: int = 6, tokens: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    q, k = torch.randn(2, 3, heads, tokens, dim, dtype=torch.float64)
    return q, k


@pytest.mark.parametrize("name", FEATURE_MAPS)
def test_shape_and_range(name: str) -> None:
    feature_map = build_feature_map(name, 2, 6).double()
    q, _ = _qk()
    features = feature_map(q * 5)
    assert features.shape == (3, 2, 7, feature_map.feature_dim)
    assert torch.isfinite(features).all()
    if name not in ("taylor", "poly", "hybrid") and feature_map.normaliser == "sum":
        assert (features >= 0).all()


@pytest.mark.parametrize("name", FEATURE_MAPS)
def test_maps_divided_by_their_sum_never_have_a_negative_kernel(name: str) -> None:
    feature_map = build_feature_map(name, 2, 6).double()
    q, k = _qk(tokens=50)
    kernel = feature_map(q * 3) @ feature_map(k * 3).transpose(-1, -2)  # [B, H, T, T]
    by_sum = torch.tensor(sum_normalised_heads(feature_map))
    assert (kernel[:, by_sum] >= -1e-9).all()


@pytest.mark.parametrize("name", ["relu", "gelu", "elu", "square"])
def test_elementwise_maps_take_a_learned_expansion(name: str) -> None:
    plain, wide = build_feature_map(name, 2, 6).double(), build_feature_map(name, 2, 6, features=40).double()
    x, _ = _qk()
    assert not list(plain.parameters()) and wide(x).shape == (3, 2, 7, 40)
    torch.testing.assert_close(wide(x), plain(x @ wide.weight + wide.bias))
    assert wide.normaliser == plain.normaliser
    with pytest.raises(JRTError, match="features is 0; it must be at least 1"):
        build_feature_map(name, 2, 6, features=0)


def test_an_option_that_a_map_does_not_have_names_the_nearest() -> None:
    with pytest.raises(JRTError, match=r"unknown option of feature_map=relu 'feature'\. Did you mean 'features'"):
        build_feature_map("relu", 2, 6, feature=8)
    for name in ("taylor", "linear"):
        with pytest.raises(JRTError, match=f"feature_map={name} takes no options; 'features' is none"):
            build_feature_map(name, 2, 6, features=8)


@torch.no_grad()
def test_an_expansion_tells_a_key_from_others_better_than_the_map_alone() -> None:
    torch.manual_seed(0)
    x = 2 * torch.randn(1, 1, 64, 32)

    def contrast(feature_map: torch.nn.Module) -> float:
        kernel = (feature_map(x) @ feature_map(x).mT)[0, 0]
        others = kernel.sum() - kernel.diagonal().sum()
        return float(kernel.diagonal().mean() / (others / (64 * 63)))

    assert contrast(build_feature_map("relu", 1, 32, features=512)) > 1.5 * contrast(build_feature_map("relu", 1, 32))


def test_taylor_kernel_is_the_expansion_and_equals_the_redundant_form() -> None:
    q, k = _qk()
    feature_map = build_feature_map("taylor", 2, 6).double()
    s = (q @ k.transpose(-1, -2)) / math.sqrt(6)
    kernel = feature_map(q) @ feature_map(k).transpose(-1, -2)
    torch.testing.assert_close(kernel, 1 + s + s**2 / 2, rtol=0, atol=1e-12)

    def published(x: torch.Tensor) -> torch.Tensor:  # 1 + D + D^2 features, every product twice
        squares = (x[..., :, None] * x[..., None, :]).flatten(-2) / (math.sqrt(2) * math.sqrt(6))
        return torch.cat([torch.ones_like(x[..., :1]), x * 6**-0.25, squares], dim=-1)

    torch.testing.assert_close(kernel, published(q) @ published(k).transpose(-1, -2), rtol=0, atol=1e-12)
    assert build_feature_map("taylor", 1, 16).feature_dim == 153


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_polynomial_kernel(degree: int) -> None:
    q, k = _qk()
    feature_map = build_feature_map("poly", 2, 6, degree=degree).double()
    s = (q @ k.transpose(-1, -2)) / math.sqrt(6)
    torch.testing.assert_close(
        feature_map(q) @ feature_map(k).transpose(-1, -2), (s + 1) ** degree, rtol=1e-12, atol=1e-12
    )
    assert feature_map.normaliser == ("sum" if degree % 2 == 0 else "rms")


def test_gaussian_features_estimate_the_kernel_and_are_bounded() -> None:
    feature_map = build_feature_map("gaussian", 1, 4, features=200_000).double()
    torch.manual_seed(1)
    q, k = torch.randn(2, 1, 1, 3, 4, dtype=torch.float64)
    x, y = q * 4**-0.25, k * 4**-0.25
    kernel = torch.exp(-(x[..., :, None, :] - y[..., None, :, :]).square().sum(-1) / 2)
    estimate = feature_map(q) @ feature_map(k).transpose(-1, -2)
    torch.testing.assert_close(estimate, kernel, rtol=0.05, atol=0.01)
    bound = (feature_map.directions.double().square().sum(1) / 4).exp() * 200_000**-0.5
    assert (feature_map(torch.randn(1, 1, 9, 4, dtype=torch.float64) * 100) <= bound[:, None] * 1.001).all()


def test_a_bandwidth_measures_distances() -> None:
    q, k = torch.randn(2, 1, 1, 5, 4, dtype=torch.float64)
    wide, plain = (build_feature_map("gaussian", 1, 4, features=64, bandwidth=b).double() for b in (3.0, 1.0))
    assert torch.allclose(wide(q), plain(q / 3)) and not torch.allclose(wide(k), plain(k))
    # a key of length 8 at its own place: too small to be told from nothing at 1, not at 3
    long = torch.full((1, 1, 1, 4), 8.0, dtype=torch.float64)
    assert float((plain(long) * plain(long)).sum()) < 1e-12 < 1e-6 < float((wide(long) * wide(long)).sum())


def test_gaussian_directions_are_stored_with_the_weights() -> None:
    feature_map = build_feature_map("gaussian", 2, 4)
    assert "directions" in feature_map.state_dict()
    assert torch.equal(feature_map.directions, build_feature_map("gaussian", 2, 4).directions)


def test_hybrid_deals_heads_to_maps() -> None:
    feature_map = build_feature_map("hybrid", 3, 6, maps=["relu", "linear"]).double()
    q = torch.randn(1, 3, 5, 6, dtype=torch.float64)
    features = feature_map(q)
    torch.testing.assert_close(features[:, :2], q[:, :2].relu())
    torch.testing.assert_close(features[:, 2:], q[:, 2:])
    assert sum_normalised_heads(feature_map) == (True, True, False)


def test_a_hybrid_hands_options_to_its_maps() -> None:
    options = {"mlp": {"features": 12}}
    made = build_feature_map("hybrid", 3, 6, maps="gaussian+mlp", options=options)
    assert [part.feature_dim for part in made.parts] == [64, 12] and made.feature_dim == 64


def test_a_blend_weighs_the_kernels_of_its_maps() -> None:
    blend = build_feature_map(
        "blend", 2, 6, maps=["taylor", "gaussian"], options={"gaussian": {"features": 8}}
    ).double()
    q, k = _qk()
    kernels = [part(q) @ part(k).mT for part in blend.parts]
    assert blend.feature_dim == 28 + 8
    torch.testing.assert_close(blend(q) @ blend(k).mT, (kernels[0] + kernels[1]) / 2)
    torch.nn.init.normal_(blend.gate), torch.nn.init.normal_(blend.bias)
    gate = [torch.sigmoid(x @ blend.gate + blend.bias) for x in (q, k)]
    first, second = (gate[0] * gate[1].mT).sqrt(), ((1 - gate[0]) * (1 - gate[1]).mT).sqrt()
    torch.testing.assert_close(blend(q) @ blend(k).mT, first * kernels[0] + second * kernels[1])
    # a gate that is shut passes finite gradients on
    torch.nn.init.constant_(blend.bias, 1e3)
    blend(q).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in blend.parameters())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mpl", {}, "Did you mean 'mlp'"),
        ("mlp", {"features": 7}, "must be even"),
        ("mlp", {"featurs": 8}, "featurs"),
        ("poly", {"degree": 9}, "from 1 to 4"),
        ("gaussian", {"features": 0}, "at least 1"),
        ("gaussian", {"bandwidth": 0}, "bandwidth is 0; it must be above 0"),
        ("hybrid", {"maps": ["relu", "hybrid"]}, "none of them hybrid"),
        ("hybrid", {"maps": ["relu", "sofmax"]}, "unknown feature map 'sofmax'"),
        ("hybrid", {"options": {"mpl": {}}}, "Did you mean 'mlp'"),
        ("blend", {"maps": ["mlp", "gelu"]}, "two maps that divide by their sums"),
        ("blend", {"maps": ["mlp"]}, "two maps"),
    ],
)
def test_bad_input_names_what_is_right(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(JRTError, match=message):
        build_feature_map(name, 2, 6, **options)
