"""`prefix=answer`: how far a prefix reaches is found by drafts of the answer, without any training.

Everything before the question is read causally, `prefix_chunk` tokens at a time. After each chunk a copy of the state
reads the question and drafts an answer. Where the mean probability of a draft's tokens is at least `prefix_sure`, and
the draft is the one that was written a chunk earlier, the prefix ends. It ends with the document otherwise.

Drafts re-use the causal state: each token before the question goes through the model once for all drafts of a prompt.
The answer re-uses nothing of it, because the layers above the first see other inputs as soon as the prefix is longer:
the prompt is read once more, its prefix as a prefix and the rest causally, so that the answer is that of a fixed prefix
of the same length. What drafts cost stands in the log as `jrt_draft_tokens`: tokens read and tokens written for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from jrt_lmeval.errors import JRTError
from model_adapters.running.batching import batches
from model_adapters.running.generation import Generator, Running, decode
from model_adapters.running.rows import Goal, PromptRow
from model_adapters.running.runtime import NotFinite

DRAFT_TOKENS = 24
"""The longest draft. Two that agree so far count as the same."""


def with_drafts(generator: Generator, rows: Sequence[PromptRow]) -> list[PromptRow]:
    """The rows with the prefix that their drafts find, and `jrt_drafts`, `jrt_draft_tokens` and `jrt_draft` (the last
    draft) as figures. A prompt without a question after its document keeps its prefix.

    Raises:
        JRTError: a state of the engine cannot be continued.
        NotFinite: the logits are not finite.
    """
    engine, found = generator.runtime.engine, list(rows)
    if not engine.can_continue:
        raise JRTError("prefix=answer goes on from a kept state, which padding=published or a filling rules out.")
    asked = [place for place, row in enumerate(rows) if not row.skipped and 0 < row.document_end < len(row.ids)]
    for numbers in batches([len(rows[place].ids) + DRAFT_TOKENS for place in asked], generator.runtime.budget):
        chosen = [asked[number] for number in numbers]
        for place, row in zip(chosen, _drafted(generator, [rows[place] for place in chosen]), strict=True):
            found[place] = row
    return found


def _drafted(generator: Generator, rows: Sequence[PromptRow]) -> list[PromptRow]:
    policy, found = generator.runtime.policy, list(rows)
    live = [place for place, row in enumerate(rows) if row.document_end > policy.prefix_chunk]
    state: Any = None
    last = [""] * len(rows)
    for start in range(0, max(row.document_end for row in rows), policy.prefix_chunk):
        if not live:
            break
        end = start + policy.prefix_chunk
        _, state, seconds = generator.read([rows[place].ids[start:end] for place in live], [0] * len(live), state)
        drafts, more = _drafts(generator, [rows[place] for place in live], state)
        going = []
        for number, place in enumerate(live):
            row, draft = found[place], drafts[number]
            read = end - start + len(row.ids) - row.document_end + draft.tokens
            known = row.drafted
            figures: dict[str, int | float | str] = {
                "jrt_drafts": int(known.get("jrt_drafts", 0)) + 1,
                "jrt_draft_tokens": int(known.get("jrt_draft_tokens", 0)) + read,
                "jrt_draft": draft.text,
            }
            spent = row.draft_seconds + seconds[number] + more[number] + draft.seconds
            stops = draft.sure >= policy.prefix_sure and draft.text.strip() and draft.text == last[place]
            choice = replace(row.choice, length=min(row.choice.length, end)) if stops else row.choice
            found[place] = replace(row, drafted=figures, draft_seconds=spent, choice=choice)
            last[place] = draft.text
            if not stops and end + policy.prefix_chunk < row.document_end:
                going.append(number)
        if len(going) < len(live):
            state = state.select(torch.tensor(going, dtype=torch.long)) if going else None
        live = [live[number] for number in going]
    return found


def _drafts(generator: Generator, rows: Sequence[PromptRow], state: Any) -> tuple[list[Running], list[float]]:
    """A draft of each row after its question, read after copies of a state, and the seconds that reading it took."""
    questions = [row.ids[row.document_end :] for row in rows]
    logits, fork, seconds = generator.read(questions, [0] * len(rows), state, rows)
    goals = [Goal(row.goal.until, min(row.goal.max_gen_toks, DRAFT_TOKENS)) for row in rows if row.goal]
    runtime = generator.runtime
    finished = decode(
        runtime.engine,
        logits,
        fork,
        goals,
        generator.end_ids,
        generator.vocabulary,
        generator.stops,
        runtime,
        sure=True,
    )
    try:
        drafts = sorted(finished, key=lambda draft: draft.row)
    except NotFinite as error:
        raise NotFinite(None if error.row is None else rows[error.row].index, "in a draft") from None
    runtime.sums.prompt_tokens_computed += sum(draft.tokens for draft in drafts)
    return drafts, seconds
