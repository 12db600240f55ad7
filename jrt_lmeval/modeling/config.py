"""What a model is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PretrainedConfig

from jrt_lmeval.errors import JRTError


class JRTConfig(PretrainedConfig):
    """Configuration of :class:`~jrt_lmeval.modeling.model.JRTForCausalLM`.

    The list of mixers, one per layer, decides what the model is: with ``prefix_linear`` a JRT-RNN, with
    ``linear`` Based, with ``attention`` alone a Transformer.

    Args:
        vocab_size: rows of the (tied) embedding.
        hidden_size: C, a multiple of 2 x num_heads.
        intermediate_size: width of the SwiGLU MLP.
        mixers: per layer one of ``conv``, ``swa``, ``attention``, ``linear``, ``prefix_linear``.
        num_heads: H, of every mixer that has heads.
        feature_map: name of the feature map phi.
        feature_dim: D, dimensions of queries and keys before the map.
        feature_map_options: passed to the map (such as ``{"features": 64}`` for ``mlp``).
        shifted_heads: heads of every attention mixer, linear or softmax, whose keys are made from the token before. A
            value is then found by what stood in front of it: an induction head in one layer. 0 as published.
        window: W, keys a sliding-window query sees, itself included.
        conv_kernel, conv_expand: size of the short convolution and its width as a multiple of C.
        norm_eps: of RMSNorm.
        context_length: longest training row in tokens; longer prompts run, at the user's risk.
        prefix_length: default M of a plain ``model(input_ids)``: min(this, tokens). 0 is causal and the only safe
            choice where later tokens are scored.
        mask_token_id: token that stands for masked ones in training; never generated.
        initializer_range: standard deviation of the initial weights.
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
        **kwargs: Any,
    ):
        if hidden_size % (2 * num_heads):
            raise JRTError(f"hidden_size={hidden_size} must be a multiple of 2 x num_heads={num_heads} (rotary pairs).")
        if not 0 <= shifted_heads <= num_heads:
            raise JRTError(f"shifted_heads={shifted_heads} must be from 0 to num_heads={num_heads}.")
        self.vocab_size, self.hidden_size, self.intermediate_size = vocab_size, hidden_size, intermediate_size
        self.mixers, self.num_heads = list(mixers), num_heads
        self.num_hidden_layers = len(self.mixers)
        self.feature_map, self.feature_dim = feature_map, feature_dim
        self.feature_map_options = dict(feature_map_options or {})
        self.shifted_heads = shifted_heads
        self.window, self.conv_kernel, self.conv_expand = window, conv_kernel, conv_expand
        self.norm_eps, self.context_length, self.prefix_length = norm_eps, context_length, prefix_length
        self.mask_token_id, self.initializer_range = mask_token_id, initializer_range
        kwargs.pop("num_hidden_layers", None)
        super().__init__(tie_word_embeddings=tie_word_embeddings, **kwargs)
