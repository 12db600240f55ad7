"""The model card of a trained model: what it is, what it was trained on, what it cost, and what it is not.

`card.md.jinja` beside this file holds the text; here is read what the text needs to know.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from safetensors import SafetensorError, safe_open

from jrt_lmeval.checkpoints.found import RECIPE, WEIGHTS, opened
from jrt_lmeval.errors import JRTError
from jrt_lmeval.markdown import markdown_table
from jrt_lmeval.modeling import with_feature_map
from jrt_lmeval.modeling.feature_maps import build_feature_map
from jrt_lmeval.paths import weights_dir
from jrt_lmeval.prompts.layouts import LAYOUTS
from jrt_lmeval.training.recipes import HELDOUT, LAYOUT_NAMES, LOG, TrainRecipe

CARD = "README.md"
COUNTS = ("step", "tokens", "seconds")
TEMPLATE = Path(__file__).with_name("card.md.jinja")


def write_card(folder: Path, name: str, measured: Sequence[dict[str, Any]] = (), steps: Path | None = None) -> Path:
    """Write `README.md`, a Hugging Face model card, from what a training left in its folder.

    Args:
        folder: with `config.json`, `model.safetensors`, `recipe.json` and `log.jsonl`.
        measured: rows of a table of figures, as `{"task": ..., "score": ...}`; the columns are all their keys.
        steps: the log of the steps where it does not lie in the folder.

    Raises:
        JRTError: one of the four files is missing or unreadable.
    """
    model = opened(folder)
    config, recipe = model.fields, {**asdict(TrainRecipe()), **_json(folder / RECIPE)[0]}
    log, shapes, dtypes = _json(steps or folder / LOG, lines=True), *tensors(folder / WEIGHTS)
    heldout = _json(folder / HELDOUT, lines=True) if (folder / HELDOUT).is_file() else []
    stages, last, total = recipe["curriculum"], log[-1], sum(recipe["sources"].values())
    hours, minutes = divmod(round(last["seconds"] / 60), 60)
    has_map = with_feature_map(config.get("mixers", ()))
    ours = "jrt-rnn" if model.family == "jrt_rnn" else "based" if has_map else "softmax-attention"
    kind = ours if model.model_type == "jrt" else str(model.model_type)
    card = ModelCard.from_template(
        ModelCardData(
            license="apache-2.0",
            library_name="transformers",
            pipeline_tag="text-generation",
            language="en",
            tags=["jrt_lmeval", kind, "recall", "lm-evaluation-harness"],
        ),
        template_path=str(TEMPLATE),
        name=name,
        config=config,
        recipe=recipe,
        family=model.family,
        has_map=has_map,
        features=_features(config) if has_map else None,
        shipped=folder.parent == weights_dir(),
        parameters=sum(map(prod, shapes)),
        dtypes=dtypes,
        longest=max(stage["max_tokens"] for stage in stages),
        sources={source: weight / total for source, weight in recipe["sources"].items() if weight},
        words=(min(stage["words"][0] for stage in stages), max(stage["words"][1] for stage in stages)),
        layouts=[
            LAYOUTS[layout].label
            for at, layout in enumerate(LAYOUT_NAMES)
            if any(sum(stage["layouts"][at : at + 1]) for stage in stages)
        ],
        teacher=Path(recipe["teacher"]).name,
        last=last,
        time=f"{hours} h {minutes:02d} min" if hours else f"{minutes} min" if minutes else f"{last['seconds']:.0f} s",
        hardware=list(dict.fromkeys(map(_hardware, log))),
        heldout=_measured([{name: at[name] for name in at if name not in COUNTS} for at in heldout[-1:]]),
        measured=_measured(measured),
    )
    card.save(folder / CARD)
    return folder / CARD


def _json(file: Path, lines: bool = False) -> list[Any]:
    """The content of a JSON file, or of a JSONL file with an entry a line."""
    try:
        text = file.read_text(encoding="utf-8")
        return [json.loads(line) for line in (text.splitlines() if lines else [text])]
    except (OSError, ValueError) as error:
        raise JRTError(f"{file}: not readable, and the model card is written from it ({error}).") from error


def tensors(file: Path) -> tuple[list[list[int]], list[str]]:
    """Shapes of a safetensors file's tensors, and the number formats in it, from its header alone.

    Raises:
        JRTError: it is missing or damaged.
    """
    try:
        with safe_open(file, framework="pt") as weights:
            slices = [weights.get_slice(name) for name in weights.keys()]  # noqa: SIM118
            return [part.get_shape() for part in slices], sorted({part.get_dtype().lower() for part in slices})
    except (SafetensorError, OSError) as error:
        raise JRTError(f"{file}: not readable as safetensors ({error}).") from error


def _features(config: Any) -> int:
    options = config.get("feature_map_options") or {}
    return build_feature_map(config["feature_map"], config["num_heads"], config["feature_dim"], **options).feature_dim


def _hardware(step: dict[str, Any]) -> str:
    return f"CPU, {step['threads']} thread{'s' * (step['threads'] > 1)}" if step["device"] == "cpu" else "a GPU"


def _measured(rows: Sequence[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[row.get(column, "") for column in columns] for row in rows]
    lines = [[f"{cell:.3f}" if isinstance(cell, float) else cell for cell in line] for line in cells]
    return markdown_table(columns, lines, left=len(columns)) if rows else ""
