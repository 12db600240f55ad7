"""python -m benchmarks.gpu [--out FOLDER] [--only PART ...] [--device cpu --tiny]

Runs every part, prints one table, and writes gpu.json and gpu.md to the folder. Status 1 where something is not as it
must be or a part did not end. `--device cpu --tiny` shows that the parts run; its figures say nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.gpu.parts import PARTS, Finding, Setting
from jrt_lmeval.errors import unknown
from jrt_lmeval.markdown import markdown_table

HEADER = ("part", "what", "figure", "as it must be", "seen")
MARKS = {True: "yes", False: "**NO**", None: "-"}


def apart(name: str, setting: Setting) -> list[Finding]:
    """Run a part in a process of its own; what it found before it failed or was ended is kept."""
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "findings.jsonl"
        command = [sys.executable, "-m", "benchmarks.gpu", "--part", name, str(lines), "--device", setting.device]
        command += ["--tiny"] if setting.tiny else []
        trouble = ""
        try:
            done = subprocess.run(command, timeout=PARTS[name].seconds, capture_output=True, text=True)
            if done.returncode:
                trouble = f"failed: {' '.join(done.stderr.split())[-300:]}"
        except subprocess.TimeoutExpired:
            trouble = f"ended after its {PARTS[name].seconds} s"
        text = lines.read_text(encoding="utf-8") if lines.exists() else ""
    found = [Finding(**json.loads(line)) for line in text.splitlines()]
    return [*found, Finding(name, None, "", False, trouble)] if trouble else found


def write_lines(name: str, setting: Setting, file: Path) -> None:
    """Write the findings of a part as lines of JSON, each as soon as it is there."""
    with file.open("w", encoding="utf-8") as lines:
        for finding in PARTS[name].run(setting):
            lines.write(json.dumps(asdict(finding)) + "\n")
            lines.flush()


def table(found: dict[str, list[Finding]]) -> str:
    """The one table."""
    lines = [
        [part, one.what, "" if one.value is None else f"{one.value:.3g} {one.unit}", MARKS[one.passed], one.seen]
        for part, some in found.items()
        for one in some
    ]
    return markdown_table(HEADER, lines, left=2)


def machine(setting: Setting) -> dict[str, Any]:
    """What it ran on."""
    import torch

    name = torch.cuda.get_device_name() if setting.on_cuda else "cpu"
    facts = {"device": name, "torch": torch.__version__, "cuda": torch.version.cuda, "tiny": setting.tiny}
    for package in ("triton", "fla", "mamba_ssm", "causal_conv1d", "transformers"):
        try:
            facts[package] = getattr(import_module(package), "__version__", "installed")
        except ImportError:
            facts[package] = None
    return facts


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts, or one of them for the process that `apart` starts."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for gpu.json and gpu.md")
    parser.add_argument("--only", nargs="+", metavar="PART", default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes for a CPU, to see that it runs")
    parser.add_argument("--part", nargs=2, metavar=("PART", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    setting = Setting(given.device, given.tiny)
    if setting.on_cuda and not torch.cuda.is_available():
        print("benchmarks.gpu: no CUDA device here; --device cpu --tiny shows that the parts run.", file=sys.stderr)
        return 2
    if given.part:
        write_lines(given.part[0], setting, Path(given.part[1]))
        return 0
    for name in given.only:
        if name not in PARTS:
            print(f"benchmarks.gpu: {unknown('part', name, PARTS)}", file=sys.stderr)
            return 2
    started, found = time.perf_counter(), {}
    for name in given.only:
        print(f"{name} ...", file=sys.stderr, flush=True)
        found[name] = apart(name, setting)
    seconds = time.perf_counter() - started
    text = f"{table(found)}\n{seconds:.0f} s on {machine(setting)['device']}\n"
    print(text)
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "gpu.md").write_text(text, encoding="utf-8")
        kept = {name: [asdict(one) for one in some] for name, some in found.items()}
        record = {"machine": machine(setting), "seconds": round(seconds, 1), "parts": kept}
        (given.out / "gpu.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return int(any(one.passed is False for some in found.values() for one in some))


if __name__ == "__main__":
    sys.exit(main())
