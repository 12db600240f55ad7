"""A prompt read in blocks through a cut cache against one pass with a T x T mask, both under the same window.

python -m benchmarks --only kv_window
"""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.row import Options, Row, row, seconds, side_by_side
from model_adapters.engines.kv_window import WindowOptions
from model_adapters.engines.windowed import WindowEngine, full_pass

WINDOW, SINKS = 64, 4
LENGTHS, QUICK_LENGTHS = (1024, 4096), (300,)
TOLERANCE = 1e-3


def llama() -> LlamaForCausalLM:
    """Random weights: four layers as wide as SmolLM2-135M's, with a small vocabulary."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=512,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=4,
            num_attention_heads=9,
            num_key_value_heads=3,
            max_position_embeddings=max(LENGTHS),
        )
    )


def rows(options: Options) -> list[Row]:
    """One pass over blocks, for every length."""
    model, found = llama(), []
    engine = WindowEngine(model, WindowOptions(WINDOW, SINKS))
    for T in QUICK_LENGTHS if options.quick else LENGTHS:
        ids = torch.randint(0, 512, (T,), generator=torch.Generator().manual_seed(T)).tolist()
        work = {
            "blocks": lambda ids=ids: engine.prefill([ids], [0])[0][0],
            "one pass": lambda ids=ids: full_pass(model, ids, engine.kv_window)[-1],
        }
        torch.testing.assert_close(work["blocks"](), work["one pass"](), rtol=TOLERANCE, atol=TOLERANCE)
        ways = {name: lambda call=call: seconds(call) for name, call in work.items()}
        costs = side_by_side(ways, options.repeats(5))
        what = f"window {WINDOW}, {SINKS} sinks, T = {T}"
        found.append(row(what, costs, "blocks", "one pass", f"within {TOLERANCE:g}", weights="geometry", T=T))
    return found
