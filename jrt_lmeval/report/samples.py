"""The log of answers that lm_eval writes with `--log_samples`: answer by answer, or as columns of numbers."""

from __future__ import annotations

import ast
import gzip
import json
import math
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import numpy as np

from jrt_lmeval.errors import JRTError
from jrt_lmeval.report.fields import FIGURES, QUESTION, document_of

NO_FILTER = "none"
_SPREAD = 0x9E3779B97F4A7C15  # an odd number: multiples of it differ in 64 bits
_NAMES = tuple(FIGURES.items())


@dataclass(frozen=True)
class Sample:
    """One answer.

    Attributes:
        row: what tells the question from others in the log, the same in all logs of one data set.
        document: what the questions on one document share.
        question: what was asked, or an empty text.
        gold: accepted answers; empty where the log keeps none.
        answer: what was generated; None where the log keeps no answers.
        prompt: what the model was given; None where the log keeps none.
        prompt_hash: lm_eval's; empty in old logs.
        scores: metric -> score.
        figures: our names (`fields.FIGURES`) -> number.
        facts: what the task and the model logged of it (`doc.jrt`).
        doc: the row as logged.
    """

    row: int
    document: str
    question: str
    gold: tuple[str, ...]
    answer: str | None
    prompt: str | None
    prompt_hash: str
    scores: Mapping[str, float]
    figures: Mapping[str, float]
    facts: Mapping[str, Any]
    doc: Mapping[str, Any]


def lines(file: Path) -> Iterator[dict[str, Any]]:
    """The lines of a samples log, `.jsonl` or `.jsonl.gz`.

    Raises:
        JRTError: a line that is cut or is no sample; names the file and the line.
    """
    opened = gzip.open if file.suffix == ".gz" else open
    read = 0
    try:
        with opened(file, "rt", encoding="utf-8") as stream:
            for line in stream:
                read += 1
                if line.isspace():
                    continue
                content = json.loads(line)
                if not isinstance(content, dict) or not isinstance(content.get("doc", {}), (dict, str, list)):
                    raise ValueError("not a sample of lm_eval")
                yield content
    except (OSError, EOFError) as error:
        raise JRTError(f"{file}: cut after line {read}, or not readable: {error}.") from None
    except (ValueError, RecursionError) as error:
        raise JRTError(f"{file}, line {read}: cut, or not a sample: {error}.") from None


def row_ids(line: Mapping[str, Any], document: str, seen: Counter[str]) -> tuple[int, bool]:
    """What tells a question from others, and whether it is of the row's content.

    Equal rows are told apart by their order; so are the rows of old logs, which hold no hash, within their document.
    """
    known = line.get("doc_hash")
    name = str(known) if known else f"document {document}"
    order = seen[name]
    seen[name] += 1
    return (number(name) + order * _SPREAD) % 2**64, bool(known)


def number(text: str) -> int:
    """64 bits of a text's hash; of a hash itself, its own first 64 bits."""
    if len(text) == 64:
        try:
            return int(text[:16], 16)
        except ValueError:
            pass
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def figures_of(line: Mapping[str, Any]) -> dict[str, float]:
    """The figures of an answer under our names."""
    doc = line.get("doc")
    facts = doc.get("jrt") if isinstance(doc, dict) else None
    facts = facts if isinstance(facts, dict) else {}
    found = {}
    for ours, theirs in _NAMES:
        for name in theirs:
            value = facts.get(name)
            if value is None:
                value = line.get(name)
            if isinstance(value, (int, float)):
                found[ours] = float(value)
                break
    return found


def scores_of(line: Mapping[str, Any]) -> dict[str, float]:
    """The scores of an answer: what the log calls metrics and is a number, figures aside."""
    names = line.get("metrics")
    if not isinstance(names, list):  # old logs do not say: every number that is no figure
        names = [name for name, value in line.items() if isinstance(value, float)]
    scores = {}
    for name in names:
        value = line.get(name)
        if isinstance(value, (int, float)) and name not in _FIGURE_NAMES and not name.startswith("jrt_"):
            scores[name] = float(value)
    return scores


_FIGURE_NAMES = frozenset(name for theirs in FIGURES.values() for name in theirs)


def gold_of(line: Mapping[str, Any]) -> tuple[str, ...]:
    """The accepted answers; lm_eval logs a list of them as the text that Python shows for it."""
    target = line.get("target")
    if isinstance(target, str) and target[:1] in "[(":
        try:
            target = ast.literal_eval(target)
        except (ValueError, SyntaxError):
            return (str(target),)
    if isinstance(target, (list, tuple)):
        return tuple(map(str, target))
    return () if target is None else (str(target),)


def answer_of(line: Mapping[str, Any]) -> str | None:
    """What was generated, after the filter; None where the log keeps no answers or they are no texts."""
    answer = line.get("filtered_resps")
    while isinstance(answer, list) and answer:
        answer = answer[0]
    return answer if isinstance(answer, str) else None


def prompt_of(line: Mapping[str, Any]) -> str | None:
    """What the model was given; None where the log does not keep it."""
    arguments = line.get("arguments")
    first = arguments.get("gen_args_0") if isinstance(arguments, dict) else None
    prompt = first.get("arg_0") if isinstance(first, dict) else None
    if prompt is None and isinstance(arguments, list) and arguments and isinstance(arguments[0], list):
        prompt = arguments[0][0]
    return prompt if isinstance(prompt, str) else None


def read_samples(file: Path, filter_name: str | None = None) -> Iterator[Sample]:
    """The answers of a log one by one; with several filters those of the one that stands first.

    Raises:
        JRTError: a line that is cut or is no sample; names the file and the line.
    """
    seen: Counter[str] = Counter()
    for line in lines(file):
        name = str(line.get("filter", NO_FILTER))
        filter_name = filter_name or name
        if name != filter_name:
            continue
        doc = line.get("doc")
        document = document_of(doc)
        row, _ = row_ids(line, document or "", seen)
        doc = doc if isinstance(doc, dict) else {"doc": doc}
        figures = figures_of(line)
        facts = doc.get("jrt")
        yield Sample(
            row,
            document if document is not None else f"{row:016x}",
            next((str(doc[name]) for name in QUESTION if isinstance(doc.get(name), str)), ""),
            gold_of(line),
            answer_of(line),
            prompt_of(line),
            str(line.get("prompt_hash") or ""),
            scores_of(line),
            figures,
            facts if isinstance(facts, dict) else {},
            doc,
        )


def content_hash(file: Path) -> str:
    """What lm_eval writes under `task_hashes` for these samples."""
    digest = sha256()
    for line in lines(file):
        digest.update("".join(str(line.get(name, "")) for name in ("doc_hash", "prompt_hash", "target_hash")).encode())
    return digest.hexdigest()


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
