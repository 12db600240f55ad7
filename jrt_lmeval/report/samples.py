"""The log of answers that lm_eval writes with `--log_samples`, read answer by answer or as columns of numbers."""

from __future__ import annotations

import ast
import gzip
import json
import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import numpy as np

from jrt_lmeval.errors import JRTError
from jrt_lmeval.report.fields import FIGURES, document_of, text_of

NO_FILTER = "none"
_SPREAD = 0x9E3779B97F4A7C15  # odd, so that its multiples differ in 64 bits
_FIGURE_NAMES = frozenset(name for names in FIGURES.values() for name in names)


@dataclass(frozen=True)
class Sample:
    """One answer.

    Attributes:
        row: identifies the question; the same in all logs of one data set.
        document: identifies the document, which several questions can share.
        question: what was asked; empty if the log does not say.
        gold: accepted answers; empty if the log does not say.
        answer: what was generated; None if the log keeps no answers.
        prompt: what the model was given; None if the log does not keep it.
        scores: metric -> score.
        figures: our names (`fields.FIGURES`) -> number.
        facts: what the task and the model logged about it (`doc.jrt`).
        doc: the row as logged.
    """

    row: int
    document: str
    question: str
    gold: tuple[str, ...]
    answer: str | None
    prompt: str | None
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
    """A number that identifies the question, and whether it is made of the row's content.

    Equal rows are distinguished by their order. Old logs hold no hash of the row; there the order within the document
    is all that identifies a question.
    """
    known = line.get("doc_hash")
    name = str(known) if known else f"document {document}"
    order = seen[name]
    seen[name] += 1
    return (number(name) + order * _SPREAD) % 2**64, bool(known)


def number(text: str) -> int:
    """64 bits of a text's hash; for a SHA-256 in hexadecimal digits, its own first 64 bits."""
    if len(text) == 64:
        try:
            return int(text[:16], 16)
        except ValueError:
            pass
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def figures_of(line: Mapping[str, Any]) -> dict[str, float]:
    """The figures of an answer under our names; `empty_answer` and `cut_by_length` are 0 or 1."""
    doc = line.get("doc")
    facts = doc.get("jrt") if isinstance(doc, dict) else None
    facts = facts if isinstance(facts, dict) else {}
    found = {}
    for ours, theirs in FIGURES.items():
        for name in theirs:
            value = facts.get(name, line.get(name))
            if isinstance(value, (int, float)):
                found[ours] = float(value)
                break
    if "empty_answer" not in found and (answer := answer_of(line)) is not None:
        found["empty_answer"] = float(not answer.strip())
    if isinstance(ended := facts.get("jrt_ended"), str):
        found["cut_by_length"] = float(ended == "length")
    return found


def scores_of(line: Mapping[str, Any]) -> dict[str, float]:
    """The scores of an answer: the numbers that the log calls metrics, without figures and standard errors."""
    names = line.get("metrics")
    if not isinstance(names, list):  # old logs do not list their metrics: every number that is no figure is one
        names = [name for name, value in line.items() if isinstance(value, float)]
    return {
        name: float(line[name])
        for name in names
        if isinstance(line.get(name), (int, float))
        and name not in _FIGURE_NAMES
        and not name.startswith("jrt_")
        and not name.endswith("_stderr")
    }


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
    """What was generated, after the filter; None if the log keeps no answers or they are no texts."""
    answer = line.get("filtered_resps")
    while isinstance(answer, list) and answer:
        answer = answer[0]
    return answer if isinstance(answer, str) else None


def prompt_of(line: Mapping[str, Any]) -> str | None:
    """What the model was given; None if the log does not keep it."""
    arguments = line.get("arguments")
    first = arguments.get("gen_args_0") if isinstance(arguments, dict) else None
    prompt = first.get("arg_0") if isinstance(first, dict) else None
    if prompt is None and isinstance(arguments, list) and arguments and isinstance(arguments[0], list):
        prompt = arguments[0][0]
    return prompt if isinstance(prompt, str) else None


def read_samples(file: Path) -> Iterator[Sample]:
    """The answers of a log one by one; of several filters, those of the one that comes first.

    Raises:
        JRTError: a line that is cut or is no sample; names the file and the line.
    """
    seen: Counter[str] = Counter()
    wanted = ""
    for line in lines(file):
        name = str(line.get("filter", NO_FILTER))
        wanted = wanted or name
        if name != wanted:
            continue
        document = document_of(line.get("doc"))
        row, _ = row_ids(line, document or "", seen)
        doc = line["doc"] if isinstance(line.get("doc"), dict) else {"doc": line.get("doc")}
        facts = doc.get("jrt")
        yield Sample(
            row,
            document if document is not None else f"{row:016x}",
            text_of(doc, "question"),
            gold_of(line),
            answer_of(line),
            prompt_of(line),
            scores_of(line),
            figures_of(line),
            facts if isinstance(facts, dict) else {},
            doc,
        )


def content_hash(file: Path) -> str:
    """The hash that lm_eval writes under `task_hashes` for these samples."""
    digest = sha256()
    for line in lines(file):
        digest.update("".join(str(line.get(name, "")) for name in ("doc_hash", "prompt_hash", "target_hash")).encode())
    return digest.hexdigest()


# -------------------------------------------------------------------- as columns


@dataclass(frozen=True)
class Columns:
    """All answers of a log as numbers, a few bytes a question; questions that the model skipped are left out.

    Attributes:
        rows: uint64 [N], identifies the question; the same in all logs of one data set.
        prompts: uint64 [N], a hash of the prompt; 0 if the log does not say.
        clusters: uint64 [N], identifies the document.
        scores: metric -> float64 [N], NaN where there is none.
        figures: our names (`fields.FIGURES`) -> float64 [N], NaN where there is none.
        skipped: number of questions that the model did not read (`on_overflow=skip`); they are in no mean.
        by_content: whether `rows` is made of the rows' content; in old logs it is made of their order in a document.
        by_document: whether `clusters` identifies documents; else each question counts as a document of its own.
        has_answers: whether the log keeps the answers and what they were scored against.
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
        """The number of different documents."""
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
        """The mean of each question over several logs; questions that some of the logs lack are left out."""
        if len(parts) == 1:
            return parts[0]
        rows = parts[0].rows
        for part in parts[1:]:
            rows = np.intersect1d(rows, part.rows)
        aligned = [part.taken(np.argsort(part.rows)[np.searchsorted(np.sort(part.rows), rows)]) for part in parts]

        def means(columns: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
            common = [name for name in columns[0] if all(name in other for other in columns)]
            return {name: np.mean([column[name] for column in columns], axis=0) for name in common}

        return replace(
            aligned[0],
            scores=means([part.scores for part in aligned]),
            figures=means([part.figures for part in aligned]),
            skipped=max(part.skipped for part in parts),
            has_answers=all(part.has_answers for part in parts),
        )


class _Growing:
    """Columns that grow by one answer at a time, in 8 bytes a number."""

    def __init__(self) -> None:
        self.ids: list[array[int]] = [array("Q"), array("Q"), array("Q")]
        self.scores: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))
        self.figures: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))

    def add(self, ids: tuple[int, int, int], scores: Mapping[str, float], figures: Mapping[str, float]) -> None:
        count = len(self.ids[0])
        for place, value in zip(self.ids, ids, strict=True):
            place.append(value)
        for columns, values in ((self.scores, scores), (self.figures, figures)):
            for name, found in values.items():
                column = columns[name]
                column.extend([math.nan] * (count - len(column)))
                column.append(found)

    def columns(self, **flags: Any) -> Columns:
        count = len(self.ids[0])

        def whole(columns: Mapping[str, array[float]]) -> dict[str, np.ndarray]:
            for column in columns.values():
                column.extend([math.nan] * (count - len(column)))
            return {name: np.array(column) for name, column in columns.items()}

        rows, prompts, clusters = (np.array(column, dtype=np.uint64) for column in self.ids)
        return Columns(rows, prompts, clusters, whole(self.scores), whole(self.figures), **flags)


def read_columns(file: Path) -> Columns:
    """All answers of a log as columns.

    If a log holds several filters of an answer, all but `none` stand after a comma in the names of the scores.

    Raises:
        JRTError: a line that is cut or is no sample; names the file and the line.
    """
    growing: dict[str, _Growing] = {}
    seen: defaultdict[str, Counter[str]] = defaultdict(Counter)
    documents: dict[str, int] = {}
    skipped = 0
    flags = {"by_content": True, "by_document": True, "has_answers": True}
    for line in lines(file):
        name = str(line.get("filter", NO_FILTER))
        part = growing.setdefault(name, _Growing())
        document = document_of(line.get("doc"))
        row, content = row_ids(line, document or "", seen[name])
        flags["by_content"] &= content
        flags["by_document"] &= document is not None
        flags["has_answers"] &= line.get("filtered_resps") is not None and "target" in line
        figures = figures_of(line)
        if figures.get("skipped"):
            skipped += 1
            continue
        cluster = row if document is None else documents.setdefault(document, number(document))
        prompt = line.get("prompt_hash")
        part.add((row, number(prompt) if prompt else 0, cluster), scores_of(line), figures)
    if not growing:
        raise JRTError(f"{file}: no samples.")
    first, *others = sorted(growing, key=lambda name: name != NO_FILTER)
    base = growing[first].columns(skipped=skipped // len(growing), **flags)
    scores = _named(base.scores, first)
    for name in others:
        columns = growing[name].columns(**flags)
        if not np.array_equal(columns.rows, base.rows):
            raise JRTError(f"{file}: filter {name!r} does not hold the same questions as {first!r}.")
        scores |= _named(columns.scores, name)
    return replace(base, scores=scores)


def _named(scores: Mapping[str, np.ndarray], filter_name: str) -> dict[str, np.ndarray]:
    return {name if filter_name == NO_FILTER else f"{name},{filter_name}": values for name, values in scores.items()}
