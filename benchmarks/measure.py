"""Run the shipped model on the offline tasks and keep the logs that the README's table and picture are made from.

    python benchmarks/measure.py --out results/measured
    jrt-eval report results/measured --out results/tables.md --plot docs/recall_factbook.png

Every number comes from `lm_eval` itself. Of its files what a report needs is kept (`jrt_lmeval.paper.logs`): results
without the machine's paths, and per question the answer, the accepted answers, the prompt's hash and the scores, not
the document.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from jrt_lmeval.paper.logs import keep

TASKS = "swde_once,swde_jrt,swde_jrt_hier,factbook_once,factbook_jrt,factbook_jrt_hier"


def lm_eval(model: str, arguments: str, tasks: str, metadata: str | None, limit: int | None) -> Path:
    """Run lm_eval with its logs in a folder of their own, which is returned."""
    folder = Path(tempfile.mkdtemp())
    command = [sys.executable, "-m", "jrt_lmeval", "run", "--model", model, "--model_args", arguments]
    command += ["--tasks", tasks, "--output_path", str(folder), "--log_samples", "--batch_size", "auto"]
    command += ["--metadata", metadata] if metadata else []
    command += ["--limit", str(limit)] if limit else []
    subprocess.run(command, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/measured"))
    parser.add_argument("--model", default="jrt_rnn")
    parser.add_argument("--model_args", default="feature_map=mlp,prefix=dynamic")
    parser.add_argument("--tasks", default=TASKS)
    parser.add_argument("--name", default="jrt-mlp", help="folder of the run below --out")
    parser.add_argument("--limit", type=int, help="only the first rows; marked in every table")
    parser.add_argument("--no-control", action="store_true", help="leave out the runs without a document")
    arguments = parser.parse_args()
    controls = {"": None}
    if not arguments.no_control:
        controls["-no-context"] = json.dumps({"jrt": {"control": "no_context"}})
    for ending, metadata in controls.items():
        tasks = arguments.tasks if metadata is None else ",".join(t for t in arguments.tasks.split(",") if "once" in t)
        folder = lm_eval(arguments.model, arguments.model_args, tasks, metadata, arguments.limit)
        keep(folder, arguments.out / f"{arguments.name}{ending}")


if __name__ == "__main__":
    main()
