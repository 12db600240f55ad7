"""Any Hugging Face causal language model as an engine: left padding with a mask, its cache as the state.

Recurrent models need the mask as much as attention does: padding that enters a state stays in it.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from jrt_lmeval.errors import JRTError
from model_adapters.engines.engine import TokenScores, score_positions
from model_adapters.engines.hf_state import (
    ELSEWHERE,
    HFState,
    only_full_attention,
    only_recurrent,
    require_cache,
    unshared,
    write_rows,
)

CACHE_NAMES = ("cache", "past_key_values", "cache_params")  # the first since transformers 5.24


class HFEngine:
    """Wraps a model of `AutoModelForCausalLM`.

    Raises:
        JRTError: the model takes no attention mask or no cache: batching or generation would be wrong.
    """

    has_prefix = False
    longest_prefix: int | None = None
    trained_length: int | None = None
    padding = "left"

    def __init__(self, model: Any):
        self.model = model.eval()
        self.device: torch.device = model.device
        accepts = inspect.signature(model.forward).parameters
        self._name = type(model).__name__
        if "attention_mask" not in accepts:
            raise JRTError(f"{self._name} takes no attention_mask: padding would change its answers. {ELSEWHERE}")
        cache_name = next((name for name in CACHE_NAMES if name in accepts), None)
        if cache_name is None:
            raise JRTError(f"{self._name} takes none of {', '.join(CACHE_NAMES)}: it keeps no state. {ELSEWHERE}")
        self._cache_name = cache_name
        self._takes_positions = "position_ids" in accepts
        self._keeps = "logits_to_keep" in accepts
        layout = DynamicCache(config=model.config)
        self._maskable = only_full_attention(layout) and self._takes_positions
        self.constant_state = bool(layout.layers) and only_recurrent(layout)
        self.can_continue = self._maskable or self.constant_state
        self.max_length = context_length(model.config)

    def _forward(self, ids: Tensor, mask: Tensor | None, positions: Tensor, cache: Any, keep: int) -> Any:
        kwargs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": True}
        if cache is not None:
            kwargs[self._cache_name] = cache
        if self._takes_positions:
            kwargs["position_ids"] = positions
        if self._keeps:
            kwargs["logits_to_keep"] = keep
        return self.model(**kwargs)

    def _left_padded(self, ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        width = max(len(row) for row in ids)
        padded = torch.zeros(len(ids), width, dtype=torch.long)
        mask = torch.zeros(len(ids), width, dtype=torch.long)
        for row, tokens in enumerate(ids):
            padded[row, width - len(tokens) :] = torch.tensor(tokens)
            mask[row, width - len(tokens) :] = 1
        return padded.to(self.device), mask.to(self.device)

    @torch.inference_mode()
    def prefill(
        self, ids: Sequence[Sequence[int]], prefix_lengths: Sequence[int], state: HFState | None = None
    ) -> tuple[Tensor, HFState]:
        if state is not None and not self._maskable:
            return self._continue_stepwise(ids, state)
        padded, mask = self._left_padded(ids)
        offset = torch.zeros(len(ids), dtype=torch.long, device=self.device) if state is None else state.lengths
        positions = (mask.cumsum(1) - 1).clamp(min=0) + offset[:, None]
        cache = None
        if state is not None:
            mask, cache = torch.cat([state.mask, mask], dim=1), unshared(state.cache)
        out = self._forward(padded, mask, positions, cache, 1)
        cache = require_cache(getattr(out, self._cache_name, None), self._name)
        return out.logits[:, -1], HFState(cache, mask, mask.sum(1))

    def _continue_stepwise(self, ids: Sequence[Sequence[int]], state: HFState) -> tuple[Tensor, HFState]:
        # transformers' recurrent layers start afresh when given several tokens with a cache, and padding in the
        # middle would decay their state; so one token at a time, shorter rows joining in later.
        if not self.constant_state:
            raise JRTError(f"{self._name} mixes kinds of layers: its state cannot be continued with several tokens.")
        state = state.clone()
        lengths = torch.tensor([len(row) for row in ids], device=self.device)
        longest = int(lengths.max())
        logits = None
        for done in range(longest):
            rows = torch.nonzero(lengths >= longest - done)[:, 0]
            tokens = [ids[row][int(lengths[row]) - longest + done] for row in rows.tolist()]
            part = state if len(rows) == len(lengths) else state.select(rows)
            logits, part = self.step(torch.tensor(tokens), part)
            if part is not state and len(rows) < len(lengths):
                write_rows(state.cache, rows, part.cache)
                state.lengths[rows] += 1
            else:
                state = part
        assert logits is not None
        return logits, state

    @torch.inference_mode()
    def step(self, ids: Tensor, state: HFState) -> tuple[Tensor, HFState]:
        mask = torch.cat([state.mask, state.mask.new_ones(len(ids), 1)], dim=1)
        # A recurrent step has nothing to mask: the state holds no padding.
        seen = None if self.constant_state else mask
        out = self._forward(ids.to(self.device)[:, None], seen, state.lengths[:, None], state.cache, 1)
        return out.logits[:, -1], HFState(getattr(out, self._cache_name), mask, state.lengths + 1)

    @torch.inference_mode()
    def score(
        self, rows: Sequence[Sequence[int]], prefix_lengths: Sequence[int], starts: Sequence[int]
    ) -> list[TokenScores]:
        padded, mask = self._left_padded([row[:-1] for row in rows])
        wanted = [len(row) - start for row, start in zip(rows, starts, strict=True)]
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        logits = self._forward(padded, mask, positions, None, max(wanted)).logits
        return [
            score_positions(logits[row, -count:], torch.tensor(tokens[-count:], device=self.device))
            for row, (tokens, count) in enumerate(zip(rows, wanted, strict=True))
        ]


def context_length(config: Any) -> int | None:
    """Tokens a model can read at most, from its configuration; None where it names no limit (recurrent models)."""
    text = config.get_text_config(decoder=True)
    for name in ("n_positions", "max_position_embeddings", "n_ctx", "max_seq_len"):
        value = getattr(text, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return None
