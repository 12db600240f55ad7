"""A student with linear attention starts from a teacher with softmax attention.

A model whose mixers are `attention_nope` (softmax attention without positions) in the place of linear attention learns
to recall in minutes. Linear attention computes the same from the same projections but for the kernel, so a student
takes over all of them and has its kernel left to learn (after LoLCATs, arXiv 2410.10254, and Hedgehog, 2402.04347).
It can then learn what the teacher's layers put out, before it is trained on answers.

A teacher's queries and keys have as many dimensions as its heads, and mean what they mean under a softmax. For a map of
more dimensions, the linear one above all, better ones are known in closed form. Of all scores x_i^T A y_j, where x_i is
what a query and y_j what a key is made from, those with

    A = E[x x^T]^-1  E_i[x_i (sum_j w_ij y_j)^T]  E[y y^T]^-1

come closest to a head's attention weights w_ij in the mean square, where queries and keys are drawn independently.
Its D largest singular directions are the student's queries and keys (`fit_to_attention`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.mixers import Attention, LinearAttention, Span
from jrt_lmeval.modeling.model import Block, JRTForCausalLM
from jrt_lmeval.training.recipes import TrainRecipe
from jrt_lmeval.training.rows import TrainBatch, batches

PROJECTIONS = ("q_proj", "k_proj", "v_proj")
QUERIES_AND_KEYS = ("q_proj", "k_proj", "k_prefix_proj")


def start_from(student: JRTForCausalLM, teacher: JRTForCausalLM) -> None:
    """Copy a teacher's weights into a student; the prefix projections become copies of the causal ones.

    What the teacher does not have (the feature maps) stays as it is, and so do queries and keys of other sizes than the
    teacher's heads (see `fit_to_attention`). MLPs may be wider, with further units that begin silent, or narrower, in
    which case the teacher's units with the smallest weights are left out.

    Raises:
        JRTError: the two differ in more than what mixes tokens in a layer, or in another size.
    """
    theirs, ours = dict(teacher.state_dict()), student.state_dict()
    for name in [name for name in theirs if name.endswith("mixer.qkv_proj.weight")]:
        stem = name.removesuffix("qkv_proj.weight")
        if f"{stem}q_proj.weight" in ours:
            parts = dict(zip(PROJECTIONS, theirs.pop(name).chunk(3), strict=True))
            parts |= {"k_prefix_proj": parts["k_proj"], "v_prefix_proj": parts["v_proj"]}
            if other_queries(student, teacher):
                parts |= {key: ours[f"{stem}{key}.weight"] for key in QUERIES_AND_KEYS if f"{stem}{key}.weight" in ours}
            theirs |= {f"{stem}{key}.weight": value for key, value in parts.items() if f"{stem}{key}.weight" in ours}
    for stem in [name.removesuffix("down.weight") for name in theirs if name.endswith("mlp.down.weight")]:
        up, down = f"{stem}up_gate.weight", f"{stem}down.weight"
        if up in ours:
            theirs[up], theirs[down] = _resized(theirs[up], theirs[down], ours[up])
    strange = sorted(name for name in theirs if name not in ours or ours[name].shape != theirs[name].shape)
    missing = sorted(name for name in ours if name not in theirs and ".feature_map." not in name)
    if strange or missing:
        raise JRTError(
            f"the teacher does not fit the student: {', '.join([*strange, *missing][:4])} differ. Both need the same "
            "sizes and the same mixers but for attention_nope in the place of linear attention."
        )
    student.load_state_dict({**ours, **theirs})


def other_queries(student: JRTForCausalLM, teacher: JRTForCausalLM) -> bool:
    """Whether a student's queries and keys have other sizes than its teacher's heads."""
    return student.config.feature_dim != teacher.config.hidden_size // teacher.config.num_heads


def _resized(up: Tensor, down: Tensor, ours: Tensor) -> tuple[Tensor, Tensor]:
    """A teacher's MLP weights `[2 M, C]` and `[C, M]` with as many units as `ours`, `[2 M', C]`."""
    more = len(ours) // 2 - down.shape[1]
    gates = zip(up.chunk(2), ours.chunk(2), strict=True)
    if up.shape[1] != ours.shape[1] or more == 0:
        return up, down
    if more > 0:
        up = torch.cat([torch.cat([part, new[len(part) :]]) for part, new in gates])
        return up, F.pad(down, (0, more))
    first, second = up.chunk(2)
    weight = down.norm(dim=0) * first.norm(dim=1) * second.norm(dim=1)
    kept = weight.topk(len(ours) // 2).indices.sort().values
    return torch.cat([first[kept], second[kept]]), down[:, kept]


@torch.no_grad()
def layers_of(teacher: JRTForCausalLM, layers: Sequence[int], batch: TrainBatch) -> dict[int, tuple[Tensor, Tensor]]:
    """What goes into the mixers of some of a teacher's layers for the rows of a batch, and what comes out."""
    seen: dict[int, tuple[Tensor, Tensor]] = {}
    with ExitStack() as hooks:
        for i in layers:
            keep = lambda _, inputs, outputs, i=i: seen.__setitem__(i, (inputs[0], outputs[0]))  # noqa: E731
            hooks.enter_context(_mixer(teacher.blocks[i]).register_forward_hook(keep))
        teacher.hidden_states(batch.ids, batch.lengths)
    return seen


def matching_loss(
    student: JRTForCausalLM,
    teacher: JRTForCausalLM,
    batch: TrainBatch,
    total: Callable[[Tensor], Tensor] = lambda part: part,
) -> Tensor:
    """How far the student's linear attention layers are from the teacher's attention, each given the teacher's input.

    Rows without any weight count in nothing; `total` adds a number up over processes that have rows of the same batch.

    Returns:
        Mean over layers of the squared error of the layers' outputs at tokens from the prefix on, as a share of the
        teacher's own square there. (Before the prefix ends a student sees more than its teacher does.)
    """
    layers = [i for i, block in enumerate(student.blocks) if isinstance(_mixer(block), LinearAttention)]
    seen = layers_of(teacher, layers, batch)
    order = torch.arange(batch.ids.shape[1], device=batch.ids.device)
    real, prefix = order < batch.lengths[:, None], order < batch.prefix_lengths[:, None]
    start = torch.zeros_like(batch.lengths)
    span = Span(batch.lengths, real, prefix if bool(prefix.any()) else None, start, student.linear_attention)
    counted = (real & ~prefix & (batch.weights > 0).any(1, keepdim=True))[..., None]
    losses = []
    for i, (x, target) in seen.items():
        error = (_mixer(student.blocks[i])(x, span, None)[0] - target) * counted
        losses.append(error.square().sum() / total((target * counted).square().sum()))
    return torch.stack(losses).mean()


def _mixer(block: nn.Module) -> nn.Module:
    assert isinstance(block, Block)
    return block.mixer


TOKENS = 60_000
"""Tokens that the means are taken over."""
RIDGE = 1e-3
"""Added to the diagonals of the moments that are inverted, as a share of their mean."""
SHORTEST = 20
"""Fewest tokens of a row that is counted."""


def full_rows(recipe: TrainRecipe, tokenizer: PreTrainedTokenizerFast, tokens: int = TOKENS) -> Iterator[TrainBatch]:
    """Training rows as long as those at the end of a recipe's curriculum, about as many tokens as asked for."""
    done = 0
    last = replace(recipe, curriculum=(replace(recipe.curriculum[-1], until=1.0),), mask_rate=0.0)
    for batch, _ in batches(last, tokenizer):
        yield batch
        done += int(batch.lengths.sum())
        if done >= tokens:
            return


class Moments:
    """The sums over rows whose means the formula needs, for the heads of one attention layer with C inputs."""

    def __init__(self, layer: Attention):
        self.layer = layer
        H, C = layer.num_heads, layer.out_proj.in_features
        zeros = layer.out_proj.weight.new_zeros
        self.queries, self.asked, self.rows = zeros(C, C), 0, 0
        self.keys, self.looked_at, self.written = zeros(H, C, C), zeros(H, C, C), zeros(H)

    def add(self, x: Tensor, batch: TrainBatch) -> None:
        """Rows of inputs x `[B, T, C]`; queries are the tokens from which an answer's tokens are predicted."""
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
def fit_to_attention(student: JRTForCausalLM, teacher: JRTForCausalLM, rows: Iterable[TrainBatch]) -> None:
    """Set the queries and keys of a student's linear attention by the formula at the top of this file.

    Heads that divide by their root mean square write with size 1, whatever their scores, so their output projection is
    scaled to what the teacher's heads write. The student has the teacher's other weights, see `start_from`.

    Raises:
        JRTError: more dimensions than the model is wide.
    """
    dims, width = student.config.feature_dim, student.config.hidden_size
    if dims > width:
        raise JRTError(f"feature_dim={dims} is more than hidden_size={width}: no query or key has a higher rank.")
    students = {i: block.mixer for i, block in enumerate(student.blocks) if isinstance(block.mixer, LinearAttention)}
    moments = {i: Moments(cast(Attention, cast(Block, teacher.blocks[i]).mixer)) for i in students}
    for batch in rows:
        batch = batch.to(teacher.device)
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
