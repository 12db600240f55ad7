"""A log of answers as columns of numbers, a few bytes a question, however long the log is."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from jrt_lmeval.errors import JRTError
from jrt_lmeval.report.fields import document_of
from jrt_lmeval.report.samples import NO_FILTER, figures_of, lines, number, row_ids, scores_of


@dataclass(frozen=True)
class Columns:
    """All answers of a log as numbers; skipped questions are left out.

    Attributes:
        rows: uint64 [N], what tells questions apart, the same in all logs of one data set.
        prompts: uint64 [N], a hash of what was asked; 0 where the log does not say.
        clusters: uint64 [N], the document.
        scores: metric -> float64 [N], NaN where there is none.
        figures: our names (`fields.FIGURES`) -> float64 [N], NaN where there is none.
        skipped: questions that the model did not read (`on_overflow=skip`); they are in no mean.
        by_content: whether `rows` is of the rows' content; in old logs it is of their order within a document.
        by_document: whether `clusters` is of documents; else each question stands alone.
        has_answers: whether the log keeps answers and what they were scored against.
    """

    rows: np.ndarray
    prompts: np.ndarray
    clusters: np.ndarray
    scores: Mapping[str, np.ndarray]
    figures: Mapping[str, np.ndarray]
    skipped: int = 0
    by_content: bool = True
    by_document: bool = True
    has_answers: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def documents(self) -> int:
        """How many different documents there are."""
        return len(np.unique(self.clusters))

    def taken(self, at: np.ndarray) -> Columns:
        """The answers at these places, or where the mask is true."""
        return replace(
            self,
            rows=self.rows[at],
            prompts=self.prompts[at],
            clusters=self.clusters[at],
            scores={name: values[at] for name, values in self.scores.items()},
            figures={name: values[at] for name, values in self.figures.items()},
        )

    @staticmethod
    def averaged(parts: Sequence[Columns]) -> Columns:
        """The mean of each question over several logs of it; questions that not all of them hold are left out."""
        if len(parts) == 1:
            return parts[0]
        rows = parts[0].rows
        for part in parts[1:]:
            rows = np.intersect1d(rows, part.rows)
        aligned = [part.taken(np.argsort(part.rows)[np.searchsorted(np.sort(part.rows), rows)]) for part in parts]
        first = aligned[0]

        def means(name: str) -> dict[str, np.ndarray]:
            columns: list[Mapping[str, np.ndarray]] = [getattr(part, name) for part in aligned]
            common = [key for key in columns[0] if all(key in other for other in columns)]
            return {key: np.mean([column[key] for column in columns], axis=0) for key in common}

        skipped = max(part.skipped for part in parts)
        flags = (first.by_content, first.by_document, all(part.has_answers for part in parts))
        return Columns(rows, first.prompts, first.clusters, means("scores"), means("figures"), skipped, *flags)


@dataclass
class _Growing:
    rows: array = field(default_factory=lambda: array("Q"))
    prompts: array = field(default_factory=lambda: array("Q"))
    clusters: array = field(default_factory=lambda: array("Q"))
    scores: dict[str, array] = field(default_factory=dict)
    figures: dict[str, array] = field(default_factory=dict)

    def add(
        self, row: int, prompt: int, cluster: int, scores: Mapping[str, float], figures: Mapping[str, float]
    ) -> None:
        count = len(self.rows)
        self.rows.append(row)
        self.prompts.append(prompt)
        self.clusters.append(cluster)
        for columns, values in ((self.scores, scores), (self.figures, figures)):
            for name, value in values.items():
                column = columns.get(name)
                if column is None:
                    column = columns[name] = array("d")
                if len(column) < count:
                    column.extend([math.nan] * (count - len(column)))
                column.append(value)

    def columns(self, **flags: Any) -> Columns:
        def whole(column: array) -> np.ndarray:
            column.extend([math.nan] * (len(self.rows) - len(column)))
            return np.frombuffer(column, dtype=np.float64) if len(column) else np.empty(0)

        def ids(column: array) -> np.ndarray:
            return np.frombuffer(column, dtype=np.uint64) if len(column) else np.empty(0, dtype=np.uint64)

        scores = {name: whole(column) for name, column in self.scores.items()}
        figures = {name: whole(column) for name, column in self.figures.items()}
        return Columns(ids(self.rows), ids(self.prompts), ids(self.clusters), scores, figures, **flags)


def read_columns(file: Path) -> Columns:
    """All answers of a log as columns.

    Where a log holds several filters of an answer, those but `none` stand behind a comma in the names of scores.

    Raises:
        JRTError: a line that is cut or is no sample; names the file and the line.
    """
    growing: dict[str, _Growing] = {}
    seen: dict[str, Counter[str]] = {}
    documents: dict[str, int] = {}
    skipped = 0
    by_content = by_document = has_answers = True
    for line in lines(file):
        name = str(line.get("filter", NO_FILTER))
        part = growing.setdefault(name, _Growing())
        document = document_of(line.get("doc"))
        row, content = row_ids(line, document or "", seen.setdefault(name, Counter()))
        by_content &= content
        by_document &= document is not None
        has_answers &= line.get("filtered_resps") is not None and "target" in line
        figures = figures_of(line)
        if figures.get("skipped"):
            skipped += 1
            continue
        cluster = row if document is None else documents.setdefault(document, number(document))
        prompt = line.get("prompt_hash")
        scores = scores_of(line)
        part.add(row, number(prompt) if prompt else 0, cluster, scores, figures)
    if not growing:
        raise JRTError(f"{file}: no samples.")
    flags: dict[str, Any] = {"by_content": by_content, "by_document": by_document, "has_answers": has_answers}
    first, *others = sorted(growing, key=lambda name: name != NO_FILTER)
    base = growing[first].columns(skipped=skipped // len(growing), **flags)
    named = _named(base.scores, first)
    for name in others:
        columns = growing[name].columns(**flags)
        if not np.array_equal(columns.rows, base.rows):
            raise JRTError(f"{file}: filter {name!r} does not hold the same questions as {first!r}.")
        named |= _named(columns.scores, name)
    return replace(base, scores=named)


def _named(scores: Mapping[str, np.ndarray], filter_name: str) -> dict[str, np.ndarray]:
    return {name if filter_name == NO_FILTER else f"{name},{filter_name}": values for name, values in scores.items()}
