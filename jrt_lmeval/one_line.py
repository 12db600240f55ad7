"""A user's mistake ends in one line and exit status 1, also under the plain `lm_eval` command.

Python prints thirty lines of traceback for an error that reaches the top, under torchrun a hundred. For our own errors,
which say what is wrong and what would be right, the line is enough. `JRT_LMEVAL_TRACEBACK=1` shows all; errors that are
not ours are printed as ever.
"""

from __future__ import annotations

import json
import os
import pickle
import sqlite3
import sys
import time
from pathlib import Path
from types import TracebackType

from jrt_lmeval.errors import JRTError

ALL = "JRT_LMEVAL_TRACEBACK"
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
"""Where a process that torchrun or accelerate started says why it failed."""


def line_for(error: BaseException) -> str | None:
    """What to print for an error that reached the top, or None where it is none of ours."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, JRTError):
            return f"error: {found}"
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)
    # lm_eval opens the file of --use_cache itself, before any model sees it
    unreadable = (sqlite3.DatabaseError, pickle.UnpicklingError, EOFError)
    if isinstance(error, unreadable) and any(word.startswith("--use_cache") for word in sys.argv):
        return (
            f"error: the file of --use_cache cannot be read as a request cache ({error}): it is damaged or something "
            "else. Delete it, or use another path."
        )
    return None


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
        line = None if os.environ.get(ALL, "0") not in ("", "0") else line_for(error)
        if line is None:
            before(kind, error, trace)
        else:
            tell(line)

    hook._one_line = True  # type: ignore[attr-defined]
    sys.excepthook = hook
