"""Any Hugging Face causal language model as an engine: left padding with a mask, its cache as the state.

Recurrent models need the mask as much as attention does, because padding that enters a state stays in it. Models that
heed no mask read rows of equal length together. What a cache holds is found by reading a few tokens, not from the
configuration.

The constants below say what had to be learned of single families of recurrent and hybrid models; their keys are model
types. Whether a family is right through this engine, and what it keeps, stands in docs/recurrent-models.md, every line
of which is held by a test for the installed transformers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers.cache_utils import DynamicCache, DynamicSlidingWindowLayer

from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.scans import SCANNED, fast_scans
from model_adapters.engines.cache import (
    ELSEWHERE,
    CacheLayout,
    HFState,
    layout,
    merged,
    recurrent_part,
    require_rows_first,
    selected,
    unshared,
)
from model_adapters.engines.engine import TokenScores, score_positions

UNMASKED = frozenset({"rwkv", "xlstm"})
"""Their recurrence heeds no attention mask: only rows of one length are read together."""

ONE_ROW_STEPS = frozenset({"rwkv"})
"""Their pass over a single token mixes the rows of a batch: transformers broadcasts the last inputs over all."""

OWN_MASK_AFTER_PREFILL = frozenset({"minimax"})
"""Their cache counts tokens in its first layer, which is a linear one and counts none: a mask made from that would
be as wide as the new tokens alone."""

STEPS_DIFFER = frozenset({"nemotron_h", "zamba2"})
"""Their pass over several tokens keeps the step size above `time_step_min`, the one over a single token does not: what
a state has read token by token is not what it would have read at once, so documents are not shared."""

REFUSED = {
    "abc": "padding enters its slots, and it counts positions for a whole batch instead of for each row",
    "deepseek_v4": "it compresses tokens in blocks of the padded row, so that padding would change its answers",
    "mesa_net": "a step from its state was not what the text read at once gives, nor was a document that goes on",
}
"""Families that cannot be read in batches, and why; caches that cannot be forked are refused without a line here."""

NOT_IN_FLOAT32 = dict.fromkeys(
    ("delta_net", "gated_deltaproduct"), "beyond 64 tokens flash-linear-attention's own kernel accepts no float32"
)
"""Families that would read short prompts and fail at the first long one, and why."""

HELD = {"recurrent_gemma": (("conv1d_state", "recurrent_states"), "linear_x")}
"""By model type: the attributes of modules that hold the state, and the submodule whose output padding must not leave
(it feeds the convolution; behind that, the recurrence starts afresh at position 0)."""


class HeldState:
    """The state of models whose layers keep that of the last batch on themselves: taken after a pass, put back before.

    Args:
        model: of a type named in HELD.
    """

    def __init__(self, model: nn.Module, model_type: str):
        names, feeding = HELD[model_type]
        self._places = [(module, name) for module in model.modules() for name in names if name in vars(module)]
        self._mask: Tensor | None = None
        for module in model.modules():
            if any(owner is module for owner, _ in self._places) and hasattr(module, feeding):
                getattr(module, feeding).register_forward_hook(self._hide_padding)

    def _hide_padding(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        if self._mask is None or self._mask.shape[1] != output.shape[1]:
            return output
        return output * self._mask[:, :, None].to(output.dtype)

    def put(self, tensors: list[Tensor] | None, mask: Tensor | None) -> None:
        """Before a pass: the state to go on from (None: afresh), and `mask [B, T]` of the tokens that will be read."""
        self._mask = mask
        for number, (module, name) in enumerate(self._places):
            setattr(module, name, None if tensors is None else tensors[number])

    def take(self) -> list[Tensor]:
        """After a pass: the state, of which the model keeps nothing."""
        tensors = [getattr(module, name) for module, name in self._places]
        self.put(None, None)
        return tensors


CACHE_NAMES = ("cache", "past_key_values", "cache_params", "state")  # the first since transformers 5.24
KERNELS = (
    " flash-linear-attention is installed, and transformers takes its kernels, which need a GPU, for this model; on a "
    "CPU uninstall flash-linear-attention, fla-core and triton, and transformers computes it itself."
)
PROBE_ROWS = 7  # so many that no other dimension is likely to pass for the rows


class HFEngine:
    """Wraps a model of `AutoModelForCausalLM`.

    Raises:
        JRTError: the model keeps no state whose rows can be separated, or padding would change its answers.
    """

    has_prefix = False
    longest_prefix: int | None = None
    trained_length: int | None = None

    def __init__(self, model: Any):
        self.model = model.eval()
        self.device: torch.device = model.device
        accepts = inspect.signature(model.forward).parameters
        exact = model.dtype in (torch.float32, torch.float64)
        fast = isinstance(model, SCANNED) and self.device.type == "cpu" and exact
        self._scan = fast_scans if fast else nullcontext
        self._name, kind = type(model).__name__, model.config.model_type
        if kind in REFUSED:
            raise JRTError(f"{self._name} is refused: {REFUSED[kind]}. {ELSEWHERE}")
        if kind in NOT_IN_FLOAT32 and model.dtype == torch.float32:
            raise JRTError(f"{self._name} in float32 is refused: {NOT_IN_FLOAT32[kind]}. Give dtype=bfloat16.")
        self._cache_name = cache_name(model)
        if not self._cache_name:
            raise JRTError(f"{self._name} takes none of {', '.join(CACHE_NAMES)}: it keeps no state. {ELSEWHERE}")
        self._takes_mask = "attention_mask" in accepts and kind not in UNMASKED
        self._one_row_steps, self._own_mask = kind in ONE_ROW_STEPS, kind in OWN_MASK_AFTER_PREFILL
        self._takes_positions = "position_ids" in accepts
        self._keeps = "logits_to_keep" in accepts
        self._held = HeldState(model, kind) if kind in HELD else None
        self._is_fla = type(model).__module__.startswith("fla.")
        self._layout = self._probed()
        self.constant_state = not self._layout.slots
        self.table_length = table_length(model)
        self.max_length = context_length(model.config) if self._has_positions() else None
        if not self._takes_mask and not self.constant_state:
            raise JRTError(f"{self._name} takes no attention_mask: padding would change its answers. {ELSEWHERE}")
        self.padding = "left" if self._takes_mask else "none"
        self._continue = None if kind in STEPS_DIFFER else self._way_on()
        self.can_continue = self._continue is not None

    def _probed(self) -> CacheLayout:
        """What the cache holds, from reading two tokens and a third."""
        ids = torch.ones(PROBE_ROWS, 2, dtype=torch.long, device=self.device)
        mask, positions = torch.ones_like(ids), torch.arange(2, device=self.device).expand_as(ids)
        try:
            with torch.inference_mode():
                _, before = self._forward(ids, mask, positions, None, 1)
                kept = unshared(before)  # a cache may be changed in place
                mask = torch.cat([mask, mask[:, :1]], dim=1)
                _, after = self._forward(ids[:, :1], mask, positions[:, 1:] + 1, before, 1)
                self.window: int | None = max((layer.sliding_window for layer in _sliding(after)), default=None)
                return layout(kept, after)
        except JRTError:
            raise
        except Exception as error:  # whatever a model's own code, or a kernel, raises
            reason = " ".join(str(error).split())[:300].rstrip(".")
            raise JRTError(
                f"{self._name} cannot read two tokens on {self.device.type}: {type(error).__name__}: {reason}."
                f"{KERNELS if self.device.type == 'cpu' and find_spec('fla') else ''}"
            ) from error

    @torch.inference_mode()
    def _has_positions(self) -> bool:
        """Whether what the model reads depends on the positions it is told, so that they can end.

        A state of constant size grows with no text, and a hybrid's attention may have no positions at all; many such
        models inherit a `max_position_embeddings` that nothing in them heeds.
        """
        if self.table_length is not None:
            return True
        limit = context_length(self.model.config)
        if self.constant_state or limit is None:
            return False
        rotary = any("rotary" in type(module).__name__.lower() for module in self.model.modules())
        if rotary or not self._takes_positions:
            return True
        ids = torch.arange(1, 5, device=self.device)[None]
        places = torch.arange(4, device=self.device)[None]
        apart = places.clone()
        apart[0, -1] = limit - 1
        try:
            near, far = (self._forward(ids, torch.ones_like(ids), where, None, 1)[0] for where in (places, apart))
        except Exception:  # a model that takes positions of its own kind only has positions
            return True
        return not torch.equal(near[:, -1], far[:, -1])

    def _way_on(self) -> Callable[[Sequence[Sequence[int]], HFState], tuple[Tensor, HFState]] | None:
        """How a state takes in several tokens of ragged rows; None where no way is exact."""
        if not self._takes_mask or (self.constant_state and self._is_fla):
            return self._by_length
        if self.constant_state:
            return self._by_step
        if not (self._layout.full_attention and self._takes_positions):
            return None
        return self._by_step if self._layout.recurrent else self._read

    def _forward(
        self, ids: Tensor, mask: Tensor | None, positions: Tensor, cache: Any, keep: int
    ) -> tuple[Tensor, Any]:
        """Logits of the last tokens, `keep` of them or more, and the cache, which may be `cache` itself."""
        if self._one_row_steps and ids.shape == (len(ids), 1) and len(ids) > 1:
            return self._row_by_row(ids, mask, positions, cache, keep)
        kwargs: dict[str, Any] = {"input_ids": ids, "use_cache": True}
        if self._takes_mask:
            kwargs["attention_mask"] = mask
            if self._own_mask and cache is not None and mask is not None:
                kwargs["attention_mask"] = {"full_attention": additive(mask), "linear_attention": None}
        if self._takes_positions:
            kwargs["position_ids"] = positions
        if self._keeps:
            kwargs["logits_to_keep"] = keep
        fresh = cache is None
        if self._held is not None:
            self._held.put(None if cache is None else cache["held"], mask)
            cache = DynamicCache(config=self.model.config) if cache is None else cache["cache"]
        if cache is not None:
            kwargs[self._cache_name] = cache
        with self._scan():
            out = self.model(**kwargs)
        if self._held is None:
            cache = getattr(out, self._cache_name, None)
        else:
            cache = {"cache": cache, "held": self._held.take()}
        if fresh:
            require_rows_first(cache, len(ids), self._name)
        return out.logits, cache

    def _row_by_row(
        self, ids: Tensor, mask: Tensor | None, positions: Tensor, cache: Any, keep: int
    ) -> tuple[Tensor, Any]:
        order = torch.arange(len(ids), device=self.device)
        parts = []
        for row in order.split(1):
            own = None if cache is None else selected(cache, row)
            parts.append(self._forward(ids[row], None if mask is None else mask[row], positions[row], own, keep))
        return torch.cat([logits for logits, _ in parts]), merged([after for _, after in parts], order)

    def _left_padded(self, ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        rows = [torch.tensor(row, device=self.device) for row in ids]
        real = [torch.ones_like(row) for row in rows]
        padded, mask = (pad_sequence(part, batch_first=True, padding_side="left") for part in (rows, real))
        return padded, mask

    @torch.inference_mode()
    def prefill(
        self, ids: Sequence[Sequence[int]], prefix_lengths: Sequence[int], state: HFState | None = None
    ) -> tuple[Tensor, HFState]:
        if state is None:
            return self._read(ids, None) if self._takes_mask else self._by_length(ids, None)
        if self._continue is None:
            raise JRTError(f"{self._name} mixes kinds of layers: its state cannot be continued with several tokens.")
        return self._continue(ids, state)

    def _read(self, ids: Sequence[Sequence[int]], state: HFState | None) -> tuple[Tensor, HFState]:
        padded, mask = self._left_padded(ids)
        offset = torch.zeros(len(ids), dtype=torch.long, device=self.device) if state is None else state.lengths
        positions = (mask.cumsum(1) - 1).clamp(min=0) + offset[:, None]
        cache = None
        if state is not None:
            mask, cache = torch.cat([state.mask, mask], dim=1), unshared(state.cache)
        logits, cache = self._forward(padded, mask, positions, cache, 1)
        return logits[:, -1], HFState(cache, mask, mask.sum(1), self._layout.slots)

    def _by_length(self, ids: Sequence[Sequence[int]], state: HFState | None) -> tuple[Tensor, HFState]:
        """Rows of equal length together, without padding; the states must be of constant size."""
        logits, caches, masks, order = [], [], [], []
        lengths = torch.tensor([len(row) for row in ids], device=self.device)
        for length in (
            lengths.unique().flip(0).tolist()
        ):  # the longest first: its counts of tokens are those of the whole
            rows = torch.nonzero(lengths == length)[:, 0]
            # the copies are used up: several models write into the state they are given
            part = None if state is None else state.select(rows)
            some, after = self._read([ids[row] for row in rows.tolist()], part)
            logits.append(some)
            caches.append(after.cache)
            masks.append(F.pad(after.mask, (int(lengths.max()) - length, 0)))
            order.append(rows)
        back = torch.cat(order).argsort()
        mask = torch.cat(masks)[back]
        return torch.cat(logits)[back], HFState(merged(caches, back), mask, mask.sum(1), self._layout.slots)

    def _by_step(self, ids: Sequence[Sequence[int]], state: HFState) -> tuple[Tensor, HFState]:
        # transformers' recurrent layers start afresh when given several tokens with a cache, and padding in the
        # middle would decay their state; so one token at a time, shorter rows joining in later.
        state = state.select(torch.arange(len(ids)))
        longest = max(len(row) for row in ids)
        logits = None
        for left in range(longest, 0, -1):
            reads = torch.tensor([len(row) >= left for row in ids], device=self.device)
            tokens = torch.tensor([row[-left] if len(row) >= left else 0 for row in ids])
            waiting = torch.nonzero(~reads)[:, 0]
            before = [leaf.tensor[waiting] for leaf in recurrent_part(state)] if len(waiting) else []
            logits, state = self._step(tokens, state, reads)
            for leaf, old in zip(recurrent_part(state), before, strict=bool(before)):
                leaf.tensor[waiting] = old
        assert logits is not None
        return logits, state

    def _step(self, ids: Tensor, state: HFState, reads: Tensor) -> tuple[Tensor, HFState]:
        """`reads [B]`: rows that take the token in; for the others it is masked out of attention."""
        mask = torch.cat([state.mask, reads[:, None].to(state.mask.dtype)], dim=1)
        # A recurrent step has nothing to mask: the state holds no padding. fla counts a row's tokens by the mask.
        seen = None if self.constant_state and not self._is_fla else mask
        logits, cache = self._forward(ids.to(self.device)[:, None], seen, state.lengths[:, None], state.cache, 1)
        return logits[:, -1], HFState(cache, mask, state.lengths + reads, self._layout.slots)

    @torch.inference_mode()
    def step(self, ids: Tensor, state: HFState) -> tuple[Tensor, HFState]:
        return self._step(ids, state, torch.ones(len(ids), dtype=torch.bool, device=self.device))

    def window_bytes(self, state: HFState) -> list[int]:
        kept = [tensor for layer in _sliding(state.cache) for tensor in (layer.keys, layer.values)]
        per_slot = [(tensor[0, :, :1].numel() * tensor.element_size(), tensor.shape[-2]) for tensor in kept]
        return [sum(size * min(length, slots) for size, slots in per_slot) for length in state.lengths.tolist()]

    @torch.inference_mode()
    def score(
        self, rows: Sequence[Sequence[int]], prefix_lengths: Sequence[int], starts: Sequence[int]
    ) -> list[TokenScores]:
        lengths = [len(row) for row in rows]
        groups = [list(range(len(rows)))]
        if not self._takes_mask:
            groups = [[row for row, n in enumerate(lengths) if n == length] for length in sorted(set(lengths))]
        scores: dict[int, TokenScores] = {}
        for group in groups:
            padded, mask = self._left_padded([rows[row][:-1] for row in group])
            wanted = [lengths[row] - starts[row] for row in group]
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            logits, _ = self._forward(padded, mask, positions, None, max(wanted))
            for place, (row, count) in enumerate(zip(group, wanted, strict=True)):
                targets = torch.tensor(rows[row][-count:], device=self.device)
                scores[row] = score_positions(logits[place, -count:], targets)
        return [scores[row] for row in range(len(rows))]


def cache_name(model: Any) -> str:
    """What the model calls its cache; empty where it takes none."""
    accepts = inspect.signature(model.forward).parameters
    return next((name for name in CACHE_NAMES if name in accepts), "")


def additive(mask: Tensor) -> Tensor:
    """A mask `[B, slots]` of ones and zeros for one new token, as what is added to its weights: `[B, 1, 1, slots]`."""
    return (1.0 - mask[:, None, None, :].float()) * torch.finfo(torch.float32).min


def context_length(config: Any) -> int | None:
    """Context length in tokens that a configuration names, scaled rotary positions counted; None for no limit."""
    text = config.get_text_config(decoder=True)
    limit = _named_length(text)
    if limit is None:
        return None
    rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    by_layer = [one for one in rope.values() if isinstance(one, dict)]
    lengths = [limit]
    for one in by_layer or [rope]:
        kind = one.get("rope_type", one.get("type"))
        # llama3 and longrope state the original length; a configuration by kind of layer (Gemma 3) names the scaled one
        unscaled = 0 if by_layer or kind not in ("linear", "dynamic", "yarn") else limit
        lengths.append(int((one.get("original_max_position_embeddings") or unscaled) * (one.get("factor") or 1)))
    return max(lengths)


def _named_length(text: Any) -> int | None:
    names = ("n_positions", "max_position_embeddings", "n_ctx", "max_seq_len")
    values = (getattr(text, name, None) for name in names)
    return next((value for value in values if isinstance(value, int) and value > 0), None)


def table_length(model: Any) -> int | None:
    """How many positions a model stores a vector for, learned or precomputed; None where it has no such table.

    Some tables have up to two rows more than positions (OPT). A cache of rotary positions grows, and is no table.
    """
    limit = _named_length(model.config.get_text_config(decoder=True))
    if limit is None:
        return None
    words = (model.get_input_embeddings(), model.get_output_embeddings())
    for module in model.modules():
        held = {**dict(module.named_buffers(recurse=False)), **vars(module)}
        tables = [one for name, one in held.items() if isinstance(one, Tensor) and "cache" not in name]
        tables += [module.weight] if isinstance(module, torch.nn.Embedding) and module not in words else []
        if any(table.dim() > 1 and limit <= size <= limit + 2 for table in tables for size in table.shape):
            return limit
    return None


def _sliding(cache: Any) -> list[DynamicSlidingWindowLayer]:
    """The layers of a cache that are sliding windows."""
    inner = cache["cache"] if isinstance(cache, dict) and "cache" in cache else cache
    return [layer for layer in getattr(inner, "layers", ()) if isinstance(layer, DynamicSlidingWindowLayer)]
