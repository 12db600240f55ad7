"""`PerplexityTask` measures how well a model predicts whole texts, token by token."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from lm_eval.api import task as lm_eval_task
from lm_eval.api.metrics import weighted_perplexity

from jrt_lmeval.data.sources import SOURCES, load_rows
from jrt_lmeval.errors import JRTError, one_of, unknown
from jrt_lmeval.task.base import Rows, RowsTask

log = logging.getLogger("lm_eval.jrt")

# lm_eval 0.5 has a class for each kind of request.
RollingTask: Any = getattr(lm_eval_task, "LoglikelihoodRollingTask", lm_eval_task.ConfigurableTask)

BLOCK_KEYS = ("dataset_path", "dataset_name", "split", "field", "source")
"""The keys of `--metadata '{"ppl": {...}}'`, which names another text than the YAML file does."""


class PerplexityTask(RowsTask, RollingTask):
    """The rolling log-likelihood of whole texts: each token is scored once, with as much context as the model reads.

    The YAML file names `dataset_path`, `test_split` and `doc_to_target`, the field with the text. Words and bytes are
    counted as lm_eval counts them. `token_perplexity` is per token of the model's own tokenizer. It is reported only
    for models that say how many tokens they scored (`value.stats["jrt_scored_tokens"]`), as ours do.
    """

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        given = deepcopy(dict(config or {}))
        given.pop("class", None)
        metadata = dict(given.get("metadata") or {})
        label = given.get("task", "?")
        try:
            self._source = _laid_over(given, metadata.get("ppl"))
        except JRTError as error:
            raise JRTError(f"task {label}: {error}") from None
        given |= {"output_type": "loglikelihood_rolling", "doc_to_text": "", "num_fewshot": 0, "metadata": metadata}
        super().__init__(config=given)

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Load the texts.

        Raises:
            JRTError: there are no such rows, or the field of a row is missing or is not a text. The message names the
                file, the row and the field.
        """
        config, label, field = self.config, self.config.task, self.config.doc_to_target
        try:
            loaded = load_rows(config.dataset_path, config.test_split, self._source, config.dataset_name)
            texts = []
            for index, row in enumerate(loaded.rows):
                if not isinstance(row.get(field), str):
                    raise JRTError(
                        f"{loaded.place(index)}: field {field!r} must be a text; fields are {', '.join(row)}."
                    )
                # Data sets of whole texts contain empty lines, which have nothing to score.
                if row[field].strip():
                    texts.append((index, row))
            if not texts:
                raise JRTError(f"{loaded.origin}: field {field!r} is empty in every row.")
        except JRTError as error:
            raise JRTError(f"task {label}: {error}") from None
        self.dataset = {config.test_split: Rows(texts, config.test_split)}
        empty = len(loaded.rows) - len(texts)
        config.metadata["ppl"] = {
            "dataset_path": config.dataset_path,
            "dataset_name": config.dataset_name,
            "split": config.test_split,
            "field": field,
            "source": loaded.source,
            "rows": {"read": len(loaded.rows), "empty": empty},
        }
        log.info("%s: %d texts (%s)%s.", label, len(texts), loaded.source, f", {empty} empty" if empty else "")

    @property
    def rows_read(self) -> int:
        """The number of rows of the split, including the empty ones."""
        return self.config.metadata["ppl"]["rows"]["read"]

    def doc_to_target(self, doc: Mapping[str, Any], doc_to_target: Any = None) -> str:
        """The text, unchanged."""
        return doc[self.config.doc_to_target]

    def process_results(self, doc: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
        """For each metric the log-likelihood and a count of words, bytes or, if the model reports them, tokens."""
        if self.predicts_only():
            return {"bypass": 0}
        value, text = results[0], self.doc_to_target(doc)
        if not math.isfinite(value):
            raise JRTError(
                f"task {self.config.task}: the model gives a text the log-likelihood {value}: {text[:60]!r}..."
            )
        words, size = self.count_words(text), self.count_bytes(text)
        pairs = {"word_perplexity": (value, words), "byte_perplexity": (value, size), "bits_per_byte": (value, size)}
        tokens = getattr(value, "stats", {}).get("jrt_scored_tokens")
        return pairs | ({"token_perplexity": (value, tokens)} if tokens else {})

    def aggregation(self) -> dict[str, Any]:
        """The aggregations of lm_eval, and that of `token_perplexity`."""
        theirs = super().aggregation()
        return {**theirs, "token_perplexity": theirs.get("word_perplexity", weighted_perplexity)}

    def higher_is_better(self) -> dict[str, bool]:
        """As in lm_eval: a higher perplexity is never better."""
        return {**super().higher_is_better(), "token_perplexity": False}


def _laid_over(config: dict[str, Any], block: Any) -> str:
    """Let the config name the text of the block instead of its own, and return the source of the rows."""
    if block is None:
        return "auto"
    if not isinstance(block, Mapping):
        raise JRTError(
            f"the ppl block must be a mapping such as {{dataset_path: owner/name, split: test}}, not {block!r}."
        )
    for key in block:
        if key not in BLOCK_KEYS:
            raise unknown("key of the ppl block", key, BLOCK_KEYS)
    names = {"split": "test_split", "field": "doc_to_target"}
    config |= {names.get(key) or str(key): value for key, value in block.items() if key != "source"}
    if "dataset_path" in block:
        name = config.get("task_alias") or config.get("task")
        config["task_alias"] = f"{name} [{block['dataset_path']}]"
    return one_of("source", block.get("source", "auto"), SOURCES)
