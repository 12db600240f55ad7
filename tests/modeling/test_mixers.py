"""What is said of a mixer without building it is what it does once it is built."""

from __future__ import annotations

import pytest
import tiny
import torch

from jrt_lmeval.modeling import growing_layers, with_feature_map, with_prefix
from jrt_lmeval.modeling.feature_maps import FeatureMap
from jrt_lmeval.modeling.mixers import MIXERS
from model_adapters.engines.jrt import JRTEngine

LONG, SHORT = list(range(1, 31)) * 3, list(range(1, 21))


@pytest.mark.parametrize("name", MIXERS)
def test_a_mixer_does_what_is_said_of_it(name: str) -> None:
    torch.manual_seed(0)
    model = tiny.jrt((name,))
    engine = JRTEngine(model)
    assert any(isinstance(module, FeatureMap) for module in model.modules()) == with_feature_map([name])
    causal, state = engine.prefill([LONG], [0])
    assert (not torch.equal(engine.prefill([LONG], [len(LONG)])[0], causal)) == with_prefix([name]) == engine.has_prefix
    _, half = engine.prefill([LONG[: len(LONG) // 2]], [0])
    assert (state.row_bytes() > half.row_bytes()) == bool(growing_layers([name])) == (not engine.constant_state)


@pytest.mark.parametrize("name", MIXERS)
def test_the_bytes_of_a_state_do_not_depend_on_the_batch(name: str) -> None:
    engine = JRTEngine(tiny.jrt((name,)))
    _, together = engine.prefill([LONG, SHORT], [0, 0])
    _, alone = engine.prefill([SHORT], [0])
    assert together.row_bytes()[1] == alone.row_bytes()[0]
