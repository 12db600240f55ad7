"""Softmax attention over a window or over everything: `banded` (the readable truth) and `blocked` (linear in T).

Keys and values hold `cache` old slots, right-aligned and right before the new tokens: slot c of the joined sequence
stands `c - cache` tokens from the first new one, for every row alike. Only which old slots are filled differs
between rows (`valid`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rotary(x: Tensor, positions: Tensor, base: float = 10000.0, dim: int | None = None) -> Tensor:
    """Rotate the first entries of `x [B, H, T, D]` to `positions [B, T]`; first half of them paired with the second
    (NeoX layout).

    Args:
        dim: rotary dimension; None for D. `dim` entries are rotated, one more if it is odd, with frequencies
            base^(-2 i / dim).
    """
    dim = x.shape[-1] if dim is None else dim
    if dim == 0:
        return x
    half = (dim + 1) // 2
    frequencies = base ** (-2 * torch.arange(half, device=x.device, dtype=torch.float32) / dim)
    angles = positions[:, None, :, None].float() * frequencies  # [B, 1, T, D / 2]
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    left, right, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat([left * cos - right * sin, right * cos + left * sin, rest], dim=-1)


def banded(q: Tensor, k: Tensor, v: Tensor, valid: Tensor, window: int | None) -> Tensor:
    """Attention with a full mask.

    Args:
        q: queries of the new tokens `[B, H, T, D]`.
        k, v: old slots, then new tokens `[B, H, cache + T, D]`.
        valid: bool `[B, cache + T]`, False at old slots that are empty.
        window: W, or None for all earlier tokens.

    Returns:
        `[B, H, T, D]`.
    """
    T, K = q.shape[2], k.shape[2]
    distance = torch.arange(K - T, K, device=q.device)[:, None] - torch.arange(K, device=q.device)
    band = distance >= 0
    if window is not None:
        band &= distance < window
    return F.scaled_dot_product_attention(q, k, v, attn_mask=band & valid[:, None, None, :])


def blocked(q: Tensor, k: Tensor, v: Tensor, valid: Tensor, window: int) -> Tensor:
    """Window attention in blocks of W queries that look at their own and the block before. Arguments as
    `banded`."""
    B, H, T, D = q.shape
    front, back = window - (k.shape[2] - T), -T % window
    q = F.pad(q, (0, 0, 0, back)).reshape(B, H, -1, window, D)  # [B, H, N, W, D]
    k, v = (
        F.pad(x, (0, 0, front, back)).unfold(2, 2 * window, window).transpose(-1, -2) for x in (k, v)
    )  # [B, H, N, 2 W, D]
    valid = F.pad(valid, (front, back)).unfold(1, 2 * window, window)  # [B, N, 2 W]
    distance = torch.arange(window, 2 * window, device=q.device)[:, None] - torch.arange(2 * window, device=q.device)
    band = (distance >= 0) & (distance < window)
    own = distance == 0  # keeps the softmax of queries that are padding finite
    mask = band & (valid[:, None, :, None, :] | own)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return y.reshape(B, H, -1, D)[:, :, :T]
