"""Feature maps that take each number by itself, before it a learned expansion if asked for."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.feature_map_base import RMS, FeatureMap


class Linear(FeatureMap):
    """phi(x) = x (paper row "Linear")."""

    normaliser = RMS

    def __init__(self, num_heads: int, head_dim: int):
        super().__init__(num_heads, head_dim)

    def forward(self, x: Tensor) -> Tensor:
        return x


class Activated(FeatureMap):
    """phi(x) = f(x) with an element-wise f or, given a number of features, f(x W + b) (T2R, arXiv 2103.13076).

    W, whose columns begin with length 1, and b are learned, and one for all heads. b begins at -1: a feature is silent
    until x points its way, so that equal queries and keys stand out from others.

    Args:
        features: F; None for the element-wise map, whose features are the dimensions of x.
    """

    function: Callable[[Tensor], Tensor]

    def __init__(self, num_heads: int, head_dim: int, features: int | None = None):
        if features is not None and features < 1:
            raise JRTError(f"{type(self).__name__}: features is {features}; it must be at least 1.")
        super().__init__(num_heads, head_dim, features)
        self.expands = features is not None
        if features is not None:
            self.weight = nn.Parameter(F.normalize(torch.randn(head_dim, features), dim=0))
            self.bias = nn.Parameter(torch.full((features,), -1.0))

    def forward(self, x: Tensor) -> Tensor:
        return type(self).function(x @ self.weight + self.bias if self.expands else x)


class ReLU(Activated):
    """f(x) = max(x, 0)."""

    function = staticmethod(F.relu)


class GELU(Activated):
    """f(x) = gelu(x), which dips to -0.17."""

    normaliser = RMS
    function = staticmethod(F.gelu)


class ELU(Activated):
    """f(x) = elu(x) + 1 > 0 (Katharopoulos et al., arXiv 2006.16236)."""

    function = staticmethod(lambda x: F.elu(x) + 1)


class Square(Activated):
    """f(x) = x^2."""

    function = staticmethod(torch.square)
