"""Monomials of [1, x] up to a degree: the explicit features of polynomial kernels.

Tokens stand last in memory while they are made: to pick a factor is then to copy whole rows, several times faster than
to pick columns or to multiply with a matrix of zeros and ones. That matrix is only for the way back.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Factors(NamedTuple):
    """What makes the F monomials of some variables.

    Attributes:
        which: per factor, which variable it is, `[degree, F]`.
        weight: of each monomial, `[F, 1]`.
        picked: the same as `which`, as ones in a matrix `[degree, variables, F]`.
    """

    which: Tensor
    weight: Tensor
    picked: Tensor


def monomials(x: Tensor, degree: int, taylor: bool = False) -> Tensor:
    """Every monomial of [1, x] up to a degree, once, weighed for the inner product (q.k + 1)^degree.

    Args:
        x: `[B, H, T, D]`.
        degree: at least 1.
        taylor: weigh for the sum of (q.k)^n / n! instead.

    Returns:
        `[B, H, T, C(D + degree, degree)]`; in memory heads come first and tokens last.
    """
    B, H, _, D = x.shape
    x = F.pad(x.transpose(0, 1).flatten(0, 1).mT, (0, 0, 1, 0), value=1.0)  # [H B, 1 + D, T]
    factors = _factors(D + 1, degree, taylor, x.dtype, x.device)
    features = _Products.apply(x, *factors) if torch.is_grad_enabled() else _products(x, factors.which, factors.weight)
    return features.unflatten(0, (H, B)).transpose(0, 1).mT


class _Products(torch.autograd.Function):
    """Products of picked variables `[N, variables, T] -> [N, F, T]`; only the variables are kept for the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, weight: Tensor, picked: Tensor) -> Tensor:
        ctx.save_for_backward(x, index, weight, picked)
        return _products(x, index, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, index, weight, picked = ctx.saved_tensors
        grad, dx = grads[0] * weight, torch.zeros_like(x)
        for number, matrix in enumerate(picked):
            others = grad.clone()
            for i in (*index[:number], *index[number + 1 :]):
                others *= x.index_select(1, i)
            dx.baddbmm_(matrix.expand(len(x), -1, -1), others)
        return dx, None, None, None


def _products(x: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    first, *rest = (x.index_select(1, i) for i in index)
    for factor in rest:
        first *= factor
    return first.mul_(weight)


@lru_cache
def _factors(variables: int, degree: int, taylor: bool, dtype: torch.dtype, device: torch.device) -> Factors:
    with torch.inference_mode(False):
        index = torch.combinations(torch.arange(variables), degree, with_replacement=True).T.contiguous()  # [degree, F]
        picked = F.one_hot(index, variables).mT.contiguous()
        powers = picked.sum(0)  # [variables, F]
        weight = torch.lgamma(powers[taylor:].double() + 1).sum(0).neg()  # of 1 / (product of the powers' factorials)
        weight = weight if taylor else weight + math.lgamma(degree + 1)
        return Factors(index.to(device), (weight / 2).exp()[:, None].to(device, dtype), picked.to(device, dtype))
