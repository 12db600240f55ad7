"""The paper's future work, measured: learned prefixes and hierarchies beside the rules that they are to replace.

    python -m experiments.future_work rows runs/dev            # development rows and their tasks
    python -m experiments.future_work prefix runs/dev          # fixed shares on them, and what policies are fitted on
    jrt-eval prefix fit runs/dev/logs --out policy.json
    python -m experiments.future_work select runs/dev          # fits the scorer of select=learned; prints its weights
    python -m experiments.future_work test runs/test           # all policies and selections, on factbook_large

The development rows are whole sheets of countries that no test row is about, cut and asked as those of `factbook`.
Ten of the countries are in no training row of the shipped models; the rest are training countries.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

from jrt_lmeval.data.making.factbook import Sheet, countries
from jrt_lmeval.plugin import register
from jrt_lmeval.prompts import build, layout_spec, passes
from jrt_lmeval.prompts.passes import segment_features
from jrt_lmeval.prompts.segments import segments
from jrt_lmeval.runner import EvalRun, Options, execute, load_model, task_manager
from jrt_lmeval.scoring import contains
from jrt_lmeval.task.recall import source_row
from jrt_lmeval.training.rows import kept_out
from tools.factbook import qualifying

TRAINING, EACH = 50, 8
"""Training countries among the development documents, and questions on each document."""
TEST_TASK, EVERY, ROWS = "factbook_large", 12, 3730
"""The test questions: each twelfth of factbook_large, two or three on each of its 124 documents."""
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
SELECTS, SELECT_EVERY = ("all", "random", "information", "learned", "oracle"), 18
DEVELOPMENT = "factbook_development"
COMMON = """\
class: !function jrt_lmeval.task.RecallTask
dataset_path: json
dataset_kwargs: {data_files: {validation: factbook_development.jsonl}}
validation_split: validation
jrt_common: {recipe: factbook, window: {answer_at: random, context_length: 600}}
metadata: {version: 1.0}
"""


def development_rows() -> Iterator[dict[str, str]]:
    """Rows as `factbook` has them, `EACH` a country, spread evenly over its qualifying lines."""
    sheets = countries("train")
    held = [sheet for sheet in sheets if kept_out(sheet.doc_id)]
    others = [sheet for sheet in sheets if not kept_out(sheet.doc_id)]
    for sheet in [*held, *others[:: len(others) // TRAINING][:TRAINING]]:
        text = _text(sheet)
        asked = list(qualifying(sheet, text))
        for key, value in asked[:: max(1, len(asked) // EACH)][:EACH]:
            yield {"doc_id": sheet.doc_id, "file_name": sheet.file_name, "key": key, "value": value, "text": text}


def _text(sheet: Sheet) -> str:
    blocks = ["\n".join([heading, *(f"{key}: {value}" for key, value in lines)]) for heading, lines in sheet.sections]
    return "\n\n".join([sheet.name, *blocks]) + "\n"


def write_rows(folder: Path) -> None:
    """The development rows and a task a layout."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in development_rows()]
    (folder / f"{DEVELOPMENT}.jsonl").write_text("".join(lines), encoding="utf-8")
    for ending, layout in (("once", "once"), ("jrt_hier", "hier")):
        text = f"task: {DEVELOPMENT}_{ending}\n{COMMON}jrt: {{layout: {layout}}}\n"
        (folder / f"{DEVELOPMENT}_{ending}.yaml").write_text(text, encoding="utf-8")
    print(f"{len(lines)} rows")


def fixed_runs(task: str) -> list[EvalRun]:
    """A run a share; 0 is no prefix."""
    arguments = [{"prefix": "fixed", "prefix_length": share} if share else {"prefix": "none"} for share in SHARES]
    return [EvalRun("jrt_rnn", {"feature_map": "mlp", **given}, (task,)) for given in arguments]


def policy_runs(task: str) -> list[EvalRun]:
    """The policies that choose by what they read."""
    given: list[dict[str, Any]] = [
        {"prefix": "dynamic", "prefix_length": 0.5, "prefix_step": 0.2},
        {"prefix": "learned"},
        *({"prefix": "answer", "prefix_sure": sure} for sure in (0.8, 0.95)),
    ]
    return [EvalRun("jrt_rnn", {"feature_map": "mlp", **arguments}, (task,)) for arguments in given]


def fit_scorer(folder: Path) -> None:
    """Print weights with which `passes.LEARNED` says how many questions a word a segment has.

    Least squares over the segments of both levels of all development windows; a question is a qualifying line of the
    country's sheet, whether it is among the rows or not.
    """
    manager = task_manager({}, str(folder))
    task = manager.load(f"{DEVELOPMENT}_jrt_hier")["tasks"][f"{DEVELOPMENT}_jrt_hier"]
    lines = {sheet.doc_id: list(qualifying(sheet, _text(sheet))) for sheet in countries("train")}
    known, asked = [], []
    for doc in task.validation_docs():
        document = task.doc_to_text(doc).document
        facts = [f"{key}: {value}" for key, value in lines[doc["doc_id"]]]
        for level in ("paragraph", "sentence"):
            texts = [piece.core for piece in segments(document, level)]
            known += [[*one.values(), 1.0] for one in segment_features(texts, document)]
            asked += [sum(fact in text for fact in facts) / max(1, len(text.split())) for text in texts]
    x, y = np.array(known), np.array(asked)
    weights, *_ = np.linalg.lstsq(x, y, rcond=None)
    names = list(segment_features(["a"], "a")[0])
    print({name: round(float(weight), 4) for name, weight in zip(names, weights, strict=False)})
    print(f"{len(y)} segments, R2 {1 - ((x @ weights - y) ** 2).sum() / ((y - y.mean()) ** 2).sum():.3f}")


def select_run(select: str, out: Path) -> None:
    """Answers to hierarchical prompts of the test questions, cut to the budget by `select`; a line a question.

    `oracle` puts those segments first that hold the line which will be asked.
    """
    register()
    name = f"{TEST_TASK}_jrt_hier"
    task = task_manager({}).load(name)["tasks"][name]
    spec = layout_spec({"layout": "hier", "select": "learned" if select == "oracle" else select})
    asked, requests = [], []
    for number, doc in enumerate(islice(task.validation_docs(), 0, ROWS, SELECT_EVERY)):
        parts, _ = task._reader.read(source_row(doc), spec, task.jrt.window)
        wanted = f"{doc['key']}: {doc['value']}"
        oracle = lambda texts, _, wanted=wanted: sorted(range(len(texts)), key=lambda i: wanted not in texts[i])  # noqa: E731
        with patch.object(passes, "by_learned", oracle if select == "oracle" else passes.by_learned):
            prompt = build(parts, spec)
        again = prompt[len(parts.document) : prompt.document_end].count(wanted)
        asked.append({"document": doc["doc_id"], "key": doc["key"], "again": again, **prompt.counters})
        goal = {"until": ["\n"], "max_gen_toks": 48}
        requests.append(SimpleNamespace(args=(prompt, goal), doc=doc, task_name=name, doc_id=number))
    lm = load_model("jrt_rnn", {"feature_map": "mlp", "prefix": "document"})
    answers = lm.generate_until(requests)
    lines = [
        json.dumps(
            {"select": select, **one, "answer": str(answer), "contains": contains(answer, [request.doc["value"]])}
        )
        for one, answer, request in zip(asked, answers, requests, strict=True)
    ]
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{select}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def run(runs: list[EvalRun], out: Path, options: Options) -> None:
    """Run what is not finished."""
    register()

    def tell(one: EvalRun, number: int, seconds: float) -> None:
        print(f"{number}/{len(runs)} {one.label}: {seconds:.0f} s", flush=True)

    if missing := execute(runs, out, options, tell):
        raise SystemExit(str(missing))


def main() -> None:
    """Run one of the steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("rows", "prefix", "select", "test"))
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    if given.step == "rows":
        write_rows(given.folder)
    elif given.step == "prefix":
        run(fixed_runs(f"{DEVELOPMENT}_once"), given.folder / "logs", Options(include_path=str(given.folder)))
    elif given.step == "select":
        fit_scorer(given.folder)
    elif given.step == "test":
        task = f"{TEST_TASK}_once"
        chosen = Options(settings={"samples": {task: list(range(0, ROWS, EVERY))}})
        run([*fixed_runs(task), *policy_runs(task)], given.folder / "prefix", chosen)
        for select in SELECTS:
            select_run(select, given.folder / "select")


if __name__ == "__main__":
    main()
