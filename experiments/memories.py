"""What memory layers give SmolLM2 under windows: the table of docs/retrofit.md, from lm_eval's logs alone.

    jrt-eval run --model jrt_rnn --model_args pretrained=smollm2-centred,prefix=document,dtype=bfloat16 \\
        --tasks factbook_once,factbook_jrt --samples SAMPLES --grid window.context_length=300 --log_samples \\
        --output_path results/measured/memories/centred
    python -m experiments.memories results/measured/smollm2 results/measured/memories docs/retrofit.md

`SAMPLES` and the rows of the Transformer itself are those of `experiments.reading_twice`; the perplexity is that of
`lm_eval --tasks recall_ppl` with `prefix=none`.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from experiments.reading_twice import reader_of
from jrt_lmeval.markdown import markdown_table, with_block
from jrt_lmeval.paper.claims import METRIC, percent, recall
from jrt_lmeval.report.cells import Cell
from jrt_lmeval.report.collect import collect
from jrt_lmeval.report.standard import by_window, distances

BLOCK, PROSE = "memories", "recall_ppl"


def name_of(cell: Cell) -> str:
    """What the row keeps of the text."""
    facts = cell.first.run.facts
    if "memories (" not in str(facts.get("architecture")):
        return reader_of(cell)
    inside = str(facts["architecture"]).partition("memories (")[2].partition(")")[0]
    return f"the last {facts['sliding_window']} tokens, memories: {inside}"


def row(cells: dict[str, Cell]) -> list[str]:
    """State, recall read once, of that where the answer lies before the window, and recall read twice."""
    once = cells["once"]
    columns, before, state = once.columns, "", sum(once.figure(name) for name in ("window_bytes", "recurrent_bytes"))
    if columns is not None and (far := distances(columns)) is not None:
        found = by_window(once, columns, far, METRIC)[1]
        before = found.text() if found is not None and not isinstance(found, str) else ""
    size = f"{state / 1e6:.1f}" if state == state else f"{once.figure('state_bytes') / 1e6:.1f}"
    prose = cells["prose"].mean("token_perplexity") if "prose" in cells else None
    perplexity = "" if prose is None else f"{prose:.1f}"
    return [name_of(once), size, percent(recall(once)), before, percent(recall(cells.get("flat"))), perplexity]


def table(cells: Sequence[Cell]) -> str:
    """A row for everything that reads the same questions."""
    models: dict[str, dict[str, Cell]] = defaultdict(dict)
    for cell in cells:
        if cell.task == PROSE:
            models[name_of(cell)]["prose"] = cell
        elif cell.control == "none" and (cell.layout == "once" or cell.first.settings["lead"]):
            models[name_of(cell)].setdefault(cell.layout, cell)
    rows = sorted((row(found) for found in models.values() if {"once", "flat"} <= found.keys()), key=lambda r: r[0])
    header = ["what is kept", "state, MB", "read once, % [95 %]", "answers before the window", "read twice, % [95 %]"]
    header.append("perplexity, prose")
    first = recall(next(cell for cell in cells if cell.layout == "once"))
    assert first is not None
    asked = f"{first.n} questions, one on each of {first.clusters} documents"
    note = f"`factbook` at 300 tokens: {asked}; bfloat16. Perplexity: of a token of `recall_ppl`.\n"
    return f"{markdown_table(header, rows)}\n{note}"


def main(arguments: Sequence[str]) -> int:
    """Write the table into the page."""
    *logs, page = map(Path, arguments)
    text = with_block(page.read_text(encoding="utf-8"), BLOCK, table(collect(logs).cells))
    page.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
