"""Models of flash-linear-attention through our engine: padding, batches and forks change no answer."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest
import shapes
import tiny
import torch
from torch import Tensor

from jrt_lmeval.checkpoints.fla_models import FLA_TYPES
from model_adapters.engines.hf import HFEngine
from model_adapters.hf_recall import HFRecall
from model_adapters.mamba import Mamba

torch.set_num_threads(1)

LIMIT = 1e-4
DOCUMENT, LENGTHS = 66, (70, 9, 67)  # beyond 64 tokens the chunked kernels are at work, below the recurrent ones


@lru_cache(maxsize=1)
def engine(kind: str) -> HFEngine:
    return HFEngine(shapes.model(kind))


def texts(*lengths: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(1, 300, (n,), generator=generator).tolist() for n in lengths]


def apart(mine: Tensor, truth: Tensor) -> float:
    return float((mine - truth).abs().max() / truth.abs().max())


@pytest.mark.parametrize("kind", shapes.SHAPES)
def test_a_ragged_batch_reads_like_its_rows(kind: str) -> None:
    model, rows, new = engine(kind), texts(*LENGTHS), torch.tensor([5, 6, 7])
    alone = [model.prefill([row], [0]) for row in rows]
    logits, state = model.prefill(rows, [0] * 3)
    assert apart(logits, torch.cat([one for one, _ in alone])) < LIMIT
    assert state.row_bytes() == [one.row_bytes()[0] for _, one in alone]
    assert min(state.row_bytes()) > 0 and model.constant_state
    chosen = torch.tensor([2, 0, 0, 1])
    fork = state.select(chosen)
    steps = torch.cat([model.step(new[i : i + 1], one)[0] for i, (_, one) in enumerate(alone)])
    assert apart(model.step(new[chosen], fork)[0], steps[chosen]) < LIMIT
    assert apart(model.step(new, state)[0], steps) < LIMIT
    whole, _ = model.prefill([rows[0] + [5]], [0])
    assert apart(steps[:1], whole) < LIMIT


@pytest.mark.parametrize("kind", shapes.SHAPES)
def test_a_shared_document_goes_on_like_a_fresh_one(kind: str) -> None:
    model = engine(kind)
    document, *questions = texts(DOCUMENT, 6, 3)
    _, state = model.prefill([document], [0])
    logits, _ = model.prefill(questions, [0] * 2, state.select(torch.tensor([0, 0])))
    fresh = torch.cat([model.prefill([document + question], [0])[0] for question in questions])
    assert apart(logits, fresh) < LIMIT
    assert apart(model.prefill(questions[:1], [0], state)[0], fresh[:1]) < LIMIT


def test_a_folder_is_loaded_without_anyone_importing_fla(tmp_path: Path) -> None:
    lm = HFRecall(tiny.save(shapes.model("linear_attn"), tmp_path), device="cpu")
    assert type(lm.engine.model).__module__.startswith("fla.")


def test_mamba_stays_transformers_own(tmp_path: Path) -> None:
    import fla  # noqa: F401 - it registers a Mamba of its own

    lm = Mamba(tiny.save(tiny.mamba(), tmp_path), device="cpu")
    assert type(lm.engine.model).__module__ == "transformers.models.mamba.modeling_mamba"


def test_all_types_of_fla_are_known() -> None:
    import fla.models as models
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    found = {kind.model_type for name in dir(models) if hasattr(kind := getattr(models, name), "model_type")}
    found = {kind for kind in found if kind and kind not in CONFIG_MAPPING_NAMES}
    assert found <= FLA_TYPES
