"""How a prompt shorter than `enc_length` is read: padded on the left, read twice, or read again for every token.

These are the three ways of the JRT paper (arXiv 2407.05483, table 4). They act where a prompt is read (`prefill` and
`generate`); a plain forward pass pads, but neither reads twice nor iterates. Figures of the paper for "Read-2x" were
made with JRT-Prompt, which the tasks' `flat` layout writes as text; `read_twice` does the same to the tokens of any
prompt.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling import with_prefix
from jrt_lmeval.modeling.config import JRTConfig
from jrt_lmeval.modeling.state import RecurrentState

WHOLE = torch.iinfo(torch.int64).max // 2
"""A prefix length that means "all of it, however long it grows"."""


@dataclass(frozen=True)
class Prompts:
    """A right-padded batch to read.

    Attributes:
        ids: `[B, T]`.
        lengths: `[B]`, fillings included.
        prefix_lengths: M per row `[B]`, fillings included; None for 0.
        keyless: bool `[B, T]`, True at fillings whose keys are zeroed; None when there are none.
    """

    ids: Tensor
    lengths: Tensor
    prefix_lengths: Tensor | None = None
    keyless: Tensor | None = None


def real_first(ids: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pad on the right: ids `[B, T]` with real tokens first, in their order; their number `[B]`; where each came
    from `[B, T]`.

    Raises:
        JRTError: a row without any token.
    """
    lengths = real.sum(1)
    if bool((lengths == 0).any()):
        raise JRTError("attention_mask: a row of the batch has no token at all; every row needs at least one.")
    order = torch.argsort((~real).int(), dim=1, stable=True)
    return ids.gather(1, order), lengths, order


def fill(prompts: Prompts, config: JRTConfig) -> Prompts:
    """The prompts as `config.filling` and `config.padding` have them read.

    With `read_twice`, rows shorter than `enc_length` are put before themselves; the prefix covers that copy and M of
    the second.
    """
    if config.filling == "iterate":
        return prompts
    if config.filling == "read_twice" and config.enc_length is not None and with_prefix(config.mixers):
        prompts = _put_in_front(prompts, prompts.lengths * (prompts.lengths < config.enc_length))
    return fill_left(prompts, config)


def fill_left(prompts: Prompts, config: JRTConfig) -> Prompts:
    """With the published padding, rows shorter than `enc_length` get `fill_token` in front up to there, without keys;
    the prefix covers them."""
    if config.padding != "published" or config.enc_length is None or not with_prefix(config.mixers):
        return prompts
    pads = (prompts.lengths.new_tensor(config.enc_length) - prompts.lengths).clamp(min=0)
    prompts = _put_in_front(prompts, pads)
    order = torch.arange(prompts.ids.shape[1], device=prompts.ids.device)
    keyless = order < pads[:, None]
    return Prompts(
        prompts.ids.masked_fill(keyless, config.fill_token), prompts.lengths, prompts.prefix_lengths, keyless
    )


def _put_in_front(prompts: Prompts, counts: Tensor) -> Prompts:
    """`counts [B]` slots before each row; they hold the row's own first tokens."""
    lengths = prompts.lengths + counts
    order = torch.arange(int(lengths.max()), device=prompts.ids.device)
    index = torch.where(order < counts[:, None], order, order - counts[:, None])
    ids = prompts.ids.gather(1, index.clamp(max=prompts.ids.shape[1] - 1))
    prefix = prompts.prefix_lengths
    if prefix is not None:
        prefix = torch.where(prefix > 0, prefix + counts, 0)
    return Prompts(ids, lengths, prefix)


def remember(prompts: Prompts) -> RecurrentState:
    """The "state" of `filling=iterate`: the tokens themselves, `ids [B, T]` aligned on the right, and M."""
    T = prompts.ids.shape[1]
    index = torch.arange(T, device=prompts.ids.device) - (T - prompts.lengths)[:, None]
    ids = prompts.ids.gather(1, index.clamp(min=0))
    prefix = torch.zeros_like(prompts.lengths) if prompts.prefix_lengths is None else prompts.prefix_lengths
    # a prefix that was the whole prompt goes on being all there is to read
    prefix = torch.where(prefix >= prompts.lengths, WHOLE, prefix)
    return RecurrentState([{"ids": ids, "prefix": prefix}], prompts.lengths)


def recall(state: RecurrentState, more: Prompts) -> Prompts:
    """What `remember` kept, and `more` after it."""
    (kept,) = state.layers
    lengths = state.lengths + more.lengths
    cache = kept["ids"].shape[1]
    ids = torch.cat([kept["ids"], more.ids], dim=1)
    order = torch.arange(int(lengths.max()), device=ids.device)
    index = order + (cache - state.lengths)[:, None]
    return Prompts(ids.gather(1, index.clamp(max=ids.shape[1] - 1)), lengths, kept["prefix"])
