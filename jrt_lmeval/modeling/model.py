"""The language model: blocks of mixer and SwiGLU around one residual stream, as an ordinary Hugging Face model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.utils import ModelOutput

from jrt_lmeval.modeling import growing_layers, with_prefix
from jrt_lmeval.modeling.config import JRTConfig
from jrt_lmeval.modeling.filling import Prompts, fill, fill_left, real_first, recall, remember
from jrt_lmeval.modeling.mixers import Span, build_mixer
from jrt_lmeval.modeling.state import LayerState, RecurrentState


class RMSNorm(nn.Module):
    """x / rms(x) * weight, computed in float32."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.eps).to(x.dtype)


class SwiGLU(nn.Module):
    """`down(silu(gate) * up)`."""

    def __init__(self, config: JRTConfig):
        super().__init__()
        self.up_gate = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        up, gate = self.up_gate(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Block(nn.Module):
    """Pre-norm: `x += mixer(norm(x)); x += mlp(norm(x))`."""

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
        loss: mean next-token loss where `labels` were given and are not -100.
        logits: `[B, T, vocab]`, or the last `logits_to_keep` positions.
        state: what the model remembers; pass it back with the next tokens.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    state: RecurrentState | None = None


class JRTForCausalLM(PreTrainedModel, GenerationMixin):
    """JRT-RNN, Based or a Transformer, as `config.mixers` says."""

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
        self.linear_attention = "streamed"
        self.post_init()
        if config.token_count is not None and config.token_count < config.vocab_size:
            self.generation_config.suppress_tokens = list(range(config.token_count, config.vocab_size))

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
        return with_prefix(self.config.mixers)

    def hidden_states(
        self,
        input_ids: Tensor,
        lengths: Tensor | None = None,
        prefix_lengths: Tensor | None = None,
        state: RecurrentState | None = None,
        keyless: Tensor | None = None,
        decoding: bool = False,
    ) -> tuple[Tensor, RecurrentState]:
        """Last hidden states of a right-padded batch, and the state after each row's last token.

        Args:
            input_ids: `[B, T]`, padded on the right with any id.
            lengths: real tokens per row `[B]`; None when all T are.
            prefix_lengths: M per row `[B]`, among these tokens; None for 0. Cut where `config.enc_length` ends.
            state: of the tokens before these, or None.
            keyless, decoding: see `Span`.

        Returns:
            `[B, T, C]` (anything at padding) and the state.
        """
        B, T = input_ids.shape
        ragged = lengths is not None and bool((lengths < T).any())
        lengths = torch.full((B,), T, device=input_ids.device) if lengths is None else lengths
        order = torch.arange(T, device=input_ids.device)
        offset = torch.zeros_like(lengths) if state is None else state.lengths
        prefix_mask = None
        if prefix_lengths is not None and bool((prefix_lengths > 0).any()):
            M = torch.minimum(prefix_lengths, lengths)
            if self.config.enc_length is not None:
                M = torch.minimum(M, self.config.enc_length - offset)
            prefix_mask = order < M[:, None]
        mask = order < lengths[:, None] if ragged else None
        span = Span(lengths, mask, prefix_mask, offset, self.linear_attention, keyless, decoding)
        hidden, layers = self.layers(input_ids, span, None if state is None else state.layers)
        return hidden, RecurrentState(layers, offset + lengths, growing_layers(self.config.mixers))

    def layers(self, input_ids: Tensor, span: Span, state: list[LayerState] | None) -> tuple[Tensor, list[LayerState]]:
        """All layers: last hidden states `[B, T, C]`, and what each layer remembers."""
        x, kept = self.embed_tokens(input_ids), []
        for i, block in enumerate(self.blocks):
            x, layer = block(x, span, None if state is None else state[i])
            kept.append(layer)
        return self.norm(x), kept

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of hidden states `[..., C]`; the mask token can never be chosen."""
        logits = self.get_output_embeddings()(hidden)
        if self.config.mask_token_id is not None:
            logits[..., self.config.mask_token_id] = torch.finfo(logits.dtype).min
        return logits

    def next_logits(self, hidden: Tensor) -> Tensor:
        """As `logits`, where padding of the vocabulary cannot be chosen either."""
        logits = self.logits(hidden)
        if self.config.token_count is not None:
            logits[..., self.config.token_count :] = torch.finfo(logits.dtype).min
        return logits

    def prefill(
        self,
        input_ids: Tensor,
        lengths: Tensor | None = None,
        prefix_lengths: Tensor | None = None,
        state: RecurrentState | None = None,
    ) -> tuple[Tensor, RecurrentState]:
        """Read prompts (`config.filling` applies to those without a state), or go on reading after a state.

        Arguments as `hidden_states`. Returns logits `[B, vocab]` after each row's last token, and the state.
        """
        hidden, state = self._read(input_ids, lengths, prefix_lengths, state)
        return self.next_logits(hidden), state

    def step(self, input_ids: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """Decode one token per row, `[B]`, that the model chose: logits `[B, vocab]` for the next, and the new
        state."""
        hidden, state = self._decode(input_ids, state)
        return self.next_logits(hidden), state

    def _read(
        self, ids: Tensor, lengths: Tensor | None, prefix_lengths: Tensor | None, state: RecurrentState | None = None
    ) -> tuple[Tensor, RecurrentState]:
        """The hidden states `[B, C]` of each row's last token, and the state."""
        if lengths is None:
            lengths = torch.full(ids.shape[:1], ids.shape[1], device=ids.device)
        prompts = Prompts(ids, lengths, prefix_lengths)
        again = self.config.filling == "iterate" and self.has_prefix
        if again and state is not None:
            prompts, state = recall(state, prompts), None
        elif state is None:
            prompts = fill(prompts, self.config)
        hidden, end = self.hidden_states(prompts.ids, prompts.lengths, prompts.prefix_lengths, state, prompts.keyless)
        last = hidden[torch.arange(len(hidden), device=hidden.device), prompts.lengths - 1]
        return last, remember(prompts) if again else end

    def _decode(self, ids: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """The hidden states `[B, C]` after one more token per row, and the state."""
        if self.config.filling == "iterate" and self.has_prefix:
            return self._read(ids[:, None], None, None, state)
        hidden, state = self.hidden_states(ids[:, None], state=state, decoding=True)
        return hidden[:, 0], state

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        prefix_lengths: Tensor | None = None,
        state: RecurrentState | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int = 0,
        generating: bool = False,
        **_: Any,
    ) -> JRTOutput:
        """Hugging Face forward: any padding side.

        Args:
            input_ids: `[B, T]`.
            attention_mask: `[B, T]`, 0 at padding, wherever it stands. With `config.padding="published"` masked
                tokens are read like others, but by prefix linear attention without keys if there are at most
                `config.enc_length`; else the mask is ignored. Without a mask, short rows are padded as prompts are.
            prefix_lengths: M per row `[B]` in tokens read. None: min(config.prefix_length, tokens), without a state.
            state: of the tokens before these.
            labels: `[B, T]`, shifted inside, -100 where no loss is taken. Label only tokens that the prefix has not
                seen.
            logits_to_keep: only the last so many positions; 0 for all.
            generating: read as `prefill` and `step` do; logits `[B, 1, vocab]`.

        Raises:
            JRTError: a row without any token.
        """
        B, T = input_ids.shape
        if generating:
            return self._generating(input_ids, attention_mask, prefix_lengths, state)
        lengths, order, keyless = None, None, None
        if attention_mask is not None and not bool(attention_mask[:, -T:].all()):
            real = attention_mask[:, -T:].bool()
            if self.config.padding == "exact":
                input_ids, lengths, order = real_first(input_ids, real)
            elif self.config.enc_length is not None and self.config.enc_length >= T:
                keyless = ~real
        elif state is None:
            filled = fill_left(Prompts(input_ids, input_ids.new_full((B,), T), prefix_lengths), self.config)
            input_ids, prefix_lengths, keyless = filled.ids, filled.prefix_lengths, filled.keyless
        if prefix_lengths is None and state is None and self.config.prefix_length:
            tokens = input_ids.new_full((B,), input_ids.shape[1]) if lengths is None else lengths
            prefix_lengths = tokens.clamp(max=self.config.prefix_length)
        hidden, state = self.hidden_states(input_ids, lengths, prefix_lengths, state, keyless)
        hidden = hidden[:, -T:]
        if order is not None:
            hidden = torch.empty_like(hidden).scatter(1, order[..., None].expand_as(hidden), hidden)
        logits = self.logits(hidden[:, -logits_to_keep:] if logits_to_keep else hidden)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100)
        return JRTOutput(loss=loss, logits=logits, state=state)

    def _generating(
        self, ids: Tensor, attention_mask: Tensor | None, prefix_lengths: Tensor | None, state: RecurrentState | None
    ) -> JRTOutput:
        if state is not None:
            hidden, state = self._decode(ids[:, -1], state)
        else:
            real = torch.ones_like(ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
            ids, lengths, _ = real_first(ids, real)
            if prefix_lengths is None and self.has_prefix:
                prefix_lengths = lengths
            hidden, state = self._read(ids, lengths, prefix_lengths)
        return JRTOutput(logits=self.logits(hidden)[:, None], state=state)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # the state is ours, not a key-value cache

    def _update_model_kwargs_for_generation(self, outputs: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        # since 5.24 transformers carries nothing from token to token that is not called `cache`
        return super()._update_model_kwargs_for_generation(outputs, *args, **kwargs) | {"state": outputs.state}

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
            return {"input_ids": input_ids[:, -1:], "state": state, "generating": True}
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "prefix_lengths": prefix_lengths,
            "generating": True,
        }


AutoConfig.register(JRTConfig.model_type, JRTConfig)
AutoModelForCausalLM.register(JRTConfig, JRTForCausalLM)
