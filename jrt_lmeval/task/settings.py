"""The settings of a task: the `jrt:` block and its layers, our other YAML keys, and lm_eval's with our defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, fields
from typing import Any

from lm_eval.config.task import TaskConfig

from jrt_lmeval.data.sources import SOURCES
from jrt_lmeval.errors import JRTError, one_of, unknown
from jrt_lmeval.prompts.benchmarks import BENCHMARKS
from jrt_lmeval.prompts.layouts import LAYOUT_KEYS, LAYOUTS, layout_spec, unread_keys
from jrt_lmeval.prompts.prompt import LayoutSpec
from jrt_lmeval.prompts.window import Window, overlaid, window_spec
from jrt_lmeval.task.reader import TEMPLATE_KEYS
from jrt_lmeval.task.scores import SCORES, metric_list, name_of
from jrt_lmeval.task.taskfiles import OUR_KEYS

CONTROLS = ("none", "no_context", "wrong_context", "counterfactual")
BLOCK_KEYS = (*LAYOUT_KEYS, "window", "recipe", "source", "control")


@dataclass(frozen=True)
class Settings:
    """A checked `jrt:` block.

    Attributes:
        layout: how a row is laid out.
        window: how its document is cut.
        recipe: the published task whose prompts are made; None for a task that gives its own templates.
        source: where rows are looked for: auto, local, hub or sample.
        control: `none`; `no_context` asks without the document and `wrong_context` with that of another row that holds
            none of the answers, so that a model cannot have read what it answers; `counterfactual` writes another
            answer into the document (`prompter.Rewriter`), so that a model must have read what it answers.
    """

    layout: LayoutSpec
    window: Window
    recipe: str | None
    source: str
    control: str

    def as_dict(self) -> dict[str, Any]:
        """The block with all defaults filled in and without what the layout does not read, for the results file."""
        layout = asdict(self.layout) | {"as_long_as": self.layout.form}
        layout = {key: list(value) if isinstance(value, tuple) else value for key, value in layout.items()}
        rest = {"recipe": self.recipe, "window": asdict(self.window), "source": self.source, "control": self.control}
        facts = {"label": LAYOUTS[self.layout.layout].label, "reads_question": self.layout.reads_question}
        return {key: layout[key] for key in self.layout.keys} | facts | rest


def merged(*blocks: Mapping[str, Any] | None) -> dict[str, Any]:
    """Blocks laid over each other, the last on top; levels and other values are replaced, windows are merged.

    A block that names another layout or another kind of window puts out of use what the blocks below it say of theirs:
    `{layout: once}` over `{layout: hier, overlap: 0.1}` is `{layout: once}`, and so can a `jrt_common` block serve
    tasks of several layouts.

    Raises:
        JRTError: a block is not a mapping, or an unknown layout.
    """
    result: dict[str, Any] = {}
    for block in blocks:
        if block is None:
            continue
        if not isinstance(block, Mapping):
            raise JRTError(f"the jrt block must be a mapping such as {{layout: flat, repeats: 2}}, not {block!r}.")
        if "layout" in block:
            names = {key: block[key] for key in ("layout", "as_long_as") if key in block}
            for key in unread(result | names):
                result.pop(key, None)
        window = overlaid(result.get("window"), block.get("window"))
        result.update(block)
        if "window" in block:
            result["window"] = window
    return result


def settings(block: Mapping[str, Any], model_args: Mapping[str, Any] | None = None) -> Settings:
    """The settings that a `jrt:` block describes.

    Args:
        block: the block.
        model_args: what lm_eval tells a task of the model, to find out what `window.tokenizer: model` stands for: its
            `tokenizer`, else its `pretrained`, as lm_eval's own models have it.

    Raises:
        JRTError: unknown key or name (with the nearest valid one), a value out of its range, or a setting without
            effect.
    """
    for key in block:
        if key not in BLOCK_KEYS:
            raise unknown("key of the jrt block", key, BLOCK_KEYS)
    recipe = block.get("recipe")
    if recipe is not None:
        one_of("recipe", recipe, BENCHMARKS)
    source = one_of("source", block.get("source", "auto"), SOURCES)
    control = one_of("control", block.get("control", "none"), CONTROLS)
    window = block.get("window") or {}
    if not isinstance(window, Mapping):
        raise JRTError(f"window must be a mapping such as {{policy: head, context_length: 1000}}, not {window!r}.")
    if window.get("tokenizer") == "model":
        window = {**window, "tokenizer": _model_tokenizer(model_args or {})}
    layout = layout_spec({key: value for key, value in block.items() if key in LAYOUT_KEYS})
    return Settings(layout, window_spec(window), recipe, source, control)


def unread(block: Mapping[str, Any]) -> list[str]:
    """The keys of a block that the layout which it names (or `once`) does not read."""
    return unread_keys({key: value for key, value in block.items() if key in LAYOUT_KEYS})


def _model_tokenizer(model_args: Mapping[str, Any]) -> str:
    # A task never sees the model, and models have defaults of their own: anything else would be a guess.
    name = model_args.get("tokenizer") or model_args.get("pretrained")
    if not isinstance(name, str):
        raise JRTError(
            "window.tokenizer 'model' needs to know whose: give --model_args tokenizer=... or pretrained=..., a name "
            "on the hub or a folder, or write that name in place of 'model'."
        )
    return name


_OURS = ("class", "jrt_file", *OUR_KEYS, *TEMPLATE_KEYS)
_THEIRS = tuple(field.name for field in fields(TaskConfig))
_REPLACED = {
    "doc_to_text": "the prompt is made of document, question, lead and joiner",
    "doc_to_choice": "answers are generated and not chosen",
    "doc_to_image": "prompts are text",
    "doc_to_audio": "prompts are text",
    "use_prompt": "the prompt is made of document, question, lead and joiner",
}
"""lm_eval's keys that a recall task does not read, with the reason."""

# As published: greedy, to the end of the line.
_DEFAULTS: dict[str, Any] = {
    "output_type": "generate_until",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 48},
    "num_fewshot": 0,
    # Keeps lm_eval from looking for metrics of these names; `RecallTask.process_results` does the work.
    "process_results": "jrt_lmeval",
}


def taken_out(config: dict[str, Any]) -> dict[str, Any]:
    """Our keys of a task's configuration, which are taken out of it, because lm_eval must not see them.

    Raises:
        JRTError: a key that neither lm_eval nor we know, or one of lm_eval's that has no effect here.
    """
    ours = {key: config.pop(key) for key in _OURS if key in config}
    for key in config:
        if key not in _THEIRS:
            raise unknown("key", key, [*_THEIRS, *_OURS])
        if key in _REPLACED:
            raise JRTError(f"{key!r} has no effect in a recall task: {_REPLACED[key]}. Leave it out.")
    return ours


def completed(config: dict[str, Any], scores: Sequence[str]) -> dict[str, Any]:
    """lm_eval's keys with our defaults for those that the YAML leaves out, and the scores as metrics.

    Raises:
        JRTError: the task does not generate.
    """
    if config.get("output_type", "generate_until") != "generate_until":
        raise JRTError(f"output_type must be generate_until, not {config['output_type']!r}.")
    # A copy for each task: lm_eval's --gen_kwargs changes the one it is given.
    complete = deepcopy(_DEFAULTS) | config
    theirs = [entry for entry in config.get("metric_list") or () if name_of(entry) not in SCORES]
    complete["metric_list"] = [*metric_list(scores), *theirs]
    complete["generation_kwargs"] = {**_DEFAULTS["generation_kwargs"], **(config.get("generation_kwargs") or {})}
    return complete
