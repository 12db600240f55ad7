"""Our own models (JRT-RNN, Based) as an engine: right padding, exact for every row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jrt_lmeval.modeling import growing_layers
from jrt_lmeval.modeling.filling import Prompts, fill_left, pads_left
from jrt_lmeval.modeling.linear_attention import best_form
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.modeling.state import RecurrentState
from model_adapters.engines.engine import TokenScores, score_positions

# Positions whose logits are held at once while scoring: 2048 x 50k float32 are 0.4 GB.
SCORED_AT_ONCE = 2048


@dataclass
class JRTState:
    """A recurrent state; `growing` names the layers whose slots count the tokens read (full attention)."""

    inner: RecurrentState
    growing: frozenset[int]

    def clone(self) -> JRTState:
        return JRTState(self.inner.clone(), self.growing)

    def select(self, rows: Tensor) -> JRTState:
        return JRTState(self.inner.select(rows), self.growing)

    def row_bytes(self) -> list[int]:
        rows = self.inner.batch_size
        per_token = fixed = 0
        for index, layer in enumerate(self.inner.layers):
            for name, tensor in layer.items():
                size = tensor.numel() * tensor.element_size() // rows
                if index in self.growing and name in ("k", "v"):
                    per_token += size // tensor.shape[1]
                else:
                    fixed += size
        return [fixed + per_token * length for length in self.inner.lengths.tolist()]

    def window_bytes(self) -> list[int]:
        """Bytes of each row that are keys and values of sliding windows."""
        windows = [layer for index, layer in enumerate(self.inner.layers) if index not in self.growing]
        kept = [layer[name] for layer in windows for name in ("k", "v") if name in layer]
        rows = self.inner.batch_size
        return [sum(tensor.numel() * tensor.element_size() // rows for tensor in kept)] * rows


class JRTEngine:
    """Wraps `JRTForCausalLM`.

    Args:
        model: the model.

    """

    max_length: int | None = None
    table_length: int | None = None
    padding = "right"

    def __init__(self, model: JRTForCausalLM):
        self.model = model.eval()
        self.device = model.device
        if best_form(self.device) == "fla" and model.linear_attention != "naive":
            model.linear_attention = "fla"
        self.trained_length: int | None = model.config.context_length
        self.has_prefix = model.has_prefix
        self.longest_prefix: int | None = model.config.enc_length
        modes = model.config.padding, model.config.filling
        # a filling depends on the whole prompt, so no part of it can be read ahead
        self.can_continue = not self.has_prefix or modes == ("exact", "left_pad")
        self.growing = growing_layers(model.config.mixers)
        self.constant_state = not self.growing
        self.window = model.config.window if "swa" in model.config.mixers else None

    def _padded(self, ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        lengths = torch.tensor([len(row) for row in ids], device=self.device)
        padded = torch.zeros(len(ids), int(lengths.max()), dtype=torch.long)
        for row, tokens in enumerate(ids):
            padded[row, : len(tokens)] = torch.tensor(tokens)
        return padded.to(self.device), lengths

    @torch.inference_mode()
    def prefill(
        self, ids: Sequence[Sequence[int]], prefix_lengths: Sequence[int], state: JRTState | None = None
    ) -> tuple[Tensor, JRTState]:
        padded, lengths = self._padded(ids)
        prefixes = torch.tensor(list(prefix_lengths), device=self.device)
        logits, inner = self.model.prefill(padded, lengths, prefixes, None if state is None else state.inner)
        return logits, JRTState(inner, self.growing)

    @torch.inference_mode()
    def step(self, ids: Tensor, state: JRTState) -> tuple[Tensor, JRTState]:
        logits, inner = self.model.step(ids.to(self.device), state.inner)
        return logits, JRTState(inner, self.growing)

    def window_bytes(self, state: JRTState) -> list[int]:
        return state.window_bytes()

    @torch.inference_mode()
    def score(
        self, rows: Sequence[Sequence[int]], prefix_lengths: Sequence[int], starts: Sequence[int]
    ) -> list[TokenScores]:
        padded, lengths = self._padded([row[:-1] for row in rows])
        prefixes = torch.tensor(list(prefix_lengths), device=self.device)
        prompts = Prompts(padded, lengths, prefixes)
        if pads_left(self.model.config):
            prompts = fill_left(prompts, self.model.config)
        hidden, _ = self.model.hidden_states(
            prompts.ids, prompts.lengths, prompts.prefix_lengths, keyless=prompts.keyless
        )
        front = (prompts.lengths - lengths).tolist()
        scores = []
        for row, (tokens, start) in enumerate(zip(rows, starts, strict=True)):
            targets = torch.tensor(tokens[start:], device=self.device)
            wanted = hidden[row, front[row] + start - 1 : front[row] + len(tokens) - 1]
            parts = [
                score_positions(self.model.logits(part), part_targets)
                for part, part_targets in zip(wanted.split(SCORED_AT_ONCE), targets.split(SCORED_AT_ONCE), strict=True)
            ]
            scores.append(_joined(parts))
        return scores


def _joined(parts: list[TokenScores]) -> TokenScores:
    return TokenScores(torch.cat([part.logprobs for part in parts]), torch.cat([part.greedy for part in parts]))
