"""How the default entropy thresholds of `prefix=dynamic` were chosen: normalised entropy of training documents.

    python experiments/entropy.py                                  # in tokens of the shipped models
    python experiments/entropy.py --tokenizer DIR/tokenizer.json   # in another model's
    python experiments/entropy.py --tokenizer gpt2

The documents are of the training split: fact sheets of countries that `factbook` does not ask about, cut as that task
cuts its own, and pages with names that no test page has, as long as those of `swde`. No test row is looked at. Prints
the quartiles for whole documents and for passages (`entropy_window`), for each kind and for both, in which the two
weigh the same. The default thresholds are the outer quartiles of both. Needs no torch.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from itertools import islice

from jrt_lmeval.checkpoints.found import find
from jrt_lmeval.data.making.factbook import train_sheets
from jrt_lmeval.data.making.pages import generate_pages
from jrt_lmeval.markdown import markdown_table
from jrt_lmeval.paths import tokenizer_dir
from jrt_lmeval.prefix import THRESHOLDS, passages, unigram_entropy
from jrt_lmeval.prompts import Window, cut
from jrt_lmeval.prompts.tokens import gpt2_tokenizer

SEED = 77
DOCUMENTS = 400
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
Encode = Callable[[str], list[int]]


def documents() -> dict[str, list[str]]:
    """Training documents by kind, of the lengths that the tasks read."""
    rng, window = random.Random(SEED), Window(policy="answer_at", answer_at="random", context_length=600)
    sheets = (cut(page.text, window, [rng.choice(page.facts)[1]]).text for page in train_sheets(SEED, (350, 3200)))
    pages = (page.text for page in generate_pages("train", SEED, words=(150, 480)))
    return {
        "fact sheets": [text for text in islice(sheets, DOCUMENTS) if text],
        "pages": list(islice(pages, DOCUMENTS)),
    }


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


def quartiles(encode: Encode, window: int | None, kinds: dict[str, list[str]]) -> dict[str, list[float]]:
    """Minimum, quartiles and maximum of H by kind of document, and of `both`.

    Args:
        encode: text to tokens.
        window: of `prefix.passages`.
        kinds: documents by kind.
    """
    found, both = {}, []
    for kind, texts in kinds.items():
        values = [unigram_entropy(part) for text in texts for part in passages(encode(text), window)]
        found[kind] = weighted_quantiles([(value, 1.0) for value in values])
        both += [(value, 1.0 / len(values)) for value in values]
    return {**found, "both": weighted_quantiles(both)}


def encoder(name: str | None) -> Encode:
    """The tokenizer of that name or file; None for that of the shipped models."""
    from tokenizers import Tokenizer

    file = tokenizer_dir(find("softmax-teacher").folder) / "tokenizer.json" if name is None else name
    tokenizer = gpt2_tokenizer() if name == "gpt2" else Tokenizer.from_file(str(file))
    return lambda text: tokenizer.encode(text).ids


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", help="a tokenizer.json, or gpt2; default: that of the shipped models")
    encode = encoder(parser.parse_args().tokenizer)
    kinds = documents()
    lines = [
        [str(window or "document"), kind, *(f"{value:.3f}" for value in values)]
        for window in THRESHOLDS
        for kind, values in quartiles(encode, window, kinds).items()
    ]
    header = ["H of", "documents", "min", "quartile 1", "median", "quartile 3", "max"]
    print(markdown_table(header, lines), end="")


if __name__ == "__main__":
    main()
