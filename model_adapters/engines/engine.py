"""What a model must offer to be evaluated here: read tokens, take one more, score some. All batching is done for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor


class State(Protocol):
    """What a model remembers of a batch of rows. Methods return new states and leave this one usable."""

    def select(self, rows: Tensor) -> State:
        """An independent copy of the rows named (LongTensor), in that order; a row may be named several times."""
        ...

    def row_bytes(self) -> list[int]:
        """Bytes each row needs on its own: what padding added is not counted."""
        ...


class TokenScores(NamedTuple):
    """Log-probabilities (natural) of the scored tokens of a row, and whether each is the most likely one."""

    logprobs: Tensor  # [tokens], float32, CPU
    greedy: Tensor  # [tokens], bool, CPU


class Engine(Protocol):
    """A causal or prefix language model behind three calls.

    Attributes:
        device: where its tensors live.
        max_length: context length in tokens that the model was made for, generated ones included; None for no limit.
        table_length: number of positions for which the model stores a vector. No token can stand beyond them, so that
            nobody can raise this limit. None where positions are computed, or where there are none.
        trained_length: longest row it was trained on; longer ones run but may not be understood. None: unknown.
        has_prefix: whether prefix lengths mean anything to it.
        longest_prefix: the most tokens a prefix can have; None for no limit.
        constant_state: whether a row's state has the same size however many tokens it has read.
        can_continue: whether `prefill` accepts a state.
        window: tokens that its sliding windows see, the widest of them; None where it has none.
        padding: `left` or `right`, for the record.
    """

    device: torch.device
    max_length: int | None
    table_length: int | None
    trained_length: int | None
    has_prefix: bool
    longest_prefix: int | None
    constant_state: bool
    can_continue: bool
    window: int | None
    padding: str

    @property
    def model(self) -> torch.nn.Module: ...

    def prefill(
        self, ids: Sequence[Sequence[int]], prefix_lengths: Sequence[int], state: Any = None
    ) -> tuple[Tensor, Any]:
        """Read rows of at least one token each.

        Args:
            ids: token ids per row, unpadded.
            prefix_lengths: M per row, among these tokens; 0 where a `state` is given.
            state: of the tokens before these, a row for each row; it is not changed.

        Returns:
            Logits `[B, vocabulary]` after each row's last token, and the state.
        """
        ...

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Read one token per row, LongTensor `[B]`: logits `[B, vocabulary]` and the state. May use up `state`."""
        ...

    def window_bytes(self, state: Any) -> list[int]:
        """Bytes of each row of a state that are keys and values of sliding windows, as `row_bytes` counts them."""
        ...

    def score(
        self, rows: Sequence[Sequence[int]], prefix_lengths: Sequence[int], starts: Sequence[int]
    ) -> list[TokenScores]:
        """Score `row[start:]` of each row given what comes before; `1 <= start < len(row)`, M <= start."""
        ...


def score_positions(logits: Tensor, targets: Tensor) -> TokenScores:
    """Scores of `targets [tokens]` under `logits [tokens, vocabulary]`, computed in float32.

    A score is NaN where the logits are no distribution; minus infinity stands for a token that the model bars.
    """
    logits = logits.float()
    total = logits.logsumexp(-1)
    # one infinite logit would make every other token look barred
    chosen = (logits.gather(-1, targets[:, None])[:, 0] - total).masked_fill(~total.isfinite(), float("nan"))
    return TokenScores(chosen.cpu(), (logits.argmax(-1) == targets).cpu())
