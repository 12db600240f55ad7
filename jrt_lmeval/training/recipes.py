"""Recipes: everything a training run depends on, as one frozen object that is written into the model's folder."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stage:
    """One stage of the curriculum on document length and number of facts.

    Attributes:
        until: fraction of the training tokens at which the stage ends.
        words: shortest and longest document drawn, in words.
        max_tokens: longest row.
        layouts: weights of the layouts `once`, `flat`, `hier`.
    """

    until: float
    words: tuple[int, int]
    max_tokens: int
    layouts: tuple[float, float, float]


CURRICULUM = (
    Stage(0.06, (30, 80), 384, (0.8, 0.1, 0.1)),
    Stage(0.15, (50, 150), 640, (0.5, 0.2, 0.3)),
    Stage(0.35, (80, 300), 1024, (0.3, 0.25, 0.45)),
    Stage(0.65, (120, 450), 1664, (0.25, 0.25, 0.5)),
    Stage(1.00, (150, 600), 2560, (0.25, 0.25, 0.5)),
)


@dataclass(frozen=True)
class Recipe:
    """A training run.

    Attributes:
        feature_map: phi of the prefix linear attention layers.
        feature_map_options: its options.
        mixers: mixer of each layer.
        hidden_size, intermediate_size, num_heads, feature_dim, shifted_heads, window: of the model, see `JRTConfig`.
        vocab_size: of the tokenizer.
        tokens: training tokens in all, prefixes included.
        batch_tokens: tokens of an optimiser step.
        learning_rate: highest rate; warm-up over `warmup` of the tokens, then cosine to a tenth.
        weight_decay, betas, clip: of AdamW.
        mlm_weight: weight of the masked-LM loss on the prefix (JRT, arXiv 2407.05483 eq. 5: 0.25).
        mask_rate: share of prefix tokens that are masked, in `masked_rows` of the rows. The others are read
            as at test time, without any mask.
        context_weight: weight of a next-token loss on text that is not an answer, relative to answers.
        sources: weights of the mixture: generated pages, factbook sheets, random repeats, prose.
        curriculum: stages.
        seed: of data, weights and masks.
    """

    feature_map: str = "mlp"
    feature_map_options: dict[str, object] = field(default_factory=dict)
    mixers: tuple[str, ...] = ("conv", "prefix_linear", "swa", "conv", "prefix_linear", "swa")
    hidden_size: int = 128
    intermediate_size: int = 256
    num_heads: int = 4
    feature_dim: int = 16
    shifted_heads: int = 2
    window: int = 128
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
    sources: dict[str, float] = field(
        default_factory=lambda: {"pages": 0.5, "factbook": 0.32, "repeats": 0.06, "prose": 0.12}
    )
    curriculum: tuple[Stage, ...] = CURRICULUM
    seed: int = 0


RECIPES: dict[str, Recipe] = {
    "default": Recipe(),
    "smoke": Recipe(
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
        curriculum=(Stage(1.0, (30, 60), 512, (0.6, 0.2, 0.2)),),
    ),
}
