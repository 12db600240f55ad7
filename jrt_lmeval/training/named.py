"""The recipes by name: the suite's, its teacher's, a smoke test's, and those of the published sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.training.recipes import (
    GPT2,
    MAP_DIMS,
    MAP_OPTIONS,
    MORE_WIDTH,
    SUITE,
    TEACHER,
    Recipe,
    Stage,
    smoke,
    suite,
    with_leads,
)


def _placed(layers: int, linear: tuple[int, ...], mixer: str) -> tuple[str, ...]:
    """Mixers of a published model: linear attention at some layers, sliding attention after each, convolutions else."""
    return tuple(mixer if i in linear else "swa" if i - 1 in linear else "conv" for i in range(layers))


PUBLISHED: dict[str, dict[str, Any]] = {
    "360m": {"hidden_size": 1024, "intermediate_size": 2048, "tokens": 31_457_280_000},
    "1b": {"hidden_size": 1792, "intermediate_size": 3584, "tokens": 52_428_800_000},
}
PUBLISHED_LAYERS: dict[tuple[str, str], tuple[int, tuple[int, ...]]] = {
    ("360m", "jrt_rnn"): (26, (1, 6, 11, 16, 21)),
    ("360m", "based"): (27, (1, 6, 11, 16, 21)),
    ("1b", "jrt_rnn"): (36, (1, 6, 11, 16, 21, 27, 33)),
    ("1b", "based"): (36, (1, 6, 11, 16, 21, 27, 33)),
}
"""Size and model -> layers, and which of them are linear attention (HazyResearch/prefix-linear-attention, configs)."""

ROW = 2048


def published(size: str, model: str = "jrt_rnn", feature_map: str = "taylor", teacher: str = "") -> Recipe:
    """The hyper-parameters of the JRT paper (arXiv 2407.05483, Appendix B, and its configs) with any feature map.

    Rows are 2,048 GPT-2 tokens of running text, of which JRT-RNN has 1,024 as its prefix with 15 % masked; batches are
    of 256 rows. The texts are the user's (theirs: the Pile), drawn with replacement, and attention's window is 129
    keys, which is what the published `window_size: 256` comes to.

    Args:
        size: `360m` or `1b`.
        model: `jrt_rnn` or `based`.
        feature_map: theirs is `taylor`.
        teacher: folder of a model to start from; theirs have none.

    Raises:
        JRTError: a model that this recipe does not describe.
    """
    if (size, model) not in PUBLISHED_LAYERS:
        raise JRTError(f"--recipe {size} describes jrt_rnn and based, not {model}; --recipe suite trains it small.")
    layers, linear = PUBLISHED_LAYERS[size, model]
    prefix = model == "jrt_rnn"
    config: dict[str, object] = {"conv_expand": 2, "normaliser_eps": 1e-12, "initializer_range": 0.02}
    if prefix:
        config["enc_length"] = ROW // 2
    return Recipe(
        model=model,
        feature_map=feature_map,
        mixers=_placed(layers, linear, "prefix_linear" if prefix else "linear"),
        **PUBLISHED[size],
        num_heads=16,
        feature_dim=16,
        shifted_heads=0,
        window=129,
        vocab_size=50_264,
        config=config,
        tokenizer=GPT2,
        batch_tokens=256 * ROW,
        share_tokens=8 * ROW,
        learning_rate=8e-4,
        weight_decay=0.1,
        betas=(0.9, 0.95),
        mlm_weight=0.25 if prefix else 0.0,
        mask_rate=0.15 if prefix else 0.0,
        masked_rows=1.0 if prefix else 0.0,
        context_weight=1.0,
        sources={"texts": 1.0},
        teacher=teacher,
        curriculum=(Stage(1.0, (0, 0), ROW, (1.0, 0.0, 0.0, 0.0)),),
    )


def narrow(model: str = "jrt_rnn", feature_map: str = "mlp", teacher: str = "") -> Recipe:
    """The suite's recipe with as many features as `linear` can have: maps compared at equal state.

    Raises:
        JRTError: a map whose number of features cannot be chosen.
    """
    if feature_map not in MAP_OPTIONS:
        raise unknown("feature map with a number of features to choose", feature_map, MAP_OPTIONS)
    whole, options = MAP_OPTIONS[feature_map]["features"], {**MAP_OPTIONS[feature_map], "features": MAP_DIMS["linear"]}
    # what the suite takes off the width of others is for the weights of a map, of which a small one has less
    less = round(MORE_WIDTH.get(feature_map, 0) * MAP_DIMS["linear"] / int(str(whole)))
    return replace(
        suite(model, feature_map, teacher),
        role="control",
        feature_map_options=options,
        intermediate_size=SUITE.intermediate_size + less,
    )


RECIPES: dict[str, Callable[[str, str, str], Recipe]] = {
    "suite": suite,
    "teacher": lambda model, feature_map, teacher: TEACHER,
    "narrow": narrow,
    "smoke": smoke,
    "360m": partial(published, "360m"),
    "1b": partial(published, "1b"),
    "suite-leads": lambda *names: with_leads(suite(*names)),
    "teacher-leads": lambda *names: with_leads(TEACHER),
    "narrow-leads": lambda *names: with_leads(narrow(*names)),
}
"""Name -> recipe for a model, a feature map and a teacher. The shipped models were trained by `suite`, `teacher` and
`narrow`; the next suite is by the recipes that end in `-leads`."""
