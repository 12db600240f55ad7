"""What reading twice gives a real Transformer: the table of docs/reading-twice.md, from lm_eval's logs alone.

    jrt-eval run --model hf_recall --model_args pretrained=smollm2,dtype=bfloat16 --tasks factbook_once,factbook_jrt \\
        --samples SAMPLES --grid window.context_length=300 --log_samples --output_path results/measured/smollm2/full
    python -m experiments.reading_twice results/measured/smollm2 docs/reading-twice.md

`SAMPLES` names the first question of each of the 124 documents. The other rows are the same command with other tasks,
with `--grid lead=false`, `layout=lead_once` or `control=wrong_context`, and with `kv_window=W,kv_sinks=4`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from jrt_lmeval.markdown import markdown_table, with_block
from jrt_lmeval.paper.claims import METRIC, percent, points, recall
from jrt_lmeval.prompts.layouts import LAYOUTS
from jrt_lmeval.report.cells import Cell, difference
from jrt_lmeval.report.collect import collect

BLOCK = "smollm2"


WHOLE = "the whole text"


def name_of(cell: Cell) -> str:
    """How the table calls what the model was shown."""
    lead = ", no question first" if cell.layout == "flat" and not cell.first.settings["lead"] else ""
    return LAYOUTS[cell.layout].label + lead + (", another document" if cell.control == "wrong_context" else "")


def reader_of(cell: Cell) -> str:
    """What the model keeps of the text."""
    facts = cell.first.run.facts
    return f"the last {facts['kv_window']} tokens and {facts['kv_sinks']} sinks" if "kv_window" in facts else WHOLE


def place_of(cell: Cell) -> tuple[bool, int, bool, int, str]:
    """Where a row stands: whole texts first, then windows by width; controls after what they control."""
    window = cell.first.run.facts.get("kv_window", 0)
    return window > 0, window, cell.control != "none", list(LAYOUTS).index(cell.layout), name_of(cell)


def table(cells: Sequence[Cell]) -> str:
    """Recall of every row with its interval by document, and the paired difference from the text read once."""
    rows = []
    once = {reader_of(cell): cell for cell in cells if cell.layout == "once" and cell.control == "none"}
    for cell in sorted(cells, key=place_of):
        pair = difference(once[reader_of(cell)], cell, METRIC)
        gain = "" if cell in once.values() or pair is None else points(pair.paired)
        rows.append([reader_of(cell), name_of(cell), percent(recall(cell)), gain])
    first = recall(cells[0])
    assert first is not None
    header = ["what the model keeps", "what it reads", "recall, % [95 %]", "points more than once [95 %]"]
    note = f"{first.n} questions, one on each of {first.clusters} documents of `factbook` at 300 tokens, bfloat16.\n"
    return f"{markdown_table(header, rows, left=2)}\n{note}"


def main(arguments: Sequence[str]) -> int:
    """Write the table into the page."""
    logs, page = map(Path, arguments)
    text = with_block(page.read_text(encoding="utf-8"), BLOCK, table(collect([logs]).cells))
    page.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
