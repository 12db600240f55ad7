"""`jrt-eval run --grid`: one run of lm_eval for each combination of values of the `jrt:` block."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from jrt_lmeval import __version__
from jrt_lmeval.commands.in_process import evaluate, load_model, task_manager
from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.markdown import markdown_table

Cell = dict[str, Any]

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

Each combination has a folder of its own in FOLDER, such as 'overlap=0.1,order=coarse_to_fine', with lm_eval's results
file. Started again, the command passes over what is finished, if the other arguments are the same. At the end it prints
a table. Without --grid, 'jrt-eval run' is lm_eval; 'lm_eval run --help' shows lm_eval's own arguments.
"""

# What must be the same for results in one folder to be of one grid.
_COMPARED = (
    "model", "model_args", "tasks", "limit", "samples", "num_fewshot", "gen_kwargs", "seed", "metadata",
    "system_instruction", "apply_chat_template", "fewshot_as_multiturn", "predict_only",
)  # fmt: skip


def split_arguments(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """What stands after each `--grid`, and all other arguments.

    Raises:
        JRTError: nothing stands after a `--grid`.
    """
    grid: list[str] = []
    rest: list[str] = []
    arguments = iter(argv)
    for argument in arguments:
        if argument.startswith("--grid="):
            grid.append(argument.removeprefix("--grid="))
        elif argument == "--grid":
            grid.append(next(arguments, ""))
        else:
            rest.append(argument)
    if any("=" not in axis for axis in grid):
        raise JRTError("--grid takes KEY=VALUE,VALUE such as --grid overlap=0,0.1,0.2,0.3.")
    return grid, rest


def cells(axes: Sequence[str]) -> list[Cell]:
    """All combinations of the values of axes such as `"overlap=0,0.1"`, the last axis changing fastest.

    Raises:
        JRTError: values that are no YAML list, a key given twice, or a block that is not valid (`block.settings`).
    """
    from jrt_lmeval.task.block import settings

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
    found = [dict(zip(values, combination, strict=True)) for combination in itertools.product(*values.values())]
    for cell in found:
        settings(block(cell))
    return found


def block(cell: Cell) -> dict[str, Any]:
    """The `jrt:` block of a cell: `window.policy` becomes `{window: {policy: ...}}`."""
    nested: dict[str, Any] = {}
    for key, value in cell.items():
        *outer, last = key.split(".")
        inner = nested
        for name in outer:
            inner = inner.setdefault(name, {})
        inner[last] = value
    return nested


def cell_name(cell: Cell) -> str:
    """The folder of a cell, such as `overlap=0.1,order=coarse_to_fine`."""

    def text(value: Any) -> str:
        plain = value if isinstance(value, str) else json.dumps(value)
        return "".join(character if character.isalnum() or character in "._-" else "_" for character in plain)

    return ",".join(f"{key}={text(value)}" for key, value in cell.items())


def main(argv: Sequence[str]) -> int:
    """Run the grid that `--grid` arguments span; every other argument is lm_eval's.

    Raises:
        JRTError: bad axes, an unknown task, no output path, or a folder that holds cells of another run.
    """
    axes, rest = split_arguments(argv)
    if not rest or {"-h", "--help"} & set(rest):
        print(HELP, end="")
        return 0
    grid = cells(axes)
    cfg = _config(rest)
    if not cfg.output_path:
        raise JRTError("--grid needs --output_path: the folder for the results of all cells.")
    arguments = _arguments(cfg)
    folders = [Path(cfg.output_path) / cell_name(cell) for cell in grid]
    done = [_finished(folder, arguments) for folder in folders]
    names = _tasks(cfg)
    model = None
    for number, (cell, folder) in enumerate(zip(grid, folders, strict=True)):
        if done[number] is not None:
            print(f"[{number + 1}/{len(grid)}] {folder.name}: finished before")
            continue
        print(f"[{number + 1}/{len(grid)}] {folder.name}", flush=True)
        model = model or _model(cfg)
        done[number] = _run(cfg, model, names, cell, folder, arguments)
    print(table({folder.name: scores or {} for folder, scores in zip(folders, done, strict=True)}), end="")
    return 0


def table(scores: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """A Markdown table of `{cell: {task: figures}}`, a line for each cell and task."""
    rows = [
        [
            cell,
            task,
            figures.get("rows", ""),
            *(_number(figures.get(name), digits) for name, digits in (("contains", 3), ("stderr", 3))),
            _number(figures.get("prompt_tokens"), 0),
        ]
        for cell, tasks in scores.items()
        for task, figures in tasks.items()
    ]
    return markdown_table(["cell", "task", "rows", "contains", "±", "prompt tokens"], rows, left=2)


def _number(value: Any, digits: int) -> str:
    return f"{value:.{digits}f}" if isinstance(value, (int, float)) else "-"


def _config(rest: Sequence[str]) -> Any:
    from jrt_lmeval.plugin import register

    register()
    from lm_eval._cli.harness import HarnessCLI
    from lm_eval.config.evaluate_config import EvaluatorConfig

    sys.argv = ["lm_eval", "run", *(rest[1:] if rest[0] == "run" else rest)]  # lm_eval's parser reads it itself
    return EvaluatorConfig.from_cli(HarnessCLI().parse_args())


def _arguments(cfg: Any) -> dict[str, Any]:
    used = {"version": __version__, **{name: getattr(cfg, name) for name in _COMPARED}}
    return json.loads(json.dumps(used, default=str))


def _finished(folder: Path, arguments: dict[str, Any]) -> dict[str, Any] | None:
    file = folder / "cell.json"
    if not file.is_file():
        return None
    content = json.loads(file.read_text(encoding="utf-8"))
    for name, value in arguments.items():
        if content["arguments"].get(name) != value:
            raise JRTError(
                f"{folder} was run with {name} {content['arguments'].get(name)!r}, not {value!r}: "
                "choose another --output_path, or delete the folder."
            )
    return content["scores"]


def _manager(cfg: Any, cell: Cell) -> Any:
    from jrt_lmeval.task.block import merged

    return task_manager({**cfg.metadata, "jrt": merged(cfg.metadata.get("jrt"), block(cell))}, cfg.include_path)


def _tasks(cfg: Any) -> list[str]:
    given = cfg.tasks.split(",") if isinstance(cfg.tasks, str) else [t for task in cfg.tasks for t in task.split(",")]
    manager = _manager(cfg, {})
    names: list[str] = []
    for name in given:
        found = [str(Path(name).absolute())] if name.endswith(".yaml") else manager.match_tasks([name])
        if not found:
            raise unknown("task", name, manager.all_tasks)
        names += found
    return names


def _model(cfg: Any) -> Any:
    common = {"batch_size": cfg.batch_size, "max_batch_size": cfg.max_batch_size, "device": cfg.device}
    return load_model(cfg.model, cfg.model_args, **common)


def _run(
    cfg: Any, model: Any, names: list[str], cell: Cell, folder: Path, arguments: dict[str, Any]
) -> dict[str, Any] | None:
    seeds = cfg.seed or [None] * 4
    results = evaluate(
        model,
        cfg.model,
        cfg.model_args,
        names,
        _manager(cfg, cell),
        folder,
        num_fewshot=cfg.num_fewshot,
        batch_size=cfg.batch_size,
        device=cfg.device,
        use_cache=cfg.use_cache,
        limit=cfg.limit,
        samples=cfg.samples,
        system_instruction=cfg.system_instruction,
        apply_chat_template=cfg.apply_chat_template,
        fewshot_as_multiturn=cfg.fewshot_as_multiturn,
        gen_kwargs=cfg.gen_kwargs,
        predict_only=cfg.predict_only,
        random_seed=seeds[0],
        numpy_random_seed=seeds[1],
        torch_random_seed=seeds[2],
        fewshot_random_seed=seeds[3],
    )
    if results is None:  # another process writes
        return None
    scores = {task: _scores(results, task) for task in results["configs"]}
    # Last, so that a cell that was broken off counts as not finished.
    content = {"arguments": arguments, "cell": cell, "scores": scores}
    (folder / "cell.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
    return scores


def _scores(results: Mapping[str, Any], task: str) -> dict[str, Any]:
    figures = results["results"][task]
    names = {"contains": "contains,none", "stderr": "contains_stderr,none"}
    means = results["configs"][task]["metadata"].get("jrt_found", {}).get("means", {})
    scores = {name: figures.get(key) for name, key in names.items()}
    return {"rows": figures["sample_len"], **scores, "prompt_tokens": means.get("prompt_tokens")}
