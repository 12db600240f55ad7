"""What a model is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from transformers import PretrainedConfig

from jrt_lmeval.errors import JRTError, unknown, whole_number
from jrt_lmeval.modeling import with_feature_map, with_prefix

MODES = {
    "padding": ("exact", "published"),
    "decode": ("exact", "published"),
    "filling": ("left_pad", "read_twice", "iterate"),
}
"""The options that choose between doing it right and doing it as the published code did, and their values."""


class JRTConfig(PretrainedConfig):
    """Configuration of `JRTForCausalLM`.

    The list of mixers, one per layer, decides what the model is: with `prefix_linear` a JRT-RNN, with
    `linear` Based, with `attention` alone a Transformer.

    Args:
        vocab_size: rows of the (tied) embedding.
        hidden_size: C, a multiple of 2 x num_heads.
        intermediate_size: width of the SwiGLU MLP.
        mixers: per layer one of `conv`, `swa`, `attention`, `attention_nope` (without positions, as linear attention
            is), `linear`, `prefix_linear`.
        num_heads: H, of every mixer that has heads.
        feature_map: name of the feature map phi.
        feature_dim: D, dimensions of queries and keys before the map.
        feature_map_options: passed to the map (such as `{"features": 64}` for `mlp`).
        shifted_heads: heads of every attention mixer, linear or softmax, whose keys are made from the token before. A
            value is then found by what stood in front of it: an induction head in one layer. 0 as published.
        window: W, keys a sliding-window query sees, itself included.
        conv_kernel, conv_expand: size of the short convolution and its width as a multiple of C.
        norm_eps: of RMSNorm.
        context_length: longest training row in tokens; longer prompts run, at the user's risk.
        prefix_length: default M of a plain `model(input_ids)`: min(this, tokens). 0 is causal and the only safe
            choice where later tokens are scored.
        mask_token_id: token that stands for masked ones in training; never generated.
        initializer_range: standard deviation of the initial weights.
        attention_heads: heads of `swa` and `attention` where they differ from `num_heads`.
        rotary_fraction, rotary_base: share of each head of `swa` and `attention` that is rotated, and its base.
        normaliser: `sum` or `rms` for linear attention whatever its feature map (see `feature_maps`); None for what
            the map names.
        normaliser_eps: added to the sum that linear attention divides by.
        decay: linear attention forgets (Based's `fixed_decay` with `use_decay_proj`): a fixed rate per head and a
            learned gate per token.
        enc_length: longest prefix the model was trained with; longer ones are cut to it. None for no limit.
        padding: `exact`: a padded token never enters a state. `published`: as in the released JRT code, prompts
            shorter than `enc_length` are filled on the left with `fill_token`, whose keys are zeroed before the
            feature map and so still weigh phi(0) each.
        decode: `exact`, or `published`: as in the released Based code, k v^T of a decoded token enters twice.
        filling: how a prompt shorter than `enc_length` is read: `left_pad` (nothing to do when padding is exact),
            `read_twice` (the prompt is put before itself) or `iterate` (all is read again for every new token, the
            prefix growing with it).
        fill_token: what the published code pads with: a space.
        token_count: ids from here on are no tokens but padding of the embedding; never generated. None for all are.

    Raises:
        JRTError: a mode that does not exist, or sizes that do not fit each other.
    """

    model_type = "jrt"

    def __init__(
        self,
        vocab_size: int = 4096,
        hidden_size: int = 128,
        intermediate_size: int = 256,
        mixers: Sequence[str] = ("conv", "prefix_linear", "swa", "conv", "prefix_linear", "swa"),
        num_heads: int = 4,
        feature_map: str = "mlp",
        feature_dim: int = 16,
        feature_map_options: dict[str, Any] | None = None,
        shifted_heads: int = 0,
        window: int = 64,
        conv_kernel: int = 3,
        conv_expand: int = 1,
        norm_eps: float = 1e-5,
        context_length: int = 2048,
        prefix_length: int = 0,
        mask_token_id: int | None = None,
        initializer_range: float = 0.02,
        tie_word_embeddings: bool = True,
        attention_heads: int | None = None,
        rotary_fraction: float = 1.0,
        rotary_base: float = 10000.0,
        normaliser: str | None = None,
        normaliser_eps: float = 1e-6,
        decay: bool = False,
        enc_length: int | None = None,
        padding: str = "exact",
        decode: str = "exact",
        filling: str = "left_pad",
        fill_token: int = 220,
        token_count: int | None = None,
        **kwargs: Any,
    ):
        heads = num_heads if attention_heads is None else attention_heads
        if (
            hidden_size % num_heads
            or hidden_size % heads
            or rotated(hidden_size // heads, rotary_fraction)[1] > (hidden_size // heads)
        ):
            raise JRTError(f"hidden_size={hidden_size} must be a multiple of 2 x num_heads={heads} (rotary pairs).")
        if not 0 <= shifted_heads <= min(num_heads, heads):
            raise JRTError(f"shifted_heads={shifted_heads} must be from 0 to num_heads={min(num_heads, heads)}.")
        self.vocab_size, self.hidden_size, self.intermediate_size = vocab_size, hidden_size, intermediate_size
        self.mixers, self.num_heads = list(mixers), num_heads
        self.num_hidden_layers = len(self.mixers)
        self.feature_map, self.feature_dim = feature_map, feature_dim
        self.feature_map_options = dict(feature_map_options or {})
        self.shifted_heads = shifted_heads
        self.window, self.conv_kernel, self.conv_expand = window, conv_kernel, conv_expand
        self.norm_eps, self.context_length, self.prefix_length = norm_eps, context_length, prefix_length
        self.mask_token_id, self.initializer_range = mask_token_id, initializer_range
        self.attention_heads, self.rotary_fraction, self.rotary_base = attention_heads, rotary_fraction, rotary_base
        if normaliser not in (None, "sum", "rms"):
            raise unknown("normaliser", str(normaliser), ("sum", "rms"))
        self.normaliser = normaliser
        self.normaliser_eps, self.decay, self.enc_length = normaliser_eps, decay, enc_length
        self.fill_token, self.token_count = fill_token, token_count
        self.set_modes(padding=padding, decode=decode, filling=filling)
        kwargs.pop("num_hidden_layers", None)
        super().__init__(tie_word_embeddings=tie_word_embeddings, **kwargs)

    def set_modes(self, enc_length: int | None = None, **modes: str) -> None:
        """Set `padding`, `decode` or `filling`, and `enc_length` if one is given.

        Raises:
            JRTError: no such mode or value, or one that needs `enc_length` where there is none.
        """
        if enc_length is not None:
            self.enc_length = whole_number("enc_length", enc_length)
            if self.prefix_length:
                self.prefix_length = enc_length
        for name, value in modes.items():
            if name not in MODES:
                raise unknown("mode", name, MODES)
            if value not in MODES[name]:
                raise unknown(name, value, MODES[name])
            setattr(self, name, value)
        fills = self.padding == "published" or self.filling == "read_twice"
        if fills and with_prefix(self.mixers) and self.enc_length is None:
            raise JRTError(
                f"padding={self.padding}, filling={self.filling}: prompts are filled up to enc_length, which this "
                "model does not have. Give enc_length= in tokens (1024 for the released JRT models)."
            )

    def describe(self) -> str:
        """What the model is made of, in a line."""
        linear = with_feature_map(self.mixers)
        name = "JRT-RNN" if with_prefix(self.mixers) else "Based" if linear else "Transformer"
        layers = ", ".join(f"{count} {kind}" for kind, count in Counter(self.mixers).items())
        mapped = f"; {self.feature_map} of {self.feature_dim}" if linear else ""
        prefix = f"; prefixes of up to {self.enc_length} tokens" if self.enc_length else ""
        modes = ", ".join(f"{mode}={getattr(self, mode)}" for mode in MODES)
        return f"{name}, width {self.hidden_size}, {len(self.mixers)} layers ({layers}){mapped}{prefix}; {modes}"


def rotated(head_dim: int, fraction: float) -> tuple[int, int]:
    """Rotary dimension d of the frequencies base^(-2 i / d), and how many entries of a head are rotated.

    The two differ when d is odd (the released 1.3B Transformer: d = 35, 36 entries).
    """
    dim = int(fraction * head_dim)
    return dim, dim + dim % 2
