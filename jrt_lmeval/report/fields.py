"""Where a fact stands in lm_eval's logs: the one place that knows their names, ours, lm_eval's and older ones.

What is not named here is still read where it can be: every argument that a user gave and every key of a task's `jrt:`
block is a setting, whatever it is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jrt_lmeval.prompts.layouts import LAYOUTS

LAYOUT_ENDINGS = sorted(
    ((layout.ending, layout.name) for layout in LAYOUTS.values() if layout.ending), key=lambda pair: -len(pair[0])
)
"""Ending of a task's name -> its layout, longest first; taken off a task's name it leaves the benchmark."""

FIGURES: dict[str, tuple[str, ...]] = {
    "prompt_tokens": ("prompt_tokens",),
    "model_prompt_tokens": ("jrt_prompt_tokens",),
    "document_tokens": ("document_tokens",),
    "prefix_tokens": ("jrt_prefix_tokens",),
    "prefix_share": ("jrt_prefix_share",),
    "prefix_characters": ("jrt_prefix_characters",),
    "entropy": ("jrt_entropy",),
    "new_tokens": ("jrt_new_tokens",),
    "state_bytes": ("jrt_state_bytes",),
    "recurrent_bytes": ("jrt_recurrent_bytes", "jrt_state_recurrent_bytes"),
    "window_bytes": ("jrt_window_bytes", "jrt_state_window_bytes"),
    "seconds": ("jrt_seconds",),
    "answer_first": ("answer_first",),
    "answer_last": ("answer_last",),
    "answer_first_token": ("answer_first_token",),
    "answer_last_token": ("answer_last_token",),
    "answer_depth": ("answer_position",),
    "answer_outside": ("answer_outside",),
    "document_cut": ("document_cut",),
    "skipped": ("jrt_skipped", "skipped"),
    "truncated": ("jrt_truncated_tokens", "jrt_truncated"),
    "window_tokens": ("jrt_window_tokens",),
    "majority": ("majority",),
    "longest_match": ("longest_match",),
    "blind_middle": ("blind_middle",),
}
"""Our name of a figure of one answer -> its names in `doc.jrt` or in the sample itself, the present one first."""

BASELINES = {
    "majority": "majority value",
    "longest_match": "longest key match",
    "blind_middle": "blind middle",
}
"""Figures that are scores of rules which need no model -> what tables call them."""

FOUND = "jrt_found"
"""Where a task's metadata says what was found beside the scores: figures under `means`."""

MEASURED = frozenset(
    "seconds rows batches prompt_tokens prompt_tokens_reused new_tokens scored_tokens rows_truncated rows_skipped "
    "rows_beyond_training largest_batch state_bytes_per_row peak_memory_bytes work_peak_bytes "
    "process_peak_memory_bytes prefix_tokens_mean entropy_mean tokens_per_second model_class architecture threads load "
    "machine host median_seconds".split()
)
"""Facts that a model reports of a run and that were measured, not set."""

NUMERIC_SETTINGS = frozenset(
    "prefix_length prefix_step entropy_low entropy_high entropy_window max_length kv_window kv_sinks".split()
)
"""Numbers among a model's facts that were set. Other numbers are taken for measured, unless a user gave them."""

MACHINE = frozenset(
    "device devices device_map batch_size max_batch_size base_url num_concurrent max_retries timeout parallelize "
    "tensor_parallel_size data_parallel_size gpu_memory_utilization trust_remote_code verify_certificate cache_dir "
    "world_size processor package_version lm_eval_version model_sha weights_folder tokenizer_backend "
    "tokenized_requests token eos_string header backend".split()
)
"""Settings that should not change an answer: told only where nothing else tells two runs apart."""

WEIGHTS = ("pretrained", "model", "path", "peft", "gguf")
"""Arguments that name the weights, or the model that a server serves."""

SEEDS = ("random_seed", "numpy_seed", "torch_seed", "fewshot_seed")

ONLY_FOR: dict[str, tuple[str, ...]] = {
    "prefix_step": ("dynamic",),
    "entropy_low": ("dynamic",),
    "entropy_high": ("dynamic",),
    "entropy_window": ("dynamic",),
    "prefix_length": ("fixed", "dynamic"),
}
"""Settings of a model that only these values of `prefix` read; elsewhere they say nothing."""

BLOCK_FACTS = frozenset("hash rows label reads_question source control layout recipe".split())
"""Keys of a `jrt:` block that say what came of it, or that have a place of their own in `Result`."""

DOCUMENT = ("context", "text", "passage", "document", "article", "story")
QUESTION = ("question", "key", "query")


def dotted(value: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """A mapping without mappings inside: `{"a": {"b": 1}}` becomes `{"a.b": 1}`; lists become text; None goes."""
    found: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            found.update(dotted(inner, f"{before}{key}."))
        elif isinstance(inner, (list, tuple)):
            found[before + key] = "+".join(map(_entry, inner))
        elif inner is not None:
            # prefix_length=1 is one token, prefix_length=1.0 the whole document
            whole = isinstance(inner, float) and inner.is_integer() and key != "prefix_length"
            found[before + key] = int(inner) if whole else inner
    return found


def _entry(value: Any) -> str:
    """An entry of a list in few characters; a level is `sentence` or, repeated, `sentence x2`."""
    if isinstance(value, Mapping) and "name" in value:
        repeats = value.get("repeats", 1)
        return str(value["name"]) + (f" x{repeats}" if repeats != 1 else "")
    return repr(value) if isinstance(value, str) and not value.strip() else str(value)


def arguments(value: Any) -> dict[str, Any]:
    """`model_args` as a mapping; older logs hold the text `name=value,name=value`."""
    if isinstance(value, Mapping):
        return dict(value)
    parts = (part.partition("=") for part in str(value or "").split(",") if "=" in part)
    return {name.strip(): text.strip() for name, _, text in parts}


def document_of(doc: Any) -> str | None:
    """What the questions on one document share: its id, as the task logged it or as the row has it, or its text.

    None where a row names no document: each question then stands alone.
    """
    if not isinstance(doc, Mapping):
        return None
    logged = doc.get("jrt")
    known = logged.get("doc_id") if isinstance(logged, Mapping) else None
    known = doc.get("doc_id") if known is None else known
    if known is None:
        known = next((text for name in DOCUMENT if isinstance(text := doc.get(name), str) and text), None)
    return None if known is None else str(known)


def layout_of(task: str, block: Mapping[str, Any]) -> str:
    """The layout of a task: what its block says, else what its name ends in, else `-`."""
    given = block.get("layout")
    return str(given) if given else next((name for ending, name in LAYOUT_ENDINGS if task.endswith(ending)), "-")


def benchmark_of(task: str) -> str:
    """The task without the ending that names its layout."""
    return next((task.removesuffix(ending) for ending, _ in LAYOUT_ENDINGS if task.endswith(ending)), task)
