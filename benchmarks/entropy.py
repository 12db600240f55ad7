"""How the default entropy thresholds of `prefix=dynamic` were chosen: normalised entropy of the documents of our tasks.

    python benchmarks/entropy.py                                  # GPT-2 tokens
    python benchmarks/entropy.py --tokenizer DIR/tokenizer.json   # a model's own

Every row of `factbook` and `swde` counts with its document as the task cuts it. Prints one Markdown row for each task
and one for both, in which the two weigh the same however many rows they have. Rows come from $JRT_LMEVAL_DATA, the hub
or the shipped samples, as for the tasks themselves. Needs no torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jrt_lmeval.data.sources import load_rows
from jrt_lmeval.prefix import unigram_entropy
from jrt_lmeval.prompts import Prompt, render
from jrt_lmeval.prompts.gpt2 import gpt2_tokenizer
from jrt_lmeval.report.markdown import markdown_table

TASKS = (("factbook", "factbook", 600), ("swde", "hazyresearch/based-swde-v2", 1000))
"""Task, where its rows are, and its window in GPT-2 tokens (tasks/*/_*.yaml)."""
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


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


def line(name: str, samples: Sequence[tuple[float, float]]) -> list[str]:
    """One line of the table."""
    return [name, str(len(samples)), *(f"{value:.3f}" for value in weighted_quantiles(samples))]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", help="a tokenizer.json; default: GPT-2")
    path = parser.parse_args().tokenizer
    if path:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(path)
    else:
        tokenizer = gpt2_tokenizer()

    lines = []
    both: list[tuple[float, float]] = []
    for task, dataset, window in TASKS:
        loaded = load_rows(dataset, "validation", "auto")
        prompts = [render(task, "once", row, window) for row in loaded.rows]
        documents = [prompt.document for prompt in prompts if isinstance(prompt, Prompt)]
        entropies = [unigram_entropy(tokenizer.encode(document).ids) for document in documents]
        lines.append(line(f"{task} ({loaded.source}, window {window})", [(entropy, 1.0) for entropy in entropies]))
        both += [(entropy, 1.0 / len(entropies)) for entropy in entropies]
    lines.append(line("both, weighing the same", both))
    header = ["task", "rows", "min", "quartile 1", "median", "quartile 3", "max"]
    print(markdown_table(header, lines), end="")


if __name__ == "__main__":
    main()
