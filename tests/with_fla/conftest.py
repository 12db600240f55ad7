"""Tests of what runs through flash-linear-attention, on a CPU in Triton's interpreter.

They are collected where fla can be imported, and run in a process of their own, since the interpreter and fla's models
change what Triton and transformers do: `PYTHONPATH=FOLDER pytest tests/with_fla`, fla being in FOLDER (.ci/run).
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

# Test folders are not packages (pytest's importlib mode), so this one's own modules must be found by path.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

if find_spec("fla") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    import interpreter  # noqa: F401 - before torch and fla are imported
