"""What README and the model cards say in numbers, from a suite's logs alone.

    python -m jrt_lmeval.paper.front results/measured/bundled README.md docs/reading-twice.md docs/recall_memory.png

rewrites what stands between the markers `<!-- measured -->` and `<!-- /measured -->` of both pages, the picture, and
the measured figures on the cards of the shipped models.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jrt_lmeval.checkpoints.found import shipped_for, shipped_models
from jrt_lmeval.markdown import markdown_table, with_block
from jrt_lmeval.paper.claims import JRT_SAYS, LEAD, SECOND_COPY
from jrt_lmeval.paper.floor import rule, verdict
from jrt_lmeval.paper.measured import METRIC, measured, percent, recall
from jrt_lmeval.paper.memory import memory_picture
from jrt_lmeval.paper.plan import LAYOUT_ENDINGS, NO_CONTEXT, SUITES, THRESHOLDS, Entry, Run, Suite, plan
from jrt_lmeval.paper.tables import figure, paper_report
from jrt_lmeval.report.plots.picture import png
from jrt_lmeval.report.tables import Number
from jrt_lmeval.report.tables import TableEntry as Shown

TEACHER = "Softmax in its place"
READ_TWICE = (JRT_SAYS, SECOND_COPY, LEAD)
BLOCK = "measured"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def front(logs: Path, suite: Suite) -> str:
    """The README's table: recall of each family on the suite's first benchmark, and the bytes of its state."""
    benchmark = suite.benchmarks[0]
    once, flat = (benchmark + LAYOUT_ENDINGS[layout] for layout in ("once", "flat"))
    rows, asked, unread = [], {}, []
    for label, model, given in (("JRT-RNN", "jrt_rnn", {**suite.default, "prefix": "dynamic"}), *suite.others):
        cells, without = (measured(logs, Run(model, given, (), block)) for block in ({}, NO_CONTEXT))
        if once not in cells or label == TEACHER:
            continue
        asked[label] = cells[once]
        control = recall(without.get(once))
        unread += [] if control is None else [control.mean]
        state = figure({benchmark: cells[once]}, "state_bytes", 0.001, 0)
        rows.append([label, percent(recall(cells[once])), percent(recall(cells.get(flat))), _text(state)])
    table = markdown_table([f"`{benchmark}`, answers recalled, %", "read once", "read twice (JRT)", "state, KB"], rows)
    first = next(iter(asked.values()))
    found = recall(first)
    size = "" if found is None else f"{found.n:,} questions on {found.clusters:,} documents; "
    return (
        f"{table}\n{size}95 % intervals by document. The most frequent answer to each question scores "
        f"{_share(rule(first, 'majority'))} %; without the document no model scores more than "
        f"{_share(max(unread, default=None))} %.\n"
    )


def reading_twice(logs: Path, entries: Sequence[Entry]) -> str:
    """What reading twice gives each family, what of it the second copy gives, and what the question in front."""
    report = paper_report(entries, logs)
    rows = next((table.rows for table in report.tables if table.name == "claims"), ())
    shown = [row for row in rows if any(str(row[0]).endswith(f"({words})") for words in READ_TWICE)]
    return markdown_table(
        ["what is compared", "benchmark", "points [95 %]", "p (Holm)", "questions", "documents"],
        [[row[0], row[1], row[3], *(_text(entry) for entry in row[4:7])] for row in shown],
        left=2,
    )


def _text(entry: Shown) -> str:
    return entry.text() if isinstance(entry, Number) else str(entry)


def card_rows(logs: Path, suite: Suite) -> dict[str, list[dict[str, Any]]]:
    """Name of a shipped model -> what its card says was measured."""
    kinds = [("jrt_rnn", {**given, "prefix": "full"}) for given in suite.maps.values()]
    kinds += [(model, dict(given)) for _, model, given in suite.others]
    found: dict[str, list[dict[str, Any]]] = {}
    for model, given in kinds:
        cells, without = (measured(logs, Run(model, given, (), block)) for block in ({}, NO_CONTEXT))
        rows = []
        for benchmark in suite.benchmarks:
            task = f"{benchmark}_once"
            if task not in cells:
                continue
            cell, score = cells[task], recall(cells[task])
            control = without[task].mean(METRIC) if task in without else None
            majority = rule(cell, "majority")
            rows.append(
                {
                    "task": task + (" [sample]" if cell.first.source == "sample" else ""),
                    "questions": "-" if score is None else score.n,
                    "contains, % [95 % by document]": percent(score),
                    "without the document, %": _share(control),
                    "majority answer, %": _share(majority),
                    "recalls": verdict(score, control, majority),
                }
            )
        if rows:
            found[_name_of(model, given)] = rows
    return found


def _name_of(model: str, given: Mapping[str, Any]) -> str:
    return str(given.get("pretrained") or Path(shipped_for(model, given.get("feature_map")).name).name)


def main(argv: list[str]) -> int:
    """Bring a page and the cards of the shipped models up to date."""
    from jrt_lmeval.training.card import write_card

    logs, suite = Path(argv[0]), SUITES["bundled"]
    entries = plan(suite, THRESHOLDS)
    blocks = {argv[1]: front(logs, suite), argv[2]: reading_twice(logs, entries)}
    for page, block in blocks.items():
        Path(page).write_text(with_block(Path(page).read_text(encoding="utf-8"), BLOCK, block), encoding="utf-8")
    Path(argv[3]).write_bytes(png(memory_picture(entries, logs, suite)))
    for name, rows in card_rows(logs, suite).items():
        write_card(shipped_models()[name].folder, name, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
