"""Recipes: everything a training run depends on, as one frozen object that is written into the model's folder."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

OWN, GPT2, SHIPPED = "own", "gpt2", "shipped"


@dataclass(frozen=True)
class Stage:
    """One stage of the curriculum on document length and number of facts.

    Attributes:
        until: fraction of the training tokens at which the stage ends.
        words: shortest and longest document drawn, in words.
        max_tokens: longest row.
        layouts: weights of the layouts `once`, `flat`, `hier`, `focus` and, where there are five, `lead_once`.
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


def _mixers(long_range: str) -> tuple[str, ...]:
    return ("conv", long_range, "swa") * 2


@dataclass(frozen=True)
class Recipe:
    """A training run.

    Attributes:
        role: `teacher` or `control` for a model that is not meant where its kind is asked for without a name.
        model: `jrt_rnn`, `based`, `llama`, `mamba` or `mamba2`; the first two differ in their `mixers`.
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
        prose_tokens: longest row of running text; None for as long as others. Rows that are much longer than those
            that ask questions fill batches by themselves, in which `prose_weight` has nothing to weigh against.
        prefixes: shares of the rows whose prefix is the prompt, the document, a part of the document; see
            `rows.random_prefix`.
        sources: weights of the mixture: generated pages, factbook sheets, random repeats, prose, texts.
        texts: folder of the source `texts`: `.txt`, `.jsonl` or `.parquet` files, the latter two with a field `text`.
        tokenizer: `own`, trained on the recipe's texts, `gpt2`, or `shipped`, the one that all shipped models have.
        config: further fields of `JRTConfig`, or of a `mamba2` model's.
        share_tokens: tokens, padding included, that a process computes at once; a step adds up as many of these shares
            as a batch has. None for all at once.
        teacher: shipped model or folder that the weights start from (see `training.teacher`); none if empty.
        match: share of the training tokens, from the start, spent on the teacher's layer outputs alone.
        evaluations: how often held-out recall is measured, at equal numbers of tokens, the last time at the end.
        questions: most questions asked of a document in a row.
        matching_leads: whether a lead names every question of its row; otherwise it names the first of them alone.
        curriculum: stages.
        seed: of data, weights and masks.
        dtype: of the products of a training step: `float32` or, with weights and sums still in float32, `bfloat16`
            (autocast). On CUDA it is `bfloat16` always.
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


SUITE = Recipe(
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

MATCH = 0.25
"""Of a student's tokens. Its rate is lower than the teacher's, at which what it takes over is forgotten first."""

TEACHER = replace(
    SUITE,
    role="teacher",
    mixers=_mixers("attention_nope"),
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
"""Options of the suite's maps where they are not the map's own: about as many features as `taylor` has (561). The
teacher's longest keys have a squared length of 40, which a bandwidth of 1 makes vanish: nothing was learned with it."""

MAP_DIMS: dict[str, int] = {"linear": 128}
"""Dimensions of queries and keys where they are not those of the teacher's heads. Products of `linear` have no higher
rank than the model's width, whatever is done to queries and keys before: this is the largest state that it can use."""

MAP_CONFIG: dict[str, dict[str, object]] = {"linear": {"normaliser_eps": 1e4}}
"""Further fields of `JRTConfig`. What little `linear` reads where nothing matches is not blown up to full size: its
heads begin with reading about 300 from a row of 300 tokens (see `fitted`), and 100 is read as seven tenths of it."""

MORE_WIDTH: dict[str, int] = {"mlp": -36, "relu": -15, "gelu": -15, "linear": -128, "based": 29, "llama": 15}
"""What a map or a model adds to `intermediate_size`, so that parameters stay equal."""

FROM_NOTHING = replace(SUITE, tokens=TEACHER.tokens + SUITE.tokens)
"""A model without a teacher is given the tokens of a student and of its teacher."""

BASELINES: dict[str, Recipe] = {
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


def suite(model: str = "jrt_rnn", feature_map: str = "mlp", teacher: str = "") -> Recipe:
    """The suite's recipe for a model: equal parameters, tokens (a teacher's included) and sources for all.

    Args:
        model: `jrt_rnn`, `based` (causal linear attention in the same place), or one of `BASELINES`.
        feature_map: of the first two.
        teacher: what the first two start from; without one they are controls. The others have no part that could.
    """
    if model in BASELINES:
        return BASELINES[model]
    return replace(
        SUITE if teacher else FROM_NOTHING,
        role="default" if teacher else "control",
        model=model,
        feature_map=feature_map,
        feature_map_options=MAP_OPTIONS.get(feature_map, {}),
        feature_dim=MAP_DIMS.get(feature_map, SUITE.feature_dim),
        config=MAP_CONFIG.get(feature_map, {}),
        mixers=_mixers("linear" if model == "based" else "prefix_linear"),
        intermediate_size=SUITE.intermediate_size + MORE_WIDTH.get(model, 0) + MORE_WIDTH.get(feature_map, 0),
        teacher=teacher,
        # what is fitted to the teacher's attention comes closer to it than steps towards its outputs would
        match=MATCH if teacher and feature_map not in MAP_DIMS else 0.0,
    )


SMOKE = Recipe(
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


def smoke(model: str = "jrt_rnn", feature_map: str = "mlp", teacher: str = "") -> Recipe:
    """A run of seconds that shows that the machinery works, and learns nothing; arguments as `suite`."""
    mixers = ("conv", "linear" if model == "based" else "prefix_linear")
    return replace(SMOKE, model=model, feature_map=feature_map, mixers=mixers, teacher=teacher)


SHIPPED_TEACHER = "softmax-teacher"


LEADS_CURRICULUM = tuple(
    replace(stage, layouts=layouts)
    for stage, layouts in zip(
        CURRICULUM,
        ((0.50, 0.18, 0.08, 0.06, 0.18), (0.46, 0.20, 0.08, 0.06, 0.20), (0.46, 0.20, 0.08, 0.06, 0.20)),
        strict=True,
    )
)


def with_leads(recipe: Recipe) -> Recipe:
    """A recipe of the suite with leads that name what is asked, and with rows that have the lead and read once.

    With the recipes that the shipped models were trained by, a row's lead names the first of its 6.6 questions (on
    average), so that a lead says little about what will be asked and a model cannot learn to select by it.
    """
    return replace(recipe, curriculum=LEADS_CURRICULUM, matching_leads=True, tokenizer=SHIPPED)
