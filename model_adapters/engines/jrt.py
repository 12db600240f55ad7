"""Our own models (JRT-RNN, Based) as an engine: right padding, exact for every row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from jrt_lmeval.modeling import growing_layers
from jrt_lmeval.modeling.filling import Prompts, fill_left
from jrt_lmeval.modeling.linear_attention import best_form
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.modeling.state import RecurrentState
from model_adapters.engines.engine import TokenScores, score_positions

# Positions whose logits are held at once while scoring: 2048 x 50k float32 are 0.4 GB.
SCORED_AT_ONCE = 2048


class JRTEngine:
    """Wraps `JRTForCausalLM`."""

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
        self.constant_state = not growing_layers(model.config.mixers)
        self.window = model.config.window if "swa" in model.config.mixers else None

    def _padded(self, ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        lengths = torch.tensor([len(row) for row in ids], device=self.device)
        return pad_sequence([torch.tensor(row) for row in ids], batch_first=True).to(self.device), lengths

    @torch.inference_mode()
    def prefill(
        self, ids: Sequence[Sequence[int]], prefix_lengths: Sequence[int], state: RecurrentState | None = None
    ) -> tuple[Tensor, RecurrentState]:
        padded, lengths = self._padded(ids)
        return self.model.prefill(padded, lengths, torch.tensor(list(prefix_lengths), device=self.device), state)

    @torch.inference_mode()
    def step(self, ids: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        return self.model.step(ids.to(self.device), state)

    def window_bytes(self, state: RecurrentState) -> list[int]:
        return state.window_bytes()

    @torch.inference_mode()
    def score(
        self, rows: Sequence[Sequence[int]], prefix_lengths: Sequence[int], starts: Sequence[int]
    ) -> list[TokenScores]:
        padded, lengths = self._padded([row[:-1] for row in rows])
        prefixes = torch.tensor(list(prefix_lengths), device=self.device)
        prompts = fill_left(Prompts(padded, lengths, prefixes), self.model.config)
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
            logprobs, greedy = (torch.cat(found) for found in zip(*parts, strict=True))
            scores.append(TokenScores(logprobs, greedy))
        return scores
