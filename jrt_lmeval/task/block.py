"""The `jrt:` block of a task: what it may hold, its defaults, and how one block is laid over another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jrt_lmeval.data.sources import SOURCES
from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.prompts.benchmarks import RECIPES
from jrt_lmeval.prompts.layouts import LAYOUT_KEYS, LAYOUTS, LayoutSpec, layout_spec
from jrt_lmeval.prompts.window import Window, window_spec
from jrt_lmeval.task.controls import CONTROLS

BLOCK_KEYS = (*LAYOUT_KEYS, "window", "recipe", "source", "control")


@dataclass(frozen=True)
class Settings:
    """A checked `jrt:` block.

    Attributes:
        layout: how a row is laid out.
        window: how its document is cut.
        recipe: the published task whose prompts are made; None for a task that gives its own templates.
        source: where rows are looked for: auto, local, hub or sample.
        control: none; no_context asks without the document, wrong_context with that of another row in which no answer
            stands: what a model scores then, it did not read; counterfactual writes another answer into the document
            (`controls.Rewriter`): what a model scores then, it did read.
    """

    layout: LayoutSpec
    window: Window
    recipe: str | None
    source: str
    control: str

    def as_dict(self) -> dict[str, Any]:
        """The block with all defaults filled in; what the layout does not use is left out, and what it is is added."""
        layout = asdict(self.layout)
        layout = {key: list(value) if isinstance(value, tuple) else value for key, value in layout.items()}
        rest = {"recipe": self.recipe, "window": asdict(self.window), "source": self.source, "control": self.control}
        facts = {"label": LAYOUTS[self.layout.layout].label, "reads_question": self.layout.reads_question}
        return {key: layout[key] for key in self.layout.keys} | facts | rest


def merged(*blocks: Mapping[str, Any] | None) -> dict[str, Any]:
    """Blocks laid over each other, the last on top; mappings inside are merged, lists and values replaced.

    Raises:
        JRTError: a block is not a mapping.
    """
    result: dict[str, Any] = {}
    for block in blocks:
        if block is None:
            continue
        if not isinstance(block, Mapping):
            raise JRTError(f"the jrt block must be a mapping such as {{layout: flat, repeats: 2}}, not {block!r}.")
        for key, value in block.items():
            below = result.get(key)
            both = isinstance(below, Mapping) and isinstance(value, Mapping)
            result[key] = merged(below, value) if both else value
    return result


def settings(block: Mapping[str, Any], model_args: Mapping[str, Any] | None = None) -> Settings:
    """The settings that a `jrt:` block describes.

    Args:
        block: the block.
        model_args: what lm_eval tells a task of the model, to find out what `window.tokenizer: model` stands for: its
            `tokenizer`, else its `pretrained`, as lm_eval's own models have it.

    Raises:
        JRTError: unknown key or name (with the nearest valid one), or a value out of its range.
    """
    for key in block:
        if key not in BLOCK_KEYS:
            raise unknown("key of the jrt block", key, BLOCK_KEYS)
    recipe, source, control = block.get("recipe"), block.get("source", "auto"), block.get("control", "none")
    for kind, value, choices in (("source", source, SOURCES), ("control", control, CONTROLS)):
        if value not in choices:
            raise unknown(kind, value, choices)
    if recipe is not None and recipe not in RECIPES:
        raise unknown("recipe", recipe, RECIPES)
    window = block.get("window") or {}
    if not isinstance(window, Mapping):
        raise JRTError(f"window must be a mapping such as {{policy: head, context_length: 1000}}, not {window!r}.")
    if window.get("tokenizer") == "model":
        window = {**window, "tokenizer": _model_tokenizer(model_args or {})}
    layout = layout_spec({key: value for key, value in block.items() if key in LAYOUT_KEYS})
    return Settings(layout, window_spec(window), recipe, source, control)


def _model_tokenizer(model_args: Mapping[str, Any]) -> str:
    # A task never sees the model, and models have defaults of their own: anything else would be a guess.
    name = model_args.get("tokenizer") or model_args.get("pretrained")
    if not isinstance(name, str):
        raise JRTError(
            "window.tokenizer 'model' needs to know whose: give --model_args tokenizer=... or pretrained=..., a name "
            "on the hub or a folder, or write that name in place of 'model'."
        )
    return name
