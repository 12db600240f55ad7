"""`jrt-eval run --grid`: one run of lm_eval for each combination of values of the `jrt:` block."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.markdown import markdown_table
from jrt_lmeval.prompts.layouts import LAYOUTS
from jrt_lmeval.runner import EvalRun, Options, execute, settings_text, stated_runs, task_manager

Combination = dict[str, Any]

HELP = """\
usage: jrt-eval run --grid KEY=VALUE,VALUE [--grid ...] --output_path FOLDER [lm_eval's own arguments]

Runs the tasks once for every combination of the values. The model is loaded once. KEY is a key of the jrt: block of a
task (docs/add-a-task.md), with a dot for a key inside window (window.context_length); values are YAML.

  # the sensitivity of hierarchical prompts: 4 overlaps x 2 orders x 3 selections = 24 runs
  jrt-eval run --grid overlap=0,0.1,0.2,0.3 --grid order=coarse_to_fine,fine_to_coarse \\
      --grid select=all,information,random \\
      --model jrt_rnn --model_args feature_map=mlp --tasks swde_jrt_hier --limit 48 --output_path runs/grid

  # which level is written twice
  jrt-eval run --grid repeat_level=document,paragraph,sentence --model jrt_rnn --tasks factbook_jrt_hier \\
      --output_path runs/level

  # is it the repetition, or only the length?
  jrt-eval run --grid layout=flat,repeat_random,repeat_question --model jrt_rnn --tasks swde_jrt \\
      --output_path runs/length

  # recall by the depth at which the answer stands
  jrt-eval run --grid window.answer_at=0,0.25,0.5,0.75,1 --model jrt_rnn --tasks factbook_once --output_path runs/depth

Each combination has a folder of its own in FOLDER, with lm_eval's files and a run.json that states what was run.
Started again, the command passes over what is finished, if the other arguments are the same. At the end it prints a
table. Without --grid, 'jrt-eval run' is lm_eval; 'lm_eval run --help' shows lm_eval's own arguments.
'jrt-eval run ls tasks' lists the tasks of this package, and with --all those of lm_eval too.
"""

# Arguments of lm_eval that may change an answer and are handed on to `simple_evaluate`.
_SETTINGS = (
    "samples", "num_fewshot", "gen_kwargs", "system_instruction", "apply_chat_template", "fewshot_as_multiturn",
    "predict_only",
)  # fmt: skip
_SEEDS = ("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed")


def split_arguments(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """What stands after each `--grid`, and all other arguments.

    Raises:
        JRTError: nothing stands after a `--grid`.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--grid", action="append", default=[], nargs="?", const="")
    found, rest = parser.parse_known_args(list(argv))
    grid: list[str] = found.grid
    if any("=" not in axis for axis in grid):
        raise JRTError("--grid takes KEY=VALUE,VALUE such as --grid overlap=0,0.1,0.2,0.3.")
    return grid, rest


def combinations(axes: Sequence[str]) -> list[Combination]:
    """All combinations of the values of axes such as `"overlap=0,0.1"`, the last axis changing fastest.

    Raises:
        JRTError: values that are no YAML list, or a key or a value given twice.
    """
    values: dict[str, list[Any]] = {}
    for axis in axes:
        key, _, text = axis.partition("=")
        if key in values:
            raise JRTError(f"--grid {key} is given twice; give all its values at once: {key}=VALUE,VALUE.")
        try:
            values[key] = yaml.safe_load(f"[{text}]")
        except yaml.YAMLError:
            raise JRTError(f"--grid {axis}: the values must be YAML, with commas between them.") from None
        if not values[key]:
            raise JRTError(f"--grid {axis}: no values.")
        if len({json.dumps(value) for value in values[key]}) < len(values[key]):
            raise JRTError(f"--grid {axis}: a value is given twice.")
    return [dict(zip(values, combination, strict=True)) for combination in itertools.product(*values.values())]


def block(combination: Combination) -> dict[str, Any]:
    """The `jrt:` block of a combination: `window.policy` becomes `{window: {policy: ...}}`.

    What the layout of the combination does not read is left out, such as `as_long_as` beside `layout: hier`.
    """
    from jrt_lmeval.task.settings import unread

    nested: dict[str, Any] = {}
    for key, value in combination.items():
        *outer, last = key.split(".")
        inner = nested
        for name in outer:
            inner = inner.setdefault(name, {})
        inner[last] = value
    if "layout" in nested:
        nested = {key: value for key, value in nested.items() if key not in unread(nested)}
    return nested


def check_axes(grid: Sequence[Combination], blocks: Mapping[str, Mapping[str, Any]]) -> None:
    """Check every combination with the block of every task (task -> its own `jrt:` block).

    Raises:
        JRTError: a block that is not valid, or an axis that changes nothing in a task; says what it would need.
    """
    from jrt_lmeval.task.settings import merged, settings

    for task, own in blocks.items():
        found = []
        for combination in grid:
            try:
                found.append(settings(merged(own, block(combination))).as_dict())
            except JRTError as error:
                raise JRTError(f"--grid: {', '.join(settings_text(combination))} with {task}: {error}") from None
        for key in grid[0]:
            others: dict[str, set[str]] = {}
            for combination, resolved in zip(grid, found, strict=True):
                rest = json.dumps({name: value for name, value in combination.items() if name != key})
                others.setdefault(rest, set()).add(json.dumps(resolved, sort_keys=True))
            several = len({json.dumps(combination[key]) for combination in grid}) > 1
            if several and all(len(outcomes) == 1 for outcomes in others.values()):
                layouts = ", ".join(sorted({repr(resolved["layout"]) for resolved in found}))
                need = ", ".join(name for name, layout in LAYOUTS.items() if key in layout.keys)
                raise JRTError(
                    f"--grid {key} changes nothing in {task}, whose layout is {layouts}"
                    + (f"; {key!r} needs one of the layouts {need}." if need else ".")
                )


def own_blocks(manager: Any, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Task of ours -> the `jrt:` block of its file; groups and tags count as their tasks."""
    from lm_eval.tasks._yaml_loader import load_yaml

    from jrt_lmeval.task.settings import merged

    found: dict[str, dict[str, Any]] = {}
    for name in names:
        entry = manager.task_index.get(name)
        path = Path(name) if name.endswith(".yaml") else entry.yaml_path
        config = load_yaml(path, resolve_func=False) if path else entry.cfg or {}
        if isinstance(config.get("task"), list):
            found |= own_blocks(manager, [task if isinstance(task, str) else task["task"] for task in config["task"]])
        elif "RecallTask" in str(config.get("class")):
            found[str(config["task"])] = merged(config.get("jrt_common"), config.get("jrt"))
    return found


def main(argv: Sequence[str]) -> int:
    """Run the grid that `--grid` arguments span; every other argument is lm_eval's.

    Raises:
        JRTError: bad axes, an unknown task, no output path, or a folder that holds runs with other settings.
    """
    axes, rest = split_arguments(argv)
    if not rest or {"-h", "--help"} & set(rest):
        print(HELP, end="")
        return 0
    from jrt_lmeval.plugin import register
    from jrt_lmeval.task.settings import merged

    grid = combinations(axes)
    register()
    from lm_eval._cli.harness import HarnessCLI
    from lm_eval.config.evaluate_config import EvaluatorConfig

    sys.argv = ["lm_eval", "run", *(rest[1:] if rest[0] == "run" else rest)]  # lm_eval's parser reads it itself
    cfg = EvaluatorConfig.from_cli(HarnessCLI().parse_args())
    if not cfg.output_path:
        raise JRTError("--grid needs --output_path: the folder for the results of all combinations.")
    below = cfg.metadata.pop("jrt", None)
    manager = task_manager({}, cfg.include_path)
    names = _tasks(cfg, manager)
    check_axes(grid, {task: merged(own, below) for task, own in own_blocks(manager, names).items()})
    runs = [EvalRun(cfg.model, cfg.model_args, tuple(names), merged(below, block(one))) for one in grid]
    labels = [", ".join(settings_text(combination)) for combination in grid]
    out = Path(cfg.output_path)
    before = set(stated_runs(out))

    def tell(run: EvalRun, number: int, seconds: float) -> None:
        again = "finished before" if run.key in before else f"{seconds:.0f} s"
        print(f"[{number}/{len(grid)}] {labels[number - 1]}: {again}", flush=True)

    missing = execute(runs, out, _options(cfg), tell)
    for why in dict.fromkeys(why for _, why in missing):
        print(f"not run: {why}", file=sys.stderr)
    print(table(dict(zip(labels, runs, strict=True)), out), end="")
    return int(bool(missing))


def table(runs: Mapping[str, EvalRun], out: Path) -> str:
    """A Markdown table of the runs in `out`, a line for each combination and task, with what must not be missed."""
    from jrt_lmeval.report.collect import collect

    known = stated_runs(out)
    rows = []
    for label, run in runs.items():
        for cell in collect([known[run.key]]).cells if run.key in known else ():
            found = (cell.mean("contains"), cell.first.errors.get("contains"), cell.first.means.get("prompt_tokens"))
            shown = ["-" if x is None else f"{x:.{digits}f}" for x, digits in zip(found, (3, 3, 0), strict=True)]
            marks = [f"[{mark}]" for mark in cell.first.marks]
            rows.append([label, " ".join([cell.task, *marks]), cell.first.asked, *shown])
    return markdown_table(["combination", "task", "rows", "contains", "±", "prompt tokens"], rows, left=2)


def _options(cfg: Any) -> Options:
    settings = {name: getattr(cfg, name) for name in _SETTINGS}
    settings |= dict(zip(_SEEDS, cfg.seed or [None] * len(_SEEDS), strict=True))
    machine = {name: getattr(cfg, name) for name in ("batch_size", "device", "use_cache", "max_batch_size")}
    # lm_eval reads every limit as a float
    limit = int(cfg.limit) if cfg.limit is not None and float(cfg.limit).is_integer() else cfg.limit
    return Options(limit, include_path=cfg.include_path, metadata=cfg.metadata, settings=settings, **machine)


def _tasks(cfg: Any, manager: Any) -> list[str]:
    given = cfg.tasks.split(",") if isinstance(cfg.tasks, str) else [t for task in cfg.tasks for t in task.split(",")]
    names: list[str] = []
    for name in given:
        found = [str(Path(name).absolute())] if name.endswith(".yaml") else manager.match_tasks([name])
        if not found:
            raise unknown("task", name, manager.all_tasks)
        names += found
    return names
