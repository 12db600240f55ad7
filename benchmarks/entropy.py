"""How the default entropy thresholds of `prefix=dynamic` were chosen: normalised entropy of the task documents.

    python benchmarks/entropy.py                                    # $JRT_LMEVAL_DATA, GPT-2 tokens
    python benchmarks/entropy.py --data DIR --tokenizer tokenizer.json --datasets factbook based-swde-v2

Prints one Markdown row for each dataset and window, then the pooled rows, in which every dataset weighs the same
however many documents it has. A document counts once, however many questions are asked about it. Needs no torch.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prefix import unigram_entropy

WINDOWS = (512, 1024, 2048, None)
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
# The real SWDE and FDA rows end in this sentence and the key; it belongs to the question, not to the document.
SUMMARY = "Summary of information above"


def documents(path: Path) -> Iterator[str]:
    """The distinct documents of a JSONL file with a `text` field (and `doc_id`, where rows share a document)."""
    seen = set()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        row = json.loads(line)
        if "text" not in row:
            raise JRTError(f"{path}:{number}: no field 'text'; fields are {', '.join(row)}.")
        text = row["text"].split(SUMMARY)[0].strip()
        name = row.get("doc_id", text)
        if name not in seen:
            seen.add(name)
            yield text


def weighted_quantiles(samples: Sequence[tuple[float, float]]) -> list[float]:
    """Quantiles of (value, weight) pairs: the smallest value at which the cumulated weight reaches the share."""
    ordered = sorted(samples)
    total = sum(weight for _, weight in ordered)
    found, reached, position = [], 0.0, 0
    for share in QUANTILES:
        while position < len(ordered) - 1 and reached + ordered[position][1] < share * total - 1e-9:
            reached += ordered[position][1]
            position += 1
        found.append(ordered[position][0])
    return found


def main() -> None:
    from tokenizers import Tokenizer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("JRT_LMEVAL_DATA"), help="folder of datasets")
    parser.add_argument("--datasets", nargs="+", default=["factbook", "based-swde-v2"])
    parser.add_argument("--tokenizer", help="a tokenizer.json; default: GPT-2")
    args = parser.parse_args()
    if args.data is None:
        parser.error("give --data DIR or set JRT_LMEVAL_DATA")
    if args.tokenizer:
        tokenizer = Tokenizer.from_file(args.tokenizer)
    else:
        from jrt_lmeval.prompts.gpt2 import gpt2_tokenizer

        tokenizer = gpt2_tokenizer()

    print("| dataset | window | documents | min | quartile 1 | median | quartile 3 | max |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    pooled: dict[int | None, list[tuple[float, float]]] = {window: [] for window in WINDOWS}
    for name in args.datasets:
        rows = [tokenizer.encode(text).ids for text in documents(Path(args.data) / name / "validation.jsonl")]
        for window in WINDOWS:
            entropies = [unigram_entropy(ids[:window]) for ids in rows]
            print_row(name, window, len(rows), weighted_quantiles([(h, 1.0) for h in entropies]))
            pooled[window] += [(h, 1.0 / len(rows)) for h in entropies]
    for window in WINDOWS:
        print_row("pooled", window, len(pooled[window]), weighted_quantiles(pooled[window]))


def print_row(name: str, window: int | None, count: int, quantiles: Sequence[float]) -> None:
    cells = " | ".join(f"{value:.3f}" for value in quantiles)
    print(f"| {name} | {window or 'whole'} | {count} | {cells} |")


if __name__ == "__main__":
    main()
