"""What had to be learned of single families of recurrent and hybrid models: how their passes differ from others.

Whether a family is right through this engine, and what it keeps, stands in docs/recurrent-models.md; tests hold every
line of it for the installed transformers. Keys are model types.
"""

from __future__ import annotations

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
