"""`jrt-eval report`: tables, files and pictures from the logs of any lm_eval runs; a written report can be checked."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from jrt_lmeval import __version__, scoring
from jrt_lmeval.errors import JRTError, one_of, unknown
from jrt_lmeval.report.cells import Cell, Collection, chosen
from jrt_lmeval.report.collect import collect
from jrt_lmeval.report.page.render import MOST_QUESTIONS, page
from jrt_lmeval.report.recall_2026 import REPORTS
from jrt_lmeval.report.runs import Result
from jrt_lmeval.report.standard import main_metric, pivot, standard_tables
from jrt_lmeval.report.tables import WRITERS, Report, json_text, markdown, save
from jrt_lmeval.stats import EFFECTIVE

DEFAULT_OUT = Path("report")
NAMES = {kind: name for kind, (name, _) in WRITERS.items()} | {
    "html": "report.html",
    "eval_results": "eval_results.yaml",
    "parquet": "runs.parquet",
}
"""Format -> name of the file in the report's folder."""
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
  jrt-eval report out --table recall-2026   six tasks and their mean, then needles by length, as papers print them
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
        "--format", help=f"of the files, by commas: {', '.join(NAMES)} (default: md); without --out, in report/"
    )
    p.add_argument("--open", action="store_true", help="write the HTML page, and show it in the browser")
    p.add_argument(
        "--samples", type=int, default=MOST_QUESTIONS, metavar="N",
        help=f"questions in the HTML page's browser of answers; 0: none (default: {MOST_QUESTIONS:,})",
    )  # fmt: skip
    p.add_argument("--rows", default="", help="pivot: names by commas, such as model,feature_map")
    p.add_argument("--cols", default="", help="pivot: names by commas, such as task or overlap")
    p.add_argument("--metric", default="", help="such as contains, contains_word, f1 (default: contains)")
    p.add_argument("--where", action="append", default=[], metavar="NAME=VALUE", help="only such runs; may be repeated")
    p.add_argument("--table", default="", help=f"other tables than the usual ones: {', '.join(REPORTS)}")
    p.add_argument(
        "--threshold", type=float, default=100 * EFFECTIVE, metavar="PERCENT",
        help="recall that an effective length needs, with --table recall-2026 (default: RULER's %(default)g)",
    )  # fmt: skip
    p.add_argument("--plot", type=Path, help="write the picture of this name, such as recall_swde.pdf")
    p.add_argument("--rescore", action="store_true", help="apply the present scoring to the logged answers")
    p.add_argument("--misses", action="store_true", help="read the misses, however many answers there are")
    p.add_argument("--check", type=Path, metavar="REPORT", help="derive a written report (folder or .json) again")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 1 where `--check` finds a number that the logs do not give."""
    arguments = parser().parse_args(argv)
    if arguments.check:
        return check(arguments.check, arguments.paths)
    if not arguments.paths:
        raise JRTError("name at least one results file or folder, such as: jrt-eval report out")
    files = _files(arguments)
    picture = arguments.plot
    if picture and picture.suffix not in PICTURES:
        raise JRTError(f"--plot {picture}: the ending must be one of {', '.join(PICTURES)}.")
    asked = {name: getattr(arguments, name) for name in ("rows", "cols", "metric", "where", "rescore", "misses")}
    if arguments.table:
        asked |= {"table": one_of("table", arguments.table, REPORTS), "threshold": arguments.threshold}
    asked["paths"] = [str(path.resolve()) for path in arguments.paths]
    collection, report = build(asked)
    for why in collection.broken:
        print(f"skipped: {why}", file=sys.stderr)
    print(markdown(report))
    shown = replace(collection, cells=chosen(collection.cells, arguments.where))
    for kind, file in files.items():
        # relative to the report's folder, so that the report names no folder of the machine
        folder = file.parent.resolve()
        paths = [Path(os.path.relpath(path, folder)).as_posix() for path in asked["paths"]]
        _write(kind, file, replace(report, arguments={**asked, "paths": paths}), shown, arguments.samples)
    if files and (folder := arguments.out or DEFAULT_OUT).is_dir():
        from jrt_lmeval.report.plots.gallery import write_folder

        write_folder(folder, shown, report, arguments.metric, tuple(files.values()))
    if arguments.open:
        webbrowser.open(files["html"].resolve().as_uri())
    if picture:
        from jrt_lmeval.report.plots.gallery import gallery

        drawn, missing = gallery(shown, arguments.metric)
        found = {one.name: one for one in drawn}
        if not found:
            raise JRTError(f"--plot {picture}: no picture can be drawn: {'; '.join(one.why for one in missing)}.")
        if picture.stem not in found:
            raise unknown("picture in --plot", picture.stem, found)
        save(picture, found[picture.stem].saved(picture.suffix[1:]))
        print(f"wrote {picture}", file=sys.stderr)
    return 0


def _files(arguments: argparse.Namespace) -> dict[str, Path]:
    """Format -> the file that is written."""
    kinds = names(arguments.format or "")
    for name in kinds:
        if name not in NAMES:
            raise unknown("format", name, NAMES)
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


def _write(kind: str, file: Path, report: Report, collection: Collection, most: int) -> None:
    """Write a report in one of the formats; `most` questions in the HTML page's browser of answers."""
    if kind == "parquet":
        from jrt_lmeval.report.frames import parquet

        contents = {file.with_name(name): content for name, content in parquet(collection).items()}
    elif kind == "eval_results":
        contents = {file: eval_results(collection.cells).encode("utf-8")}
    elif kind == "html":
        metric = report.arguments["metric"] or main_metric(collection.cells)
        contents = {file: page(report, collection, metric, most).encode("utf-8")}
    else:
        contents = {file: WRITERS[kind][1](report).encode("utf-8")}
    for file, content in contents.items():
        save(file, content)
        print(f"wrote {file}", file=sys.stderr)


# -------------------------------------------------------------------- the tables


def build(asked: dict) -> tuple[Collection, Report]:
    """Collect the logs and make the tables.

    Args:
        asked: what `Report.arguments` holds: `paths`, and as on the command line `rows`, `cols`, `metric`, `where`,
            `rescore`, `misses`, and with `table` also `threshold`.
    """
    collection = collect(asked["paths"])
    changes: tuple[str, ...] = ()
    if asked["rescore"]:
        collection, changes = rescored(collection)
    cells = chosen(collection.cells, asked["where"])
    metric = asked["metric"] or main_metric(cells)
    rows, columns = names(asked["rows"]), names(asked["cols"])
    if "table" in asked:
        tables = REPORTS[asked["table"]](cells, asked["threshold"])
    elif rows or columns:
        tables = [pivot(cells, rows or ["model"], columns, metric)]
    else:
        tables = standard_tables(replace(collection, cells=cells), metric, everything=asked["misses"])
    about = [f"Results files: {collection.files:,}. Results of a model on a task: {len(collection.cells):,}."]
    if collection.common:
        shared = ", ".join(f"{name}={value}" for name, value in sorted(collection.common.items()))
        about.append(f"The same in all runs that have it: {shared}.")
    if collection.copies:
        about.append(f"{collection.copies} results were found more than once and are counted once.")
    if seeds := [cell for cell in collection.cells if cell.seeds > 1]:
        about.append(f"{len(seeds)} results are means over runs that differ by seed.")
    return collection, Report(tuple(tables), (*about, *changes), collection.broken, asked)


def names(text: str) -> list[str]:
    """Names separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


# -------------------------------------------------------------------- the present scoring

SCORES = {
    "contains": scoring.contains,
    "contains_normalised": scoring.contains_normalised,
    "contains_word": scoring.contains_word,
    "exact": scoring.exact,
    "f1": scoring.f1,
}


def rescored(collection: Collection) -> tuple[Collection, tuple[str, ...]]:
    """Every recall result scored again from its logged answers, and sentences on what changed.

    Results whose log keeps no answers cannot be scored again; they are left out and named, so that no table mixes two
    scorings. Results without `contains` are of other tasks and stay as they are.

    Raises:
        JRTError: no result keeps its answers.
    """
    cells: list[Cell] = []
    left: list[str] = []
    changed: list[str] = []
    for cell in collection.cells:
        if cell.mean("contains") is None:
            cells.append(cell)
        elif cell.columns is None or not cell.columns.has_answers:
            left.append(f"{cell.first.run.file}: {cell.task} keeps no answers to score again.")
        else:
            made = replace(cell, results=tuple(map(_rescored, cell.results)))
            cells.append(made)
            for name in SCORES:
                old, new = cell.mean(name), made.mean(name)
                if old is not None and new is not None and not math.isclose(old, new, abs_tol=1e-9):
                    changed.append(f"{cell.model}, {cell.label}: {name} {100 * old:.2f} → {100 * new:.2f}")
    if not any(cell.mean("contains") is not None for cell in cells):
        raise JRTError("--rescore: no log keeps answers and what they were scored against; run with --log_samples.")
    about = (f"Scored again from {len(cells)} logs of answers; {len(changed) or 'nothing'} changed.", *changed)
    return replace(collection, cells=tuple(cells), broken=(*collection.broken, *left)), about


def _rescored(result: Result) -> Result:
    """A result with the present scores in place of the logged ones."""
    columns = result.columns
    assert columns is not None
    values: dict[str, list[float]] = {name: [] for name in SCORES}
    for sample in (sample for sample in result.samples() if not sample.figures.get("skipped")):
        if sample.answer is None or not sample.gold:
            raise JRTError(f"{result.samples_file}: question {sample.question!r} has no answer or no accepted answers.")
        for name, score in SCORES.items():
            values[name].append(float(score(sample.answer, list(sample.gold))))
    scores = {name: np.array(found) for name, found in values.items()}
    means = {**result.means, **{name: float(np.mean(found)) for name, found in values.items()}}
    made = replace(result, means=means, errors={})
    made.__dict__["columns"] = replace(columns, scores={**columns.scores, **scores})  # not read from the log again
    return made


# -------------------------------------------------------------------- a written report, checked

_RELATIVE = 1e-9


def check(report: Path, paths: Sequence[Path] = ()) -> int:
    """Make a report again from the logs that it names, compare every number and print what differs.

    Args:
        report: its folder or its JSON file. Files of other formats beside it are compared with what would be written.
        paths: logs to make it from; by default those that it was made from.

    Returns:
        0 if everything is the same, else 1.

    Raises:
        JRTError: there is no report, or its logs are gone.
    """
    file = report / NAMES["json"] if report.is_dir() else report
    try:
        written = json.loads(file.read_text(encoding="utf-8"))
        before, asked = _entries(written["tables"]), dict(written["arguments"])
        asked["paths"] = [str(path) for path in paths] or [str(file.parent / path) for path in asked["paths"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JRTError(f"{file}: no report of jrt-eval ({type(error).__name__}: {error}).") from None
    made = replace(build(asked)[1], arguments=written["arguments"])
    after = _entries(json.loads(json_text(made))["tables"])
    wrong = [
        f"{place}: written {_told(before, place)}, derived {_told(after, place)}"
        for place in dict.fromkeys([*before, *after])
        if place not in before or place not in after or not _same(before[place], after[place])
    ]
    for kind, (name, writer) in WRITERS.items():
        other = file.with_name(name)
        if kind != "json" and other.is_file():
            lines = zip_longest(other.read_text(encoding="utf-8").splitlines(), writer(made).splitlines())
            differ = ((at, old) for at, (old, new) in enumerate(lines, 1) if old != new)
            wrong += [f"{other}, line {at}: {'nothing' if old is None else old[:160]}" for at, old in islice(differ, 1)]
    for line in wrong:
        print(f"differs: {line}", file=sys.stderr)
    numbers = sum(isinstance(entry, dict) for entry in before.values())
    tables = len(written["tables"])
    print(f"{file}: {numbers} numbers in {tables} tables derived again, {len(wrong) or 'nothing'} different.")
    return int(bool(wrong))


def _entries(tables: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Place of an entry in words -> the entry; titles and notes are entries too."""
    found: dict[str, Any] = {}
    for table in tables:
        for part in ("title", "notes"):
            found[f"table {table['name']}, its {part}"] = table[part]
        for number, row in enumerate(table["rows"], 1):
            words = ", ".join(word for word in row[:2] if isinstance(word, str))
            for column, entry in zip(table["header"], row, strict=True):
                found[f"table {table['name']}, line {number}, {words}, {column}"] = entry
    return found


def _told(entries: Mapping[str, Any], place: str) -> Any:
    entry = entries.get(place, "nothing")
    return entry["value"] if isinstance(entry, dict) else repr(entry)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, float) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=_RELATIVE, abs_tol=_RELATIVE)
    return bool(one == other)


# -------------------------------------------------------------------- for a model's page on the hub

METRIC = "contains"


def eval_results(cells: Sequence[Cell]) -> str:
    """A YAML file for a model repository's `.eval_results/`, written by huggingface_hub's own code.

    There is a list for each model. Samples, parts of a task, controls and benchmarks without a data set on the hub are
    left out, and a comment counts them.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    from jrt_lmeval.prompts.benchmarks import BENCHMARKS

    by_model: dict[str, list[Any]] = {}
    for cell in cells:
        recipe = BENCHMARKS.get(str(cell.first.block.get("recipe")))
        if cell.first.marks or cell.mean(METRIC) is None or recipe is None or "/" not in recipe.dataset:
            continue
        found, first = cell.interval(METRIC), cell.first
        spread = f", 95 % interval {100 * found.low:.1f} to {100 * found.high:.1f}" if found else ""
        documents = f" on {found.clusters} documents" if found and found.clusters else ""
        day = first.run.date and datetime.fromtimestamp(first.run.date, tz=timezone.utc)
        entry = EvalResultEntry(
            dataset_id=str(recipe.dataset),
            task_id=first.task,
            value=round(100 * (cell.mean(METRIC) or 0.0), 2),
            date=day.strftime("%Y-%m-%dT%H:%M:%SZ") if day else None,
            notes=f"{METRIC}, %; {first.asked} questions{documents}{spread}; jrt-lmeval {__version__}; {cell.label}",
        )
        by_model.setdefault(cell.model, []).append(entry)
    parts = [
        f"# {model}\n{yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True)}"
        for model, entries in by_model.items()
    ]
    left = len(cells) - sum(map(len, by_model.values()))
    if left:
        parts.append(f"# {left} results left out: samples, parts of a task, controls, or no data set on the hub.\n")
    return "\n".join(parts)
