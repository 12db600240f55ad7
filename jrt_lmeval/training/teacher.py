"""Start linear attention from a softmax teacher: its weights first, then, if asked, what its layers put out.

A model whose mixers are `attention_nope` (softmax attention without positions) in the place of linear attention learns
to recall in minutes. Linear attention computes the same from the same projections but for the kernel, so a student
takes over all of them and has its kernel left to learn (after LoLCATs, arXiv 2410.10254, and Hedgehog, 2402.04347).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.mixers import LinearAttention, Span
from jrt_lmeval.modeling.model import Block, JRTForCausalLM
from jrt_lmeval.training.objective import Batch

PROJECTIONS = ("q_proj", "k_proj", "v_proj")
QUERIES_AND_KEYS = ("q_proj", "k_proj", "k_prefix_proj")


def start_from(student: JRTForCausalLM, teacher: JRTForCausalLM) -> None:
    """Copy a teacher's weights into a student; the prefix projections become copies of the causal ones.

    What the teacher does not have (the feature maps) stays as it is, and so do queries and keys of other sizes than the
    teacher's heads (see `fitted`). MLPs may be wider, with further units that begin silent, or narrower: then those of
    the teacher's units go that weigh least.

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
def layers_of(teacher: JRTForCausalLM, layers: Sequence[int], batch: Batch) -> dict[int, tuple[Tensor, Tensor]]:
    """What goes into the mixers of some of a teacher's layers for the rows of a batch, and what comes out."""
    seen: dict[int, tuple[Tensor, Tensor]] = {}
    hooks = [
        _mixer(teacher.blocks[i]).register_forward_hook(
            lambda _, inputs, outputs, i=i: seen.__setitem__(i, (inputs[0], outputs[0]))
        )
        for i in layers
    ]
    try:
        teacher.hidden_states(batch.ids, batch.lengths)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def matching_loss(
    student: JRTForCausalLM,
    teacher: JRTForCausalLM,
    batch: Batch,
    total: Callable[[Tensor], Tensor] = lambda part: part,
) -> Tensor:
    """How far the student's linear attention layers are from the teacher's attention, each given the teacher's input.

    Args:
        student, teacher: of one geometry.
        batch: rows; those without any weight count in nothing.
        total: adds a number up over processes that have rows of the same batch.

    Returns:
        Mean over layers of the squared error of the layers' outputs at tokens from the prefix on, as a share of the
        teacher's own square there. (Before the prefix ends a student sees more than its teacher does.)
    """
    layers = [i for i, block in enumerate(student.blocks) if isinstance(_mixer(block), LinearAttention)]
    seen = layers_of(teacher, layers, batch)
    order = torch.arange(batch.ids.shape[1], device=batch.ids.device)
    real = order < batch.lengths[:, None]
    prefix = order < batch.prefix_lengths[:, None]
    start = torch.zeros_like(batch.lengths)
    span = Span(batch.lengths, real, prefix if bool(prefix.any()) else None, start, student.linear_attention)
    counted = (real & ~prefix & (batch.weights > 0).any(1, keepdim=True))[..., None]
    losses = []
    for i, (x, target) in seen.items():
        y, _ = _mixer(student.blocks[i])(x, span, None)
        losses.append(
            F.mse_loss(y * counted, target * counted, reduction="sum") / total((target * counted).square().sum())
        )
    return torch.stack(losses).mean()


def _mixer(block: nn.Module) -> nn.Module:
    assert isinstance(block, Block)
    return block.mixer
