"""Queries and keys for a feature map that is no softmax: least squares for what the teacher's heads look at.

A teacher's projections have as many dimensions as its heads, and mean what they mean under a softmax. For a map of more
dimensions, the linear one above all, better ones are known in closed form. Of all scores x_i^T A y_j, where x_i is what
a query and y_j what a key is made from, those with

    A = E[x x^T]^-1  E_i[x_i (sum_j w_ij y_j)^T]  E[y y^T]^-1

come closest to a head's attention weights w_ij in the mean square, where queries and keys are drawn independently.
Its D largest singular directions are the student's queries and keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.mixers import Attention, LinearAttention, Span
from jrt_lmeval.modeling.model import Block, JRTForCausalLM
from jrt_lmeval.training.mixture import Mixture, Place
from jrt_lmeval.training.objective import Batch, collate
from jrt_lmeval.training.recipes import Recipe
from jrt_lmeval.training.teacher import layers_of

TOKENS = 60_000
"""That the means are taken over."""
RIDGE = 1e-3
"""Added to the diagonals of the moments that are inverted, as a share of their mean."""
SHORTEST = 20
"""Tokens of a row that counts."""


def full_rows(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, tokens: int = TOKENS) -> Iterator[Batch]:
    """Training rows as long as those at the end of a recipe's curriculum, about as many tokens as asked for."""
    core, done = tokenizer.backend_tokenizer, 0
    last = replace(recipe, curriculum=(replace(recipe.curriculum[-1], until=1.0),))
    mixture = Mixture(last, lambda text: core.encode(text).ids, tokenizer.eos_token_id, recipe.seed)
    for _, rows in mixture.batches(Place()):
        batch = collate(rows, tokenizer.mask_token_id, 0.0, 0.0, recipe.context_weight, torch.Generator())
        yield batch
        done += int(batch.lengths.sum())
        if done >= tokens:
            return


class _Moments:
    """Sums over rows of what the formula takes means of, for the heads of one attention layer of C inputs."""

    def __init__(self, layer: Attention):
        self.layer = layer
        H, C = layer.num_heads, layer.out_proj.in_features
        zeros = layer.out_proj.weight.new_zeros
        self.queries, self.asked, self.rows = zeros(C, C), 0, 0
        self.keys, self.looked_at, self.written = zeros(H, C, C), zeros(H, C, C), zeros(H)

    def add(self, x: Tensor, batch: Batch) -> None:
        """Rows of inputs x `[B, T, C]`; queries are the tokens that an answer's tokens are told from."""
        layer, (B, T, _) = self.layer, x.shape
        asked = torch.zeros(B, T, dtype=torch.bool, device=x.device)
        asked[:, :-1] = batch.answer[:, 1:]
        counts = asked.any(1) & (batch.lengths >= SHORTEST)
        order = torch.arange(T, device=x.device)
        real = order < batch.lengths[:, None]
        before, _ = layer.key_source.before(x, Span(batch.lengths, real, None, torch.zeros_like(batch.lengths)), None)
        weights = [part.unflatten(0, (layer.num_heads, -1)) for part in layer.qkv_proj.weight.chunk(3)]
        for row in counts.nonzero()[:, 0].tolist():
            n, at = int(batch.lengths[row]), asked[row].nonzero()[:, 0]
            text, query = x[row, :n], x[row, at]
            self.queries += query.mT @ query
            self.asked, self.rows = self.asked + len(at), self.rows + 1
            for head in range(layer.num_heads):
                wq, wk, wv = (weight[head] for weight in weights)
                source = before[row, :n] if head < layer.key_source.shifted else text
                scores = (query @ wq.mT) @ (source @ wk.mT).mT * len(wq) ** -0.5
                looks = scores.masked_fill(order[:n] > at[:, None], -torch.inf).softmax(-1)
                self.keys[head] += source.mT @ source / n
                self.looked_at[head] += query.mT @ (looks @ source)
                self.written[head] += (looks @ (text @ wv.mT)).square().mean(1).sum()

    def projections(self, dims: int) -> tuple[Tensor, Tensor]:
        """Weights of queries and keys, `[H dims, C]` each. Over a row of n tokens a head then adds up to about n: its
        scores are n times the weights, over the size of what they read."""
        queries = _inverse(self.queries / self.asked)
        found = []
        for keys, looked_at, written in zip(self.keys, self.looked_at, self.sizes(), strict=True):
            U, S, V = torch.linalg.svd(queries @ (looked_at / self.asked) @ _inverse(keys / self.rows))
            size = (S[:dims] / written).sqrt()
            found.append(((U[:, :dims] * size).mT, V[:dims] * size[:, None]))
        return torch.cat([q for q, _ in found]), torch.cat([k for _, k in found])

    def sizes(self) -> Tensor:
        """Root mean square of what each head reads, `[H]`."""
        return (self.written / self.asked).sqrt()


def _inverse(moments: Tensor) -> Tensor:
    ridge = RIDGE * moments.diagonal().mean() * torch.eye(len(moments), device=moments.device)
    return torch.linalg.inv(moments + ridge)


@torch.no_grad()
def fit_to_attention(student: JRTForCausalLM, teacher: JRTForCausalLM, batches: Iterable[Batch]) -> None:
    """Set the queries and keys of a student's linear attention by the formula, from what its teacher does with rows.

    Heads that divide by their root mean square write with size 1, whatever their scores: what takes up their output is
    scaled to what the teacher's heads write.

    Args:
        student: with the teacher's other weights, see `teacher.start_from`.
        teacher: with softmax attention without positions where the student has linear attention.
        batches: rows with answers.

    Raises:
        JRTError: more dimensions than the model is wide.
    """
    dims, width = student.config.feature_dim, student.config.hidden_size
    if dims > width:
        raise JRTError(f"feature_dim={dims} is more than hidden_size={width}: no query or key has a higher rank.")
    students = {i: block.mixer for i, block in enumerate(student.blocks) if isinstance(block.mixer, LinearAttention)}
    moments = {i: _Moments(cast(Attention, cast(Block, teacher.blocks[i]).mixer)) for i in students}
    for rows in batches:
        batch = rows.to(teacher.device)
        for i, (x, _) in layers_of(teacher, list(students), batch).items():
            moments[i].add(x, batch)
    for i, mixer in students.items():
        layer = moments[i]
        q, k = layer.projections(dims)
        mixer.q_proj.weight.copy_(q)
        for name in ("k_proj", "k_prefix_proj"):
            if hasattr(mixer, name):
                getattr(mixer, name).weight.copy_(k)
        size = torch.where(torch.tensor(mixer.by_sum, device=q.device), 1.0, layer.sizes())
        mixer.out_proj.weight.mul_(size.repeat_interleave(mixer.out_proj.in_features // len(size)))
