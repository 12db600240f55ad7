"""A student starts from its softmax teacher, and learns what the teacher's layers put out."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.config import JRTConfig
from jrt_lmeval.modeling.mixers import Span
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.training.recipes import SMOKE
from jrt_lmeval.training.rows import TrainRow, collate
from jrt_lmeval.training.teacher import Moments, fit_to_attention, matching_loss, start_from

SIZES = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "feature_dim": 8, "window": 8}


def model(mixer: str, seed: int = 0, **changes) -> JRTForCausalLM:
    torch.manual_seed(seed)
    options = {**SIZES, "shifted_heads": 1, "feature_map": "taylor", "initializer_range": 0.4, **changes}
    return JRTForCausalLM(JRTConfig(mixers=["conv", mixer, "swa"], **options))


def batch(lengths=(30, 17, 9), prefix: int = 5):
    generator = torch.Generator().manual_seed(3)
    rows = [TrainRow(torch.randint(2, 40, (n,), generator=generator).tolist(), prefix, [True] * n) for n in lengths]
    return collate(rows, 1, 0.0, 0.0, 0.0, generator)


def test_softmax_without_positions_does_not_know_an_order() -> None:
    teacher = model("attention_nope", shifted_heads=0).eval()
    mixer = teacher.blocks[1].mixer
    x = torch.randn(1, 9, 16)

    def last(x):
        zero = torch.zeros(1, dtype=torch.long)
        return mixer(x, Span(zero + x.shape[1], None, None, zero), None)[0][:, -1]

    order = [3, 1, 0, 2, 7, 5, 6, 4, 8]
    assert torch.allclose(last(x), last(x[:, order]), atol=1e-6)
    mixer.rotary_dim = 8
    assert not torch.allclose(last(x), last(x[:, order]), atol=1e-3)


@pytest.mark.parametrize("mixer", ["prefix_linear", "linear"])
def test_a_student_takes_over_every_projection(mixer: str) -> None:
    teacher, student = model("attention_nope", 1), model(mixer, 2)
    feature_map = {k: v.clone() for k, v in student.state_dict().items() if ".feature_map." in k}
    start_from(student, teacher)
    theirs, ours = teacher.blocks[1].mixer, student.blocks[1].mixer
    q, k, v = theirs.qkv_proj.weight.chunk(3)
    for weight, of in ((q, ours.q_proj), (k, ours.k_proj), (v, ours.v_proj), (theirs.out_proj.weight, ours.out_proj)):
        assert torch.equal(weight, of.weight)
    if mixer == "prefix_linear":
        assert torch.equal(k, ours.k_prefix_proj.weight) and torch.equal(v, ours.v_prefix_proj.weight)
    assert torch.equal(teacher.embed_tokens.weight, student.embed_tokens.weight)
    assert torch.equal(teacher.blocks[2].mixer.qkv_proj.weight, student.blocks[2].mixer.qkv_proj.weight)
    assert all(torch.equal(v, student.state_dict()[k]) for k, v in feature_map.items())


def test_a_wider_mlp_computes_the_same_at_first() -> None:
    teacher, student = model("attention_nope", 1), model("linear", 2, intermediate_size=31)
    start_from(student, teacher)
    x = torch.randn(2, 5, 16)
    assert torch.allclose(teacher.blocks[0].mlp(x), student.blocks[0].mlp(x), atol=1e-6)
    student.blocks[0].mlp(x).square().sum().backward()
    assert student.blocks[0].mlp.down.weight.grad[:, 24:].abs().sum() > 0  # silent, not dead


def test_a_narrower_mlp_keeps_the_units_that_weigh_most() -> None:
    teacher, student = model("attention_nope", 1), model("linear", 2, intermediate_size=20)
    mlp = teacher.blocks[0].mlp
    with torch.no_grad():
        mlp.down.weight[:, [3, 7, 8, 23]] *= 1e-4
    start_from(student, teacher)
    x = torch.randn(2, 5, 16)
    torch.testing.assert_close(student.blocks[0].mlp(x), mlp(x), rtol=0, atol=5e-3)
    assert not torch.allclose(student.blocks[0].mlp(x), torch.zeros(()), atol=0.1)


@torch.no_grad()
def test_queries_and_keys_of_another_size_are_fitted_to_what_the_teacher_looks_at() -> None:
    teacher = model("attention_nope", 1).eval()
    batches = [batch((60, 41, 33), prefix=0) for _ in range(4)]
    losses = {}
    for dims in (4, 16):
        student = model("prefix_linear", 2, feature_map="linear", feature_dim=dims)
        start_from(student, teacher)
        mixer = student.blocks[1].mixer
        assert torch.equal(mixer.v_proj.weight, teacher.blocks[1].mixer.qkv_proj.weight.chunk(3)[2])
        before = matching_loss(student, teacher, batches[0]).item()
        fit_to_attention(student, teacher, batches)
        assert mixer.q_proj.weight.shape == (2 * dims, 16) and torch.equal(
            mixer.k_proj.weight, mixer.k_prefix_proj.weight
        )
        losses[dims] = matching_loss(student, teacher, batches[0]).item()
        assert losses[dims] < before
    assert losses[16] < losses[4]


def test_queries_of_more_dimensions_than_the_width_are_refused() -> None:
    teacher, student = model("attention_nope"), model("linear", feature_map="linear", feature_dim=17)
    with pytest.raises(JRTError, match="feature_dim=17 is more than hidden_size=16"):
        fit_to_attention(student, teacher, [batch()])


def test_the_fit_is_the_mean_square_where_queries_and_keys_are_independent() -> None:
    teacher = model("attention_nope", 1, shifted_heads=0)
    moments = Moments(teacher.blocks[1].mixer)
    torch.manual_seed(0)
    moments.queries, moments.asked, moments.rows = torch.cov(torch.randn(16, 99)) * 3.0, 3, 1
    moments.keys = torch.cov(torch.randn(16, 99)).expand(2, 16, 16)
    moments.written = torch.full((2,), 3.0)  # of size 1 in the mean
    scores = torch.randn(16, 5) @ torch.randn(5, 16) / 10
    moments.looked_at = (moments.queries @ scores @ moments.keys[0]).expand(2, 16, 16)
    q, k = moments.projections(5)
    for head in range(2):
        part = slice(5 * head, 5 * head + 5)
        torch.testing.assert_close(q[part].mT @ k[part], scores, rtol=0.05, atol=0.02)


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"hidden_size": 32, "feature_dim": 16}, "conv_weight"), ({"vocab_size": 41}, "embed_tokens")],
)
def test_a_teacher_that_does_not_fit_is_refused(changes, named) -> None:
    with pytest.raises(JRTError, match=f"the teacher does not fit the student: .*{named}"):
        start_from(model("linear", **changes), model("attention_nope"))


def test_another_mixer_is_refused_and_leaves_the_student_as_it_was() -> None:
    student, teacher = model("linear"), model("conv")
    before = {k: v.clone() for k, v in student.state_dict().items()}
    with pytest.raises(JRTError, match="does not fit"):
        start_from(student, teacher)
    assert all(torch.equal(v, student.state_dict()[k]) for k, v in before.items())


def test_matching_is_the_distance_of_the_layers_outputs_from_the_prefix_on() -> None:
    teacher, student, b = model("attention_nope", 1).eval(), model("prefix_linear", 2), batch()
    seen = {}
    teacher.blocks[1].mixer.register_forward_hook(lambda _, x, y: seen.update(x=x[0], y=y[0]))
    expected = matching_loss(student, teacher, b)
    top = bottom = 0.0
    for row, (length, prefix) in enumerate(zip(b.lengths.tolist(), b.prefix_lengths.tolist(), strict=True)):
        x = seen["x"][row : row + 1, :length]
        prefix_mask = (torch.arange(length) < prefix)[None]
        span = Span(torch.tensor([length]), None, prefix_mask, torch.zeros(1, dtype=torch.long), "naive")
        y = student.blocks[1].mixer(x, span, None)[0][0, prefix:]
        target = seen["y"][row, prefix:length]
        top, bottom = top + (y - target).square().sum(), bottom + target.square().sum()
    assert expected.item() == pytest.approx((top / bottom).item(), rel=1e-4)


def test_matching_moves_the_linear_layers_and_nothing_else_and_can_be_learned() -> None:
    teacher, student, b = model("attention_nope", 1).eval(), model("prefix_linear", 2), batch()
    start_from(student, teacher)
    optimiser = torch.optim.AdamW(student.parameters(), lr=3e-3, weight_decay=0.0)
    losses = []
    for _ in range(60):
        optimiser.zero_grad(set_to_none=True)
        loss = matching_loss(student, teacher, b)
        loss.backward()
        moved = {name for name, parameter in student.named_parameters() if parameter.grad is not None}
        optimiser.step()
        losses.append(loss.item())
    assert moved and all(name.startswith("blocks.1.mixer.") for name in moved)
    assert losses[-1] < losses[0] / 2
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_recipe_without_a_teacher_matches_nothing() -> None:
    assert SMOKE.teacher == "" and SMOKE.match == 0.0
    assert dataclasses.replace(SMOKE, teacher="x").match == 0.0
