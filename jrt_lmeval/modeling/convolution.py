"""Depthwise causal convolution on a CPU."""

from __future__ import annotations

from torch import Tensor


def depthwise(x: Tensor, weight: Tensor) -> Tensor:
    """A sum of shifted products: several times faster on a CPU than a grouped convolution.

    Args:
        x: `[B, K - 1 + T, E]`, the inputs with the K - 1 before them.
        weight: `[E, K]`.

    Returns:
        `[B, T, E]`.
    """
    K = weight.shape[1]
    T = x.shape[1] - K + 1
    y = x[:, :T] * weight[:, 0]
    for i in range(1, K):
        y = y + x[:, i : i + T] * weight[:, i]
    return y
