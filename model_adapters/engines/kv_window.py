"""Which tokens a token sees and which a state keeps, where attention is restricted to the first tokens and the last.

Every slot of a cache is known by the position of its token, so padding, ragged batches and caches that were cut need no
case of their own. The scheme is StreamingLLM's (arXiv 2309.17453), positions aside: they stay those of the whole text.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from jrt_lmeval.errors import JRTError

NO_TOKEN = -1
"""Position of a slot that holds no token of its row."""

SINKS = 4
"""Default of `kv_sinks`, StreamingLLM's: a model trained with full attention fails without its first tokens."""


@dataclass(frozen=True)
class KVWindow:
    """A restriction of causal attention.

    Attributes:
        size: W; a token sees itself and the W - 1 tokens before it,
        sinks: S; and the first S tokens of the text.
    """

    size: int
    sinks: int = SINKS

    @property
    def kept(self) -> int:
        """Tokens that a state keeps at most: what the next token sees, itself not counted."""
        return self.sinks + self.size - 1

    def sees(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Which keys each query sees: positions `[B, Q]` and `[B, K]` -> bool `[B, Q, K]`."""
        query, key = queries[:, :, None], keys[:, None, :]
        return (key != NO_TOKEN) & (key <= query) & ((key < self.sinks) | (key > query - self.size))

    def cut(self, keys: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Which slots to keep.

        Args:
            keys: positions of the tokens in a cache, `[B, K]`.
            lengths: tokens read so far, `[B]`: the position of the next one.

        Returns:
            Numbers of the slots to keep, `[B, at most S + W - 1]`, in the order they have, and their positions; a row
            that keeps fewer than another is filled up with slots of position NO_TOKEN.
        """
        keep = self.sees(lengths[:, None], keys)[:, 0]
        slots = torch.argsort((~keep).to(torch.int8), dim=1, stable=True)[:, : int(keep.sum(1).max())]
        return slots, keys.gather(1, slots).masked_fill(~keep.gather(1, slots), NO_TOKEN)


@dataclass(frozen=True)
class WindowOptions:
    """A window as a user writes it: by its tokens, or by the bytes that the state of a row may take.

    Raises:
        JRTError: neither or both are given, or a value is out of range.
    """

    kv_window: int | None = None
    kv_sinks: int | None = None
    kv_bytes: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("kv_window", 1), ("kv_sinks", 0), ("kv_bytes", 1)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise JRTError(f"{name}={value!r}: must be a whole number of at least {least}.")
        if self.kv_window is not None and self.kv_bytes is not None:
            raise JRTError(
                f"kv_window={self.kv_window} and kv_bytes={self.kv_bytes} both say how much is kept; give one of them."
            )
        if self.kv_sinks is not None and not self.given:
            raise JRTError(f"kv_sinks={self.kv_sinks} needs a window: give kv_window (tokens) or kv_bytes as well.")

    @property
    def given(self) -> bool:
        """Whether attention is restricted at all."""
        return self.kv_window is not None or self.kv_bytes is not None

    def window(self, token_bytes: int) -> KVWindow:
        """The window for a model that keeps `token_bytes` of every token: the widest whose state fits into `kv_bytes`.

        Raises:
            JRTError: not even the sinks fit.
        """
        sinks = SINKS if self.kv_sinks is None else self.kv_sinks
        if self.kv_window is not None:
            return KVWindow(self.kv_window, sinks)
        assert self.kv_bytes is not None
        kept = self.kv_bytes // token_bytes
        if kept < max(1, sinks):
            raise JRTError(
                f"kv_bytes={self.kv_bytes} holds {kept} tokens of {token_bytes} bytes each; the {sinks} sinks and a "
                f"window need at least {max(1, sinks) * token_bytes}."
            )
        return KVWindow(kept - sinks + 1, sinks)
