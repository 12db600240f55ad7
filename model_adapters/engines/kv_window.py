"""A Transformer that keeps the first tokens and the last: what it recalls for as many bytes as a recurrent state has.

`KVWindow` says which tokens a token sees and which the state keeps. Every slot of a cache is known by the position of
its token, so padding, ragged batches and caches that were cut need no case of their own. The scheme is StreamingLLM's
(arXiv 2309.17453), positions aside: they stay those of the whole text.

`WindowEngine` reads a prompt in blocks through the cut cache, O(T (W + block)); `full_pass` is the reference, one
pass with a T x T mask. Both give every token, not only the last one, no more than its window.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.cache_utils import DynamicCache, DynamicLayer

from jrt_lmeval.errors import JRTError, whole_number
from jrt_lmeval.modeling.attention import NO_TOKEN, sees
from model_adapters.engines.engine import TokenScores, score_positions
from model_adapters.engines.hf import CACHE_NAMES, cache_name, context_length, table_length

SINKS = 4
"""Default of `kv_sinks`, StreamingLLM's: a model trained with full attention fails without its first tokens."""


@dataclass(frozen=True)
class KVWindow:
    """A restriction of causal attention.

    Attributes:
        size: W; a token sees itself and the W - 1 tokens before it,
        sinks: S; and the first S tokens of the text.
    """

    size: int
    sinks: int = SINKS

    @property
    def kept(self) -> int:
        """Tokens that a state keeps at most: what the next token sees, itself not counted."""
        return self.sinks + self.size - 1

    def sees(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Which keys each query sees: positions `[B, Q]` and `[B, K]` -> bool `[B, Q, K]`."""
        return sees(queries, keys, self.size, self.sinks)

    def cut(self, keys: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Which slots to keep of a cache, from the positions of its tokens `[B, K]` and the tokens read so far `[B]`.

        Returns the numbers of the slots `[B, at most S + W - 1]`, in the order they have, and their positions; a row
        that keeps fewer than another is filled up with slots of position NO_TOKEN.
        """
        keep = self.sees(lengths[:, None], keys)[:, 0]
        slots = torch.argsort((~keep).to(torch.int8), dim=1, stable=True)[:, : int(keep.sum(1).max())]
        return slots, keys.gather(1, slots).masked_fill(~keep.gather(1, slots), NO_TOKEN)


@dataclass(frozen=True)
class WindowOptions:
    """A window as a user writes it: by its tokens, or by the bytes that the state of a row may take.

    Raises:
        JRTError: neither or both are given, or a value is out of range.
    """

    kv_window: int | None = None
    kv_sinks: int | None = None
    kv_bytes: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("kv_window", 1), ("kv_sinks", 0), ("kv_bytes", 1)):
            if getattr(self, name) is not None:
                whole_number(name, getattr(self, name), least)
        if self.kv_window is not None and self.kv_bytes is not None:
            raise JRTError(
                f"kv_window={self.kv_window} and kv_bytes={self.kv_bytes} both say how much is kept; give one of them."
            )
        if self.kv_sinks is not None and not self.given:
            raise JRTError(f"kv_sinks={self.kv_sinks} needs a window: give kv_window (tokens) or kv_bytes as well.")

    @property
    def given(self) -> bool:
        """Whether attention is restricted at all."""
        return self.kv_window is not None or self.kv_bytes is not None

    def window(self, token_bytes: int) -> KVWindow:
        """The window for a model that keeps `token_bytes` of every token: the widest whose state fits into `kv_bytes`.

        Raises:
            JRTError: not even the sinks fit.
        """
        sinks = SINKS if self.kv_sinks is None else self.kv_sinks
        if self.kv_window is not None:
            return KVWindow(self.kv_window, sinks)
        assert self.kv_bytes is not None
        kept = self.kv_bytes // token_bytes
        if kept < max(1, sinks):
            raise JRTError(
                f"kv_bytes={self.kv_bytes} holds {kept} tokens of {token_bytes} bytes each; the {sinks} sinks and a "
                f"window need at least {max(1, sinks) * token_bytes}."
            )
        return KVWindow(kept - sinks + 1, sinks)


BLOCK = 256
"""Tokens of a row read at once, or W where that is more: fewer leave the matrix products too small."""

MASKABLE = ("eager", "sdpa")
PROBE = ((2, 3, 4, 5, 6, 7, 8, 3), (9, 8, 7, 6, 5, 4, 2, 3))
"""Two texts of the same length that end in the same token."""


@dataclass(frozen=True)
class WindowState:
    """Keys and values of the tokens that are still seen. Its tensors are never written to, so states may share them.

    Attributes:
        layers: keys and values, `[B, heads, slots, D]` each.
        positions: `[B, slots]`, of the token in each slot; NO_TOKEN where there is none.
        lengths: tokens read per row, `[B]`.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]
    positions: Tensor
    lengths: Tensor

    def select(self, rows: Tensor) -> WindowState:
        layers = tuple((keys[rows.to(keys.device)], values[rows.to(values.device)]) for keys, values in self.layers)
        rows = rows.to(self.lengths.device)
        return WindowState(layers, self.positions[rows], self.lengths[rows])

    def row_bytes(self) -> list[int]:
        held = (self.positions != NO_TOKEN).sum(1)
        return (held * token_bytes(self.layers)).tolist()


def token_bytes(layers: Sequence[tuple[Tensor, Tensor]]) -> int:
    """Bytes of one token's keys and values in all layers."""
    return sum(t.shape[1] * t.shape[3] * t.element_size() for pair in layers for t in pair)


class WindowEngine:
    """A Hugging Face model of plain softmax attention under a `KVWindow`.

    Args:
        model: of `AutoModelForCausalLM`.
        options: the window, in tokens or bytes.
        block: tokens of a row read at once; results do not depend on it.

    Raises:
        JRTError: a layer is something else than attention to the whole text, or does not heed a 4-D mask.
    """

    has_prefix = False
    longest_prefix: int | None = None
    trained_length: int | None = None
    padding = "left"
    constant_state = False
    can_continue = True

    def __init__(self, model: Any, options: WindowOptions, block: int | None = None):
        self.model = model.eval()
        self.device: torch.device = model.device
        self.max_length = context_length(model.config)
        self.table_length = table_length(model)
        self._name = type(model).__name__
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        require_plain_attention(model)
        # what a token weighs is asked of the model: heads, sizes and formats stand elsewhere in every configuration
        weight = token_bytes(self._probe(PROBE[0], KVWindow(BLOCK), BLOCK)[1].layers)
        self._require_mask_heeded()
        self.kv_window = options.window(weight)
        self.window: int | None = self.kv_window.size
        self._block = block or max(self.kv_window.size, BLOCK)

    def _probe(self, text: Sequence[int], window: KVWindow, block: int) -> tuple[Tensor, WindowState]:
        self.kv_window, self._block = window, block
        return self.prefill([text], [0])

    @torch.inference_mode()
    def _require_mask_heeded(self) -> None:
        """A token that may see all must be read as by the plain model, one that sees itself alone by itself alone."""
        limit = 1e-4 if self.model.dtype.itemsize >= 4 else 5e-2
        plain = self.model(torch.tensor([PROBE[0]], device=self.device)).logits[:, -1]
        whole, _ = self._probe(PROBE[0], KVWindow(BLOCK), 5)
        # in one block, so that the mask alone hides the other tokens
        alone, other = (self._probe(text, KVWindow(1, 0), BLOCK)[0] for text in PROBE)
        for mine, truth in ((whole, plain), (alone, other)):
            if not bool((mine - truth).abs().max() <= limit * truth.abs().max()):
                raise JRTError(
                    f"kv_window: {self._name} does not heed a mask that says which token sees which, or remembers "
                    "more than keys and values; its attention cannot be restricted. Leave kv_window out."
                )

    def window_bytes(self, state: WindowState) -> list[int]:
        """All that a state keeps is of a window."""
        return state.row_bytes()

    @torch.inference_mode()
    def prefill(
        self, ids: Sequence[Sequence[int]], prefix_lengths: Sequence[int], state: WindowState | None = None
    ) -> tuple[Tensor, WindowState]:
        logits, state = self._read(ids, state, 1)
        return logits[:, -1], state

    @torch.inference_mode()
    def step(self, ids: Tensor, state: WindowState) -> tuple[Tensor, WindowState]:
        logits, state = self._advance(ids.to(self.device)[:, None], state.lengths[:, None], state, 1)
        return logits[:, -1], state

    @torch.inference_mode()
    def score(
        self, rows: Sequence[Sequence[int]], prefix_lengths: Sequence[int], starts: Sequence[int]
    ) -> list[TokenScores]:
        wanted = [len(row) - start for row, start in zip(rows, starts, strict=True)]
        logits, _ = self._read([row[:-1] for row in rows], None, max(wanted))
        return [
            score_positions(logits[row, -count:], torch.tensor(tokens[-count:], device=self.device))
            for row, (tokens, count) in enumerate(zip(rows, wanted, strict=True))
        ]

    def _read(self, ids: Sequence[Sequence[int]], state: WindowState | None, keep: int) -> tuple[Tensor, WindowState]:
        """Read rows block by block: logits of the last `keep` columns `[B, keep, vocabulary]`, and the state."""
        if state is None:
            empty = torch.zeros(len(ids), 0, dtype=torch.long, device=self.device)
            state = WindowState((), empty, empty.sum(1))
        rows = [torch.tensor(row, device=self.device) for row in ids]
        places = [torch.arange(len(row), device=self.device) for row in ids]
        tokens = pad_sequence(rows, batch_first=True, padding_side="left")
        positions = pad_sequence(places, batch_first=True, padding_side="left", padding_value=NO_TOKEN)
        positions = torch.where(positions == NO_TOKEN, positions, positions + state.lengths[:, None])
        width, kept = tokens.shape[1], []
        for start in range(0, width, self._block):
            part = slice(start, min(width, start + self._block))
            wanted = part.stop - max(part.start, width - keep)
            logits, state = self._advance(tokens[:, part], positions[:, part], state, max(1, wanted))
            if wanted > 0:
                kept.append(logits[:, -wanted:])
        return torch.cat(kept, 1), state

    def _advance(self, tokens: Tensor, positions: Tensor, state: WindowState, keep: int) -> tuple[Tensor, WindowState]:
        """Read one block, tokens and positions `[B, Q]`, and forget what the next token does not see."""
        cache = DynamicCache(ddp_cache_data=state.layers or None)
        keys = torch.cat([state.positions, positions], 1)
        lengths = torch.maximum(state.lengths, positions.amax(1) + 1)
        logits = _forward(
            self.model, tokens, positions, self.kv_window.sees(positions, keys), cache, self._keeps * keep
        )
        slots, kept = self.kv_window.cut(keys, lengths)
        layers = tuple((_pick(layer.keys, slots), _pick(layer.values, slots)) for layer in cache.layers)
        return logits, WindowState(layers, kept, lengths)


def _pick(tensor: Tensor, slots: Tensor) -> Tensor:
    """The slots of each row: `[B, heads, K, D]` and `[B, slots]` -> `[B, heads, slots, D]`."""
    index = slots.to(tensor.device)[:, None, :, None]
    return tensor.gather(2, index.expand(-1, tensor.shape[1], -1, tensor.shape[3]))


def _forward(model: Any, tokens: Tensor, positions: Tensor, seen: Tensor, cache: Any, keep: int) -> Tensor:
    """Logits under a mask `seen [B, Q, K]`; `keep` of the last positions where it is not 0."""
    # a softmax over nothing would be NaN; what padding sees is unused
    seen = seen | (positions == NO_TOKEN)[:, :, None]
    mask = torch.zeros(seen.shape, dtype=model.dtype, device=seen.device)
    mask = mask.masked_fill(~seen, torch.finfo(model.dtype).min)[:, None]
    options: dict[str, Any] = {cache_name(model): cache, **({"logits_to_keep": keep} if keep else {})}
    places = positions.clamp(min=0)
    return model(input_ids=tokens, attention_mask=mask, position_ids=places, use_cache=True, **options).logits


@torch.inference_mode()
def full_pass(model: Any, ids: Sequence[int], window: KVWindow) -> Tensor:
    """Logits `[T, vocabulary]` of one row in one pass with a T x T mask: the reference for `WindowEngine`."""
    positions = torch.arange(len(ids), device=model.device)[None]
    tokens = torch.tensor([list(ids)], device=model.device)
    return _forward(model, tokens, positions, window.sees(positions, positions), DynamicCache(), 0)[0]


def require_plain_attention(model: Any) -> None:
    """Raise JRTError unless every layer is softmax attention to the whole text, through a mask and positions."""
    name, accepts = type(model).__name__, inspect.signature(model.forward).parameters
    lacks = [argument for argument in ("attention_mask", "position_ids") if argument not in accepts]
    lacks += [] if cache_name(model) else [CACHE_NAMES[0]]
    layers = DynamicCache(config=model.config).layers
    others = sorted({type(layer).__name__ for layer in layers if type(layer) is not DynamicLayer})
    attention = getattr(model.config, "_attn_implementation", "eager")
    if lacks:
        why = f"it takes no {', '.join(lacks)}"
    elif others or not layers:
        why = f"it has layers of another kind ({', '.join(others) or 'unknown'})"
    elif attention not in MASKABLE:
        why = f"its attention runs as {attention!r}, which takes no mask of its own; load it with 'sdpa' or 'eager'"
    else:
        return
    raise JRTError(
        f"kv_window: {name} is no plain softmax-attention model: {why}. A window is for models all of whose layers "
        "attend to the whole text (Llama, Qwen2, GPT-NeoX, ...); leave kv_window, kv_sinks and kv_bytes out."
    )
