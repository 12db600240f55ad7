"""`jrt-eval report`: tables and a picture from lm_eval's results files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jrt_lmeval.errors import JRTError
from jrt_lmeval.report.collect import collect
from jrt_lmeval.report.plots import plot_layouts
from jrt_lmeval.report.tables import NOTES, full_table, layout_table

EPILOG = """example:
  lm_eval --model jrt_rnn --model_args feature_map=mlp,prefix=dynamic --tasks recall_once,recall_jrt,recall_jrt_hier \\
          --output_path out --log_samples
  jrt-eval report out --plot recall.png

With --log_samples the standard errors are by document; without, questions count as independent, which they are not.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="jrt-eval report",
        description="Tables of recall accuracy and cost from the results files that lm_eval wrote.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", type=Path, help="results_*.json files, or folders to search")
    parser.add_argument("--out", type=Path, help="write the tables to this Markdown file as well")
    parser.add_argument("--plot", type=Path, help="draw a picture (.png, .svg or .pdf)")
    arguments = parser.parse_args(argv)
    collection = collect(arguments.paths)
    results = [cell for cell in collection.cells if cell.mean("contains") is not None]
    if not results:
        raise JRTError("none of the runs has the metric contains.")
    for broken in collection.broken:
        print(f"skipped: {broken.why}", file=sys.stderr)
    text = f"## Recall by layout\n\n{layout_table(results)}\n## Every run\n\n{full_table(results)}\n{NOTES}"
    print(text)
    if arguments.out:
        arguments.out.write_text(f"# Measured results\n\n{text}", encoding="utf-8")
    if arguments.plot:
        plot_layouts(results, arguments.plot)
    return 0
