"""`RecallTask`: a YAML file with `class: !function jrt_lmeval.task.RecallTask` becomes an lm_eval task."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_eval.api import task as lm_eval_task
from lm_eval.api.metrics import mean

from jrt_lmeval import __version__
from jrt_lmeval.data.sources import Loaded, load_files, load_rows, resolved
from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.prompts.benchmarks import benchmark_of
from jrt_lmeval.prompts.prompt import Prompt, cut_left, placed
from jrt_lmeval.task.base import LoggedRow, Rows, RowsTask, SplitRow, ranks, source_row
from jrt_lmeval.task.log import absent, answer_places, in_our_names, position, sentence, summed
from jrt_lmeval.task.prompter import Prompter, keep
from jrt_lmeval.task.reader import TEMPLATE_KEYS, reader_of
from jrt_lmeval.task.rules import RULES, Rules
from jrt_lmeval.task.scores import (
    CUT_CHARACTERS,
    SCORES,
    Scored,
    aggregations,
    found,
    mean_of_read,
    name_of,
    named_scores,
    scored,
)
from jrt_lmeval.task.settings import completed, merged, settings, taken_out

log = logging.getLogger("lm_eval.jrt")

# lm_eval 0.5 has a class for each kind of request.
GenerateTask: Any = getattr(lm_eval_task, "GenerateTask", lm_eval_task.ConfigurableTask)

_LINE_FILES = ("json", "jsonl")
_FILES = (*_LINE_FILES, "csv")
# Controls in which the document of the prompt is the row's: only there a rule can guess from it.
_READING = ("none", "counterfactual")


class RecallTask(RowsTask, GenerateTask):
    """A recall benchmark: rows with a document, a question on it and accepted answers.

    Its YAML holds lm_eval's own keys and
        jrt: layout, window, recipe, source and control (`block.Settings`); `--metadata '{"jrt": {...}}'` is laid
            over it;
        jrt_common: the same, laid under it: lm_eval's `include` replaces a `jrt` block as a whole;
        document, question, lead, joiner: templates (`templates.TemplateReader`), for a task without a recipe.

    The prompt of a request is a `prompts.Prompt`, so that a model can see where the document stands. The block as
    used, with the source of the rows and what was dropped or cut, is in the results under `config.metadata.jrt`; what
    is to be known of a single prompt is in the samples log under `doc.jrt`.
    """

    knows_its_file = True
    """Whether `jrt_file`, the path of its YAML file, is put into the configuration."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        given = dict(config or {})
        self._label = str(given.get("task", "?"))
        metadata = dict(given.get("metadata") or {})
        try:
            own = taken_out(given)
            block = merged(own.get("jrt_common"), own.get("jrt"), metadata.get("jrt"))
            self.jrt = settings(block, metadata)
            templates = {key: own[key] for key in TEMPLATE_KEYS if key in own}
            self._reader = reader_of(self.jrt.recipe, templates, given)
            lead_once = "layout: lead_once" if self.jrt.layout.layout == "lead_once" else ""
            if (asks := "lead: True" if block.get("lead") else lead_once) and not self._reader.has_lead:
                raise JRTError(f"{asks} has no effect: it needs the key 'lead', a template of the text to put there.")
            self._scores = named_scores(given.get("metric_list"), callable(given.get("process_results")))
            complete = completed(given, self._scores)
        except JRTError as error:
            raise JRTError(f"task {self._label}: {error}") from None
        # lm_eval says "inline" of a file whose path it was given on the command line.
        file = metadata.get("config_source") if metadata.get("config_source") != "inline" else own.get("jrt_file")
        self._folder = Path(file).parent if file else None
        self._before: dict[tuple[str, int], int] = {}
        self._rules: dict[str, Rules] = {}
        self._counted: dict[str, int] = {}
        self._source = ""
        if self.jrt.recipe is not None:
            complete.setdefault("dataset_path", benchmark_of(self.jrt.recipe).dataset)
        super().__init__(config=complete | {"metadata": metadata})
        self._describe()

    def _describe(self) -> None:
        """Put into the results what was done, and into the table what must not be missed."""
        block = {**self.jrt.as_dict(), "source": self._source}
        block["hash"] = self._hash(block)
        self.config.metadata["jrt"] = {**block, "rows": self._counted}
        marks = ["sample"] if self._source == "sample" else []
        marks += [self.jrt.control] if self.jrt.control != "none" else []
        if marks:
            self.config.task_alias = " ".join([self.config.task_alias or self._label, *(f"[{mark}]" for mark in marks)])

    def _hash(self, block: dict[str, Any]) -> str:
        """What the prompts of this task depend on, in 16 hexadecimal digits: block, templates, rows, our version."""
        rows = {split: list(rows) for split, rows in self.dataset.items()}
        what = json.dumps([__version__, block, self._reader.templates, rows], sort_keys=True, default=str)
        return hashlib.sha256(what.encode()).hexdigest()[:16]

    # ---------------------------------------------------------------- rows

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Load the splits that the YAML names, check every row, and leave out what the window drops."""
        config = self.config
        evaluated = config.test_split or config.validation_split
        if not evaluated:
            raise JRTError(f"task {self._label}: name the split to evaluate, such as 'test_split: test'.")
        splits = {config.training_split, config.validation_split, config.test_split, config.fewshot_split}
        dataset = {}
        for split in sorted(splits - {None}):
            try:
                loaded = self._load(split, dict(dataset_kwargs or {}))
                kept, counted = keep(loaded, self._reader, self.jrt)
            except JRTError as error:
                raise JRTError(f"task {self._label}: {error}") from None
            dataset[split] = Rows(kept, split)
            if split == evaluated:
                self._source, self._counted = loaded.source, counted
        self.dataset = dataset
        self._prompter = Prompter(dataset, self._reader, self.jrt)
        # It was applied to all splits; lm_eval would apply it again, to rows that bear their numbers.
        config.process_docs = None

    def _load(self, split: str, dataset_kwargs: dict[str, Any]) -> Loaded:
        files, path = dataset_kwargs.get("data_files"), self.config.dataset_path
        if path is None and self.config.custom_dataset is None:
            raise JRTError("'dataset_path' is missing: 'json' with 'dataset_kwargs', or a data set such as owner/name.")
        if path in _FILES:
            self._check_files(path, dataset_kwargs)
            # Not by the library datasets, which makes numbers of a CSV file's "007".
            delimiter = dataset_kwargs.get("sep") or dataset_kwargs.get("delimiter") or ","
            loaded = load_files(files, split, self._folder, None if path in _LINE_FILES else delimiter)
        elif self.config.custom_dataset is not None or files is not None:
            if files is not None:
                dataset_kwargs["data_files"] = resolved(files, self._folder)
            super().download(dataset_kwargs)
            loaded = Loaded(tuple(map(dict, self.dataset[split])), "files" if files else "custom", self._label)
        else:
            loaded = load_rows(path, split, self.jrt.source, self.config.dataset_name)
        if self.config.process_docs is None:
            return loaded
        import datasets

        processed = self.config.process_docs(datasets.Dataset.from_list(list(loaded.rows)))
        return Loaded(tuple(map(dict, processed)), loaded.source, f"{loaded.origin} after process_docs")

    def _check_files(self, kind: str, kwargs: dict[str, Any]) -> None:
        """Raise for files that are not named, and for settings that have no effect where rows are in files."""
        if kwargs.get("data_files") is None:
            raise JRTError("'dataset_kwargs' is missing: {data_files: {test: rows.jsonl}}, beside the YAML file.")
        known = ("data_files", "sep", "delimiter") if kind == "csv" else ("data_files",)
        for key in kwargs:
            if key not in known:
                raise unknown(f"key of dataset_kwargs for {kind} files", key, known)
        for key in known[1:]:
            if not isinstance(kwargs.get(key, ","), str) or len(kwargs.get(key, ",")) != 1:
                raise JRTError(f"dataset_kwargs {key} must be one character, not {kwargs[key]!r}.")
        if self.jrt.source != "auto":
            raise JRTError(f"source: {self.jrt.source} has no effect: dataset_kwargs names the files to read.")

    # ---------------------------------------------------------------- prompts

    def doc_to_text(self, doc: dict[str, Any], doc_to_text: Any = None) -> Prompt:
        """The prompt of a row; made once."""
        row = source_row(doc)
        if not isinstance(row, SplitRow):
            raise JRTError(
                f"task {self._label}: prompts are made of this task's own rows, and not of {str(row)[:60]}..."
            )
        try:
            return self._prompter.prompt(row)
        except JRTError as error:
            name = f" (doc_id {row['doc_id']!r})" if "doc_id" in row else ""
            raise JRTError(f"task {self._label}{name}: {error}") from None

    def doc_to_target(self, doc: dict[str, Any], doc_to_target: Any = None) -> list[str]:
        """The accepted answers."""
        return self._reader.labels(doc)

    def processes(self, rows: Sequence[SplitRow], world_size: int) -> list[int]:
        """All questions on a document are asked by one process, which reads it once."""
        documents = [self._reader.document_id(row) for row in rows]
        return ranks(documents, [len(self._reader.document(row)) for row in rows], world_size)

    def shown(self, row: SplitRow) -> LoggedRow:
        """The row with the field `jrt`, which `process_results` fills."""
        return LoggedRow(row)

    @property
    def rows_read(self) -> int:
        """How many rows the evaluated split has, those included that are dropped."""
        return self._counted["read"]

    @property
    def prompt_hash(self) -> str:
        """Of the block, the templates and all rows."""
        return self.config.metadata["jrt"]["hash"]

    def construct_requests(self, doc: dict[str, Any], ctx: Any, **kwargs: Any) -> Any:
        """As lm_eval, with the row itself: its hash in the log then is the same for all layouts and windows."""
        return super().construct_requests(source_row(doc), ctx, **kwargs)

    def fewshot_context(self, doc: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """What is sent: the prompt with what lm_eval puts around it, knowing where the document stands in all of it."""
        context = super().fewshot_context(doc, *args, **kwargs)
        return placed(self.doc_to_text(doc), context) if isinstance(context, str) else context

    def build_all_requests(self, **kwargs: Any) -> Any:
        """As lm_eval, and count over all rows that are asked what the window and the layout did."""
        built = super().build_all_requests(**kwargs)
        for instance in self._instances:
            row, sent = source_row(instance.doc), instance.args[0]
            if isinstance(sent, Prompt) and isinstance(row, SplitRow):
                self._before[row.split, row.number] = sent.document_start - self.doc_to_text(row).document_start
        if kwargs.get("rank", 0) == 0:
            # All rows, also those that other processes ask: the counts are those of the whole run.
            self._count([row for _, row in self.doc_iterator(limit=kwargs.get("limit"), samples=kwargs.get("samples"))])
        return built

    def _count(self, rows: Sequence[dict[str, Any]]) -> None:
        self._counted.update(summed(map(self.doc_to_text, rows)))
        log.info("%s: %d rows (%s), %s.", self._label, self._counted["read"], self._source, sentence(self._counted))
        if missing := self._counted.get("levels_missing"):
            log.warning(
                "%s: in %d of %d prompts a level of the hierarchy is missing: a budget of %g documents has no "
                "room for its shortest segment. Raise jrt.budget, or name fewer jrt.levels.",
                *(self._label, missing, self._counted["asked"], self.jrt.layout.budget),
            )
        nowhere = [(self._reader.labels(row), self._reader.document(row)) for row in rows]
        if causes := absent(nowhere):
            self._counted["answer_nowhere"] = sum(causes.values())
            reasons = "; ".join(f"{count} {cause}" for cause, count in causes.items())
            log.warning(
                "%s: in %d of %d rows no accepted answer stands in the whole document: %s.",
                *(self._label, self._counted["answer_nowhere"], len(rows), reasons),
            )

    # ---------------------------------------------------------------- scores

    def process_results(self, doc: dict[str, Any], results: list[Any]) -> dict[str, Any]:
        """Scores of an answer.

        Everything else that is known of prompt and answer, with what the model says it cost (`answer.stats`), goes into
        the samples log, as `doc["jrt"]`.
        """
        answer = results[0][0] if isinstance(results[0], list) else results[0]
        labels, prompt, stats = self.doc_to_target(doc), self.doc_to_text(doc), getattr(answer, "stats", {})
        row = source_row(doc)
        if isinstance(row, SplitRow) and CUT_CHARACTERS in stats:
            # of what was sent; few-shot examples and the like stand before our prompt
            before = self._before.get((row.split, row.number), 0)
            prompt = cut_left(prompt, max(0, int(stats[CUT_CHARACTERS]) - before))
        facts = self._facts(row, prompt, labels) if isinstance(row, SplitRow) else {}
        facts |= {"jrt_empty_answer": int(not str(answer).strip())} | stats
        if isinstance(doc, LoggedRow):
            doc["jrt"] = facts
        if self.predicts_only():
            return {"bypass": 0}
        values = scored(answer, labels, self._scores, facts)
        if callable(self.config.process_results):
            values.update(self.config.process_results(doc, results))
        return values

    def _facts(self, row: SplitRow, prompt: Prompt, labels: list[str]) -> dict[str, Any]:
        window = self.jrt.window
        return {
            "doc_id": self._reader.document_id(row),
            **in_our_names(row, self._reader.document(row), self._reader.question(row)),
            "answers": labels,
            "window": window.policy if window.cuts else "none",
            **{name: count for name, count in prompt.counters.items() if name != "dropped"},
            **answer_places(prompt, labels),
            "answer_position": position(prompt.document, labels),
            **self._guesses(row, prompt),
        }

    def _guesses(self, row: SplitRow, prompt: Prompt) -> dict[str, int]:
        if self.jrt.control not in _READING:
            return {}
        if row.split not in self._rules:
            self._rules[row.split] = Rules(self.dataset[row.split], self._reader)
        return self._rules[row.split].scores(row, prompt)

    def aggregation(self) -> dict[str, Any]:
        """Means with errors by document; of the first score's values, also what was found beside the scores."""
        made = aggregations(self._scores)
        first = next(iter(self._scores))
        made[first] = self._described_mean
        return defaultdict(lambda: mean, getattr(self, "_aggregation_list", {}) | made)

    def _described_mean(self, scores: Sequence[Scored]) -> float:
        # The only call in which lm_eval has the answers of all processes at hand.
        self.config.metadata["jrt_found"] = what = found(scores, tuple(RULES))
        if guessed := what["without_a_model"]:
            shares = ", ".join(f"{name} {100 * value['contains']:.1f} %" for name, value in guessed.items())
            log.info("%s: without a model %s (what is guessed: docs/add-a-task.md).", self._label, shares)
        marks = [f"[{what[name]} {name}]" for name in ("skipped", "truncated") if name in what]
        if marks:
            self.config.task_alias = " ".join([self.config.task_alias or self._label, *marks])
        return mean_of_read(scores)

    # ---------------------------------------------------------------- lm_eval 0.5

    def _build_scorers(self) -> list[Any]:
        """As lm_eval 0.5, which looks metrics up by name, without our scores: `process_results` computes those.

        Its registry has an `f1` of its own for another kind of task, and refuses ours. 0.4 does not call this.
        """
        for scorer in self.config.filter_list:
            scorer["metric_list"] = [entry for entry in scorer["metric_list"] if name_of(entry) not in SCORES]
        return super()._build_scorers()

    def aggregate(self, bootstrap_iters: int | None = None) -> tuple[dict[str, Any], int]:
        """As lm_eval 0.5, without its bootstrap: our errors are by document, and are metrics of their own."""
        return super().aggregate(None)

    def higher_is_better(self) -> dict[str, bool]:
        """Of all metrics, ours included."""
        return {**super().higher_is_better(), **dict.fromkeys(self._scores, True)}
