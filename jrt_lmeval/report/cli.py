"""`jrt-eval report`: tables, files and pictures from the logs of any lm_eval runs."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.report.build import build, check, eval_results, names, relative
from jrt_lmeval.report.cells import Collection, chosen
from jrt_lmeval.report.page.browser import MOST_QUESTIONS
from jrt_lmeval.report.standard import main_metric
from jrt_lmeval.report.tables import WRITERS, Report, markdown, save

DEFAULT_OUT = Path("report")
ENDINGS = (*WRITERS, "html")
PICTURES = (".png", ".svg", ".pdf")
EPILOG = """examples:
  lm_eval --model jrt_rnn --model_args feature_map=mlp,prefix=dynamic --tasks recall_once,recall_jrt,recall_jrt_hier \\
          --output_path out --log_samples
  jrt-eval report out
  jrt-eval report out other/out --out report --format md,tex,csv,json
  jrt-eval report out --open             one HTML page, with the answers side by side
  jrt-eval report out --rows feature_map --cols task --metric contains
  jrt-eval report out --where layout=hier --rows overlap,order --cols benchmark
  jrt-eval report out --rescore          with the present scoring, from the logged answers
  jrt-eval report --check report         derive every number of a written report again

With --log_samples intervals are by document; without, questions count as independent, which they are not.
docs/report.md says more.
"""


def parser() -> argparse.ArgumentParser:
    """The command line of `jrt-eval report`."""
    p = argparse.ArgumentParser(
        prog="jrt-eval report",
        description="Tables of recall accuracy and cost from the logs of any lm_eval runs. Runs no model.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("paths", nargs="*", type=Path, help="results files of lm_eval, or folders to search")
    p.add_argument("--out", type=Path, help="folder for the report's files, or one file with such an ending")
    p.add_argument(
        "--format", help=f"of the files, by commas: {', '.join(FORMATS)} (default: md); without --out, in report/"
    )
    p.add_argument("--open", action="store_true", help="write the HTML page, and show it in the browser")
    p.add_argument("--samples", type=int, default=MOST_QUESTIONS, metavar="N", help=SAMPLES_HELP.format(MOST_QUESTIONS))
    p.add_argument("--rows", default="", help="pivot: names by commas, such as model,feature_map")
    p.add_argument("--cols", default="", help="pivot: names by commas, such as task or overlap")
    p.add_argument("--metric", default="", help="such as contains, contains_word, f1 (default: contains)")
    p.add_argument("--where", action="append", default=[], metavar="NAME=VALUE", help="only such runs; may be repeated")
    p.add_argument("--plot", type=Path, help="write the picture of this name, such as recall_swde.pdf")
    p.add_argument("--rescore", action="store_true", help="apply the present scoring to the logged answers")
    p.add_argument("--misses", action="store_true", help="read the misses, however many answers there are")
    p.add_argument("--check", type=Path, metavar="REPORT", help="derive a written report (folder or .json) again")
    return p


NAMES = {kind: name for kind, (name, _) in WRITERS.items()} | {
    "html": "report.html",
    "eval_results": "eval_results.yaml",
    "parquet": "runs.parquet",
}
"""Format -> name of the file in the report's folder."""
FORMATS = tuple(NAMES)
SAMPLES_HELP = "questions in the HTML page's browser of answers; 0: none (default: {:,})"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 1 where `--check` finds a number that the logs do not give."""
    arguments = parser().parse_args(argv)
    if arguments.check:
        return check(arguments.check, arguments.paths)
    if not arguments.paths:
        raise JRTError("name at least one results file or folder, such as: jrt-eval report out")
    files = _files(arguments)
    if arguments.plot and arguments.plot.suffix not in PICTURES:
        raise JRTError(f"--plot {arguments.plot}: the ending must be one of {', '.join(PICTURES)}.")
    asked = {name: getattr(arguments, name) for name in ("rows", "cols", "metric", "where", "rescore", "misses")}
    asked["paths"] = [str(path.resolve()) for path in arguments.paths]
    collection, report = build(asked)
    for why in collection.broken:
        print(f"skipped: {why}", file=sys.stderr)
    print(markdown(report))
    shown = replace(collection, cells=chosen(collection.cells, arguments.where))
    for kind, file in files.items():
        given = {**asked, "paths": relative(asked["paths"], file.parent)}
        if kind == "parquet":
            from jrt_lmeval.report.frames import parquet

            for name, content in parquet(shown).items():
                _write(file.with_name(name), content)
            continue
        made = content_of(kind, replace(report, arguments=given), shown, arguments.samples)
        _write(file, made.encode("utf-8"))
    if files and (folder := arguments.out or DEFAULT_OUT).is_dir():
        from jrt_lmeval.report.plots.gallery import write_folder

        write_folder(folder, shown, report, arguments.metric, tuple(files.values()))
    if arguments.open:
        webbrowser.open(files["html"].resolve().as_uri())
    if arguments.plot:
        _write(arguments.plot, _plot(shown, arguments.metric, arguments.plot))
    return 0


def _write(file: Path, content: bytes) -> None:
    save(file, content)
    print(f"wrote {file}", file=sys.stderr)


def _plot(collection: Collection, metric: str, file: Path) -> bytes:
    """The picture whose name a file has."""
    from jrt_lmeval.report.plots.gallery import gallery

    drawn, missing = gallery(collection, metric)
    found = {picture.name: picture for picture in drawn}
    if not found:
        raise JRTError(f"--plot {file}: no picture can be drawn: {'; '.join(one.why for one in missing)}.")
    if file.stem not in found:
        raise unknown("picture in --plot", file.stem, found)
    return found[file.stem].saved(file.suffix[1:])


def content_of(kind: str, report: Report, collection: Collection, most: int = MOST_QUESTIONS) -> str:
    """One of the report's files.

    Args:
        kind: of `FORMATS`.
        report: the tables.
        collection: the runs behind them.
        most: questions in the HTML page's browser of answers.
    """
    if kind == "eval_results":
        return eval_results(collection.cells)
    if kind == "html":
        from jrt_lmeval.report.page.render import page

        return page(report, collection, report.arguments["metric"] or main_metric(collection.cells), most)
    return WRITERS[kind][1](report)


def _files(arguments: argparse.Namespace) -> dict[str, Path]:
    """Format -> the file that is written."""
    kinds = names(arguments.format or "")
    for name in kinds:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    out = arguments.out or (DEFAULT_OUT if kinds or arguments.open else None)
    if out is None:
        return {}
    if out.suffix and not out.is_dir():
        kind = out.suffix[1:]
        if kind not in ENDINGS or (arguments.open and kind != "html"):
            endings = ("html",) if arguments.open else ENDINGS
            raise JRTError(
                f"--out {out}: a file must end in one of {', '.join('.' + name for name in endings)}; "
                "without an ending it is a folder."
            )
        return {kind: out}
    # JSON is always written, since --check reads it
    files = dict.fromkeys([*(kinds or ["md"]), *(["html"] if arguments.open else []), "json"])
    return {kind: out / NAMES[kind] for kind in files}
