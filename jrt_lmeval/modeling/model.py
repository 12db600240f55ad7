"""The language model: blocks of mixer and SwiGLU around one residual stream, as an ordinary Hugging Face model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.utils import ModelOutput

from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.config import JRTConfig
from jrt_lmeval.modeling.mixers import Span, build_mixer
from jrt_lmeval.modeling.state import RecurrentState


class RMSNorm(nn.Module):
    """x / rms(x) * weight, computed in float32."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.eps).to(x.dtype)


class SwiGLU(nn.Module):
    """``down(silu(gate) * up)``."""

    def __init__(self, config: JRTConfig):
        super().__init__()
        self.up_gate = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        up, gate = self.up_gate(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Block(nn.Module):
    """Pre-norm: ``x += mixer(norm(x)); x += mlp(norm(x))``."""

    def __init__(self, config: JRTConfig, mixer: str):
        super().__init__()
        self.mixer_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.mixer = build_mixer(mixer, config)
        self.mlp_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.mlp = SwiGLU(config)

    def forward(self, x: Tensor, span: Span, state: dict[str, Tensor] | None) -> tuple[Tensor, dict[str, Tensor]]:
        y, state = self.mixer(self.mixer_norm(x), span, state)
        x = x + y
        return x + self.mlp(self.mlp_norm(x)), state


@dataclass
class JRTOutput(ModelOutput):
    """Result of a forward pass.

    Attributes:
        loss: mean next-token loss where ``labels`` were given and are not -100.
        logits: ``[B, T, vocab]``, or the last ``logits_to_keep`` positions.
        state: what the model remembers; pass it back with the next tokens.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    state: RecurrentState | None = None


class JRTForCausalLM(PreTrainedModel, GenerationMixin):
    """JRT-RNN, Based or a Transformer, as ``config.mixers`` says."""

    config_class = JRTConfig
    base_model_prefix = ""
    _tied_weights_keys = {"lm_head.weight": "embed_tokens.weight"}
    _is_stateful = True

    def __init__(self, config: JRTConfig):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList([Block(config, mixer) for mixer in config.mixers])
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.linear_attention = "chunked"
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_tokens

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    @property
    def has_prefix(self) -> bool:
        """Whether any layer gives the prefix a head start."""
        return "prefix_linear" in self.config.mixers

    def hidden_states(
        self,
        input_ids: Tensor,
        lengths: Tensor | None = None,
        prefix_lengths: Tensor | None = None,
        state: RecurrentState | None = None,
    ) -> tuple[Tensor, RecurrentState]:
        """Last hidden states of a right-padded batch, and the state after each row's last token.

        Args:
            input_ids: ``[B, T]``, padded on the right with any id.
            lengths: real tokens per row ``[B]``; None when all T are.
            prefix_lengths: M per row ``[B]``, among these tokens; None for 0.
            state: of the tokens before these, or None.

        Returns:
            ``[B, T, C]`` (anything at padding) and the state.
        """
        B, T = input_ids.shape
        ragged = lengths is not None and bool((lengths < T).any())
        lengths = torch.full((B,), T, device=input_ids.device) if lengths is None else lengths
        order = torch.arange(T, device=input_ids.device)
        prefix_mask = None
        if prefix_lengths is not None and bool((prefix_lengths > 0).any()):
            prefix_mask = order < torch.minimum(prefix_lengths, lengths)[:, None]
        offset = torch.zeros_like(lengths) if state is None else state.lengths
        span = Span(lengths, order < lengths[:, None] if ragged else None, prefix_mask, offset, self.linear_attention)
        x = self.embed_tokens(input_ids)
        layers = []
        for i, block in enumerate(self.blocks):
            x, layer = block(x, span, None if state is None else state.layers[i])
            layers.append(layer)
        return self.norm(x), RecurrentState(layers, offset + lengths)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of hidden states ``[..., C]``; the mask token can never be chosen."""
        logits = self.lm_head(hidden)
        if self.config.mask_token_id is not None:
            logits[..., self.config.mask_token_id] = torch.finfo(logits.dtype).min
        return logits

    def prefill(
        self,
        input_ids: Tensor,
        lengths: Tensor | None = None,
        prefix_lengths: Tensor | None = None,
        state: RecurrentState | None = None,
    ) -> tuple[Tensor, RecurrentState]:
        """Read tokens; arguments as :meth:`hidden_states`. Returns logits ``[B, vocab]`` after each row's last token,
        and the state."""
        hidden, state = self.hidden_states(input_ids, lengths, prefix_lengths, state)
        last = (
            hidden[:, -1] if lengths is None else hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]
        )
        return self.logits(last), state

    def step(self, input_ids: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """Read one token per row, ``[B]``: logits ``[B, vocab]`` for the next, and the new state."""
        hidden, state = self.hidden_states(input_ids[:, None], state=state)
        return self.logits(hidden[:, 0]), state

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        prefix_lengths: Tensor | None = None,
        state: RecurrentState | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int = 0,
        **_: Any,
    ) -> JRTOutput:
        """Hugging Face forward: any padding side.

        Args:
            input_ids: ``[B, T]``.
            attention_mask: ``[B, T]``, 0 at padding, wherever it stands.
            prefix_lengths: M per row ``[B]`` in real tokens. None: min(config.prefix_length, tokens), without a state.
            state: of the tokens before these.
            labels: ``[B, T]``, shifted inside, -100 where no loss is taken. Label only tokens that the prefix has not
                seen.
            logits_to_keep: only the last so many positions; 0 for all.

        Raises:
            JRTError: a row without any token.
        """
        B, T = input_ids.shape
        lengths, order = None, None
        if attention_mask is not None and not bool(attention_mask[:, -T:].all()):
            real = attention_mask[:, -T:].bool()
            lengths = real.sum(1)
            if bool((lengths == 0).any()):
                raise JRTError("attention_mask: a row of the batch has no token at all; every row needs at least one.")
            order = torch.argsort((~real).int(), dim=1, stable=True)  # real tokens first, in their order
            input_ids = input_ids.gather(1, order)
        if prefix_lengths is None and state is None and self.config.prefix_length:
            tokens = torch.full((B,), T, device=input_ids.device) if lengths is None else lengths
            prefix_lengths = tokens.clamp(max=self.config.prefix_length)
        hidden, state = self.hidden_states(input_ids, lengths, prefix_lengths, state)
        if order is not None:
            hidden = torch.empty_like(hidden).scatter(1, order[..., None].expand_as(hidden), hidden)
        logits = self.logits(hidden[:, -logits_to_keep:] if logits_to_keep else hidden)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100)
        return JRTOutput(loss=loss, logits=logits, state=state)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # the state is ours, not a key-value cache

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        state: RecurrentState | None = None,
        attention_mask: Tensor | None = None,
        prefix_lengths: Tensor | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        """The whole prompt first, by default all of it as the prefix (what JRT published), then token by token."""
        if state is not None:
            return {"input_ids": input_ids[:, -1:], "state": state, "logits_to_keep": 1}
        if prefix_lengths is None and self.has_prefix:
            ones = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            prefix_lengths = ones.sum(1)
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "prefix_lengths": prefix_lengths,
            "logits_to_keep": 1,
        }


AutoConfig.register(JRTConfig.model_type, JRTConfig)
AutoModelForCausalLM.register(JRTConfig, JRTForCausalLM)
