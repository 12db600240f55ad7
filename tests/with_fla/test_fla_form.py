"""Prefix linear attention by fla's kernels equals the quadratic form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from jrt_lmeval.modeling.linear_attention import LinearState, Prefix, best_form, fla, naive

B, H, F, V = 2, 2, 19, 12


def tensors(T: int, features: int = F, values: int = V) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(T)
    q, k = (torch.rand(B, H, T, features, generator=generator) for _ in range(2))
    return q, k, torch.randn(B, H, T, values, generator=generator)


def hidden(T: int, side: str) -> Tensor:
    """A mask that leaves the second row 5 tokens, padded on one side."""
    mask = torch.ones(B, T, dtype=torch.bool)
    if side == "left":
        mask[1, : T - 5] = False
    else:
        mask[1, 5:] = False
    return mask


def close(mine: tuple[Tensor, Tensor, LinearState], truth: tuple[Tensor, Tensor, LinearState], real: Tensor) -> None:
    for a, b in ((mine[0], truth[0]), (mine[1][..., None], truth[1][..., None])):
        keep = real[:, None, :, None]
        assert ((a - b) * keep).abs().max() <= 2e-6 * b.abs().max()
    for a, b in zip(mine[2], truth[2], strict=True):
        assert (a - b).abs().max() <= 2e-6 * b.abs().max()
        assert a.dtype == torch.float32


@pytest.mark.parametrize(
    "T", [1, 63, 70]
)  # the recurrent kernel, and the chunked one with a last chunk that is not full
@pytest.mark.parametrize("side", ["left", "right"])
def test_fla_equals_naive(T: int, side: str) -> None:
    q, k, v = tensors(T)
    mask = hidden(T, side) if T > 5 else torch.ones(B, T, dtype=torch.bool)
    ke, _, ve = tensors(T + 1)
    prefix = Prefix(ke[:, :, :T], ve[:, :, :T], torch.arange(T)[None] < torch.tensor([[T // 2], [1]]))
    _, _, start = naive(*tensors(9))
    for head in (None, prefix):
        for state in (None, start):
            close(fla(q, k, v, head, mask, state), naive(q, k, v, head, mask, state), mask)


def test_sizes_that_no_block_divides() -> None:
    q, k, v = tensors(66, features=153, values=112)
    close(fla(q, k, v), naive(q, k, v), torch.ones(B, 66, dtype=torch.bool))


def test_a_decay_is_left_to_the_chunked_form() -> None:
    q, k, v = tensors(6)
    decay = torch.tensor([-0.1, -0.3])
    close(fla(q, k, v, decay=decay), naive(q, k, v, decay=decay), torch.ones(B, 6, dtype=torch.bool))


def test_it_is_chosen_on_a_gpu_alone() -> None:
    assert best_form(torch.device("cuda")) == "fla"
    assert best_form(torch.device("cpu")) == "streamed"


def test_a_model_reads_and_goes_on_by_it() -> None:
    import tiny

    model = tiny.jrt(("prefix_linear", "linear"))
    ids = torch.randint(0, 300, (2, 70), generator=torch.Generator().manual_seed(0))
    lengths, prefixes = torch.tensor([70, 41]), torch.tensor([30, 41])
    found = {}
    for form in ("naive", "fla"):
        model.linear_attention = form
        with torch.inference_mode():
            logits, state = model.prefill(ids, lengths, prefixes, None)
            found[form] = torch.cat([logits, model.prefill(ids[:, :3], lengths.clamp(max=3), prefixes * 0, state)[0]])
    assert (found["fla"] - found["naive"]).abs().max() <= 1e-5 * found["naive"].abs().max()
