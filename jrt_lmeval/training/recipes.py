"""Recipes: everything that a training run depends on, as one frozen object that is written into the model's folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from jrt_lmeval.errors import JRTError, unknown

CHECKPOINT, LOG, HELDOUT = "training.pt", "log.jsonl", "heldout.jsonl"
"""Files in the folder of a run: its state until it is finished, a line for each step, and held-out recall."""
OWN, GPT2, SHIPPED = "own", "gpt2", "shipped"
SHIPPED_TEACHER = "softmax-teacher"

LAYOUT_NAMES = ("once", "flat", "hier", "focus", "lead_once")
"""The layouts that the weights of a stage belong to."""


@dataclass(frozen=True)
class Stage:
    """One stage of the curriculum on document length and number of facts.

    Attributes:
        until: fraction of the training tokens at which the stage ends.
        words: shortest and longest document drawn, in words.
        max_tokens: longest row.
        layouts: weights of `LAYOUT_NAMES`; those that are left out are 0.
    """

    until: float
    words: tuple[int, int]
    max_tokens: int
    layouts: tuple[float, ...]


CURRICULUM = (
    Stage(0.20, (30, 80), 512, (0.70, 0.12, 0.10, 0.08)),
    Stage(0.45, (60, 160), 896, (0.66, 0.14, 0.12, 0.08)),
    Stage(1.00, (80, 420), 2048, (0.66, 0.14, 0.12, 0.08)),
)
LEADS_CURRICULUM = (
    Stage(0.20, (30, 80), 512, (0.50, 0.18, 0.08, 0.06, 0.18)),
    Stage(0.45, (60, 160), 896, (0.46, 0.20, 0.08, 0.06, 0.20)),
    Stage(1.00, (80, 420), 2048, (0.46, 0.20, 0.08, 0.06, 0.20)),
)


@dataclass(frozen=True)
class TrainRecipe:
    """A training run.

    Attributes:
        role: `teacher` or `control` for a model that is only found by its name, and not by its kind.
        model: `jrt_rnn`, `based`, `llama`, `mamba`, `mamba2` or `retrofit`; the first two differ in their `mixers`.
        feature_map: phi of the prefix linear attention layers.
        feature_map_options: its options.
        mixers: mixer of each layer.
        hidden_size, intermediate_size, num_heads, feature_dim, shifted_heads, window, normaliser: of the model, see
            `JRTConfig`.
        vocab_size: of the tokenizer.
        tokens: training tokens in all, prefixes included.
        batch_tokens: tokens of an optimiser step.
        learning_rate: highest rate; warm-up over `warmup` of the tokens, then cosine to a tenth.
        weight_decay, betas, clip: of AdamW.
        mlm_weight: weight of the masked-LM loss on the prefix (JRT, arXiv 2407.05483 eq. 5: 0.25).
        mask_rate: share of prefix tokens that are masked, in `masked_rows` of the rows. The others are read
            as at test time, without any mask.
        context_weight: weight of a next-token loss on text that is not an answer, relative to answers.
        prose_weight: the same for running text; None for `context_weight`.
        prose_tokens: longest row of running text; None for the length of other rows. Rows that are much longer than
            those that ask questions fill whole batches, in which `prose_weight` has nothing to weigh against.
        prefixes: shares of the rows whose prefix is the prompt, the document, a part of the document; see
            `rows.random_prefix`.
        sources: weights of the mixture: generated pages, factbook sheets, random repeats, prose, texts.
        texts: folder of the source `texts`: `.txt`, `.jsonl` or `.parquet` files, the latter two with a field `text`.
        tokenizer: `own`, trained on the recipe's texts, `gpt2`, or `shipped`, the one that all shipped models have.
        config: further fields of `JRTConfig`, or of a `mamba2` model's.
        share_tokens: tokens, padding included, that a process computes at once; a step adds up the shares of a batch.
            None for all at once.
        teacher: shipped model or folder that the weights start from (see `training.teacher`); none if empty.
        match: share of the training tokens, from the start, spent on the teacher's layer outputs alone.
        evaluations: how often held-out recall is measured, at equal numbers of tokens, the last time at the end.
        questions: most questions asked of a document in a row.
        matching_leads: whether a lead names every question of its row; otherwise it names the first of them alone.
        curriculum: stages.
        seed: of data, weights and masks.
        dtype: of the products of a training step: `float32` or, with weights and sums still in float32, `bfloat16`
            (autocast). On CUDA it is always `bfloat16`.
    """

    role: str = "default"
    model: str = "jrt_rnn"
    feature_map: str = "mlp"
    feature_map_options: dict[str, object] = field(default_factory=dict)
    mixers: tuple[str, ...] = ("conv", "prefix_linear", "swa", "conv", "prefix_linear", "swa")
    hidden_size: int = 128
    intermediate_size: int = 256
    num_heads: int = 4
    feature_dim: int = 16
    shifted_heads: int = 2
    window: int = 128
    normaliser: str | None = None
    vocab_size: int = 4096
    tokens: int = 16_000_000
    batch_tokens: int = 6144
    learning_rate: float = 2e-3
    warmup: float = 0.01
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    mlm_weight: float = 0.25
    mask_rate: float = 0.15
    masked_rows: float = 0.4
    context_weight: float = 0.2
    prose_weight: float | None = None
    prose_tokens: int | None = None
    prefixes: tuple[float, float, float] = (0.25, 0.2, 0.35)
    sources: dict[str, float] = field(
        default_factory=lambda: {"pages": 0.5, "factbook": 0.32, "repeats": 0.06, "prose": 0.12}
    )
    texts: str = ""
    tokenizer: str = OWN
    config: dict[str, object] = field(default_factory=dict)
    share_tokens: int | None = None
    questions: int = 10
    matching_leads: bool = False
    teacher: str = ""
    match: float = 0.0
    evaluations: int = 0
    curriculum: tuple[Stage, ...] = CURRICULUM
    seed: int = 0
    dtype: str = "float32"


SUITE = TrainRecipe(
    intermediate_size=292,
    feature_dim=32,
    tokens=1_600_000,
    batch_tokens=2048,
    learning_rate=2.5e-3,
    mlm_weight=0.0,
    masked_rows=0.0,
    context_weight=0.0,
    prose_weight=0.15,
    prose_tokens=384,
    prefixes=(0.3, 0.35, 0.2),
    sources={"pages": 0.56, "factbook": 0.35, "repeats": 0.04, "prose": 0.05},
    questions=40,
    evaluations=5,
)
"""What the models of the suite have in common. `intermediate_size` is what makes their parameters equal."""

TEACHER = replace(
    SUITE,
    role="teacher",
    mixers=("conv", "attention_nope", "swa") * 2,
    intermediate_size=256,
    tokens=2_400_000,
    learning_rate=4e-3,
    prose_tokens=None,
    sources={"pages": 0.54, "factbook": 0.34, "repeats": 0.04, "prose": 0.08},
)

MAP_OPTIONS: dict[str, dict[str, object]] = {
    "mlp": {"features": 512, "hidden": 8},
    "gaussian": {"features": 512, "bandwidth": 3.0},
    "relu": {"features": 512},
    "gelu": {"features": 512},
}
"""Options of the suite's maps that are not the map's defaults: about as many features as `taylor` has (561). The
teacher's longest keys have a squared length of 40, whose features vanish with a bandwidth of 1."""

MIXED_OPTIONS: dict[str, dict[str, object]] = {
    "hybrid": {"maps": ["taylor", "mlp"], "options": {"mlp": MAP_OPTIONS["mlp"]}},
    "blend": {
        "maps": ["gaussian", "mlp"],
        "options": {"gaussian": {**MAP_OPTIONS["gaussian"], "features": 256}, "mlp": {"features": 256, "hidden": 8}},
    },
}
"""The same of maps that are made of others. Half of the heads of `hybrid` have each map, filled up to the 561 features
of `taylor`; the heads of `blend` have 256 features of each, 512 in all."""

MAP_DIMS: dict[str, int] = {"linear": 128}
"""Dimensions of queries and keys that differ from those of the teacher's heads. The products of `linear` have no higher
rank than the model's width, so this is the largest state that it can use."""

MAP_CONFIG: dict[str, dict[str, object]] = {"linear": {"normaliser_eps": 1e4}}
"""Further fields of `JRTConfig`. They keep small what `linear` reads where nothing matches: its heads begin with
reading about 300 from a row of 300 tokens (see `teacher.fit_to_attention`), and 100 is scaled to 70 % of that."""

MORE_WIDTH: dict[str, int] = {
    "mlp": -36, "relu": -15, "gelu": -15, "linear": -128, "hybrid": -18, "blend": -18, "based": 29, "llama": 15,
}  # fmt: skip
"""What a map or a model adds to `intermediate_size`, so that the numbers of parameters stay equal."""

FROM_NOTHING = replace(SUITE, tokens=TEACHER.tokens + SUITE.tokens)
"""A model without a teacher is trained for the tokens of a student and of its teacher together."""

BASELINES: dict[str, TrainRecipe] = {
    "llama": replace(FROM_NOTHING, model="llama", intermediate_size=SUITE.intermediate_size + MORE_WIDTH["llama"]),
    "mamba": replace(FROM_NOTHING, model="mamba", hidden_size=166, mixers=("mamba",) * 5),
    "mamba2": replace(
        FROM_NOTHING,
        model="mamba2",
        mixers=("mamba2",) * 8,
        config={"state_size": 128, "head_dim": 64, "n_groups": 1, "chunk_size": 64},
        learning_rate=1.5e-3,
    ),
}
"""The suite's recipes for architectures of transformers, which cannot start from the teacher."""


def suite(model: str = "jrt_rnn", feature_map: str = "mlp", teacher: str = "") -> TrainRecipe:
    """The suite's recipe for a model: equal parameters, tokens (a teacher's included) and sources for all.

    `jrt_rnn` and `based` (causal linear attention in the same place) have a feature map and start from a teacher;
    without one they are controls. `BASELINES` have neither.
    """
    if model in BASELINES:
        return BASELINES[model]
    return replace(
        SUITE if teacher else FROM_NOTHING,
        role="default" if teacher else "control",
        model=model,
        feature_map=feature_map,
        feature_map_options={**MAP_OPTIONS, **MIXED_OPTIONS}.get(feature_map, {}),
        feature_dim=MAP_DIMS.get(feature_map, SUITE.feature_dim),
        config=MAP_CONFIG.get(feature_map, {}),
        mixers=("conv", "linear" if model == "based" else "prefix_linear", "swa") * 2,
        intermediate_size=SUITE.intermediate_size + MORE_WIDTH.get(model, 0) + MORE_WIDTH.get(feature_map, 0),
        teacher=teacher,
        # queries and keys that are fitted to the teacher's attention are closer to it than such steps would bring them
        match=0.25 if teacher and feature_map not in MAP_DIMS else 0.0,
    )


def windowed(model: str = "llama", feature_map: str = "", teacher: str = "") -> TrainRecipe:
    """The suite's Llama, trained with a window whose keys and values are as large as the state of `jrt-mlp`.

    Every token sees itself and the 127 tokens before it, and the first 4 of its row: what `kv_bytes=805000` comes to.

    Raises:
        JRTError: another model, whose attention no mask restricts.
    """
    if model != "llama":
        raise JRTError(f"--recipe window-leads describes llama, not {model}: give --model llama.")
    return replace(BASELINES["llama"], role="control", config={"kv_window": 128, "kv_sinks": 4})


RETROFIT = TrainRecipe(
    model="retrofit",
    feature_map="centred",
    tokens=2_000_000,
    batch_tokens=1024,
    learning_rate=3e-3,
    weight_decay=0.01,
    mlm_weight=0.0,
    masked_rows=0.0,
    context_weight=0.0,
    prose_weight=0.5,
    prose_tokens=512,
    prefixes=(0.0, 0.5, 0.1),
    sources={"pages": 0.4, "factbook": 0.4, "prose": 0.2},
    questions=30,
    matching_leads=True,
    evaluations=2,
    tokenizer="backbone",
    curriculum=(
        Stage(0.20, (30, 90), 320, (0.60, 0.20, 0.0, 0.0, 0.20)),
        Stage(1.00, (60, 260), 768, (0.55, 0.25, 0.0, 0.0, 0.20)),
    ),
)
"""Memory layers beside a frozen Transformer; `config` holds the fields of `modeling.retrofit.RetrofitConfig`."""

SMOKE = TrainRecipe(
    hidden_size=32,
    intermediate_size=64,
    num_heads=2,
    feature_dim=8,
    shifted_heads=1,
    vocab_size=512,
    mixers=("conv", "prefix_linear"),
    tokens=20_000,
    batch_tokens=1024,
    sources={"pages": 0.9, "repeats": 0.1},
    curriculum=(Stage(1.0, (30, 60), 512, (0.6, 0.2, 0.2, 0.0)),),
)


def smoke(model: str = "jrt_rnn", feature_map: str = "mlp", teacher: str = "") -> TrainRecipe:
    """A run of seconds that shows that training works and learns nothing; arguments as for `suite`."""
    mixers = ("conv", "linear" if model == "based" else "prefix_linear")
    return replace(SMOKE, model=model, feature_map=feature_map, mixers=mixers, teacher=teacher)


def with_leads(recipe: TrainRecipe) -> TrainRecipe:
    """A recipe of the suite with leads that name what is asked, and with rows that have the lead and read once.

    With the recipes that the shipped models were trained by, a row's lead names the first of its 6.6 questions (on
    average), so that a lead says little about what will be asked and a model cannot learn to select by it.
    """
    return replace(recipe, curriculum=LEADS_CURRICULUM, matching_leads=True, tokenizer=SHIPPED)


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
"""Size and model -> number of layers, and which of them are linear attention, each followed by sliding attention; all
others are convolutions (HazyResearch/prefix-linear-attention, configs)."""

ROW = 2048


def published(size: str, model: str = "jrt_rnn", feature_map: str = "taylor", teacher: str = "") -> TrainRecipe:
    """The hyper-parameters of the JRT paper (arXiv 2407.05483, Appendix B, and its configs) with any feature map.

    Rows are 2,048 GPT-2 tokens of running text, of which JRT-RNN has 1,024 as its prefix with 15 % masked; batches are
    of 256 rows. The texts are the user's (theirs: the Pile), drawn with replacement, and attention's window is 129
    keys, which is what the published `window_size: 256` comes to. Theirs is `taylor`, without a teacher.

    Raises:
        JRTError: a model that this recipe does not describe.
    """
    if (size, model) not in PUBLISHED_LAYERS:
        raise JRTError(f"--recipe {size} describes jrt_rnn and based, not {model}; --recipe suite trains it small.")
    layers, linear = PUBLISHED_LAYERS[size, model]
    prefix = model == "jrt_rnn"
    mixer = "prefix_linear" if prefix else "linear"
    config: dict[str, object] = {"conv_expand": 2, "normaliser_eps": 1e-12, "initializer_range": 0.02}
    if prefix:
        config["enc_length"] = ROW // 2
    return TrainRecipe(
        model=model,
        feature_map=feature_map,
        mixers=tuple(mixer if i in linear else "swa" if i - 1 in linear else "conv" for i in range(layers)),
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


def narrow(model: str = "jrt_rnn", feature_map: str = "mlp", teacher: str = "") -> TrainRecipe:
    """The suite's recipe with as many features as `linear` can have: maps compared at equal state.

    Raises:
        JRTError: a map whose number of features cannot be chosen.
    """
    if feature_map not in MAP_OPTIONS:
        raise unknown("feature map with a number of features to choose", feature_map, MAP_OPTIONS)
    whole, options = MAP_OPTIONS[feature_map]["features"], {**MAP_OPTIONS[feature_map], "features": MAP_DIMS["linear"]}
    # the suite narrows the MLP to make room for the weights of a map, of which a smaller map has fewer
    less = round(MORE_WIDTH.get(feature_map, 0) * MAP_DIMS["linear"] / int(str(whole)))
    return replace(
        suite(model, feature_map, teacher),
        role="control",
        feature_map_options=options,
        intermediate_size=SUITE.intermediate_size + less,
    )


def plain(model: str = "jrt_rnn", feature_map: str = "relu", teacher: str = "") -> TrainRecipe:
    """The suite's recipe with a map element by element, without the learned expansion before it.

    Raises:
        JRTError: a map that is no function of single elements.
    """
    if feature_map not in (maps := ("relu", "gelu")):
        raise unknown("feature map with a learned expansion to leave out", feature_map, maps)
    whole = suite(model, feature_map, teacher)
    return replace(whole, role="control", feature_map_options={}, intermediate_size=SUITE.intermediate_size)


RECIPES: dict[str, Callable[[str, str, str], TrainRecipe]] = {
    "suite": suite,
    "teacher": lambda model, feature_map, teacher: TEACHER,
    "narrow": narrow,
    "smoke": smoke,
    "360m": partial(published, "360m"),
    "1b": partial(published, "1b"),
    "suite-leads": lambda *names: with_leads(suite(*names)),
    "teacher-leads": lambda *names: with_leads(TEACHER),
    "narrow-leads": lambda *names: with_leads(narrow(*names)),
    "plain-leads": lambda *names: with_leads(plain(*names)),
    "window-leads": lambda *names: with_leads(windowed(*names)),
}
"""Name -> recipe for a model, a feature map and a teacher. The shipped models were trained by `suite`, `teacher` and
`narrow`; the next suite is by the recipes that end in `-leads`."""

SUITE_MODELS: dict[str, tuple[str, str, str]] = {
    SHIPPED_TEACHER: ("teacher-leads", "jrt_rnn", "mlp"),
    "jrt-mlp": ("suite-leads", "jrt_rnn", "mlp"),
    "jrt-taylor": ("suite-leads", "jrt_rnn", "taylor"),
    "based-taylor": ("suite-leads", "based", "taylor"),
    "llama": ("suite-leads", "llama", ""),
    "mamba2": ("suite-leads", "mamba2", ""),
    **{f"jrt-{name}": ("suite-leads", "jrt_rnn", name) for name in ("relu", "gelu", "poly", "gaussian", "linear")},
    "jrt-mlp-128": ("narrow-leads", "jrt_rnn", "mlp"),
}
"""Model of `jrt-eval train --suite` -> its recipe, `--model` and feature map, in the order of training."""
