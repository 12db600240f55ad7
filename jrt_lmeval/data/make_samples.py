"""Makes the sample rows that ship with the package, from the page generator's test split.

    python -m jrt_lmeval.data.make_samples swde

A sample shows that a task runs; it is not the benchmark and its scores cannot be compared with published ones.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

from jrt_lmeval.data.pages import generate_pages
from jrt_lmeval.errors import unknown
from jrt_lmeval.paths import samples_dir
from jrt_lmeval.prompts.gpt2 import count_tokens

SWDE_SEED = 2000
SWDE_ROWS = 72
SWDE_TOKENS = (300, 1000)  # GPT-2 tokens of a page
SWDE_QUESTIONS = 6  # on each page


def swde_rows() -> list[dict[str, str]]:
    """Rows in the schema of ``hazyresearch/based-swde-v2``, the same every time."""
    rng = random.Random(SWDE_SEED)
    rows: list[dict[str, str]] = []
    for page in generate_pages("test", SWDE_SEED, facts=(8, 22), words=(150, 480)):
        # Rows whose answer is a single character are dropped by the published window.
        facts = [fact for fact in page.facts if len(fact[1]) > 1]
        if len(facts) < SWDE_QUESTIONS or not SWDE_TOKENS[0] <= count_tokens(page.text) <= SWDE_TOKENS[1]:
            continue
        number = page.doc_id.rpartition("_")[2]
        joiner = "\n" if "\n" in page.text else " "
        for key, value in rng.sample(facts, SWDE_QUESTIONS):
            text = f"{page.text}{joiner}Summary of information above... {key}:"
            rows.append({"doc_id": page.doc_id, "file_name": f"{number}.htm", "key": key, "value": value, "text": text})
        if len(rows) >= SWDE_ROWS:
            return rows
    raise AssertionError("generate_pages never ends")


SAMPLES: dict[str, Callable[[], list[dict[str, str]]]] = {"swde": swde_rows}


def write_sample(name: str, folder: Path) -> Path:
    """Make one sample file in ``folder``.

    Raises:
        JRTError: there is no sample of that name.
    """
    if name not in SAMPLES:
        raise unknown("sample", name, SAMPLES)
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in SAMPLES[name]()), encoding="utf-8")
    return file


if __name__ == "__main__":
    for wanted in sys.argv[1:] or SAMPLES:
        print(write_sample(wanted, samples_dir()))
