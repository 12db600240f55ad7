"""What happens before the model works.

    python -m benchmarks --only start

The hook: two bare environments, with and without it; what a Python costs that does nothing. The imports: what a run
loads of others (torch, transformers' models, lm_eval), with and without ours on top. The run: from the shell to the end
of one question of a shipped model on a task of ours, as `jrt-eval run` (which indexes our tasks only) and as `lm_eval`
(which indexes all). Counted is the processor time of the child, so that other work disturbs little.
"""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import tempfile
import venv
from pathlib import Path

from benchmarks.measure import Options, Row, python, row, side_by_side, spent

ROOT = Path(__file__).resolve().parent.parent
FILES = ("_jrt_lmeval_hook.py", "jrt_lmeval_start.pth", "jrt_lmeval_start.start")
OTHERS = "import torch, transformers.modeling_utils, lm_eval.models, lm_eval.tasks, lm_eval.evaluator"
OURS = f"{OTHERS}; import jrt_lmeval, model_adapters.jrt_rnn, jrt_lmeval.task; jrt_lmeval.register()"
RUN = ("--model", "jrt_rnn", "--tasks", "factbook_once", "--limit", "1")


def environment(folder: Path, with_hook: bool) -> Path:
    """Make an empty virtual environment and return its interpreter."""
    venv.create(folder, symlinks=os.name != "nt")
    interpreter = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if with_hook:
        show = "import sysconfig; print(sysconfig.get_path('purelib'))"
        site = subprocess.run([interpreter, "-c", show], capture_output=True, text=True, check=True).stdout.strip()
        for name in FILES:
            shutil.copy(ROOT / name, site)
        compileall.compile_dir(site, quiet=1)  # as pip does
    return interpreter


def rows(options: Options) -> list[Row]:
    """The hook, our imports, and a run of one question."""
    return [_hook(options), _imports(options), _run(options)]


def _hook(options: Options) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        ways = {}
        for name, hooked in (("without the hook", False), ("with the hook", True)):
            # -E: with a PYTHONPATH that holds a checkout, the hook would be read from there and not from site-packages
            command = [environment(Path(folder) / name.replace(" ", "-"), hooked), "-E", "-c", "pass"]
            ways[name] = lambda command=command: spent(command).cpu
        side_by_side(ways, 5)  # the first starts fill the disk's cache
        costs = side_by_side(ways, options.repeats(100))
    return row("a Python that does nothing, CPU time", costs, "with the hook", "without the hook", "nothing to answer")


def _imports(options: Options) -> Row:
    off = {"JRT_LMEVAL_DISABLE": "1"}  # or the hook would load ours in both
    ways = {
        "others' and ours": lambda: spent(python("-c", OURS), off).cpu,
        "others'": lambda: spent(python("-c", OTHERS), off).cpu,
    }
    costs = side_by_side(ways, 1 if options.quick else options.repeats(3))
    what, ours = "imports of a run, CPU time", "others' and ours"
    return row(what, costs, ours, "others'", "nothing to answer", unit="s", scale=1)


def _run(options: Options) -> Row:
    offline = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    ways = {
        "jrt-eval run": lambda: spent(python("-m", "jrt_lmeval", "run", *RUN), offline).cpu,
        "lm_eval": lambda: spent(python("-m", "lm_eval", *RUN), offline).cpu,
    }
    costs = side_by_side(ways, 1 if options.quick else options.repeats(3))
    what = "a run of one question, CPU time"
    return row(what, costs, "jrt-eval run", "lm_eval", "one question", weights="trained", unit="s", scale=1)
