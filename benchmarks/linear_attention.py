"""Prefix linear attention in its three forms, side by side in one run: naive, chunked and step.

    python benchmarks/linear_attention.py              # T = 256 ... 4096
    python benchmarks/linear_attention.py --quick      # some seconds

All three read the same T tokens, half of them prefix, and must give the same result before any is timed. Each round
times all three one after the other, in rotating order, so that other work on the machine disturbs them alike; what
counts are the ratios, medians over the rounds of the ratio within a round. Prints a Markdown table and a JSON line.
The features are those of the shipped models' geometry and stand ready: no feature map and no projection is timed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from statistics import median

import torch

from jrt_lmeval.modeling.linear_attention import LINEAR_ATTENTION, Prefix
from jrt_lmeval.report.markdown import markdown_table

LENGTHS, QUICK_LENGTHS = (256, 512, 1024, 2048, 4096), (256, 1024)
B, H, F, V = 1, 4, 64, 32
FORMS = ("naive", "chunked", "step")


def inputs(T: int) -> tuple[tuple[torch.Tensor, ...], Prefix]:
    """Positive features q, k `[B, H, T, F]`, values `[B, H, T, V]`, and a prefix of T / 2 tokens."""
    generator = torch.Generator().manual_seed(T)
    q, k, ke = (torch.rand(B, H, T, F, generator=generator) / F for _ in range(3))
    v, ve = (torch.randn(B, H, T, V, generator=generator) for _ in range(2))
    return (q, k, v), Prefix(ke, ve, (torch.arange(T) < T // 2).expand(B, T))


def seconds(form: str, T: int) -> float:
    (q, k, v), prefix = inputs(T)
    started = time.perf_counter()
    LINEAR_ATTENTION[form](q, k, v, prefix)
    return time.perf_counter() - started


def check(T: int) -> None:
    """Stop if the forms differ: a wrong answer has no speed."""
    (q, k, v), prefix = inputs(T)
    y, d, state = LINEAR_ATTENTION["naive"](q, k, v, prefix)
    for form in FORMS[1:]:
        other = LINEAR_ATTENTION[form](q, k, v, prefix)
        torch.testing.assert_close((*other[:2], *other[2]), (y, d, *state), rtol=2e-3, atol=2e-3)


def measure(T: int, rounds: int) -> dict[str, float]:
    """Median milliseconds of each form, and median ratios to chunked."""
    check(T)  # the first run of each, too: it is slower than the others
    times: dict[str, list[float]] = {form: [] for form in FORMS}
    for number in range(rounds):
        shift = number % len(FORMS)
        for form in FORMS[shift:] + FORMS[:shift]:
            times[form].append(seconds(form, T))
    row: dict[str, float] = {"T": T}
    row |= {f"{form}_ms": round(1000 * median(times[form]), 3) for form in FORMS}
    for form in ("naive", "step"):
        row[f"{form}/chunked"] = round(median(a / b for a, b in zip(times[form], times["chunked"], strict=True)), 2)
    return row


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"T = {QUICK_LENGTHS} and few rounds")
    parser.add_argument("--rounds", type=int, help="rounds for each T (default: 15, with --quick 5)")
    parser.add_argument("--threads", type=int, help="threads of torch (default: as torch chooses)")
    arguments = parser.parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rounds = arguments.rounds or (5 if arguments.quick else 15)

    print(f"B={B} H={H} F={F} V={V} float32, {rounds} rounds, {torch.get_num_threads()} threads")
    rows = []
    with torch.inference_mode():
        for T in QUICK_LENGTHS if arguments.quick else LENGTHS:
            rows.append(measure(T, rounds))
    header = ["T", "naive ms", "chunked ms", "step ms", "naive / chunked", "step / chunked"]
    print(markdown_table(header, [list(row.values()) for row in rows]), end="")
    shape = {"B": B, "H": H, "F": F, "V": V, "rounds": rounds, "threads": torch.get_num_threads()}
    print(json.dumps({"benchmark": "linear_attention", "torch": torch.__version__, **shape, "rows": rows}))


if __name__ == "__main__":
    main()
