"""Names of what is in lm_eval's logs: ours, lm_eval's own and those of older versions.

Other names are read too: every argument that a user gave and every key of a task's `jrt:` block counts as a setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jrt_lmeval.prompts.layouts import LAYOUTS

LAYOUT_ENDINGS = sorted(
    ((layout.ending, layout.name) for layout in LAYOUTS.values() if layout.ending), key=lambda pair: -len(pair[0])
)
"""Ending of a task's name -> its layout, longest ending first. A task's name without it is the benchmark."""

_OF_THE_TASK = (
    "prompt_tokens", "document_tokens", "answer_first", "answer_last", "answer_first_token", "answer_last_token",
    "answer_outside", "document_cut", "segments_dropped", "echo", "majority", "longest_match", "blind_middle",
    "needle_length",
)  # fmt: skip
_OF_THE_MODEL = (
    "prefix_tokens", "prefix_share", "prefix_characters", "entropy", "new_tokens", "state_bytes", "seconds",
    "window_tokens", "tokens_read", "empty_answer", "recurrent_bytes", "window_bytes", "skipped",
)  # fmt: skip
FIGURES: dict[str, str] = {
    **{name: name for name in _OF_THE_TASK},
    **{name: f"jrt_{name}" for name in _OF_THE_MODEL},
    "model_prompt_tokens": "jrt_prompt_tokens",
    "answer_depth": "answer_position",
    "cut_by_length": "jrt_ended",
}
"""Name of a figure of one answer in a report -> its name in `doc.jrt` or in the sample; `jrt_ended` is a word."""

FOUND = "jrt_found"
"""Key of a task's metadata with what was measured besides the scores; means of figures are under `means`."""

MEASURED = frozenset(
    "seconds rows batches prompt_tokens prompt_tokens_reused new_tokens scored_tokens rows_truncated rows_skipped "
    "rows_beyond_training largest_batch state_bytes_per_row peak_memory_bytes work_peak_bytes "
    "process_peak_memory_bytes prefix_tokens_mean entropy_mean tokens_per_second model_class architecture threads load "
    "machine host median_seconds".split()
)
"""Facts that a model reports about a run and that were measured rather than set."""

NUMERIC_SETTINGS = frozenset(
    "prefix_length prefix_step entropy_low entropy_high entropy_window prefix_chunk prefix_sure max_length kv_window "
    "kv_sinks chunk_tokens".split()
)
"""Numbers that were set, among those that a model reports. Other numbers count as measured unless a user gave them."""

MACHINE = frozenset(
    "device devices device_map batch_size max_batch_size base_url num_concurrent max_retries timeout parallelize "
    "tensor_parallel_size data_parallel_size gpu_memory_utilization trust_remote_code verify_certificate cache_dir "
    "world_size processor package_version lm_eval_version model_sha weights_folder tokenizer_backend "
    "tokenized_requests token eos_string header backend state_dir".split()
)
"""Settings that should not change an answer; they are in a label only if nothing else distinguishes two runs."""

WEIGHTS = ("pretrained", "model", "path", "peft", "gguf")
"""Arguments that name the weights, or the model that a server serves."""

SEEDS = ("random_seed", "numpy_seed", "torch_seed", "fewshot_seed")

ONLY_FOR: dict[str, tuple[str, ...]] = {
    "prefix_step": ("dynamic",),
    "entropy_low": ("dynamic",),
    "entropy_high": ("dynamic",),
    "entropy_window": ("dynamic",),
    "prefix_length": ("fixed", "dynamic"),
    "prefix_chunk": ("answer",),
    "prefix_sure": ("answer",),
    "prefix_policy": ("learned",),
}
"""Settings of a model that only these values of `prefix` use; under other values they are ignored."""

BLOCK_FACTS = frozenset("hash rows label reads_question source control layout recipe".split())
"""Keys of a `jrt:` block that are not settings: what was measured, and what has an attribute in `Result`."""

DOCUMENT = ("context", "text", "passage", "document", "article", "story")
QUESTION = ("question", "key", "query")
"""Usual names of a row's document and question, for tasks that do not log them under our names."""


def dotted(value: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """A flat mapping: `{"a": {"b": 1}}` becomes `{"a.b": 1}`, lists become text, and None is left out."""
    found: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            found.update(dotted(inner, f"{before}{key}."))
        elif isinstance(inner, (list, tuple)):
            found[before + key] = "+".join(map(_item, inner))
        elif inner is not None:
            # prefix_length=1 is one token; prefix_length=1.0 is the whole document
            whole = isinstance(inner, float) and inner.is_integer() and key != "prefix_length"
            found[before + key] = int(inner) if whole else inner
    return found


def _item(value: Any) -> str:
    """An item of a list in few characters; a level is `sentence` or, repeated, `sentence x2`."""
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


def layout_of(task: str) -> str:
    """The layout that the ending of a task's name says; empty if there is none."""
    return next((name for ending, name in LAYOUT_ENDINGS if task.endswith(ending)), "")


def benchmark_of(task: str) -> str:
    """The task's name without the ending that names its layout."""
    return next((task.removesuffix(ending) for ending, _ in LAYOUT_ENDINGS if task.endswith(ending)), task)
