"""The JRT objective: next tokens after the prefix, plus masked tokens inside it (arXiv 2407.05483, eq. 5)."""

from __future__ import annotations

from dataclasses import dataclass

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


def jrt_loss(model: PreTrainedModel, batch: Batch, mlm_weight: float) -> tuple[Tensor, dict[str, float]]:
    """Weighted mean next-token loss + `mlm_weight` x mean masked loss.

    Logits are computed only where a loss is taken.

    Returns:
        The loss, and for the log: `ntp` and `mlm` in nats, `answer_accuracy` per answer token.
    """
    hidden = last_hidden(model, batch.ids, batch.lengths, batch.prefix_lengths)
    row, token = batch.weights.nonzero(as_tuple=True)
    logits, targets = logits_of(model, hidden[row, token - 1]).float(), batch.targets[row, token]
    weights = batch.weights[row, token]
    ntp = (F.cross_entropy(logits, targets, reduction="none") * weights).sum() / weights.sum()
    right = (logits.detach().argmax(-1) == targets) & batch.answer[row, token]
    figures = {
        "ntp": ntp.item(),
        "answer_accuracy": right.sum().item() / max(1, int(batch.answer.sum())),
        "mlm": float("nan"),
    }
    if not bool(batch.masked.any()):
        return ntp, figures
    mlm = F.cross_entropy(logits_of(model, hidden[batch.masked]).float(), batch.targets[batch.masked])
    figures["mlm"] = mlm.item()
    return ntp + mlm_weight * mlm, figures
