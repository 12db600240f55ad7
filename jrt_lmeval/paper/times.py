"""`jrt-eval paper --times`: how long the rows of the tables take, all of them in turn in one process.

Seconds of two runs compare only under the same load. So the rows are not timed while they are evaluated: a few
questions of each are answered in rounds, each round goes through all rows, and the load meanwhile is kept.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from jrt_lmeval.errors import JRTError
from jrt_lmeval.paper.plan import PERPLEXITY, TableRow
from jrt_lmeval.plugin import register
from jrt_lmeval.runner import EvalRun, Options, load_model, metadata, task_manager

FILE = "times.json"
QUESTIONS, ROUNDS = 8, 5


@dataclass(frozen=True)
class Times:
    """What a block of rounds measured.

    Attributes:
        questions, rounds: of each row.
        load: lowest and highest load of the machine between rows.
        rows: `EvalRun.key` and task -> seconds of each round for all questions, and the tokens read in them.
    """

    questions: int
    rounds: int
    load: tuple[float, float]
    rows: dict[tuple[str, str], tuple[list[float], int]]

    def milliseconds(self, run: EvalRun) -> float | None:
        """The median over the rounds for an answer; None for a run that was not timed in this block."""
        known = self.rows.get((run.key, run.tasks[0]))
        return None if known is None else 1000 * median(known[0]) / self.questions

    def tokens_per_second(self, run: EvalRun) -> float | None:
        """Tokens of the prompts, by the model's own tokenizer, that are read in a second; answers are written in it."""
        known = self.rows.get((run.key, run.tasks[0]))
        return None if known is None or not known[1] else known[1] / median(known[0])


def read_times(folder: Path) -> Times | None:
    """The times that lie with a suite's logs, or None if none were taken."""
    if not (file := folder / FILE).is_file():
        return None
    content = json.loads(file.read_text(encoding="utf-8"))
    rows = {(row["run"], row["task"]): (row["seconds"], row["tokens"]) for row in content["rows"]}
    return Times(content["questions"], content["rounds"], tuple(content["load"]), rows)


def take_times(
    rows: Sequence[TableRow], out: Path, options: Options, tell: Callable[[str], None]
) -> list[tuple[EvalRun, str]]:
    """Time every run of the rows on its first task in rounds, and write `FILE` into `out`.

    All models are kept in memory, since a model that has just been loaded is slower. The first round warms up and is
    not counted.

    Returns:
        Runs that could not be timed, and why.
    """
    register()
    wanted = {(row.run.key, row.run.tasks[0]): row.run for row in rows if row.run.tasks[0] != PERPLEXITY}
    models: dict[str, Any] = {}
    asked: dict[tuple[str, str], Any] = {}
    ready: list[tuple[EvalRun, str, Any, Any]] = []
    missing = []
    for (_, task), run in wanted.items():
        try:
            if run.loaded not in models:
                common = {"batch_size": options.batch_size, **({"device": options.device} if options.device else {})}
                models[run.loaded] = load_model(run.model, run.arguments, **common)
            block = json.dumps(run.block, sort_keys=True)
            if (task, block) not in asked:
                asked[task, block] = _questions(run, task, options)
            ready.append((run, task, models[run.loaded], asked[task, block]))
        except JRTError as error:
            missing.append((run, str(error)))
    seconds: list[list[float]] = [[] for _ in ready]
    tokens, loads = [0] * len(ready), []
    for number in range(ROUNDS + 1):
        tell(f"round {number} of {ROUNDS}, {len(ready)} rows")
        for at, (_, _, model, requests) in enumerate(ready):
            started = time.perf_counter()
            answers = model.generate_until(requests, disable_tqdm=True)
            seconds[at].append(time.perf_counter() - started)
            tokens[at] = sum(getattr(answer, "stats", {}).get("jrt_prompt_tokens", 0) for answer in answers)
            loads.append(os.getloadavg()[0])
    timed = [
        {"run": run.key, "task": task, "seconds": [round(one, 4) for one in taken[1:]], "tokens": read}
        for (run, task, _, _), taken, read in zip(ready, seconds, tokens, strict=True)
    ]
    load = [round(min(loads, default=0.0), 1), round(max(loads, default=0.0), 1)]
    content = {"questions": QUESTIONS, "rounds": ROUNDS, "load": load, "rows": timed}
    out.mkdir(parents=True, exist_ok=True)
    (out / FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return missing


def _questions(run: EvalRun, task: str, options: Options) -> Any:
    """Requests of a task that are spread over its rows, so that they are on different documents."""
    loaded = task_manager(metadata(run, options)).load([task])["tasks"][task]
    rows = len(loaded.eval_docs)
    chosen = [(2 * at + 1) * rows // (2 * QUESTIONS) for at in range(QUESTIONS)]
    loaded.build_all_requests(samples=chosen, rank=0, world_size=1)
    return loaded.instances
