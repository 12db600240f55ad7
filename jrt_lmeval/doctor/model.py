"""`jrt-eval doctor MODEL`: load a model as it would be evaluated and print the table of `checkup`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from jrt_lmeval.checkpoints.found import find
from jrt_lmeval.checkpoints.load import load_model
from jrt_lmeval.checkpoints.tokenizers import find_tokenizer
from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.model import JRTForCausalLM
from model_adapters.engines.checkup import Check, checkup
from model_adapters.engines.hf import HFEngine
from model_adapters.engines.jrt import JRTEngine
from model_adapters.options import RunOptions

NO_TOKENIZER = "none"


def examine(
    source: str,
    tasks: Sequence[str] = (),
    tokenizer: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    **modes: str,
) -> Iterator[Check]:
    """Load a model and check it.

    Args:
        source: a folder, a hub id, or the name of a shipped model.
        tasks: whose longest prompt must fit.
        tokenizer: folder or hub id; `none` to do without.
        device, dtype: as in `--model_args`.
        **modes: `padding`, `decode`, `filling` of our models.

    Raises:
        JRTError: no such model or task. A model that is there and does not load is a finding instead.
    """
    checkpoint = find(source)
    hardware = RunOptions(device=device, dtype=dtype).hardware()
    found = None if tokenizer == NO_TOKENIZER else find_tokenizer(checkpoint, tokenizer)
    lengths = prompt_lengths(tasks, found) if tasks and found is not None else ()
    try:
        model = load_model(checkpoint, hardware.dtype, hardware.device, modes)
    except JRTError as error:
        yield Check("all weights loaded", False, str(error))
        return
    engine = JRTEngine(model) if isinstance(model, JRTForCausalLM) else HFEngine(model)
    yield from checkup(engine, found, lengths)


def prompt_lengths(tasks: Sequence[str], tokenizer: Any) -> list[int]:
    """Tokens of every prompt of the tasks, room to answer included."""
    from jrt_lmeval.plugin import register

    register()
    from lm_eval.tasks import TaskManager, get_task_dict

    manager = TaskManager()
    if unknown := [name for name in tasks if name not in manager.all_tasks]:
        raise JRTError(f"no task or group called {', '.join(unknown)}; 'jrt-eval run ls tasks' lists them.")
    lengths = []
    for task in leaves(get_task_dict(list(tasks), manager)):
        task.build_all_requests(limit=None, rank=0, world_size=1)
        for request in task.instances:
            options = request.args[1] if isinstance(request.args[-1], dict) else {}
            lengths.append(len(tokenizer.encode(str(request.args[0]))) + int(options.get("max_gen_toks", 0)))
    return lengths


def leaves(tasks: dict[Any, Any]) -> Iterator[Any]:
    """The tasks in lm_eval's nested groups."""
    for task in tasks.values():
        if isinstance(task, dict):
            yield from leaves(task)
        else:
            yield task
