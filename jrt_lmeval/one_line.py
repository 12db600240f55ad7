"""A user's mistake ends in one line and exit status 1, also under the plain `lm_eval` command.

Our own errors say what is wrong and what would be right, so their traceback is left out. The same holds for mistakes
that lm_eval finds first: a misspelt task, a misspelt model, options that are no JSON. `JRT_LMEVAL_TRACEBACK=1` shows
the traceback; other errors are printed as Python prints them.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import sqlite3
import sys
import time
from difflib import get_close_matches
from pathlib import Path
from traceback import walk_tb
from types import FrameType, TracebackType

from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.paths import tasks_dir

ALL = "JRT_LMEVAL_TRACEBACK"
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
"""Where a process that torchrun or accelerate started says why it failed."""

FAULTS: dict[Path, list[str]] = {}
"""Folder of a user's tasks -> what is wrong in it, as far as it was looked at in this process."""


def line_for(error: BaseException) -> str | None:
    """What to print for an error that reached the top, or None where it is none of ours."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, JRTError):
            return f"error: {found}"
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)
    # lm_eval opens the file of --use_cache itself, before any model sees it
    if any(word.startswith("--use_cache") for word in sys.argv) and (
        isinstance(error, (sqlite3.Error, pickle.UnpicklingError, EOFError))
        or (
            isinstance(error, OSError)
            and any(type(frame.f_locals.get("self")).__name__ == "CachingLM" for frame in _frames(error))
        )
    ):
        return f"error: the file of --use_cache {cache_fault(error)}"
    if isinstance(error, AssertionError) and str(error).startswith("Tokenizer is required for loglikelihood"):
        return (
            "error: a task that scores given text (such as recall_ppl) was put to a server asked for text only "
            "(tokenizer_backend=None). Leave the task out, run the model with --model hf_recall, or name its tokenizer "
            "(tokenizer_backend=huggingface,tokenizer=DIR) where the server returns the log-probabilities of a prompt."
        )
    return _found_by_lm_eval(error)


def _found_by_lm_eval(error: BaseException) -> str | None:
    """A line for what lm_eval says of a mistake, with the nearest name that would be right."""
    text = " ".join(str(error).split())
    module = str(_frames(error)[-1].f_globals.get("__name__")) if error.__traceback__ else ""
    if type(error) is not ValueError or not module.startswith("lm_eval."):
        return None
    if found := re.match(r"Tasks not found: ([^ ,]+)", text):
        faults = [fault for of_folder in FAULTS.values() for fault in of_folder]
        # of the file that the task is missing for, which bears its name or has it inside, else all
        if faults := [fault for fault in faults if found[1] in fault] or faults:
            return f"error: {text}. {'; '.join(faults)}."
        near = get_close_matches(found[1], (file.stem for file in tasks_dir().rglob("*.yaml")), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"error: {text}.{hint} 'jrt-eval run ls tasks' lists all tasks."
    if found := re.match(r"Attempted to load model '(.+?)', .*Supported model names: (.+)", text):
        return f"error: {unknown('model', found[1], found[2].split(', '))}"
    return f"error: {text}" if text.startswith("Invalid JSON: ") else None


def cache_fault(error: BaseException) -> str:
    """What is wrong with the file of a request cache, and what to do, as the rest of a sentence about the file."""
    text = str(error)
    if isinstance(error, sqlite3.OperationalError) and "locked" in text:
        return f"is in use by another process ({text}). Wait for it, or use another path."
    if isinstance(error, OSError) or any(word in text for word in ("readonly", "unable to open", "full", "I/O")):
        return f"cannot be written ({text}). Use a path on a disk that can be written and has room."
    return (
        f"cannot be read as a request cache ({text}): it is damaged or something else. Delete it, or use another path."
    )


def _frames(error: BaseException) -> list[FrameType]:
    """The calls that an error passed through, the one that raised it last."""
    return [frame for frame, _ in walk_tb(error.__traceback__)]


def wants_traceback() -> bool:
    """Whether the user asked to see everything."""
    return os.environ.get(ALL, "0") not in ("", "0")


def tell(line: str) -> None:
    """Print a line; of several processes that one launcher started only the first does.

    The others leave theirs where torchrun and accelerate look: both show it in their report of what failed.
    """
    file = os.environ.get(ERROR_FILE)
    if os.environ.get("RANK", "0") == "0" or not file:
        print(line, file=sys.stderr)
    if file:
        facts = {"message": line, "extraInfo": {"py_callstack": line, "timestamp": str(int(time.time()))}}
        Path(file).write_text(json.dumps({"message": facts}), encoding="utf-8")


def install() -> None:
    """From now on, print our errors as one line. Twice does no harm; an interactive session is left alone."""
    before = sys.excepthook
    if getattr(before, "_one_line", False) or hasattr(sys, "ps1"):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        line = None if wants_traceback() else line_for(error)
        if line is None:
            before(kind, error, trace)
        else:
            tell(line)

    hook._one_line = True  # type: ignore[attr-defined]
    sys.excepthook = hook
