"""The logs as pandas frames, with the names of columns that users of inspect_ai's data frames know."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jrt_lmeval.report.cells import Cell, Collection, number_of
from jrt_lmeval.report.collect import collect
from jrt_lmeval.report.fields import FIGURES
from jrt_lmeval.report.samples import FIGURE_NAMES, number

if TYPE_CHECKING:
    import pandas as pd


def runs_df(*paths: Path | str) -> pd.DataFrame:
    """A row for each model on each task; runs that differ by their seeds alone are one row.

    Args:
        *paths: results files of lm_eval, or folders to search.

    Returns:
        `eval_id` (also in the rows of `samples_df`), `log` (results file), `created`, `model` (the label in reports),
        `kind`, `weights`, `parameters`, `task_name`, `task_version`, `benchmark`, `layout`, `control`, `source`,
        `seeds`, `questions`, `documents`; `score_METRIC`, from 0 to 1 where a metric is a share, with `_stderr`, `_low`
        and `_high` of its 95 % interval, by document if the answers were logged; `metadata_NAME`, the mean of each
        figure of prompt and answer (`report.fields.FIGURES`); every setting as `model_args_NAME` or `task_args_NAME`.

    Raises:
        JRTError: as `collect`.
    """
    return _frame(map(_run, collect(paths).cells))


def samples_df(*paths: Path | str) -> pd.DataFrame:
    """A row for each logged answer, in the order of the logs; arguments and errors as in `runs_df`.

    Returns:
        `eval_id`, `log` (of the answers), `model`, `task_name`, `sample_id` (the same for one question in all logs of a
        data set), `document_id`, `question`, `input` (the prompt), `target` (accepted answers, one a line), `answer`,
        `score_METRIC` and `metadata_NAME`.
    """
    return _frame(row for cell in collect(paths).cells for row in _answers(cell))


def parquet(collection: Collection) -> dict[str, bytes]:
    """Name of a file -> one of the two frames of what a report is about, as a Parquet file."""
    rows = {
        "runs": map(_run, collection.cells),
        "samples": (row for cell in collection.cells for row in _answers(cell)),
    }
    files = {}
    for name, found in rows.items():
        _frame(found).to_parquet(content := BytesIO(), index=False)
        files[f"{name}.parquet"] = content.getvalue()
    return files


def _id(cell: Cell) -> str:
    return f"{number(str(cell.first.key)):016x}"


def _frame(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(list(rows))


def _run(cell: Cell) -> dict[str, Any]:
    first, run = cell.first, cell.first.run
    row: dict[str, Any] = {
        "eval_id": _id(cell),
        "log": str(run.file),
        "created": datetime.fromtimestamp(run.date, timezone.utc) if run.date else None,
        "model": cell.model,
        "kind": run.kind,
        "weights": run.weights,
        "parameters": run.parameters,
        "task_name": cell.task,
        "task_version": str(first.version),
        "benchmark": first.benchmark,
        "layout": cell.layout,
        "control": cell.control,
        "source": first.source,
        "seeds": cell.seeds,
        "questions": first.asked,
        "documents": cell.columns.documents if cell.columns else None,
    }
    for metric in (name for name in first.means if name not in FIGURE_NAMES):
        found = number_of(cell, metric)
        row[f"score_{metric}"] = found.value
        if spread := found.interval:
            row |= {f"score_{metric}_{end}": getattr(spread, end) for end in ("stderr", "low", "high")}
    row |= {f"metadata_{name}": mean for name in FIGURES if not math.isnan(mean := cell.figure(name))}
    # the same setting can be a number in one run and a word in another
    row |= {f"model_args_{name}": str(value) for name, value in sorted({**run.machine, **run.settings}.items())}
    return row | {f"task_args_{name}": str(value) for name, value in sorted(first.settings.items())}


def _answers(cell: Cell) -> Iterator[dict[str, Any]]:
    for result in cell.results:
        for sample in result.samples():
            yield {
                "eval_id": _id(cell),
                "log": str(result.samples_file),
                "model": cell.model,
                "task_name": cell.task,
                "sample_id": f"{sample.row:016x}",
                "document_id": sample.document,
                "question": sample.question,
                "input": sample.prompt,
                "target": "\n".join(sample.gold),
                "answer": sample.answer,
                **{f"score_{name}": value for name, value in sample.scores.items()},
                **{f"metadata_{name}": value for name, value in sample.figures.items()},
            }
