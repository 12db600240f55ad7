"""The model card of a trained model: what it is, what it was trained on, what it cost, and what it is not.

`card.md.jinja` beside this file holds the text; here is read what the text needs to know.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from safetensors import SafetensorError, safe_open

from jrt_lmeval.checkpoints.found import CONFIG, RECIPE, WEIGHTS, opened
from jrt_lmeval.errors import JRTError
from jrt_lmeval.markdown import markdown_table
from jrt_lmeval.modeling import with_feature_map
from jrt_lmeval.modeling.feature_maps import build_feature_map
from jrt_lmeval.paths import weights_dir
from jrt_lmeval.prompts.layouts import LAYOUTS
from jrt_lmeval.training.recipes import LAYOUT_NAMES, TrainRecipe

CARD, LOG, HELDOUT = "README.md", "log.jsonl", "heldout.jsonl"
TEMPLATE = Path(__file__).with_name("card.md.jinja")


def write_card(folder: Path, name: str, measured: Sequence[dict[str, Any]] = (), steps: Path | None = None) -> Path:
    """Write `README.md`, a Hugging Face model card, from what a training left in its folder.

    Args:
        folder: with `config.json`, `model.safetensors`, `recipe.json` and `log.jsonl`.
        name: of the model.
        measured: rows of a table of figures, as `{"task": ..., "score": ...}`; the columns are all their keys.
        steps: the log of the steps where it does not lie in the folder.

    Returns:
        The file.

    Raises:
        JRTError: one of the four files is missing or unreadable.
    """
    (config,), (saved,) = (_json(folder / name, whole=True) for name in (CONFIG, RECIPE))
    log = _json(steps or folder / LOG)
    recipe = {**asdict(TrainRecipe()), **saved}
    stages, last = recipe["curriculum"], log[-1]
    shapes, dtypes = tensors(folder / WEIGHTS)
    total = sum(recipe["sources"].values())
    hours, minutes = divmod(round(last["seconds"] / 60), 60)
    family, has_map = opened(folder).family, with_feature_map(config.get("mixers", ()))
    card = ModelCard.from_template(
        ModelCardData(
            license="apache-2.0",
            library_name="transformers",
            pipeline_tag="text-generation",
            language="en",
            tags=["jrt_lmeval", _tag(config, family, has_map), "recall", "lm-evaluation-harness"],
        ),
        template_path=str(TEMPLATE),
        name=name,
        config=config,
        recipe=recipe,
        family=family,
        has_map=has_map,
        features=_features(config) if has_map else None,
        beside=_beside(config),
        shipped=folder.parent == weights_dir(),
        parameters=sum(map(prod, shapes)),
        dtypes=dtypes,
        longest=max(stage["max_tokens"] for stage in stages),
        sources={source: weight / total for source, weight in recipe["sources"].items() if weight},
        stages=_count(len(stages), "stage"),
        words=(min(stage["words"][0] for stage in stages), max(stage["words"][1] for stage in stages)),
        layouts=_layouts(stages),
        teacher=Path(recipe["teacher"]).name,
        tokens=last["tokens"],
        steps=_count(last["step"], "step"),
        time=f"{hours} h {minutes:02d} min" if hours else f"{minutes} min" if minutes else f"{last['seconds']:.0f} s",
        hardware=list(dict.fromkeys(map(_hardware, log))),
        heldout=_heldout(folder / HELDOUT),
        measured=_measured(measured),
    )
    card.save(folder / CARD)
    return folder / CARD


def _json(file: Path, whole: bool = False) -> list[Any]:
    """The lines of a JSONL file, or the one entry of a JSON file (`whole`)."""
    if not file.is_file():
        raise JRTError(f"{file.parent}: holds no {file.name}, which the model card is written from.")
    text = file.read_text(encoding="utf-8")
    try:
        entries = [json.loads(line) for line in ([text] if whole else text.splitlines())]
    except json.JSONDecodeError as error:
        raise JRTError(f"{file}: not readable as JSON ({error}).") from error
    if not entries:
        raise JRTError(f"{file}: holds no step of a training.")
    return entries


def tensors(file: Path) -> tuple[list[list[int]], list[str]]:
    """Shapes of a safetensors file's tensors, and the number formats in it, from its header alone."""
    if not file.is_file():
        raise JRTError(f"{file.parent}: holds no {file.name}, which the model card is written from.")
    try:
        with safe_open(file, framework="pt") as weights:
            slices = [weights.get_slice(name) for name in weights.keys()]  # noqa: SIM118
            return [part.get_shape() for part in slices], sorted({part.get_dtype().lower() for part in slices})
    except (SafetensorError, OSError) as error:
        raise JRTError(f"{file}: not readable as safetensors ({error}).") from error


def _tag(config: dict[str, Any], family: str | None, has_map: bool) -> str:
    if config["model_type"] != "jrt":
        return str(config["model_type"])
    return "jrt-rnn" if family == "jrt_rnn" else "based" if has_map else "softmax-attention"


def _beside(config: dict[str, Any]) -> str:
    """What else mixes tokens in a model of linear attention."""
    others = {"conv": "short convolutions", "swa": f"a sliding window of {config.get('window')} tokens"}
    found = [words for mixer, words in others.items() if mixer in config.get("mixers", ())]
    return f" beside {' and '.join(found)}" if found else ""


def _features(config: dict[str, Any]) -> int:
    options = config.get("feature_map_options") or {}
    return build_feature_map(config["feature_map"], config["num_heads"], config["feature_dim"], **options).feature_dim


def _layouts(stages: list[dict[str, Any]]) -> list[str]:
    """What the layouts that any stage draws are called."""
    used = [any(weights) for weights in zip(*(stage["layouts"] for stage in stages), strict=True)]
    return [LAYOUTS[name].label for name, is_used in zip(LAYOUT_NAMES, used, strict=False) if is_used]


def _hardware(step: dict[str, Any]) -> str:
    """Where a step was taken. Logs from before this was noted were written where their card is."""
    if step.get("device", "cpu") != "cpu":
        return "a GPU"
    return f"CPU, {_count(step['threads'], 'thread')}" if "threads" in step else _count(os.cpu_count() or 1, "CPU core")


def _heldout(file: Path) -> str:
    """A table of what the run itself measured on held-out documents; empty where it measured nothing."""
    if not file.is_file():
        return ""
    last = {key: value for key, value in _json(file)[-1].items() if key not in ("step", "tokens", "seconds")}
    return markdown_table(list(last), [[f"{value:.3f}" for value in last.values()]], left=len(last))


def _measured(rows: Sequence[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[row.get(column, "") for column in columns] for row in rows]
    lines = [[f"{cell:.3f}" if isinstance(cell, float) else cell for cell in line] for line in cells]
    return markdown_table(columns, lines, left=len(columns)) if rows else ""


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
