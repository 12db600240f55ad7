"""Sizes of the released models (JRT paper, appendix B.3, and their config.json): random weights, for times alone."""

from __future__ import annotations

from jrt_lmeval.modeling.config import JRTConfig

LAYERS = {
    "360M": (1024, 26, (1, 6, 11, 16, 21), (2, 7, 12, 17, 22)),
    "1.3B": (1792, 36, (1, 6, 11, 16, 21, 27, 33), (2, 7, 12, 17, 22, 28, 34)),
}
"""Width, layers, and which of them are prefix linear attention and window attention; the others convolve."""


def jrt_config(size: str, linear: str = "prefix_linear", **changed: object) -> JRTConfig:
    """Configuration of JRT-RNN at a released size; with `linear="linear"` Based's layers in its place."""
    width, count, at_linear, at_window = LAYERS[size]
    mixers = [linear if i in at_linear else "swa" if i in at_window else "conv" for i in range(count)]
    settings: dict = {
        "vocab_size": 50264, "hidden_size": width, "intermediate_size": 2 * width, "mixers": mixers, "num_heads": 16,
        "feature_map": "taylor", "feature_dim": 16, "window": 129, "conv_expand": 2, "context_length": 2048,
    }  # fmt: skip
    return JRTConfig(**{**settings, **changed})


def kinds(size: str) -> dict[str, int]:
    """How many layers of each kind."""
    mixers = jrt_config(size).mixers
    return {kind: mixers.count(kind) for kind in dict.fromkeys(mixers)}
