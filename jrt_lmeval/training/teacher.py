"""Start linear attention from a softmax teacher: its weights first, then, if asked, what its layers put out.

A model whose mixers are `attention_nope` (softmax attention without positions) in the place of linear attention learns
to recall in minutes. Linear attention computes the same from the same projections but for the kernel, so a student
takes over all of them and has its kernel left to learn (after LoLCATs, arXiv 2410.10254, and Hedgehog, 2402.04347).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.mixers import LinearAttention, Span
from jrt_lmeval.modeling.model import Block, JRTForCausalLM
from jrt_lmeval.training.objective import Batch

PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def start_from(student: JRTForCausalLM, teacher: JRTForCausalLM) -> None:
    """Copy a teacher's weights into a student, whose MLPs may be wider; the prefix projections become copies of the
    causal ones.

    What the teacher does not have (the feature maps) stays as it is.

    Raises:
        JRTError: the two differ in more than what mixes tokens in a layer, or in a size.
    """
    theirs, ours = dict(teacher.state_dict()), student.state_dict()
    for name in [name for name in theirs if name.endswith("mixer.qkv_proj.weight")]:
        stem = name.removesuffix("qkv_proj.weight")
        if f"{stem}q_proj.weight" in ours:
            parts = dict(zip(PROJECTIONS, theirs.pop(name).chunk(3), strict=True))
            parts |= {"k_prefix_proj": parts["k_proj"], "v_prefix_proj": parts["v_proj"]}
            theirs |= {f"{stem}{key}.weight": value for key, value in parts.items() if f"{stem}{key}.weight" in ours}
    for name in [name for name in theirs if ".mlp." in name]:
        if name in ours:
            theirs[name] = _widened(name, theirs[name], ours[name])
    strange = sorted(name for name in theirs if name not in ours or ours[name].shape != theirs[name].shape)
    missing = sorted(name for name in ours if name not in theirs and ".feature_map." not in name)
    if strange or missing:
        raise JRTError(
            f"the teacher does not fit the student: {', '.join([*strange, *missing][:4])} differ. Both need the same "
            "sizes and the same mixers but for attention_nope in the place of linear attention, and feature_dim = "
            "hidden_size / num_heads."
        )
    student.load_state_dict({**ours, **theirs})


def _widened(name: str, weight: Tensor, wider: Tensor) -> Tensor:
    """A teacher's MLP weight in a student's wider MLP, whose further units begin silent."""
    if name.endswith("down.weight") and wider.shape[1] > weight.shape[1]:
        return F.pad(weight, (0, wider.shape[1] - weight.shape[1]))
    if name.endswith("up_gate.weight") and wider.shape[0] > weight.shape[0]:
        parts = zip(weight.chunk(2), wider.chunk(2), strict=True)
        return torch.cat([torch.cat([part, new[len(part) :]]) for part, new in parts])
    return weight


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
    seen: dict[int, tuple[Tensor, Tensor]] = {}
    hooks = [
        _mixer(block).register_forward_hook(
            lambda _, inputs, outputs, i=i: seen.__setitem__(i, (inputs[0], outputs[0]))
        )
        for i, block in enumerate(teacher.blocks)
        if isinstance(_mixer(student.blocks[i]), LinearAttention)
    ]
    try:
        with torch.no_grad():
            teacher.hidden_states(batch.ids, batch.lengths)
    finally:
        for hook in hooks:
            hook.remove()
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
