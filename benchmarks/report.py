"""How long `jrt-eval report` takes over many logs, and how much memory: made logs, the real command.

    python benchmarks/report.py [FILES] [SAMPLES]          1,000 results files and 1,000,000 samples in all by default

Writes logs as lm_eval does (models x layouts x windows, some of them packed) into a temporary folder, then runs the
collection alone and the whole report over them, each in a process of its own. Prints wall and CPU seconds and the peak
of the process's memory. A sample is about 1.2 KB: prompts are short, since reading long ones would time the disk.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

from jrt_lmeval.markdown import markdown_table

LAYOUTS = {"once": "_once", "flat": "_jrt", "hier": "_jrt_hier", "focus": "_jrt_focus", "passages": "_passages"}
BENCHMARKS = ("swde", "fda", "squadv2", "triviaqa", "drop")
STAMP = "2026-01-02T03-04-05.678901"
STEPS = {
    "collect": "import sys; from jrt_lmeval.report.collect import collect; c = collect([sys.argv[1]]); "
    "print(c.files, sum(len(x.columns) for x in c.cells))",
    "report": "import sys; from jrt_lmeval.report.cli import main; "
    "main([sys.argv[1], '--out', sys.argv[1] + '_report'])",
}


def settings(files: int) -> list[tuple[str, str, str, int]]:
    """Model, benchmark, layout and window of each results file, all different."""
    found = []
    number = 0
    while len(found) < files:
        for benchmark in BENCHMARKS:
            for layout in LAYOUTS:
                found.append((f"model-{number % 10}", benchmark, layout, 256 * (1 + number // 10)))
        number += 1
    return found[:files]


def line(number: int, place: tuple[str, str, str, int], draw: random.Random) -> str:
    """A line of a samples log: eight questions on each document."""
    _, benchmark, layout, window = place
    key, answer = f"Question {number}", f"answer {number}"
    prompt = f"{benchmark} {number // 8} " + "words of a document " * 12 + f"{key}:"
    score = float(draw.random() < 0.4)
    facts = {
        "doc_id": f"{benchmark}-{number // 8}", "answers": [answer], "prompt_tokens": window + 20,
        "document_tokens": window,
        "answer_first": 0.4, "answer_last": 0.4, "answer_first_token": 100, "answer_last_token": draw.randrange(window),
        "answer_position": round(draw.random(), 4), "answer_outside": 0, "document_cut": 1, "majority": 0,
        "longest_match": 1, "jrt_prompt_tokens": 1.2 * window, "jrt_prefix_tokens": 0.8 * window,
        "jrt_prefix_share": 0.8,
        "jrt_entropy": round(draw.uniform(0.5, 0.9), 4), "jrt_new_tokens": 12, "jrt_state_bytes": 331776,
        "jrt_seconds": 0.05,
    }  # fmt: skip
    content = {
        "doc_id": number, "doc": {"doc_id": facts["doc_id"], "key": key, "value": answer, "jrt": facts},
        "target": str([answer]), "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": {"until": ["\n"]}}},
        "resps": [[" " + answer if score else " nothing"]], "filtered_resps": [" " + answer if score else " nothing"],
        "filter": "none", "metrics": ["contains", "contains_word", "exact", "f1"],
        "doc_hash": sha256(f"{benchmark} {number}".encode()).hexdigest(),
        "prompt_hash": sha256(f"{benchmark} {number} {layout} {window}".encode()).hexdigest(),
        "target_hash": sha256(answer.encode()).hexdigest(),
        "contains": score, "contains_word": score, "exact": score, "f1": score,
    }  # fmt: skip
    return json.dumps(content) + "\n"


def write(folder: Path, place: tuple[str, str, str, int], samples: int, packed: bool) -> None:
    """A results file and its samples."""
    model, benchmark, layout, window = place
    task, draw = benchmark + LAYOUTS[layout], random.Random(str(place))
    lines = [line(number, place, draw) for number in range(samples)]
    mean = sum(json.loads(one)["contains"] for one in lines) / samples
    block = {"layout": layout, "source": "local", "control": "none", "window": {"context_length": window}}
    scores = ("contains", "contains_word", "exact", "f1")
    content = {
        "results": {task: {f"{name},none": mean for name in scores} | {f"{name}_stderr,none": 0.01 for name in scores}},
        "versions": {task: 2.0},
        "n-samples": {task: {"original": samples, "effective": samples}},
        "config": {"model": "jrt_rnn", "model_args": {"pretrained": model}, "limit": None, "random_seed": 0},
        "configs": {task: {"metadata": {"jrt": block}}},
    }
    folder.mkdir(parents=True)
    (folder / f"results_{STAMP}.json").write_text(json.dumps(content))
    log, text = folder / f"samples_{task}_{STAMP}.jsonl", "".join(lines)
    if packed:
        log.with_name(log.name + ".gz").write_bytes(gzip.compress(text.encode(), compresslevel=1))
    else:
        log.write_text(text)


def measured(code: str, folder: Path) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak memory in GiB of one Python process."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"failed: {code}")
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20


def main() -> None:
    files, total = (int(value) for value in (*sys.argv[1:], *("1000", "1000000")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "runs"
        for number, place in enumerate(settings(files)):
            write(folder / str(number), place, total // files, packed=number % 10 == 0)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**30
        print(f"{files:,} results files, {total:,} samples, {size:.2f} GiB\n")
        rows = []
        for name, code in STEPS.items():
            rows.append((name, *(f"{value:.1f}" for value in measured(code, folder))))
            print(rows[-1], file=sys.stderr)
    print(markdown_table(("step", "wall, s", "CPU, s", "peak memory, GiB"), rows))


if __name__ == "__main__":
    main()
