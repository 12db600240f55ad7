"""A Transformer that gets a constant state: sliding windows in place of attention, and memory layers beside it.

The backbone is any causal Transformer of the transformers library with rotary softmax attention, frozen. Each of its
attention layers sees the last W tokens and the first S (StreamingLLM, arXiv 2309.17453). What lies further back is
kept by memory layers at a few depths: prefix linear attention over the text that was read, added to the residual
stream in front of a block.

What a memory layer looks up, and by what (letters as in `modeling/__init__.py`):

    q_t  from the tokens t, t-1, t-2        k_j  from the tokens j-1, j-2, j-3        v_j  from token j itself
    x_t += amplitude * read_t * out( sum_j phi(q_t).phi(k_j) write_j v_j / norm )

so that a value is found by what stood before it, and is written as the embedding of its token: an induction head
before any training. Half of the heads see token embeddings, half the stream at their depth; there are no positions.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.modeling import MAPPED, MEMORY_MIXERS
from jrt_lmeval.modeling.attention import NO_TOKEN, sees
from jrt_lmeval.modeling.feature_maps import build_feature_map, sum_normalised_heads
from jrt_lmeval.modeling.linear_attention import LinearState, Prefix, attend, by_kernel, one_token
from jrt_lmeval.modeling.mixers import Span, last_slots
from jrt_lmeval.modeling.model import JRTForCausalLM, RMSNorm
from jrt_lmeval.modeling.scans import chunk_scan
from jrt_lmeval.modeling.state import LayerState

WINDOWED = "jrt_window"
"""Name of the attention function that the backbone is loaded with."""
MEMORIES, LORA = "memories.", "lora_"
"""What the names of trained weights begin with, and what those of low-rank additions contain."""
BEFORE = 3
"""How many tokens before a value its key is made from."""
BLOCK = 256


class RetrofitConfig(PretrainedConfig):
    """Configuration of `RetrofitForCausalLM`.

    Args:
        backbone: the Transformer: a name of `checkpoints.packaged`, an id on the hub, or a folder.
        backbone_config: its own configuration, so that the model can be built without its weights.
        window: W, tokens that each attention layer sees, the token itself included.
        sinks: S, first tokens of the text that it sees as well.
        at: blocks before which a memory layer stands, ascending; the number of blocks stands for the end.
        kernel: one of `modeling.MEMORY_MIXERS`.
        feature_map, feature_map_options: of `jrt_rnn` and `based`; None with other kernels.
        memory_heads, memory_dim: H and D of the memory layers.
        lora: rank of low-rank additions (arXiv 2106.09685) to all projections from the lowest memory on; 0 for none.
        context_length: longest training row in tokens.

    Raises:
        JRTError: a kernel that does not exist, or sizes that do not fit each other.
    """

    model_type = "jrt_retrofit"

    def __init__(
        self,
        backbone: str = "",
        backbone_config: dict[str, Any] | None = None,
        window: int = 64,
        sinks: int = 4,
        at: Sequence[int] = (),
        kernel: str = "jrt_rnn",
        feature_map: str | None = "centred",
        feature_map_options: dict[str, Any] | None = None,
        memory_heads: int = 8,
        memory_dim: int = 32,
        lora: int = 0,
        context_length: int = 512,
        **kwargs: Any,
    ):
        if kernel not in MEMORY_MIXERS:
            raise unknown("kernel", kernel, MEMORY_MIXERS)
        self.backbone, self.backbone_config = backbone, dict(backbone_config or {})
        self.backbone_config.pop("_name_or_path", None)  # a folder of the machine it was trained on
        self.window, self.sinks, self.at = window, sinks, list(at)
        self.kernel, self.feature_map = kernel, feature_map if kernel in MAPPED else None
        self.feature_map_options = dict(feature_map_options or {})
        self.memory_heads, self.memory_dim, self.context_length = memory_heads, memory_dim, context_length
        self.lora = lora
        width, layers = self.backbone_config.get("hidden_size", 0), self.backbone_config.get("num_hidden_layers", 0)
        if width % memory_heads:
            raise JRTError(f"memory_heads={memory_heads}: must divide the backbone's width of {width}.")
        if self.at != sorted(set(self.at)) or any(not 0 <= depth <= layers for depth in self.at):
            raise JRTError(f"at={self.at}: must be ascending numbers from 0 to {layers}, the backbone's blocks.")
        if window < 1 or sinks < 0:
            raise JRTError(f"window={window}, sinks={sinks}: must be at least 1 and 0 tokens.")
        kwargs.setdefault("vocab_size", self.backbone_config.get("vocab_size"))
        super().__init__(**kwargs)

    enc_length: int | None = None
    mask_token_id: int | None = None
    token_count: int | None = None
    prefix_length: int = 0
    padding, decode, filling = "exact", "exact", "left_pad"

    @property
    def mixers(self) -> list[str]:
        """The layers as the rest of the package names them: windows, then memories."""
        windows = ["swa"] * self.backbone_config.get("num_hidden_layers", 0)
        return windows + [MEMORY_MIXERS[self.kernel]] * len(self.at)

    def describe(self) -> str:
        """What the model is made of, in a line."""
        what = f"{self.kernel} with {self.feature_map}" if self.feature_map else self.kernel
        depths = ", ".join(map(str, self.at))
        return (
            f"{self.backbone}, windows of {self.window} tokens and {self.sinks} sinks, "
            f"memories ({what}, {self.memory_heads} heads of {self.memory_dim}) before blocks {depths}"
            + f", low-rank additions of rank {self.lora}"
            * bool(self.lora)
        )


def default_depths(layers: int) -> list[int]:
    """Where memories stand unless told otherwise: at two thirds of the blocks, where a Transformer knows what it looks
    for, and two blocks before the end, where it writes what it found."""
    return sorted({layers * 2 // 3, max(0, layers - 2)})


@dataclass
class Reading:
    """One pass over a right-padded batch: what the layers look up in the state before it, and what they leave.

    Attributes:
        span: which tokens are real, and where they stand.
        config: of the model.
        state: per layer, before the pass; None starts afresh.
        embedded: token embeddings `[B, T, C]`.
        below: what comes to the lowest block that takes part in training, `[B, T, C]`.
        kept: layer -> what it leaves behind.
    """

    span: Span
    config: RetrofitConfig
    state: list[LayerState] | None
    embedded: Tensor
    below: Tensor | None = None
    kept: dict[int, LayerState] = field(default_factory=dict)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float | None) -> Tensor:
        """Attention to the last W tokens and the first S: q `[B, H, T, D]`, k and v `[B, KV, T, D]`."""
        S, W = self.config.sinks, self.config.window
        B, KV, T, D = k.shape
        cache = S + W - 1
        if self.state is None:
            before = [k.new_zeros(B, KV, cache, size) for size in (D, v.shape[-1])]
        else:
            before = [self.state[layer][name].transpose(1, 2) for name in ("k", "v")]
        k, v = torch.cat([before[0], k], 2), torch.cat([before[1], v], 2)
        out = []
        for start in range(0, T, BLOCK):
            stop = min(T, start + BLOCK)
            slots = torch.arange(cache + stop, device=k.device)
            if start > W + S:  # between the sinks and the window lies what nobody in this block sees
                slots = torch.cat([slots[:S], slots[cache : cache + S], slots[S + start :]])
            query = self.places[:, cache + start : cache + stop]
            seen = sees(query, self.places[:, slots], W, S)
            seen |= query[:, :, None] == NO_TOKEN  # a softmax over nothing would be NaN; what padding sees is unused
            out.append(_attention(q[:, :, start:stop], k[:, :, slots], v[:, :, slots], seen, scaling))
        self.kept[layer] = {"k": self._keep(k, cache), "v": self._keep(v, cache)}
        return torch.cat(out, 2)

    @cached_property
    def places(self) -> Tensor:
        """Position of every slot `[B, S + W - 1 + T]`, the same in all layers: sinks, the tokens before, these;
        `NO_TOKEN` where there is none."""
        S, W, span = self.config.sinks, self.config.window, self.span
        offset, device = span.offset[:, None], self.embedded.device
        first = torch.arange(S, device=device).expand(len(offset), -1)
        first = first.masked_fill(first >= offset, NO_TOKEN)
        last = offset - (W - 1) + torch.arange(W - 1, device=device)
        last = last.masked_fill(last < S, NO_TOKEN)  # the sinks have their own slots
        new = offset + torch.arange(self.embedded.shape[1], device=device)
        if span.mask is not None:
            new = new.masked_fill(~span.mask, NO_TOKEN)
        return torch.cat([first, last, new], 1)

    def _keep(self, x: Tensor, cache: int) -> Tensor:
        """What the next token can see of the slots x `[B, KV, slots, D]`, as `[B, S + W - 1, KV, D]`."""
        S, span, x = self.config.sinks, self.span, x.transpose(1, 2)
        place = torch.arange(S, device=x.device)
        index = torch.where(place < span.offset[:, None], place, cache + place - span.offset[:, None])
        index = index.clamp(max=x.shape[1] - 1)[..., None, None].expand(-1, -1, *x.shape[2:])
        recent = last_slots(x[:, S:], span, self.config.window - 1, self.config.window - 1)
        return torch.cat([x.gather(1, index), recent], 1)


def _attention(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, scaling: float | None) -> Tensor:
    """Softmax attention with grouped keys: q `[B, H, T, D]`, k and v `[B, KV, slots, D]`, seen `[B, T, slots]`."""
    if not q.requires_grad or q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, seen[:, None], scale=scaling, enable_gqa=True)
    # torch's backward pass takes four times as long on a CPU in bfloat16 as that of these products
    grouped = (q * (scaling or q.shape[-1] ** -0.5)).unflatten(1, (k.shape[1], -1))
    scores = (grouped.flatten(2, 3) @ k.mT).unflatten(2, grouped.shape[2:4])
    hidden = torch.zeros_like(seen, dtype=q.dtype).masked_fill_(~seen, float("-inf"))
    weights = (scores + hidden[:, None, None]).softmax(-1)
    return (weights.flatten(2, 3) @ v).unflatten(2, grouped.shape[2:4]).flatten(1, 2)


def window_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    reading: Reading | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The attention function of the backbone, as transformers calls it."""
    if reading is None:
        raise JRTError("the backbone of a retrofitted model runs only inside of it.")
    y = reading.attend(module.layer_idx, query, key, value, scaling)  # type: ignore[arg-type]
    return y.transpose(1, 2).contiguous(), None


AttentionInterface.register(WINDOWED, window_attention)


SCALES = {"taylor": 5.0, "poly": 5.0, "softmax": 14.0, "centred": 1.0, "square": 1.0, "mamba2": 1.0}
"""Where a map's scores begin: the scale of a match, a cosine of 1. Maps that are not named begin at sqrt(D)."""


STEP, FADING = 0.5, 5e-4
"""dt of every token when a Mamba-2 memory begins, and how much of its state a token then lets fade."""
OF_THE_KERNEL = ("scale", "null", "amplitude")
"""Parameters of a memory that mean something else under another kernel."""


class Memory(nn.Module):
    """A memory layer: `forward(x, reading, layer) -> what is added to x`, all `[B, T, C]`.

    State: `tail [B, 3, H D]`, what the last tokens offer to queries and keys, and `S [B, H, F, V]`, `z [B, H, F]`;
    with the softmax kernel `k [B, slots, H, D]` and `v [B, slots, H, V]` of all tokens instead, with that of Mamba-2
    `S [B, H, D, V]` alone.
    """

    def __init__(self, config: RetrofitConfig):
        super().__init__()
        self.config, self.heads, self.dim = config, config.memory_heads, config.memory_dim
        width, features = config.backbone_config["hidden_size"], self.heads * self.dim
        self.norm, self.token_norm = RMSNorm(width, 1e-5), RMSNorm(width, 1e-5)
        self.base = nn.Linear(width, features, bias=False)
        self.q_mix = nn.Parameter(torch.empty(BEFORE, features))
        self.k_mix = nn.Parameter(torch.empty(BEFORE, features))
        self.v_proj, self.out_proj = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.write_gate, self.read_gate = (nn.Linear(width, self.heads) for _ in range(2))
        self.scale, self.null = nn.Parameter(torch.empty(self.heads)), nn.Parameter(torch.empty(self.heads))
        self.amplitude = nn.Parameter(torch.empty(1))
        self.prefix = config.kernel == "jrt_rnn"
        if self.prefix:
            self.k_prefix_mix = nn.Parameter(torch.empty(BEFORE, features))
            self.prefix_gate = nn.Linear(width, self.heads)
        if config.kernel == "mamba2":
            self.dt, self.A_log = nn.Linear(width, self.heads), nn.Parameter(torch.empty(self.heads))
        if config.feature_map is not None:
            self.feature_map = build_feature_map(config.feature_map, self.heads, self.dim, **config.feature_map_options)
            self.by_sum = sum_normalised_heads(self.feature_map)

    @torch.no_grad()
    def start(self) -> None:
        """Begin as an induction head: equal contexts match, and what is found is written as its token's embedding."""
        for mix in (self.q_mix, self.k_mix, *((self.k_prefix_mix,) if self.prefix else ())):
            mix.copy_(torch.tensor([1.0, 0.7, 0.5])[:, None].expand_as(mix))
        nn.init.normal_(self.base.weight, std=self.base.in_features**-0.5)
        nn.init.orthogonal_(self.v_proj.weight)
        self.out_proj.weight.copy_(self.v_proj.weight.T)
        for gate, bias in ((self.write_gate, 1.0), (self.read_gate, 0.0)):
            nn.init.zeros_(gate.weight)
            nn.init.constant_(gate.bias, bias)
        if self.prefix:
            nn.init.zeros_(self.prefix_gate.weight)
            nn.init.constant_(self.prefix_gate.bias, 1.0)
        if self.config.kernel == "mamba2":
            nn.init.zeros_(self.dt.weight)
            nn.init.constant_(self.dt.bias, math.log(math.expm1(STEP)))
            self.A_log.fill_(math.log(FADING / STEP))
        kernel = self.config.feature_map or self.config.kernel
        self.scale.fill_(SCALES.get(kernel, self.dim**0.5))
        self.null.fill_(0.55 * self.scale[0].item() if kernel == "softmax" else 1.0)
        self.amplitude.fill_(8.0 if kernel == "softmax" else 1.0)

    def forward(self, x: Tensor, reading: Reading, layer: int) -> Tensor:
        span, state = reading.span, None if reading.state is None else reading.state[layer]
        dtype, x, tokens = x.dtype, self.norm(x.float()), self.token_norm(reading.embedded.float())
        half = self.heads // 2 * self.dim
        base = torch.cat([F.linear(tokens, self.base.weight[:half]), F.linear(x, self.base.weight[half:])], -1)
        base = F.normalize(base.unflatten(-1, (self.heads, self.dim)), dim=-1).flatten(-2)
        tail = base.new_zeros(len(base), BEFORE, base.shape[-1]) if state is None else state["tail"]
        base = torch.cat([tail, base], 1)
        kept = {"tail": last_slots(base, span, BEFORE, BEFORE)}
        q = self._mixed(base, self.q_mix, 0) * self.scale[:, None, None]
        k, v = self._mixed(base, self.k_mix, 1), self._split(self.v_proj(tokens))
        write, read = (self._split(torch.sigmoid(gate(x))) for gate in (self.write_gate, self.read_gate))
        if self.config.kernel == "softmax":
            y, end = self._softmax(q, k, v * write, span, state)
        elif self.config.kernel == "mamba2":
            y, end = self._mamba2(q, k, v * write, x, span, state)
        else:
            y, end = self._linear(q, k * self.dim**0.5, v, write, x, base, span, state)
        reading.kept[layer] = {**kept, **end}
        y = (y * read).transpose(1, 2).flatten(2)
        return (self.amplitude * self.out_proj(y)).to(dtype)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, T, C] -> [B, H, T, C / H]

    def _mixed(self, base: Tensor, mix: Tensor, back: int) -> Tensor:
        """Unit vectors `[B, H, T, D]` of three tokens each, the first of them `back` tokens before."""
        T = base.shape[1] - BEFORE
        parts = [base[:, BEFORE - back - i : BEFORE - back - i + T] * weight for i, weight in enumerate(mix)]
        return F.normalize(self._split(sum(parts[1:], parts[0])), dim=-1)

    def _linear(
        self, q: Tensor, k: Tensor, v: Tensor, write: Tensor, x: Tensor, base: Tensor, span: Span, state: Any
    ) -> tuple[Tensor, LayerState]:
        start = None if state is None else LinearState(state["S"], state["z"])
        if start is not None and span.decoding:
            y, d, end = one_token(self.feature_map, q, k, v * write, start)
        else:
            prefix = None
            if self.prefix and span.prefix_mask is not None:
                ke = self._mixed(base, self.k_prefix_mix, 1) * self.dim**0.5
                prefix = Prefix(ke, v * self._split(torch.sigmoid(self.prefix_gate(x))), span.prefix_mask)
            short = by_kernel(self.feature_map.kernel, q, k, v * write, prefix, span.mask) if self._short(q) else None
            if short is not None:
                (y, d), end = short, LinearState(q.new_empty(0), q.new_empty(0))
            else:
                form = "chunked" if self.training else span.linear_attention.replace("kernel", "streamed")
                y, d, end = attend(form, self.feature_map, q, k, v * write, prefix, span.mask, start)
        return self._normalised(y, d if all(self.by_sum) else None), {"S": end.S, "z": end.z}

    def _normalised(self, y: Tensor, d: Tensor | None = None) -> Tensor:
        """Divided by the sum d, or without one by its root mean square where it is large; by the null where nothing
        was found."""
        null = self.null.abs()[:, None, None] + 1e-6
        if d is not None:
            return y / (d[..., None] + null)
        return y / torch.sqrt(y.square().mean(-1, keepdim=True) + null.square())

    def _short(self, q: Tensor) -> bool:
        """Whether a training row is so short that its scores take less than its features; it leaves no state then."""
        return self.training and q.shape[2] < 2 * self.feature_map.feature_dim

    def _mamba2(
        self, q: Tensor, k: Tensor, v: Tensor, x: Tensor, span: Span, state: LayerState | None
    ) -> tuple[Tensor, LayerState]:
        """S_t = exp(-dt_t A) S_{t-1} + dt_t k_t v_t, y_t = q_t S_t (Mamba-2, arXiv 2405.21060)."""
        dt = F.softplus(self.dt(x))
        if span.mask is not None:
            dt = dt * span.mask[..., None]  # padding writes nothing and lets nothing fade
        v, k, q = (part.transpose(1, 2) for part in (v, k, q))
        before = None if state is None else state["S"].mT
        y, end = chunk_scan(v, dt, -self.A_log.exp(), k, q, initial_states=before, return_final_states=True)
        return self._normalised(y.transpose(1, 2)), {"S": end.mT}

    def _softmax(
        self, q: Tensor, k: Tensor, v: Tensor, span: Span, state: LayerState | None
    ) -> tuple[Tensor, LayerState]:
        cache = 0
        if state is not None:
            k, v = (torch.cat([state[name].transpose(1, 2), new], 2) for name, new in (("k", k), ("v", v)))
            cache = state["k"].shape[1]
        T, slots = q.shape[2], torch.arange(k.shape[2], device=q.device)
        seen = slots <= cache + torch.arange(T, device=q.device)[:, None]
        seen = seen & (slots >= cache - span.offset[:, None])[:, None, None]
        scores = (q @ k.mT).masked_fill(~seen, float("-inf"))
        null = self.null[:, None, None].expand(len(q), -1, T, 1)
        y = torch.cat([scores, null], -1).softmax(-1)[..., :-1] @ v
        kept = {name: last_slots(old.transpose(1, 2), span, cache + T, cache) for name, old in (("k", k), ("v", v))}
        return y, kept


def add_low_rank(backbone: nn.Module, blocks: Sequence[int], rank: int) -> None:
    """Give all projections of some blocks low-rank additions, the only weights of the backbone that are trained.

    Raises:
        JRTError: the package `peft` is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise JRTError("low-rank additions need peft: pip install 'jrt-lmeval[peft]'.") from error
    block = backbone.get_decoder().layers[0]  # type: ignore[operator]
    linear = sorted({name.rpartition(".")[2] for name, part in block.named_modules() if isinstance(part, nn.Linear)})
    options = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=linear, layers_to_transform=list(blocks))
    inject_adapter_in_model(options, backbone)
    for name, weight in backbone.named_parameters():
        if LORA in name:
            weight.data = weight.data.float()  # steps are too small for bfloat16


def _trained(name: str) -> bool:
    return name.startswith(MEMORIES) or LORA in name


def _remember_below(block: nn.Module, given: tuple, named: dict[str, Any]) -> None:
    named["reading"].below = given[0]


class RetrofitForCausalLM(JRTForCausalLM):
    """A frozen Transformer under windows, with memory layers beside it. Only these are saved.

    Attributes:
        first: the lowest block that takes part in training.
        cache: folder that keeps what comes to that block in training, by the tokens of a batch; None for none.
    """

    config_class = RetrofitConfig  # type: ignore[assignment]
    _tied_weights_keys = None  # type: ignore[assignment]

    def __init__(self, config: RetrofitConfig, backbone: Any = None):
        PreTrainedModel.__init__(self, config)
        if backbone is None:
            shape = AutoConfig.for_model(**config.backbone_config)
            backbone = AutoModelForCausalLM.from_config(shape, attn_implementation=WINDOWED)
        self.backbone = backbone.requires_grad_(False).eval()
        self.memories = nn.ModuleList([Memory(config) for _ in config.at])
        self.linear_attention = "streamed"
        blocks = self.backbone.get_decoder().layers
        self.first = min([*config.at, len(blocks) - 1])
        self.cache: Path | None = None
        if config.lora:
            add_low_rank(self.backbone, range(self.first, len(blocks)), config.lora)
        blocks[self.first].register_forward_pre_hook(_remember_below, with_kwargs=True)
        for number, depth in enumerate(config.at):
            layer = len(blocks) + number
            if depth < len(blocks):
                blocks[depth].register_forward_pre_hook(partial(self._before, number, layer), with_kwargs=True)
            else:
                blocks[-1].register_forward_hook(partial(self._behind, number, layer), with_kwargs=True)

    def _before(self, number: int, layer: int, block: nn.Module, given: tuple, named: dict[str, Any]) -> Any:
        return (given[0] + self.memories[number](given[0], named["reading"], layer), *given[1:]), named

    def _behind(self, number: int, layer: int, block: nn.Module, given: tuple, named: dict[str, Any], x: Tensor) -> Any:
        return x + self.memories[number](x, named["reading"], layer)

    def start(self) -> None:
        """Let all memories begin as induction heads."""
        for memory in self.memories:
            assert isinstance(memory, Memory)
            memory.start()

    @torch.no_grad()
    def start_from(self, other: RetrofitForCausalLM) -> None:
        """Take the memories of another model of the same backbone, but for what belongs to its kernel.

        Raises:
            JRTError: its memories have another shape or stand elsewhere.
        """
        if other.config.at != self.config.at or other.config.memory_dim != self.config.memory_dim:
            raise JRTError(
                f"memories of {other.config.memory_dim} dimensions before blocks {other.config.at} cannot start "
                f"those of {self.config.memory_dim} before blocks {self.config.at}."
            )
        for mine, theirs in zip(self.memories, other.memories, strict=True):
            assert isinstance(mine, Memory) and isinstance(theirs, Memory)
            kept = {name: x for name, x in theirs.state_dict().items() if name not in OF_THE_KERNEL}
            kept = {name: x for name, x in kept.items() if not name.startswith("feature_map.")}
            mine.load_state_dict(kept, strict=False)
            if mine.prefix and not theirs.prefix:
                mine.k_prefix_mix.copy_(mine.k_mix)
                mine.prefix_gate.load_state_dict(mine.write_gate.state_dict())

    def train(self, mode: bool = True) -> RetrofitForCausalLM:
        super().train(mode)
        self.backbone.eval()
        return self

    def get_input_embeddings(self) -> nn.Module:
        return self.backbone.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        return self.backbone.get_output_embeddings()

    def layers(self, input_ids: Tensor, span: Span, state: list[LayerState] | None) -> tuple[Tensor, list[LayerState]]:
        embedded = self.get_input_embeddings()(input_ids)
        reading = Reading(span, self.config, state, embedded)
        positions = span.offset[:, None] + torch.arange(input_ids.shape[1], device=input_ids.device)
        file = self._cached(input_ids) if self.training and self.cache else None
        if file is not None and file.exists():
            x, first = load_file(file)["below"].to(embedded), self.first
        else:
            x, first = embedded, 0
        decoder = self.backbone.get_decoder()
        blocks = decoder.layers
        decoder.layers = (
            blocks[first:] if first else blocks
        )  # a slice is a new list of modules, for every token decoded
        try:
            hidden = decoder(inputs_embeds=x, position_ids=positions, use_cache=False, reading=reading)[0]
        finally:
            decoder.layers = blocks
        if file is not None and not first and reading.below is not None:
            part = file.with_suffix(f".{os.getpid()}.part")
            save_file({"below": reading.below.detach().contiguous()}, part)
            part.replace(file)
        return hidden, [reading.kept[layer] for layer in sorted(reading.kept)]

    def _cached(self, input_ids: Tensor) -> Path:
        """Where the cache keeps what comes to the lowest trained block for these tokens."""
        assert self.cache is not None
        config = self.config
        of = [
            config.backbone,
            config.window,
            config.sinks,
            self.first,
            str(self.get_input_embeddings().weight.dtype),
            input_ids.tolist(),
        ]
        return self.cache / f"{hashlib.sha256(json.dumps(of).encode()).hexdigest()}.safetensors"

    def save_pretrained(self, save_directory: Any, **options: Any) -> None:
        """Write the trained layers and the configuration, which names the backbone."""
        weights = {name: x for name, x in self.state_dict().items() if _trained(name)}
        super().save_pretrained(save_directory, state_dict=weights, **options)

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, dtype: torch.dtype | None = None, backbone: Any = None, **_: Any
    ) -> RetrofitForCausalLM:
        """The memory layers of a folder beside their backbone, in evaluation mode.

        Args:
            folder: as `save_pretrained` writes it.
            dtype: of the backbone; None for float32. What is trained is computed in float32.
            backbone: the Transformer, loaded with the attention function `WINDOWED`; None for the one that the
                configuration names.

        Raises:
            JRTError: memories that are not those of the configuration.
        """
        config, dtype = RetrofitConfig.from_pretrained(folder), dtype or torch.float32
        if backbone is None:
            named = BACKBONES.get(config.backbone)
            backbone = read_backbone(named() if named else config.backbone, dtype)
        model = cls(config, backbone)
        weights = load_file(Path(folder) / "model.safetensors")
        wanted = {name for name in model.state_dict() if _trained(name)}
        if weights.keys() != wanted:
            listed = ", ".join(sorted(weights.keys() ^ wanted))
            raise JRTError(f"{folder}: its weights are not those that its config.json describes ({listed}).")
        model.load_state_dict(weights, strict=False)
        return model.eval()


BACKBONES: dict[str, Callable[[], Path]] = {}
"""Names that stand for a folder, such as that of the packaged model (`checkpoints.load`)."""


def read_backbone(folder: str | Path, dtype: torch.dtype) -> PreTrainedModel:
    """The Transformer of a retrofitted model, from a folder or an id on the hub.

    Raises:
        JRTError: its layers are not plain softmax attention.
    """
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation=WINDOWED)
    blocks = getattr(model.get_decoder(), "layers", ())
    if not blocks or not all(hasattr(getattr(block, "self_attn", None), "layer_idx") for block in blocks):
        raise JRTError(
            f"{folder}: {type(model).__name__} cannot be retrofitted: its blocks are no plain softmax attention with "
            "rotary positions (Llama, Mistral, Qwen2, Qwen3 and SmolLM are)."
        )
    return model


AutoConfig.register(RetrofitConfig.model_type, RetrofitConfig)
AutoModelForCausalLM.register(RetrofitConfig, RetrofitForCausalLM)
