"""Models of flash-linear-attention through our engine: padding, batches and forks change no answer."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import shapes
import tiny
import torch
from torch import Tensor

from jrt_lmeval.errors import JRTError
from model_adapters.engines.hf import NOT_IN_FLOAT32, HFEngine
from model_adapters.models import HFRecall, Mamba

torch.set_num_threads(1)

LIMIT, HALF_LIMIT = 1e-4, 5e-3
DOCUMENT, LENGTHS = 66, (70, 9, 67)  # beyond 64 tokens the chunked kernels are at work, below the recurrent ones


QUICK = ("gla", "linear_attn", "raven", "retnet")
KINDS = [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in shapes.RIGHT]
PAGE = Path(__file__).parent.parent.parent / "docs" / "recurrent-models.md"


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Of the module, so that all tests of a family follow each other and share its engine."""
    return request.param


@lru_cache(maxsize=1)
def engine(kind: str) -> HFEngine:
    return HFEngine(shapes.model(kind))


def texts(*lengths: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(1, 300, (n,), generator=generator).tolist() for n in lengths]


def apart(mine: Tensor, truth: Tensor) -> float:
    return float((mine - truth).abs().max() / truth.abs().max())


def limit(kind: str) -> float:
    return HALF_LIMIT if kind in NOT_IN_FLOAT32 else LIMIT


def test_a_ragged_batch_reads_like_its_rows(kind: str) -> None:
    model, rows, new = engine(kind), texts(*LENGTHS), torch.tensor([5, 6, 7])
    alone = [model.prefill([row], [0]) for row in rows]
    logits, state = model.prefill(rows, [0] * 3)
    assert apart(logits, torch.cat([one for one, _ in alone])) < limit(kind)
    assert state.row_bytes() == [one.row_bytes()[0] for _, one in alone]
    assert min(state.row_bytes()) > 0 and model.constant_state
    chosen = torch.tensor([2, 0, 0, 1])
    fork = state.select(chosen)
    steps = torch.cat([model.step(new[i : i + 1], one)[0] for i, (_, one) in enumerate(alone)])
    assert apart(model.step(new[chosen], fork)[0], steps[chosen]) < limit(kind)
    assert apart(model.step(new, state)[0], steps) < limit(kind)
    whole, _ = model.prefill([rows[0] + [5]], [0])
    assert apart(steps[:1], whole) < limit(kind)


def test_a_shared_document_goes_on_like_a_fresh_one(kind: str) -> None:
    model = engine(kind)
    document, *questions = texts(DOCUMENT, 6, 3)
    _, state = model.prefill([document], [0])
    logits, _ = model.prefill(questions, [0] * 2, state.select(torch.tensor([0, 0])))
    fresh = torch.cat([model.prefill([document + question], [0])[0] for question in questions])
    assert apart(logits, fresh) < limit(kind)
    assert apart(model.prefill(questions[:1], [0], state)[0], fresh[:1]) < limit(kind)


def test_the_page_says_what_holds(kind: str) -> None:
    assert shapes.page_row(kind, engine(kind)) in PAGE.read_text(encoding="utf-8").splitlines()


def test_the_page_says_what_is_not_right() -> None:
    page = PAGE.read_text(encoding="utf-8").splitlines()
    assert [row for row in map(shapes.page_row, shapes.NOT_RIGHT) if row not in page] == []


def test_padding_still_enters_what_abc_keeps() -> None:
    with pytest.raises(JRTError, match="ABCForCausalLM is refused: padding enters its slots"):
        engine("abc")
    model, (text,) = shapes.model("abc"), texts(5)
    with torch.inference_mode():
        alone = model(torch.tensor([text])).logits[:, -1]
        padded = model(torch.tensor([[0, 0, *text]]), attention_mask=torch.tensor([[0, 0] + [1] * 5])).logits[:, -1]
    assert apart(padded, alone) > 0.01  # where it no longer does, the family may be taken


@pytest.mark.parametrize("kind", NOT_IN_FLOAT32)
def test_a_kernel_that_accepts_no_float32_is_refused_before_a_long_prompt_fails(kind: str) -> None:
    with pytest.raises(JRTError, match=r"in float32 is refused: beyond 64 tokens.*Give dtype=bfloat16"):
        HFEngine(shapes.model(kind).float())
    model, (text,) = shapes.model(kind).float(), texts(65)
    with torch.inference_mode(), pytest.raises(AssertionError, match="does not support float32"):
        model(torch.tensor([text]))


@pytest.mark.parametrize("kind", ["samba", "transformer"])
def test_attention_of_fla_asks_for_flash_attn(kind: str) -> None:
    if find_spec("flash_attn"):
        pytest.skip("flash-attn is installed: give the family a test of its own")
    with pytest.raises(ImportError, match="flash-attn"):
        shapes.model(kind)


def test_a_folder_is_loaded_without_anyone_importing_fla(tmp_path: Path) -> None:
    lm = HFRecall(tiny.save(shapes.model("linear_attn"), tmp_path), device="cpu")
    assert type(lm.engine.model).__module__.startswith("fla.")


def test_mamba_stays_transformers_own(tmp_path: Path) -> None:
    import fla  # noqa: F401 - it registers a Mamba of its own

    lm = Mamba(tiny.save(tiny.mamba(), tmp_path), device="cpu")
    assert type(lm.engine.model).__module__ == "transformers.models.mamba.modeling_mamba"
