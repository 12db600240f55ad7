"""Whole layers (norm, mixer, MLP) at the geometry of the released models, one by one: they fit any machine's memory.

    python -m benchmarks --only layers linear_layers

Each kind of layer reads T tokens, half of them prefix, in our form and in the plain form beside it, and then decodes
one token for each of 16 rows, at once and row by row. The logits at the last position stand for a layer of their own.
That the sum over the layers is a model's time is checked at 360M. `extrapolate.py` makes the suite's time of these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.geometry import LAYERS, jrt_config
from benchmarks.row import Options, Row, row, seconds, side_by_side
from jrt_lmeval.modeling import attention
from jrt_lmeval.modeling.config import JRTConfig
from jrt_lmeval.modeling.mixers import GatedShortConv, Span
from jrt_lmeval.modeling.model import Block, JRTForCausalLM

T, QUICK_T, ROWS = 1024, 128, 16
PLAIN = {"conv": "grouped convolution", "swa": "full mask", "prefix_linear": "quadratic form"}
TOLERANCE = 5e-3
TOY: dict = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "mixers": ["conv", "prefix_linear", "swa"]}


def label(size: str, kind: str, tokens: int, rows: int = 1) -> str:
    """How a line is called; `extrapolate.py` finds it so."""
    return f"{size} {kind}, T = {tokens}" if rows == 1 else f"{size} {kind}, {tokens} token for {rows} rows"


def rows(options: Options) -> list[Row]:
    """Convolution and window layers and the logits at both sizes, and the check of the sum."""
    found = _layers(options, ("conv", "swa"))
    with torch.inference_mode():
        tokens = QUICK_T if options.quick else T
        for size in _sizes(options):
            found.append(_head(size, _config(size, options), tokens, options.repeats(5)))
        found.append(_whole(_config("360M", options), tokens, options.repeats(3)))
    return found


def linear_rows(options: Options) -> list[Row]:
    """Prefix linear attention's layers at both sizes."""
    return _layers(options, ("prefix_linear",))


def _sizes(options: Options) -> tuple[str, ...]:
    return ("360M",) if options.quick else tuple(LAYERS)


def _config(size: str, options: Options) -> JRTConfig:
    return jrt_config(size, **(TOY if options.quick else {}))


def _layers(options: Options, kinds: tuple[str, ...]) -> list[Row]:
    tokens, found = (QUICK_T if options.quick else T), []
    with torch.inference_mode():
        for size in _sizes(options):
            for kind in kinds:
                torch.manual_seed(0)
                config = _config(size, options)
                block = Block(config, kind).eval()
                found.append(_reading(size, kind, block, config, tokens, options.repeats(7)))
                found.append(_decoding(size, kind, block, config, options.repeats(7)))
    return found


def _span(B: int, tokens: int) -> Span:
    prefix = torch.arange(tokens) < tokens // 2
    return Span(torch.full((B,), tokens), None, prefix.expand(B, tokens), torch.zeros(B, dtype=torch.long))


def _grouped(self: GatedShortConv, x: Tensor, span: Span, state: Any) -> tuple[Tensor, dict[str, Tensor]]:
    u, gate = self.in_proj(x).chunk(2, dim=-1)
    padded = F.pad(u.transpose(1, 2), (self.kernel - 1, 0))
    mixed = F.conv1d(padded, self.conv_weight[:, None], groups=u.shape[2]).transpose(1, 2)
    return self.out_proj(F.silu(mixed) * gate), {"tail": u[:, 1 - self.kernel :]}


def plain(block: Block, x: Tensor, span: Span) -> Tensor:
    """The block in its readable form."""
    with (
        patch.object(GatedShortConv, "forward", _grouped),
        patch.object(attention, "blocked", attention.banded),
    ):
        return block(x, replace(span, linear_attention="naive"), None)[0]


def _reading(size: str, kind: str, block: Block, config: JRTConfig, tokens: int, rounds: int) -> Row:
    x, span = torch.randn(1, tokens, config.hidden_size), _span(1, tokens)
    torch.testing.assert_close(block(x, span, None)[0], plain(block, x, span), rtol=TOLERANCE, atol=TOLERANCE)
    ways: dict[str, Callable[[], float]] = {
        "ours": lambda: seconds(lambda: block(x, span, None)),
        PLAIN[kind]: lambda: seconds(lambda: plain(block, x, span)),
    }
    costs = side_by_side(ways, rounds)
    what = label(size, kind, tokens)
    return row(what, costs, "ours", PLAIN[kind], f"within {TOLERANCE:g}", weights="geometry")


def _decoding(size: str, kind: str, block: Block, config: JRTConfig, rounds: int) -> Row:
    x = torch.randn(ROWS, 1, config.hidden_size)
    _, state = block(torch.randn(ROWS, 160, config.hidden_size), _span(ROWS, 160), None)
    lengths = torch.full((ROWS,), 160)
    span = Span(torch.ones_like(lengths), None, None, lengths, decoding=True)
    one = Span(span.lengths[:1], None, None, lengths[:1], decoding=True)

    def together() -> Tensor:
        return block(x, span, {name: tensor.clone() for name, tensor in state.items()})[0]

    def apart() -> Tensor:
        parts = ({name: tensor[i : i + 1].clone() for name, tensor in state.items()} for i in range(ROWS))
        return torch.cat([block(x[i : i + 1], one, part)[0] for i, part in enumerate(parts)])

    torch.testing.assert_close(together(), apart(), rtol=TOLERANCE, atol=TOLERANCE)
    ways = {"at once": lambda: seconds(together), "row by row": lambda: seconds(apart)}
    what = label(size, kind, 1, ROWS)
    return row(what, side_by_side(ways, rounds), "at once", "row by row", f"within {TOLERANCE:g}", weights="geometry")


def _head(size: str, config: JRTConfig, tokens: int, rounds: int) -> Row:
    head = torch.nn.Linear(config.hidden_size, config.vocab_size, bias=False)
    hidden = torch.randn(ROWS, tokens // ROWS, config.hidden_size)
    torch.testing.assert_close(head(hidden[:, -1]), head(hidden)[:, -1], rtol=TOLERANCE, atol=TOLERANCE)
    ways = {"last positions": lambda: seconds(lambda: head(hidden[:, -1])),
            "all positions": lambda: seconds(lambda: head(hidden))}  # fmt: skip
    what = label(size, "logits", 1, ROWS)
    costs = side_by_side(ways, rounds)
    return row(what, costs, "last positions", "all positions", f"within {TOLERANCE:g}", weights="geometry")


def _whole(config: JRTConfig, tokens: int, rounds: int) -> Row:
    model = JRTForCausalLM(config).eval()
    ids = torch.randint(config.vocab_size, (1, tokens))
    lengths, prefixes = torch.tensor([tokens]), torch.tensor([tokens // 2])
    x, span = torch.randn(1, tokens, config.hidden_size), _span(1, tokens)

    def parts() -> float:
        return sum(seconds(lambda b=block: b(x, span, None)) for block in model.blocks)

    ways = {"whole model": lambda: seconds(lambda: model.prefill(ids, lengths, prefixes)), "sum of its layers": parts}
    ways["whole model"]()
    costs = side_by_side(ways, rounds)
    what = label("360M", f"{len(model.blocks)} layers", tokens)
    return row(what, costs, "whole model", "sum of its layers", "a check of the sum", weights="geometry")
