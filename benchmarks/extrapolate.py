"""From the times of single layers (`layers.py`) to the paper's six tasks at 360M and 1.3B, on the same machine.

An estimate, and said to be one: tokens read x time a token, summed over the layers, plus answers of the longest length
that the tasks allow, decoded 16 rows at a time. Data, tokenizer and loading are left out. Documents shared between
questions (`--only reuse`) are read afresh here, so `prefix=full` is meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.geometry import LAYERS, kinds
from benchmarks.layers import ROWS, T, label
from benchmarks.row import Row
from jrt_lmeval.markdown import markdown_table

QUESTIONS = {
    "swde": (1111, 1036), "fda": (1102, 2000), "squadv2": (2984, 152), "nq_1024": (3157, 8858),
    "triviaqa": (1698, 310), "drop": (2084, 237),
}  # fmt: skip
"""Rows, and mean GPT-2 tokens of a document before it is cut (JRT paper, arXiv 2407.05483, table 7)."""
WINDOW, ANSWER = 1000, 48
"""GPT-2 tokens that the tasks keep of a document, and tokens of an answer at most (tasks/*/_*.yaml)."""
SOURCES = ("layers", "linear_layers")
"""The benchmarks whose lines are summed."""
LAYOUTS = {"read once": 1, "read twice": 2}


@dataclass(frozen=True)
class Estimate:
    """Hours on this machine.

    Attributes:
        size: of the model.
        layout: how the document is written.
        tokens: read in all.
        reading, plain, answering: hours: our forms, the plain forms, and decoding.
    """

    size: str
    layout: str
    tokens: int
    reading: float
    plain: float
    answering: float


def tokens_of(copies: int) -> int:
    """Tokens of all prompts of the six tasks, `copies` of each document."""
    return sum(rows * copies * min(WINDOW, mean) for rows, mean in QUESTIONS.values())


def estimate(rows: Sequence[Row], size: str, layout: str) -> Estimate:
    """Of the lines of `layers.py`; KeyError where one is missing (`--quick` measures other lengths)."""
    found = {row.what: row for row in rows}
    tokens, questions = tokens_of(LAYOUTS[layout]), sum(count for count, _ in QUESTIONS.values())
    head = found[label(size, "logits", 1, ROWS)].ours_median / ROWS
    reads = {kind: found[label(size, kind, T)] for kind in kinds(size)}
    steps = {kind: found[label(size, kind, 1, ROWS)] for kind in kinds(size)}
    ours, plain, decode = (
        sum(count * value for count, value in zip(kinds(size).values(), values, strict=True))
        for values in (
            [reads[kind].ours_median / T for kind in kinds(size)],
            [reads[kind].twin_median / T for kind in kinds(size)],
            [steps[kind].ours_median / ROWS for kind in kinds(size)],
        )
    )
    hours = 1 / (1000 * 3600)
    answering = questions * ANSWER * (decode + head) * hours
    return Estimate(size, layout, tokens, tokens * ours * hours, tokens * plain * hours, answering)


def suite_table(rows: Sequence[Row]) -> str:
    """Markdown table of all estimates; empty where a kind of layer was not measured, or with `--quick`."""
    if not {label(size, kind, T) for size in LAYERS for kind in kinds(size)} <= {row.what for row in rows}:
        return ""
    lines = []
    for size in LAYERS:
        for layout in LAYOUTS:
            one = estimate(rows, size, layout)
            figures = [f"{one.reading:.1f} h", f"{one.plain:.1f} h", f"{one.answering:.1f} h"]
            lines.append([f"JRT-RNN {size}", layout, f"{one.tokens / 1e6:.1f} M", *figures])
    header = ("model", "six tasks", "tokens read", "reading", "reading, plain forms", "answering, at most")
    return markdown_table(header, lines, left=2)
