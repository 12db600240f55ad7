"""The JRT objective: next tokens after the prefix, plus masked tokens inside it (arXiv 2407.05483, eq. 5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.training.rows import Row


@dataclass(frozen=True)
class Batch:
    """Rows as tensors, padded on the right.

    Attributes:
        ids: what the model reads `[B, T]`, masked where the masked loss is taken.
        targets: the tokens themselves `[B, T]`.
        lengths, prefix_lengths: `[B]`.
        weights: of the next-token loss, at the token that is predicted `[B, T]`; 0 at padding and inside the prefix.
        masked: bool `[B, T]`, prefix tokens the model reads as the mask token.
        answer: bool `[B, T]`.
    """

    ids: Tensor
    targets: Tensor
    lengths: Tensor
    prefix_lengths: Tensor
    weights: Tensor
    masked: Tensor
    answer: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same rows on a device."""
        return Batch(**{name: tensor.to(device) for name, tensor in vars(self).items()})


def collate(
    rows: list[Row],
    mask_token: int,
    mask_rate: float,
    masked_rows: float,
    context_weight: float,
    generator: torch.Generator,
) -> Batch:
    """Pad, weigh and mask. `generator` draws which rows and tokens are masked."""
    B, T = len(rows), max(len(row.ids) for row in rows)
    targets, answer = torch.zeros(B, T, dtype=torch.long), torch.zeros(B, T, dtype=torch.bool)
    for b, row in enumerate(rows):
        targets[b, : len(row.ids)] = torch.tensor(row.ids)
        answer[b, : len(row.ids)] = torch.tensor(row.answer)
    lengths = torch.tensor([len(row.ids) for row in rows])
    prefix_lengths = torch.tensor([row.prefix_length for row in rows])
    order = torch.arange(T)
    # the token right after the prefix is a target too: at test time it is the first one generated
    scored = (order >= prefix_lengths.clamp(min=1)[:, None]) & (order < lengths[:, None])
    context = torch.tensor([context_weight if row.weight is None else row.weight for row in rows])
    weights = scored * torch.where(answer, 1.0, context[:, None])
    in_masked_row = torch.rand(B, 1, generator=generator) < masked_rows
    masked = (order < prefix_lengths[:, None]) & in_masked_row & (torch.rand(B, T, generator=generator) < mask_rate)
    ids = targets.masked_fill(masked, mask_token)
    return Batch(ids, targets, lengths, prefix_lengths, weights, masked, answer & scored)


def last_hidden(model: PreTrainedModel, ids: Tensor, lengths: Tensor, prefix_lengths: Tensor) -> Tensor:
    """Hidden states `[B, T, C]` before the head, of our models or of a causal transformers model, which needs no mask
    for padding on the right and knows no prefix."""
    if isinstance(model, JRTForCausalLM):
        return model.hidden_states(ids, lengths, prefix_lengths)[0]
    return model.base_model(ids, use_cache=False).last_hidden_state


def logits_of(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Logits of hidden states."""
    return model.logits(hidden) if isinstance(model, JRTForCausalLM) else model.lm_head(hidden)


@dataclass(frozen=True)
class Share:
    """Some rows of a batch, and the sums over the whole batch that its mean losses are divided by.

    The losses and the gradients of all shares add up to those of the batch, however it was divided: among processes,
    or one after the other where memory holds no more.
    """

    rows: Batch
    weights: float
    masked: int
    answers: int


def shares(batch: Batch, tokens: int | None, rank: int = 0, processes: int = 1) -> Iterator[Share]:
    """The rows of a process, in shares of at most `tokens` tokens, padding included (one row at least).

    Every process gets as many shares as any other, since they wait for each other: rows without weight fill up.
    """
    rows = len(batch.lengths)
    mine = -(-rows // processes)
    size = mine if tokens is None else min(mine, max(1, tokens // batch.ids.shape[1]))
    sums = (float(batch.weights.sum()), int(batch.masked.sum()), int(batch.answer.sum()))
    for first in range(0, mine, size):
        numbers = [number * processes + rank for number in range(first, min(first + size, mine))]
        there = [number for number in numbers if number < rows]
        picked = there or [0]
        longest = int(batch.lengths[picked].max())
        part = Batch(**{name: x[picked] if x.dim() == 1 else x[picked, :longest] for name, x in vars(batch).items()})
        if not there:
            silent = torch.zeros_like(part.masked)
            part = replace(part, weights=part.weights * 0, masked=silent, answer=silent)
        yield Share(part, *sums)


def jrt_loss(model: PreTrainedModel, share: Share, mlm_weight: float) -> tuple[Tensor, dict[str, float]]:
    """A share's part of weighted mean next-token loss + `mlm_weight` x mean masked loss.

    Logits are computed only where a loss is taken.

    Returns:
        The loss, and for the log, each the share's part of it: `ntp` and `mlm` in nats (`mlm` only where the batch has
        masked tokens), `answer_accuracy` per answer token.
    """
    batch = share.rows
    hidden = last_hidden(model, batch.ids, batch.lengths, batch.prefix_lengths)
    row, token = batch.weights.nonzero(as_tuple=True)
    logits, targets = logits_of(model, hidden[row, token - 1]).float(), batch.targets[row, token]
    ntp = (F.cross_entropy(logits, targets, reduction="none") * batch.weights[row, token]).sum() / share.weights
    right = (logits.detach().argmax(-1) == targets) & batch.answer[row, token]
    figures = {"ntp": ntp.item(), "answer_accuracy": right.sum().item() / max(1, share.answers)}
    if not share.masked:
        return ntp, figures
    guessed, hidden_ones = logits_of(model, hidden[batch.masked]).float(), batch.targets[batch.masked]
    mlm = F.cross_entropy(guessed, hidden_ones, reduction="sum") / share.masked
    figures["mlm"] = mlm.item()
    return ntp + mlm_weight * mlm, figures
