"""First weights of a Mamba-2 model: one layer begins as an induction head, all others silent."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from transformers import Mamba2ForCausalLM
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

from jrt_lmeval.errors import JRTError
from jrt_lmeval.training.initialise import beside, embeddings, rotation

READ = 3
"""How many tokens, up to the last, are looked for."""
KEY_SIZE = 0.25
"""Of each entry of a query or key: so small that silu, which follows, is nearly linear."""
STEP = 0.5
"""dt of every token at the start."""
FADING = 5e-4
"""How much of the state a token lets fade at the start: half is left after 1,400."""
OWN = -1.0
"""Weight D of a token's own value beside what is found: what nothing was found for is then not blown up to the same
size by the norm that follows."""
GATE = 2.0
"""What the gate is before its silu, whatever the token."""
WRITTEN = 0.18
"""Weight of the gated norm: what the layer writes of a token that it found is some times the token's own embedding."""


def start_recalling_mamba2(model: Mamba2ForCausalLM) -> None:
    """Let the middle layer of a Mamba-2 find what followed the last three tokens read, and write it out again.

    A layer has all that an induction head needs: its convolution can make keys from the tokens before the one whose
    value is written, and queries from the last tokens read. Keys and queries are the same random projections of the
    embedding; of each, the convolution adds up the last three tokens (a key's are one further back) with signs that
    tell them apart. Values are the embedding itself, and its negative, whose silus differ by it. Only first values are
    set: nothing of the architecture is other than transformers'.

    Raises:
        JRTError: `expand` is not 2, or the convolution reads fewer than four tokens.
    """
    config, layers = model.config, model.backbone.layers
    if config.expand != 2 or config.conv_kernel <= READ:
        raise JRTError(
            f"Mamba-2 with expand={config.expand}, conv_kernel={config.conv_kernel}: begins as an induction head only "
            f"with expand=2 and conv_kernel={READ + 1} or more."
        )
    common = rotation(config.hidden_size)[0]
    with torch.no_grad():
        model.backbone.embeddings.weight.copy_(embeddings(config.vocab_size, common))
        for number, layer in enumerate(layers):
            _begin(layer.mixer, common)
            if number != (len(layers) - 1) // 2:
                layer.mixer.out_proj.weight.zero_()


def _begin(mixer: Mamba2Mixer, common: Tensor) -> None:
    C, keys = len(common), mixer.n_groups * mixer.ssm_state_size
    # half of a normalised embedding's square is what a token has of its own: projections of it have entries of size 1
    values = beside(rotation(C), common) * math.sqrt(2)
    looked_for = _projections(keys, common) * math.sqrt(2)
    gate = GATE / math.sqrt(C / 2) * common
    steps = torch.zeros(mixer.num_heads, C)
    mixer.in_proj.weight.copy_(torch.cat([gate.expand(2 * C, C), values, -values, looked_for, looked_for, steps]))
    mixer.conv1d.weight.copy_(_taps(2 * C, keys, mixer.conv_kernel_size)[:, None])
    mixer.conv1d.bias.zero_()
    mixer.dt_bias.fill_(math.log(math.expm1(STEP)))
    mixer.A_log.fill_(math.log(FADING / STEP))
    mixer.D.fill_(OWN)
    mixer.norm.weight.fill_(WRITTEN)
    mixer.out_proj.weight.copy_(torch.cat([values.mT, -values.mT], dim=1))


def _projections(count: int, common: Tensor) -> Tensor:
    """As many directions `[count, C]`, orthogonal as far as they can be."""
    C = len(common)
    return beside(torch.cat([rotation(C) for _ in range(-(-count // C))])[:count], common)


def _taps(values: int, keys: int, kernel: int) -> Tensor:
    """Weights of the convolution `[values + 2 keys, kernel]`, of values, keys (B) and queries (C)."""
    signs = torch.randn(keys, READ).sign() * KEY_SIZE / math.sqrt(READ)
    taps = torch.zeros(values + 2 * keys, kernel)
    taps[:values, -1] = 1.0
    for back in range(READ):
        taps[values : values + keys, kernel - 2 - back] = signs[:, back]
        taps[values + keys :, kernel - 1 - back] = signs[:, back]
    return taps
