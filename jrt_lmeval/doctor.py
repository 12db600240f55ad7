"""`jrt-eval doctor`: what is installed, what lm_eval sees of it, and what to fix.

`jrt-eval doctor MODEL`: whether a model is fit to be evaluated.
"""

from __future__ import annotations

import argparse
import os
import shutil
import site
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from jrt_lmeval import paths
from jrt_lmeval.checkpoints.packaged import PACKAGED, packaged_state
from jrt_lmeval.errors import JRTError
from jrt_lmeval.plugin import MODELS

START_FILE = "jrt_lmeval_start.pth"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report; `fix` says what to do where something is wrong, and is empty where not."""

    what: str
    seen: str
    fix: str = ""


def versions() -> Iterator[Finding]:
    """The versions that matter in a bug report, and every dependency that is missing or older than what we ask for."""
    yield Finding("python", f"{sys.version.split()[0]} at {sys.executable}")
    needed = requirements()
    for package in ("jrt-lmeval", "lm_eval", "torch", "transformers"):
        yield _installed(package, needed.pop(canonicalize_name(package), None))
    for name, requirement in needed.items():
        found = _installed(name, requirement)
        if found.fix:
            yield found


def requirements() -> dict[str, Requirement]:
    """What the installed package asks for, without its extras: canonical name -> requirement."""
    try:
        asked = [Requirement(line) for line in requires("jrt-lmeval") or ()]
    except PackageNotFoundError:
        return {}
    return {canonicalize_name(one.name): one for one in asked if not one.marker or one.marker.evaluate({"extra": ""})}


def _installed(package: str, requirement: Requirement | None) -> Finding:
    try:
        found = version(package)
    except PackageNotFoundError:
        return Finding(package, "not installed in this Python", "pip install jrt-lmeval in this environment")
    if requirement is None or requirement.specifier.contains(found, prereleases=True):
        return Finding(package, found)
    return Finding(package, f"{found}, but jrt-lmeval needs {requirement.specifier}", f"pip install '{requirement}'")


def command() -> Iterator[Finding]:
    """Whether the `lm_eval` of the shell is the one of this Python."""
    here = Path(sysconfig.get_path("scripts"))
    found = shutil.which("lm_eval")
    if found is None:
        yield Finding("lm_eval command", "not on PATH", f"activate the environment, or run {here / 'lm_eval'}")
    elif Path(found).parent.resolve() != here.resolve():
        fix = "install jrt-lmeval there too (pipx inject lm_eval jrt-lmeval), or use 'jrt-eval run'"
        yield Finding("lm_eval command", f"{found}, of another environment", fix)
    else:
        yield Finding("lm_eval command", found)


def hook() -> Iterator[Finding]:
    """Whether this interpreter ran the start-up hook."""
    if os.environ.get("JRT_LMEVAL_DISABLE", "0") not in ("", "0"):
        yield Finding("start-up hook", "off", "unset JRT_LMEVAL_DISABLE")
    elif "_jrt_lmeval_hook" in sys.modules:
        yield Finding("start-up hook", "on")
    else:
        folders = (sysconfig.get_path("purelib"), site.getusersitepackages())
        where = next((folder for folder in folders if (Path(folder) / START_FILE).is_file()), None)
        seen = f"{START_FILE} in {where} was not run" if where else f"no {START_FILE} in a site folder"
        fix = "reinstall without --target and start Python without -S; or use 'jrt-eval run' or jrt_lmeval.register()"
        yield Finding("start-up hook", seen, fix)


def models() -> Iterator[Finding]:
    """Which of our models lm_eval knows when nobody calls `register`."""
    if find_spec("lm_eval") is None:
        return
    import_module("lm_eval.models")
    from lm_eval.api.registry import model_registry

    known = [name for name in MODELS if name in model_registry]
    fix = "" if len(known) == len(MODELS) else "see the start-up hook above"
    yield Finding("models lm_eval knows", ", ".join(known) or "none of ours", fix)


def files() -> Iterator[Finding]:
    """The folders the package reads."""
    tasks = paths.tasks_dir()
    count = sum(1 for path in tasks.glob("**/*.yaml") if not path.name.startswith("_"))
    yield Finding("tasks", f"{count} in {tasks}", "" if count else "reinstall jrt-lmeval: its task files are missing")
    shipped = sorted(path.parent.name for path in paths.weights_dir().glob("*/config.json"))
    yield Finding("shipped models", ", ".join(shipped) or "none", "" if shipped else "reinstall, or give pretrained=")
    yield Finding("packaged model", f"{PACKAGED}: {packaged_state()}")
    local = os.environ.get("JRT_LMEVAL_DATA")
    if local is None:
        yield Finding("local data", "JRT_LMEVAL_DATA is not set: the hub, else the shipped samples")
    else:
        fix = "" if Path(local).is_dir() else "point JRT_LMEVAL_DATA at a folder with <dataset>/<split>.jsonl"
        yield Finding("local data", local, fix)


def kernels() -> Iterator[Finding]:
    """Whether flash-linear-attention is installed, and whether its kernels find a GPU."""
    if find_spec("fla") is None:
        return
    import torch

    seen = f"flash-linear-attention {version('flash-linear-attention')}"
    if torch.cuda.is_available():
        yield Finding("kernels", seen)
        return
    fix = (
        "transformers takes its kernels for Qwen3-Next, OLMo-Hybrid and their kin, which then fail: "
        "pip uninstall flash-linear-attention fla-core triton"
    )
    yield Finding("kernels", f"{seen}, but no GPU", fix)


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (versions, command, hook, models, files, kernels)


def main(argv: Sequence[str]) -> int:
    """Print the report: on the installation, or on a model if one is named.

    Returns:
        1 where something needs fixing, else 0.
    """
    parser = argparse.ArgumentParser(prog="jrt-eval doctor", description=__doc__)
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", help="check this model: a folder, a hub id or a shipped name"
    )
    parser.add_argument("--tasks", default="", help="with MODEL: tasks whose longest prompt must fit, by commas")
    parser.add_argument("--tokenizer", help="with MODEL: folder or hub id of its tokenizer; 'none' to do without")
    parser.add_argument("--device", help="with MODEL: such as cpu or cuda:0")
    parser.add_argument("--dtype", help="with MODEL: float32, bfloat16 or float16")
    arguments = vars(parser.parse_args(list(argv)))
    if arguments["model"] is not None:
        return examine_model(**arguments)
    findings = [finding for check in CHECKS for finding in check()]
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        print(f"{'!!' if finding.fix else 'ok'}  {finding.what:<{width}}  {finding.seen}")
        if finding.fix:
            print(f"    {'':<{width}}  -> {finding.fix}")
    return int(any(finding.fix for finding in findings))


def examine_model(model: str, tasks: str, tokenizer: str | None, device: str | None, dtype: str | None) -> int:
    """Load a model as it would be evaluated, check it and print the table; 1 if a check fails, else 0.

    The arguments are those of the command line.

    Raises:
        JRTError: no such model or task. A model that is there and does not load is a check that failed.
    """
    from jrt_lmeval.checkpoints.found import find
    from jrt_lmeval.checkpoints.load import load_model
    from jrt_lmeval.checkpoints.tokenizers import find_tokenizer
    from jrt_lmeval.modeling.model import JRTForCausalLM
    from model_adapters.engines.checkup import Check, checkup, table
    from model_adapters.engines.hf import HFEngine
    from model_adapters.engines.jrt import JRTEngine
    from model_adapters.options import RunOptions

    checkpoint = find(model)
    place = RunOptions(device=device, dtype=dtype).place()
    found = None if tokenizer == "none" else find_tokenizer(checkpoint, tokenizer)
    names = [name for name in tasks.split(",") if name]
    lengths = prompt_lengths(names, found) if names and found is not None else ()
    try:
        loaded = load_model(checkpoint, place.dtype, place.device)
    except JRTError as error:
        checks = [Check("all weights loaded", False, str(error))]
    else:
        engine = JRTEngine(loaded) if isinstance(loaded, JRTForCausalLM) else HFEngine(loaded)
        checks = list(checkup(engine, found, lengths))
    print(table(checks))
    return int(any(check.passed is False for check in checks))


def prompt_lengths(tasks: Sequence[str], tokenizer: Any) -> list[int]:
    """Tokens of every prompt of the tasks, room to answer included."""
    from jrt_lmeval.plugin import register

    register()
    from lm_eval.tasks import TaskManager, get_task_dict

    manager = TaskManager()
    if unknown := [name for name in tasks if name not in manager.all_tasks]:
        raise JRTError(f"no task or group called {', '.join(unknown)}; 'jrt-eval run ls tasks' lists them.")
    lengths = []
    found: list[Any] = [get_task_dict(list(tasks), manager)]
    while found:
        task = found.pop(0)
        if isinstance(task, dict):  # one of lm_eval's groups, which may be nested
            found = [*task.values(), *found]
            continue
        task.build_all_requests(limit=None, rank=0, world_size=1)
        for request in task.instances:
            options = request.args[1] if isinstance(request.args[-1], dict) else {}
            lengths.append(len(tokenizer.encode(str(request.args[0]))) + int(options.get("max_gen_toks", 0)))
    return lengths
