"""Softmax attention over a window or over everything: `banded` (the readable truth) and `blocked` (linear in T).

Keys and values hold `cache` old slots, right-aligned and right before the new tokens: slot c of the joined sequence
stands `c - cache` tokens from the first new one, for every row alike. Only which old slots are filled differs
between rows (`valid`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST_BLOCK = 32


def rotary(x: Tensor, positions: Tensor, base: float = 10000.0, dim: int | None = None) -> Tensor:
    """Rotate the first entries of `x [B, H, T, D]` to `positions [B, T]`; first half of them paired with the second
    (NeoX layout).

    Args:
        dim: rotary dimension; None for D. `dim` entries are rotated, one more if it is odd, with frequencies
            base^(-2 i / dim).
    """
    dim = x.shape[-1] if dim is None else dim
    if not dim:
        return x
    half = (dim + 1) // 2
    frequencies = base ** (-2 * torch.arange(half, device=x.device, dtype=torch.float32) / dim)
    angles = positions[:, None, :, None].float() * frequencies  # [B, 1, T, half]
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
    """Window attention in blocks of queries, each with the W keys before it and its own. Arguments as `banded`.

    The blocks stand beside the rows of the batch: with four dimensions PyTorch takes its fused kernel, with five it
    writes every score out.
    """
    B, H, T, D = q.shape
    block = max(window // 2, SMALLEST_BLOCK)  # smaller blocks mask more of what they read, larger ones need fewer calls
    front, back = window - (k.shape[2] - T), -T % block
    span, count = window + block, (T + back) // block

    def cut(x: Tensor, size: int) -> Tensor:  # [B, H, ., D] -> [B N, H, size, D]
        return x.unfold(2, size, block).permute(0, 2, 1, 4, 3).reshape(B * count, H, size, D)

    q = cut(F.pad(q, (0, 0, 0, back)), block)
    k, v = (cut(F.pad(x, (0, 0, front, back)), span) for x in (k, v))
    valid = F.pad(valid, (front, back)).unfold(1, span, block).reshape(-1, 1, 1, span)
    distance = torch.arange(window, span, device=q.device)[:, None] - torch.arange(span, device=q.device)
    band = (distance >= 0) & (distance < window)
    own = distance == 0  # keeps the softmax of queries that are padding finite
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=band & (valid | own))
    return y.unflatten(0, (B, count)).transpose(1, 2).reshape(B, H, -1, D)[:, :, :T]


NO_TOKEN = -1
"""Position of a slot that holds no token of its row."""


def sees(queries: Tensor, keys: Tensor, window: int, sinks: int) -> Tensor:
    """Which keys a query sees that attends to the last `window` tokens, itself included, and to the first `sinks`
    (StreamingLLM, arXiv 2309.17453): positions `[B, Q]` and `[B, K]` -> bool `[B, Q, K]`."""
    query, key = queries[:, :, None], keys[:, None, :]
    return (key != NO_TOKEN) & (key <= query) & ((key < sinks) | (key > query - window))
