"""What happens before the model works.

    python -m benchmarks --only start

Three things are measured. The hook: a Python that does nothing is started in two bare environments, with the hook and
without it. The imports: a run loads torch, transformers' models and lm_eval, with our modules on top and without them.
The run: one question of a task of ours is put to a shipped model, by `jrt-eval run`, which indexes our tasks only, and
by `lm_eval`, which indexes all. The processor time of the child is counted, so that other work disturbs little.
"""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping
from pathlib import Path

from benchmarks.measure import Row, rounds, row, side_by_side, spent

ROOT = Path(__file__).resolve().parent.parent
FILES = ("_jrt_lmeval_hook.py", "jrt_lmeval_start.pth", "jrt_lmeval_start.start")
OTHERS = "import torch, transformers.modeling_utils, lm_eval.models, lm_eval.tasks, lm_eval.evaluator"
OURS = f"{OTHERS}; import jrt_lmeval, model_adapters.models, jrt_lmeval.task; jrt_lmeval.register()"
RUN = ("--model", "jrt_rnn", "--tasks", "factbook_once", "--limit", "1")
HOOK_ROUNDS = 100


def interpreter_with(hook: bool, folder: Path) -> Path:
    """The interpreter of a new, empty virtual environment."""
    venv.create(folder, symlinks=os.name != "nt")
    interpreter = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if hook:
        show = "import sysconfig; print(sysconfig.get_path('purelib'))"
        site = subprocess.run([interpreter, "-c", show], capture_output=True, text=True, check=True).stdout.strip()
        for name in FILES:
            shutil.copy(ROOT / name, site)
        compileall.compile_dir(site, quiet=1)  # as pip does
    return interpreter


def rows(quick: bool) -> list[Row]:
    """The hook, our imports, and a run of one question."""
    with tempfile.TemporaryDirectory() as folder:
        # -E: with a PYTHONPATH that holds a checkout, the hook would be read from there and not from site-packages
        ours, plain = ([interpreter_with(hook, Path(folder, str(hook))), "-E", "-c", "pass"] for hook in (True, False))
        ways = {"with the hook": lambda: spent(ours).cpu, "without the hook": lambda: spent(plain).cpu}
        side_by_side(ways, 5)  # the first starts fill the disk's cache
        costs = side_by_side(ways, rounds(quick) if quick else HOOK_ROUNDS)
    hook = row("a Python that does nothing, CPU time", costs, "nothing to answer")

    def child(env: Mapping[str, str], *arguments: str) -> float:
        return spent([sys.executable, *arguments], env).cpu

    off = {"JRT_LMEVAL_DISABLE": "1"}  # or the hook would load ours in both
    offline = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    imports = {"others' and ours": lambda: child(off, "-c", OURS), "others'": lambda: child(off, "-c", OTHERS)}
    runs = {
        "jrt-eval run": lambda: child(offline, "-m", "jrt_lmeval", "run", *RUN),
        "lm_eval": lambda: child(offline, "-m", "lm_eval", *RUN),
    }
    costs = [side_by_side(ways, rounds(quick)) for ways in (imports, runs)]
    return [
        hook,
        row("imports of a run, CPU time", costs[0], "nothing to answer", unit="s", scale=1),
        row("a run of one question, CPU time", costs[1], "one question", unit="s", scale=1),
    ]
