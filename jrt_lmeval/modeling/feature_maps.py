"""Feature maps phi: what stands in for the exponential of softmax attention (glossary in `modeling/__init__.py`).

A map turns queries and keys `[B, H, T, D]` into features `[B, H, T, F]`. Each names its normaliser:

`sum`  `phi(q).S / phi(q).z`: a weighted mean of the values. Needs `phi(q).phi(k) >= 0`, or the sum it divides by
         can pass through zero.
`rms`  `phi(q).S` divided by its own root mean square over the value dimension. For maps that can go negative
         (`linear`, `gelu`, odd polynomials) there is no safe sum; this one needs none, and does not grow with
         length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from inspect import signature

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jrt_lmeval.errors import JRTError, unknown

SUM, RMS = "sum", "rms"


class FeatureMap(nn.Module):
    """Base of all maps: `forward(x [B, H, T, D]) -> [B, H, T, feature_dim]`.

    Attributes:
        feature_dim: F, the number of features per head.
        normaliser: `"sum"` or `"rms"`, see `feature_maps`.
    """

    normaliser = SUM

    def __init__(self, num_heads: int, head_dim: int, feature_dim: int | None = None):
        super().__init__()
        self.num_heads, self.head_dim = num_heads, head_dim
        self.feature_dim = head_dim if feature_dim is None else feature_dim

    def kernel(self, q: Tensor, k: Tensor) -> Tensor | None:
        """phi(q).phi(k) of all pairs, `[..., T, K]`, from raw queries and keys `[..., T, D]`; None where no shorter way
        is known than to write the features out."""
        return None


# ---------------------------------------------------------------- each number by itself


class Linear(FeatureMap):
    """phi(x) = x (paper row "Linear")."""

    normaliser = RMS

    def __init__(self, num_heads: int, head_dim: int):
        super().__init__(num_heads, head_dim)

    def forward(self, x: Tensor) -> Tensor:
        return x


ELEMENTWISE: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "relu": (F.relu, SUM),
    "gelu": (F.gelu, RMS),  # dips to -0.17
    "elu": (lambda x: F.elu(x) + 1, SUM),  # above 0 (Katharopoulos et al., arXiv 2006.16236)
    "square": (torch.square, SUM),
}
"""Name -> f, and the normaliser that its sign allows."""


class Elementwise(FeatureMap):
    """phi(x) = f(x) with an element-wise f or, given a number of features, f(x W + b) (T2R, arXiv 2103.13076).

    W, whose columns begin with length 1, and b are learned, and one for all heads. b begins at -1: a feature is silent
    until x points its way, so that equal queries and keys stand out from others.

    Args:
        name: of f, in `ELEMENTWISE`.
        features: F; None for the element-wise map, whose features are the dimensions of x.
    """

    def __init__(self, name: str, num_heads: int, head_dim: int, features: int | None = None):
        if features is not None and features < 1:
            raise JRTError(f"feature_map={name}: features is {features}; it must be at least 1.")
        super().__init__(num_heads, head_dim, features)
        self.function, self.normaliser = ELEMENTWISE[name]
        self.expands = features is not None
        if features is not None:
            self.weight = nn.Parameter(F.normalize(torch.randn(head_dim, features), dim=0))
            self.bias = nn.Parameter(torch.full((features,), -1.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x @ self.weight + self.bias if self.expands else x)


# ---------------------------------------------------------------- polynomial kernels


class Taylor(FeatureMap):
    """Second-order Taylor expansion of exp(s), s = q.k / sqrt(D): phi(q).phi(k) = 1 + s + s^2 / 2 >= 1/2.

    The published JRT and Based map (arXiv 2402.18668). Their 1 + D + D^2 features hold every product x_i x_j twice; the
    symmetric form has the same inner product with 1 + D + D (D + 1) / 2 (153 instead of 273 at D = 16).
    """

    def __init__(self, num_heads: int, head_dim: int):
        super().__init__(num_heads, head_dim, 1 + head_dim + head_dim * (head_dim + 1) // 2)

    def forward(self, x: Tensor) -> Tensor:
        return monomials(x * self.head_dim**-0.25, degree=2, taylor=True)

    def kernel(self, q: Tensor, k: Tensor) -> Tensor:
        s = q @ (k * self.head_dim**-0.5).transpose(-1, -2)
        return torch.addcmul(s + 1, s, s, value=0.5)


class Poly(FeatureMap):
    """Polynomial kernel (s + 1)^degree, s = q.k / sqrt(D), as explicit features: all tensor powers of [1, x].

    Even degrees are never negative and take the `sum` normaliser, odd ones `rms`.

    Args:
        degree: 1 to 4. The number of features is C(D + degree, degree).
    """

    def __init__(self, num_heads: int, head_dim: int, degree: int = 2):
        if not isinstance(degree, int) or not 1 <= degree <= 4:
            raise JRTError(f"feature_map=poly: degree is {degree!r}; it must be a whole number from 1 to 4.")
        super().__init__(num_heads, head_dim, math.comb(head_dim + degree, degree))
        self.degree = degree
        self.normaliser = SUM if degree % 2 == 0 else RMS

    def forward(self, x: Tensor) -> Tensor:
        return monomials(x * self.head_dim**-0.25, self.degree)

    def kernel(self, q: Tensor, k: Tensor) -> Tensor:
        return (q @ (k * self.head_dim**-0.5).transpose(-1, -2) + 1) ** self.degree


class Centred(FeatureMap):
    """Quadratic kernel less its mean: phi(x) = x x^T - |x|^2 I / D, whose inner product is (q.k)^2 - |q|^2 |k|^2 / D,
    all of it over D.

    The mean over directions of the kernel is 0: what is not looked for adds noise and no common direction, so that
    the sum needs no denominator.
    """

    normaliser = RMS

    def __init__(self, num_heads: int, head_dim: int):
        super().__init__(num_heads, head_dim, head_dim * (head_dim + 1) // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.head_dim**-0.25
        squares = monomials(x, degree=2)[..., self.head_dim + 1 :]
        row, column = torch.triu_indices(self.head_dim, self.head_dim, device=x.device)
        return squares - (row == column) * x.square().mean(-1, keepdim=True)

    def kernel(self, q: Tensor, k: Tensor) -> Tensor:
        s = q @ (k * self.head_dim**-0.5).transpose(-1, -2)
        mean = q.square().mean(-1)[..., :, None] * k.square().mean(-1)[..., None, :]
        return torch.addcmul(-mean, s, s)


# ---------------------------------------------------------------- other kernels, learned maps, and several maps at once


def _by_head(x: Tensor) -> Tensor:
    """`[B, H, T, D] -> [H, B T, D]`, so that rows share their head's weights in one product."""
    return x.transpose(0, 1).flatten(1, 2)


def _by_row(x: Tensor, rows: int) -> Tensor:
    """Back again; in memory heads still come first."""
    return x.unflatten(1, (rows, -1)).transpose(0, 1)


class Gaussian(FeatureMap):
    """Positive random features of the Gaussian kernel exp(-|q - k|^2 / (2 bandwidth^2)) (Performer, arXiv 2009.14794).

    phi(x) = exp(w.x - |x|^2) / sqrt(F) with w ~ N(0, 1), so E[phi(q).phi(k)] is the kernel. The exponent is at most
    |w|^2 / 4: the features are positive and bounded whatever the input. w is a buffer drawn with a fixed seed and
    stored with the weights.

    Args:
        features: F, the number of random directions per head.
        seed: of the draw.
        bandwidth: distance, after division by D^(1/4), at which the kernel has fallen to exp(-1/2). Keys much longer
            than it have features too small to count.
    """

    directions: Tensor

    def __init__(self, num_heads: int, head_dim: int, features: int = 64, seed: int = 0, bandwidth: float = 1.0):
        if features < 1:
            raise JRTError(f"feature_map=gaussian: features is {features}; it must be at least 1.")
        if not bandwidth > 0:
            raise JRTError(f"feature_map=gaussian: bandwidth is {bandwidth}; it must be above 0.")
        super().__init__(num_heads, head_dim, features)
        self.bandwidth = bandwidth
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("directions", torch.randn(num_heads, head_dim, features, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        rows, x = len(x), _by_head(x * (self.head_dim**-0.25 / self.bandwidth))
        exponent = torch.bmm(x, self.directions.to(x.dtype)) - x.square().sum(-1, keepdim=True)
        return _by_row(exponent.exp() * self.feature_dim**-0.5, rows)


MAX_EXPONENT = 20.0  # the sum over a million such features is still far inside float32 and bfloat16

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda y: y.softmax(dim=-1),
    "exp": lambda y: y.clamp(max=MAX_EXPONENT).exp(),
}


class MLP(FeatureMap):
    """Learned map (paper's best row): per head a small residual MLP, then softmax over (+y, -y).

    y = x A + gelu(x B) C, phi(x) = softmax([y, -y]); positive, sums to 1. After Hedgehog (arXiv 2402.04347) and LoLCATs
    (arXiv 2410.10254), which have the linear part only.

    Args:
        features: F, even; half of them are +y, half -y.
        hidden: width of the hidden layer per head; default twice the input.
        activation: `softmax`, with which every key weighs the same in all, or `exp` (bounded), with which a key can
            also be passed over: with a sum over a long document that matters.
    """

    def __init__(
        self,
        num_heads: int,
        head_dim: int,
        features: int = 64,
        hidden: int | None = None,
        activation: str = "softmax",
    ):
        if features < 2 or features % 2:
            raise JRTError(
                f"feature_map=mlp: features is {features}; it must be even (half +y, half -y) and at least 2."
            )
        if activation not in ACTIVATIONS:
            raise unknown("activation of feature_map=mlp", activation, ACTIVATIONS)
        super().__init__(num_heads, head_dim, features)
        self.activation = activation
        hidden = 2 * head_dim if hidden is None else hidden
        std = head_dim**-0.5
        # twice the usual scale: a softmax that starts flat tells no key from another
        self.skip = nn.Parameter(torch.randn(num_heads, head_dim, features // 2) * 2 * std)
        self.up = nn.Parameter(torch.randn(num_heads, head_dim, hidden) * std)
        self.down = nn.Parameter(torch.randn(num_heads, hidden, features // 2) * hidden**-0.5 * 0.5)

    def forward(self, x: Tensor) -> Tensor:
        rows, x = len(x), _by_head(x)
        weight = torch.cat([self.skip, self.down], dim=1)
        # +y and -y from one product: twice the arithmetic, half the passes over memory
        weight = torch.cat([weight, -weight], dim=-1)
        y = torch.bmm(torch.cat([x, F.gelu(torch.bmm(x, self.up))], dim=-1), weight)
        return _by_row(ACTIVATIONS[self.activation](y), rows)


def _parts(
    whole: str, maps: Sequence[str], options: Mapping[str, Mapping[str, object]] | None, most: int
) -> list[tuple[str, Mapping[str, object]]]:
    """The maps that another is made of, with their options.

    Raises:
        JRTError: too many of them, one that is made of others itself, or options of a map that is not among them.
    """
    maps = maps.split("+") if isinstance(maps, str) else list(maps)
    if MIXED & set(maps) or not 1 <= len(maps) <= most:
        raise JRTError(f"feature_map={whole}: maps is {maps}; it must name 1 to {most} maps, none of them {whole}.")
    for name in options or {}:
        if name not in maps:
            raise unknown(f"map in the options of feature_map={whole}", name, maps)
    return [(name, (options or {}).get(name, {})) for name in maps]


class Hybrid(FeatureMap):
    """Heads split evenly between several maps; narrower ones are filled with zero features, which change no product.

    Args:
        maps: names of the maps, dealt to the heads in contiguous runs; default `("taylor", "mlp")`.
        options: of the maps, by name.
    """

    def __init__(
        self,
        num_heads: int,
        head_dim: int,
        maps: Sequence[str] = ("taylor", "mlp"),
        options: Mapping[str, Mapping[str, object]] | None = None,
    ):
        chosen = _parts("hybrid", maps, options, num_heads)
        sizes = [len(part) for part in torch.arange(num_heads).tensor_split(len(chosen))]
        parts = [
            build_feature_map(name, size, head_dim, **given) for (name, given), size in zip(chosen, sizes, strict=True)
        ]
        super().__init__(num_heads, head_dim, max(part.feature_dim for part in parts))
        self.parts, self.sizes = nn.ModuleList(parts), sizes

    def forward(self, x: Tensor) -> Tensor:
        heads = x.split(self.sizes, dim=1)
        features = [part(head).transpose(0, 1) for part, head in zip(self.parts, heads, strict=True)]
        return torch.cat([F.pad(f, (0, self.feature_dim - f.shape[-1])) for f in features]).transpose(0, 1)


class Blend(FeatureMap):
    """Two maps in every head, between which a gate of the input chooses.

    phi(x) = [sqrt(g) phi_1(x), sqrt(1 - g) phi_2(x)] with g = sigmoid(w.x + b), so that the kernel of a query and a key
    with the same g is g k_1 + (1 - g) k_2. w and b are learned for each head and begin at 0, an even blend.

    Args:
        maps: names of the two maps, which divide by their sums.
        options: of the maps, by name.
    """

    def __init__(
        self,
        num_heads: int,
        head_dim: int,
        maps: Sequence[str] = ("gaussian", "mlp"),
        options: Mapping[str, Mapping[str, object]] | None = None,
    ):
        chosen = _parts("blend", maps, options, 2)
        parts = [build_feature_map(name, num_heads, head_dim, **given) for name, given in chosen]
        if len(parts) < 2 or any(part.normaliser != SUM for part in parts):
            raise JRTError(
                f"feature_map=blend: maps is {[name for name, _ in chosen]}; it must name two maps that divide by "
                "their sums, such as gaussian and mlp."
            )
        super().__init__(num_heads, head_dim, sum(part.feature_dim for part in parts))
        self.parts = nn.ModuleList(parts)
        self.gate = nn.Parameter(torch.zeros(num_heads, head_dim, 1))
        self.bias = nn.Parameter(torch.zeros(num_heads, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        score = x @ self.gate + self.bias  # [B, H, T, 1]
        first, second = (part(x) for part in self.parts)
        # half the log-sigmoid: its root has a finite slope where the gate is shut
        return torch.cat([(F.logsigmoid(score) / 2).exp() * first, (F.logsigmoid(-score) / 2).exp() * second], dim=-1)


MIXED = {"hybrid", "blend"}


FEATURE_MAPS: dict[str, Callable[..., FeatureMap]] = {
    "taylor": Taylor,
    "linear": Linear,
    **{name: partial(Elementwise, name) for name in ELEMENTWISE},
    "poly": Poly,
    "centred": Centred,
    "gaussian": Gaussian,
    "mlp": MLP,
    "hybrid": Hybrid,
    "blend": Blend,
}


def build_feature_map(name: str, num_heads: int, head_dim: int, **options: object) -> FeatureMap:
    """The map called `name` for H heads of D dimensions.

    Raises:
        JRTError: no such map (names the nearest), or options it does not take.
    """
    if name not in FEATURE_MAPS:
        raise unknown("feature map", name, FEATURE_MAPS)
    takes = list(signature(FEATURE_MAPS[name]).parameters)[2:]
    for option in sorted(options.keys() - set(takes)):
        if not takes:
            raise JRTError(f"feature_map={name} takes no options; {option!r} is none of its.")
        raise unknown(f"option of feature_map={name}", option, takes)
    try:
        return FEATURE_MAPS[name](num_heads, head_dim, **options)
    except TypeError as error:
        raise JRTError(f"feature_map={name}: {error}") from error


def sum_normalised_heads(feature_map: FeatureMap) -> tuple[bool, ...]:
    """Which of the H heads divide by their sum. The others are divided by their root mean square."""
    if isinstance(feature_map, Hybrid):
        parts = zip(feature_map.parts, feature_map.sizes, strict=True)
        return tuple(part.normaliser == SUM for part, size in parts for _ in range(size))
    return (feature_map.normaliser == SUM,) * feature_map.num_heads


# ---------------------------------------------------------------- monomials: explicit features of polynomial kernels


def monomials(x: Tensor, degree: int, taylor: bool = False) -> Tensor:
    """Every monomial of [1, x] up to a degree, once, weighed for the inner product (q.k + 1)^degree.

    Tokens stand last in memory meanwhile: to pick a factor is then to copy whole rows, several times faster than to
    pick columns or to multiply with a matrix of zeros and ones.

    Args:
        x: `[B, H, T, D]`.
        degree: at least 1.
        taylor: weigh for the sum of (q.k)^n / n! instead.

    Returns:
        `[B, H, T, C(D + degree, degree)]`; in memory heads come first and tokens last.
    """
    B, H, _, D = x.shape
    x = F.pad(x.transpose(0, 1).flatten(0, 1).mT, (0, 0, 1, 0), value=1.0)  # [H B, 1 + D, T]
    index, weight = _factors(D + 1, degree, taylor, x.dtype, x.device)
    features = x.index_select(1, index[0])
    for which in index[1:]:
        features = features * x.index_select(1, which)
    return (features * weight).unflatten(0, (H, B)).transpose(0, 1).mT


@lru_cache
def _factors(
    variables: int, degree: int, taylor: bool, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Which variable each factor of the F monomials is, `[degree, F]`, and the weight of each, `[F, 1]`."""
    with torch.inference_mode(False):
        index = torch.combinations(torch.arange(variables), degree, with_replacement=True).T.contiguous()
        powers = F.one_hot(index, variables).mT.sum(0)  # [variables, F]
        weight = torch.lgamma(powers[taylor:].double() + 1).sum(0).neg()  # of 1 / (product of the powers' factorials)
        weight = weight if taylor else weight + math.lgamma(degree + 1)
        return index.to(device), (weight / 2).exp()[:, None].to(device, dtype)
