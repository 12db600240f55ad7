"""`recall_stream`: fact sheets of the factbook one after the other, and facts asked long after they were read."""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Any

from jrt_lmeval.data.shipped import factbook_large_rows
from jrt_lmeval.data.synthetic import knobs_of
from jrt_lmeval.errors import JRTError, whole_number
from jrt_lmeval.prompts.tokens import count_tokens, encoded

DISTANCES = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)


@dataclass(frozen=True)
class Stream:
    """Knobs of a stream; lengths are in GPT-2 tokens.

    Attributes:
        tokens: least length of the stream, which ends with a whole sheet.
        distances: how long before the question the fact should stand; those longer than the stream are left out.
        cuts: at the ends of how many of the last sheets questions are asked, one for each distance.
        seed: of the order of the sheets.
    """

    tokens: int = 110_000
    distances: tuple[int, ...] = DISTANCES
    cuts: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        whole_number("stream.tokens", self.tokens)
        whole_number("stream.cuts", self.cuts)
        for distance in self.distances:
            whole_number("an entry of stream.distances", distance)


def stream(**metadata: Any) -> dict[str, list[dict[str, Any]]]:
    """Rows of `recall_stream`, for `custom_dataset` of a task's YAML.

    The sheets are real (The World Factbook); a question is `In Albania, Particulate matter emissions:`, and `distance`
    is how many GPT-2 tokens before the end of the stream its answer starts. No fact is asked twice.

    Args:
        metadata: of the task; `stream`, a mapping with fields of `Stream`, is what is read of it.

    Raises:
        JRTError: unknown knob (with the nearest valid one), a value out of its range, or fewer sheets than wanted.
    """
    knobs = knobs_of(Stream, "stream", metadata.get("stream"))
    sheets: dict[str, list[tuple[str, str]]] = {}
    for row in factbook_large_rows():
        sheets.setdefault(row["text"], []).append((row["key"], row["value"]))
    order = list(sheets)
    random.Random(f"stream {knobs.seed}").shuffle(order)
    text, tokens = "", 0
    facts: list[tuple[int, str, str]] = []
    ends: list[int] = []
    for sheet in order:
        for key, value in sheets[sheet]:
            start = len(text) + sheet.index(f"\n{key}: {value}") + len(f"\n{key}: ")
            facts.append((start, f"In {sheet.splitlines()[0]}, {key}:", value))
        text += sheet
        ends.append(len(text))
        tokens += count_tokens(sheet)
        if tokens >= knobs.tokens:
            break
        text += "\n\n"
    places = [start for start, _ in encoded(text).offsets]
    if tokens < knobs.tokens:
        raise JRTError(f"stream.tokens: all {len(order)} sheets together have {tokens} tokens.")
    rows, asked = [], set()
    for end in ends[-knobs.cuts :]:
        length = bisect_left(places, end)
        known = [
            (length - bisect_right(places, start) + 1, question, value)
            for start, question, value in facts
            if start < end
        ]
        for distance in (distance for distance in knobs.distances if distance <= length):
            left = [fact for fact in known if fact[1] not in asked]
            away, question, answer = min(left, key=lambda fact: (abs(fact[0] - distance), fact))
            asked.add(question)
            rows.append(
                {
                    "doc_id": f"stream-{knobs.seed}-{length}",
                    "document": text[:end],
                    "question": question,
                    "answer": answer,
                    "distance": away,
                }
            )
    return {"test": rows}
