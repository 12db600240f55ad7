"""The model that a recipe describes, with its first weights.

A small model finds induction late if it has to find it at all: with random weights none appeared in 3.5 million tokens
of our mixture. So every layer begins silent but for some heads that begin as induction heads: they look for what was
read last and write out what followed it, and recall is there to be refined.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Mamba2Config,
    Mamba2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

from jrt_lmeval.checkpoints.load import load_backbone
from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.modeling.attention import sees
from jrt_lmeval.modeling.config import JRTConfig
from jrt_lmeval.modeling.mixers import Attention, LinearAttention
from jrt_lmeval.modeling.model import Block, JRTForCausalLM
from jrt_lmeval.modeling.retrofit import RetrofitConfig, RetrofitForCausalLM, default_depths
from jrt_lmeval.training.recipes import TrainRecipe


def new_model(recipe: TrainRecipe, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """The recipe's model with random weights. For transformers models `mixers` gives only the number of layers.

    Raises:
        JRTError: no such kind of model.
    """
    longest = max(stage.max_tokens for stage in recipe.curriculum)
    if recipe.model == "retrofit":
        return _retrofitted(recipe, longest)
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    fields: dict[str, Any] = {"vocab_size": len(tokenizer), "hidden_size": recipe.hidden_size, **special}
    if recipe.model in ("jrt_rnn", "based"):
        names = "intermediate_size mixers num_heads feature_map feature_map_options feature_dim shifted_heads window"
        fields |= {name: getattr(recipe, name) for name in (*names.split(), "normaliser")}
        fields |= {"initializer_range": recipe.hidden_size**-0.5, "context_length": longest}
        return JRTForCausalLM(JRTConfig(**{**fields, "mask_token_id": tokenizer.mask_token_id, **recipe.config}))
    fields |= {"num_hidden_layers": len(recipe.mixers), "tie_word_embeddings": True}
    if recipe.model == "llama":
        fields |= {"num_attention_heads": recipe.num_heads, "num_key_value_heads": recipe.num_heads}
        fields |= {"intermediate_size": recipe.intermediate_size, "max_position_embeddings": longest}
        fields |= {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}, **recipe.config}
        return LlamaForCausalLM(LlamaConfig(**fields))
    fields["initializer_range"] = recipe.hidden_size**-0.5 / 2
    if recipe.model == "mamba":
        return MambaForCausalLM(MambaConfig(**fields, **recipe.config))
    if recipe.model == "mamba2":
        fields |= {"head_dim": 64, "n_groups": 1, **recipe.config}
        return Mamba2ForCausalLM(Mamba2Config(**fields, num_heads=2 * recipe.hidden_size // fields["head_dim"]))
    raise unknown("model to train", recipe.model, ("jrt_rnn", "based", "llama", "mamba", "mamba2"))


def _retrofitted(recipe: TrainRecipe, longest: int) -> RetrofitForCausalLM:
    """New memory layers beside the recipe's backbone, which is loaded in the recipe's dtype."""
    dtype = torch.bfloat16 if recipe.dtype == "bfloat16" else torch.float32
    fields: dict[str, Any] = dict(recipe.config)
    backbone = load_backbone(fields["backbone"], dtype)
    if fields["at"] is None:
        fields["at"] = default_depths(backbone.config.num_hidden_layers)
    fields |= {"feature_map": recipe.feature_map, "feature_map_options": recipe.feature_map_options}
    config = RetrofitConfig(backbone_config=backbone.config.to_dict(), context_length=longest, **fields)
    return RetrofitForCausalLM(config, backbone)


def last_hidden(model: PreTrainedModel, ids: Tensor, lengths: Tensor, prefix_lengths: Tensor) -> Tensor:
    """Hidden states `[B, T, C]` before the head, of our models or of a causal transformers model, which needs no mask
    for padding on the right and knows no prefix. A `kv_window` in its config restricts its attention."""
    if isinstance(model, JRTForCausalLM):
        return model.hidden_states(ids, lengths, prefix_lengths)[0]
    if size := getattr(model.config, "kv_window", None):
        at = torch.arange(ids.shape[1], device=ids.device)[None]
        seen = sees(at, at, size, model.config.kv_sinks)[:, None]  # [1, 1, T, T]
        return model.base_model(ids, attention_mask=seen, use_cache=False).last_hidden_state
    return model.base_model(ids, use_cache=False).last_hidden_state


def logits_of(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """The logits of hidden states."""
    return model.logits(hidden) if isinstance(model, JRTForCausalLM) else model.lm_head(hidden)


# First weights


def set_first_weights(model: PreTrainedModel) -> None:
    """Let a model begin with induction heads where its architecture has a place for them; a Mamba stays random."""
    if isinstance(model, RetrofitForCausalLM):
        model.start()
    elif isinstance(model, JRTForCausalLM):
        if model.config.shifted_heads:
            start_recalling(model)
    elif isinstance(model, LlamaForCausalLM):
        start_recalling_llama(model)
    elif isinstance(model, Mamba2ForCausalLM):
        start_recalling_mamba2(model)


def start_recalling(model: JRTForCausalLM) -> None:
    """Zero what every block writes, then let the shifted heads begin as induction heads.

    From here, keys and values of a made-up dictionary are recalled at 97 % after 0.2 million tokens of training.
    """
    with torch.no_grad():
        for block in model.blocks:
            assert isinstance(block, Block)
            block.mlp.down.weight.zero_()
            for name, parameter in block.mixer.named_parameters():
                if name.startswith("out_proj"):
                    parameter.zero_()
            if isinstance(block.mixer, (Attention, LinearAttention)):
                block.mixer.start_as_copy()


FAST = 0.375
"""Share of a head's rotary pairs, from the fastest, that tell how far back a token is; the others turn so slowly that
equal tokens match at any distance of a training row."""
NEAR = 3.5
"""Scale of the attention scores of a head that looks a fixed number of tokens back."""
MATCH = 4.0
"""Scale of the attention scores of a head that looks for what was read last."""
READ = 3
"""How many tokens, up to the last, an induction head looks for. With one it finds any key's colon for a question's."""
WRITTEN = 8.0
"""What all induction heads together write of a token, relative to the token's own embedding."""


def start_recalling_llama(model: LlamaForCausalLM) -> None:
    """Let a plain Llama, which has no shifted heads, begin with induction heads that are made of two layers.

    Head h of the first layer begins by looking h + 1 tokens back: all embeddings have one direction in common, on which
    its queries and keys are turned against each other by rotary positions. It writes what it sees into directions
    of its own, so that every token carries those before it. The heads of all other layers look for a token that carries
    what was read last, and write that token out again. MLPs begin silent. Only first values are set; the
    architecture is transformers' own (with the `rope_theta` of Llama 3, so that fewer pairs turn within a row). There
    are as many key heads as query heads.
    """
    layers, config = model.model.layers, model.config
    heads, width = config.num_attention_heads, config.hidden_size
    dim = width // heads
    common = _rotation(width)[0]
    length = math.sqrt(width / 2)  # of either half of a normalised embedding: what is common, and what is its own
    seen = _beside(_rotation(width)[:dim], common)  # what a head of the first layer reads of a token
    places = _rotation(width).split(dim)  # where each of them writes it
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(_embeddings(config.vocab_size, common))
        first = layers[0].self_attn
        queries, key = _looking_back(heads, dim, config.rope_parameters["rope_theta"], length)
        first.q_proj.weight.copy_(torch.cat([query[:, None] * common for query in queries]))
        first.k_proj.weight.copy_((key[:, None] * common).repeat(heads, 1))
        first.v_proj.weight.copy_(seen.repeat(heads, 1))
        first.o_proj.weight.copy_(torch.cat([_beside(place, common).T for place in places], dim=1) / length)
        for layer in layers:
            layer.mlp.down_proj.weight.zero_()
        for layer in layers[1:]:
            found = [_matching(dim, [seen, *places]) for _ in range(heads)]
            attention, copied = layer.self_attn, _beside(_rotation(width), common)
            attention.q_proj.weight.copy_(torch.cat([query for query, _ in found]))
            attention.k_proj.weight.copy_(torch.cat([key for _, key in found]))
            attention.v_proj.weight.copy_(copied)
            attention.o_proj.weight.copy_(copied.T * WRITTEN / length / (len(layers) - 1))


def _rotation(size: int) -> Tensor:
    """A random orthogonal matrix `[size, size]`."""
    return torch.linalg.qr(torch.randn(size, size)).Q


def _beside(rows: Tensor, direction: Tensor) -> Tensor:
    """The rows without their component along a direction."""
    return rows - (rows @ direction)[:, None] * direction


def _embeddings(vocab_size: int, common: Tensor) -> Tensor:
    """Random embeddings `[V, C]` of length 1, plus one direction that all have in common; logits do not see it."""
    own = _beside(torch.randn(vocab_size, len(common)), common)
    return own / own.norm(dim=1, keepdim=True) + common


def _looking_back(heads: int, dim: int, theta: float, length: float) -> tuple[list[Tensor], Tensor]:
    """Queries `[D]` of each head, and the key of all: their score under rotary positions is highest 1, 2, ... back."""
    half = dim // 2
    turns = theta ** (-torch.arange(half) / half)
    pairs = torch.zeros(half)
    pairs[: round(FAST * half)] = 1.0
    pairs[:2] = torch.tensor([3.0, 2.0])  # the fastest tell neighbours apart
    size = (NEAR * pairs * math.sqrt(dim)).sqrt() / length
    queries = [torch.cat([size * torch.cos(o * turns), -size * torch.sin(o * turns)]) for o in range(1, heads + 1)]
    return queries, torch.cat([size, torch.zeros(half)])


def _matching(dim: int, carried: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Projections `[D, C]` of a query that stands for the last tokens read, and of a key that stands for those before.

    Args:
        carried: projections `[D, C]` that read a token's own embedding, that of the token before, and so on.
    """
    half = dim // 2
    slow = [i for i in range(dim) if i % half >= round(FAST * half)]
    query, key = torch.zeros(dim, carried[0].shape[1]), torch.zeros(dim, carried[0].shape[1])
    for now, before in pairwise(carried[: READ + 1]):
        turned = _rotation(dim)[: len(slow)] * math.sqrt(MATCH)
        query[slow] += turned @ now
        key[slow] += turned @ before
    return query, key


KEY_SIZE = 0.25
"""Size of each entry of a query or key: so small that the silu that follows is nearly linear."""
STEP = 0.5
"""dt of every token at the start."""
FADING = 5e-4
"""How much of the state a token lets fade at the start: half is left after 1,400."""
OWN = -1.0
"""Weight D of a token's own value beside what is found. Without it the norm that follows would scale up the output of
tokens for which nothing was found."""
GATE = 2.0
"""Value of the gate before its silu, for every token."""
MAMBA_WRITTEN = 0.18
"""Weight of the gated norm, which sets how strongly the layer writes a token that it found."""


def start_recalling_mamba2(model: Mamba2ForCausalLM) -> None:
    """Let the middle layer of a Mamba-2 find what followed the last three tokens read, and write it out again.

    A layer has all that an induction head needs: its convolution can make keys from the tokens before the one whose
    value is written, and queries from the last tokens read. Keys and queries are the same random projections of the
    embedding; of each, the convolution adds up the last three tokens (a key's are one further back) with signs that
    tell them apart. Values are the embedding itself, and its negative, whose silus differ by it. Only first values are
    set; the architecture is transformers' own.

    Raises:
        JRTError: `expand` is not 2, or the convolution reads fewer than four tokens.
    """
    config, layers = model.config, model.backbone.layers
    if config.expand != 2 or config.conv_kernel <= READ:
        raise JRTError(
            f"Mamba-2 with expand={config.expand}, conv_kernel={config.conv_kernel}: begins as an induction head only "
            f"with expand=2 and conv_kernel={READ + 1} or more."
        )
    common = _rotation(config.hidden_size)[0]
    with torch.no_grad():
        model.backbone.embeddings.weight.copy_(_embeddings(config.vocab_size, common))
        for number, layer in enumerate(layers):
            _begin(layer.mixer, common)
            if number != (len(layers) - 1) // 2:
                layer.mixer.out_proj.weight.zero_()


def _begin(mixer: Mamba2Mixer, common: Tensor) -> None:
    C, keys = len(common), mixer.n_groups * mixer.ssm_state_size
    # half of a normalised embedding's square is what a token has of its own: projections of it have entries of size 1
    values = _beside(_rotation(C), common) * math.sqrt(2)
    # as many directions as there are keys, orthogonal as far as they can be
    directions = torch.cat([_rotation(C) for _ in range(-(-keys // C))])[:keys]
    looked_for = _beside(directions, common) * math.sqrt(2)
    signs = torch.randn(keys, READ).sign() * KEY_SIZE / math.sqrt(READ)
    taps = torch.zeros(2 * C + 2 * keys, mixer.conv_kernel_size)  # of values, keys (B) and queries (C)
    taps[: 2 * C, -1] = 1.0
    for back in range(READ):
        taps[2 * C : 2 * C + keys, mixer.conv_kernel_size - 2 - back] = signs[:, back]
        taps[2 * C + keys :, mixer.conv_kernel_size - 1 - back] = signs[:, back]
    gate = GATE / math.sqrt(C / 2) * common
    steps = torch.zeros(mixer.num_heads, C)
    mixer.in_proj.weight.copy_(torch.cat([gate.expand(2 * C, C), values, -values, looked_for, looked_for, steps]))
    mixer.conv1d.weight.copy_(taps[:, None])
    mixer.conv1d.bias.zero_()
    mixer.dt_bias.fill_(math.log(math.expm1(STEP)))
    mixer.A_log.fill_(math.log(FADING / STEP))
    mixer.D.fill_(OWN)
    mixer.norm.weight.fill_(MAMBA_WRITTEN)
    mixer.out_proj.weight.copy_(torch.cat([values.mT, -values.mT], dim=1))
