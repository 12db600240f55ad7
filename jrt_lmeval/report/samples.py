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
from functools import cached_property
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import numpy as np

from jrt_lmeval.errors import JRTError
from jrt_lmeval.report.fields import DOCUMENT, FIGURES, QUESTION

NO_FILTER = "none"
_SPREAD = 0x9E3779B97F4A7C15  # odd, so that its multiples differ in 64 bits
FIGURE_NAMES = frozenset(FIGURES.values())


@dataclass(frozen=True)
class Sample:
    """One answer of a log, whose parts are read from its line when they are asked for.

    Attributes:
        line: as logged.
        row: identifies the question; the same in all logs of one data set.
    """

    line: Mapping[str, Any]
    row: int = 0

    @property
    def filter(self) -> str:
        return str(self.line.get("filter", NO_FILTER))

    @cached_property
    def doc(self) -> Mapping[str, Any]:
        """The row as logged."""
        doc = self.line.get("doc")
        return doc if isinstance(doc, dict) else {"doc": doc}

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """What the task and the model logged about the answer (`doc.jrt`)."""
        facts = self.doc.get("jrt")
        return facts if isinstance(facts, dict) else {}

    @cached_property
    def document_id(self) -> str | None:
        """What the questions on one document share: its id, as the task logged it or as the row has it, or its text.

        None where a row names no document; each such question then counts as a document of its own.
        """
        known = (self.facts.get("doc_id"), self.doc.get("doc_id"))
        return next((str(name) for name in known if name is not None), self.text or None)

    @property
    def document(self) -> str:
        """Identifies the document, which several questions can share."""
        return f"{self.row:016x}" if self.document_id is None else self.document_id

    @property
    def text(self) -> str:
        """The row's document; empty if the log does not hold it."""
        return self._text_of("document", DOCUMENT)

    @property
    def question(self) -> str:
        """What was asked; empty if the log does not say."""
        return self._text_of("question", QUESTION)

    def _text_of(self, name: str, usual: Sequence[str]) -> str:
        """A text of the row: as our task logs it, else from a field with a usual name."""
        named = self.doc.get(str(self.facts.get(f"{name}_field")))
        found = [self.facts.get(name), named, *(self.doc.get(field) for field in usual)]
        return next((text for text in found if isinstance(text, str) and text), "")

    @property
    def gold(self) -> tuple[str, ...]:
        """The accepted answers, of which lm_eval logs a list as Python prints it; empty if the log does not say."""
        target = self.line.get("target")
        if isinstance(target, str) and target[:1] in "[(":
            try:
                target = ast.literal_eval(target)
            except (ValueError, SyntaxError):
                return (str(target),)
        if isinstance(target, (list, tuple)):
            return tuple(map(str, target))
        return () if target is None else (str(target),)

    @property
    def answer(self) -> str | None:
        """What was generated, after the filter; None if the log keeps no answers or they are no texts."""
        answer = self.line.get("filtered_resps")
        while isinstance(answer, list) and answer:
            answer = answer[0]
        return answer if isinstance(answer, str) else None

    @property
    def prompt(self) -> str | None:
        """What the model was given; None if the log does not keep it."""
        arguments = self.line.get("arguments")
        first = arguments.get("gen_args_0") if isinstance(arguments, dict) else None
        prompt = first.get("arg_0") if isinstance(first, dict) else None
        if prompt is None and isinstance(arguments, list) and arguments and isinstance(arguments[0], list):
            prompt = arguments[0][0]
        return prompt if isinstance(prompt, str) else None

    @property
    def scores(self) -> dict[str, float]:
        """Metric -> score: the numbers that the log calls metrics, without figures and standard errors."""
        names = self.line.get("metrics")
        if not isinstance(names, list):  # old logs do not list their metrics: every number that is no figure is one
            names = [name for name, value in self.line.items() if isinstance(value, float)]
        return {
            name: float(self.line[name])
            for name in names
            if isinstance(self.line.get(name), (int, float))
            and name not in FIGURE_NAMES
            and not name.startswith("jrt_")
            and not name.endswith("_stderr")
        }

    @cached_property
    def figures(self) -> dict[str, float]:
        """Our names (`fields.FIGURES`) -> number; `empty_answer` and `cut_by_length` are 0 or 1."""
        facts, found = self.facts, {}
        for ours, name in FIGURES.items():
            if isinstance(value := facts.get(name, self.line.get(name)), (int, float)):
                found[ours] = float(value)
        if "empty_answer" not in found and self.answer is not None:
            found["empty_answer"] = float(not self.answer.strip())
        if isinstance(ended := facts.get("jrt_ended"), str):
            found["cut_by_length"] = float(ended == "length")
        return found


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


def _every_sample(file: Path) -> Iterator[Sample]:
    """The answers of a log after each filter.

    A row is known by the hash of its content, and equal rows by their order. Old logs hold no hash; there the order
    within the document is all that identifies a question.
    """
    seen: Counter[tuple[str, str]] = Counter()
    for line in lines(file):
        name = line.get("doc_hash") or f"document {Sample(line).document_id or ''}"
        place = str(line.get("filter")), str(name)
        yield Sample(line, (number(place[1]) + seen[place] * _SPREAD) % 2**64)
        seen[place] += 1


def number(text: str) -> int:
    """64 bits of a text's hash; for a SHA-256 in hexadecimal digits, its own first 64 bits."""
    if len(text) == 64:
        try:
            return int(text[:16], 16)
        except ValueError:
            pass
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def read_samples(file: Path) -> Iterator[Sample]:
    """The answers of a log one by one; of several filters, those of the one that comes first.

    Raises:
        JRTError: a line that is cut or is no sample; names the file and the line.
    """
    wanted = ""
    for sample in _every_sample(file):
        wanted = wanted or sample.filter
        if sample.filter == wanted:
            yield sample


def content_hash(file: Path) -> str:
    """The hash that lm_eval writes under `task_hashes` for these samples; empty if the log cannot be read."""
    digest, names = sha256(), ("doc_hash", "prompt_hash", "target_hash")
    try:
        for line in lines(file):
            digest.update("".join(str(line.get(name, "")) for name in names).encode())
    except JRTError:
        return ""
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
        by_document: whether `clusters` identifies documents; else each question counts as a document of its own.
        has_answers: whether the log keeps the answers and what they were scored against.
    """

    rows: np.ndarray
    prompts: np.ndarray
    clusters: np.ndarray
    scores: Mapping[str, np.ndarray]
    figures: Mapping[str, np.ndarray]
    skipped: int = 0
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


def read_columns(file: Path) -> Columns:
    """All answers of a log as columns, which grow by 8 bytes a number while the log is read.

    If a log holds several filters of an answer, all but `none` stand after a comma in the names of the scores.

    Raises:
        JRTError: a line that is cut or is no sample; names the file and the line.
    """
    ids: defaultdict[str, array[int]] = defaultdict(lambda: array("Q"))
    numbers: defaultdict[tuple[str, bool, str], array[float]] = defaultdict(lambda: array("d"))
    flags = {"by_document": True, "has_answers": True}
    skipped = 0
    for sample in _every_sample(file):
        line, document, known = sample.line, sample.document_id, ids[sample.filter]
        flags["by_document"] &= document is not None
        flags["has_answers"] &= line.get("filtered_resps") is not None and "target" in line
        if sample.figures.get("skipped"):
            skipped += 1
            continue
        count, prompt = len(known) // 3, line.get("prompt_hash")
        known.extend(
            (sample.row, number(prompt) if prompt else 0, sample.row if document is None else number(document))
        )
        for is_score, values in ((True, sample.scores), (False, sample.figures)):
            for name, value in values.items():
                column = numbers[sample.filter, is_score, name]
                column.extend([math.nan] * (count - len(column)))
                column.append(value)
    if not ids:
        raise JRTError(f"{file}: no samples.")
    first, *others = sorted(ids, key=lambda name: name != NO_FILTER)
    rows, prompts, clusters = np.array(ids[first], dtype=np.uint64).reshape(-1, 3).T
    for other in others:
        if not np.array_equal(np.array(ids[other], dtype=np.uint64)[::3], rows):
            raise JRTError(f"{file}: filter {other!r} does not hold the same questions as {first!r}.")
    scores: dict[str, np.ndarray] = {}
    figures: dict[str, np.ndarray] = {}
    for (filter_name, is_score, name), column in numbers.items():
        found = np.concatenate([np.array(column), np.full(len(rows) - len(column), math.nan)])
        if is_score:
            scores[name if filter_name == NO_FILTER else f"{name},{filter_name}"] = found
        elif filter_name == first:
            figures[name] = found
    return Columns(rows, prompts, clusters, scores, figures, skipped // len(ids), **flags)
