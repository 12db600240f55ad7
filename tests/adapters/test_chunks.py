"""A document read in chunks, each with the question from a state of its own: the answer is that of the surest one."""

from __future__ import annotations

from itertools import chain

import pytest
import tiny
import torch
from torch.distributions import Categorical

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prefix import PrefixPolicy
from jrt_lmeval.prompts import Prompt
from model_adapters.options import RunOptions
from model_adapters.running.batching import Budget
from model_adapters.running.rows import chunks_of


def by_hand(lm, prompt: Prompt, size: int) -> tuple[int, str, int]:
    """Each chunk alone, whole, token by token: the surest one, its answer, and the tokens that were read."""
    ids, count = lm.tok_encode(prompt), -(-len(lm.tok_encode(prompt[: prompt.document_end])) // size)
    end = len(lm.tok_encode(prompt[: prompt.document_end]))
    rows = [ids[end * n // count : end * (n + 1) // count] + ids[end:] for n in range(count)]
    logits = [
        lm.engine.prefill([row], [len(row) if lm.engine.has_prefix else 0])[0][0, : lm._vocabulary] for row in rows
    ]
    surest = int(torch.stack([Categorical(logits=one.double()).entropy() for one in logits]).argmin())
    answer, read = [int(logits[surest].argmax())], rows[surest]
    while len(answer) < 8 and answer[-1] != lm.eot_token_id and "\n" not in lm.tok_decode(answer):
        again = lm.engine.prefill([read + answer], [len(read) if lm.engine.has_prefix else 0])[0]
        answer.append(int(again[0, : lm._vocabulary].argmax()))
    text = lm.tok_decode([token for token in answer if token != lm.eot_token_id]).split("\n")[0]
    return surest, text, sum(map(len, rows)) + len(read)


@pytest.mark.parametrize("kind", ["jrt", "llama", "mamba"])
def test_the_surest_chunk_answers_whatever_the_batch(kind: str) -> None:
    prompts = tiny.prompts(3, 3)
    found = []
    for rows in (1, 4):
        lm = tiny.lm(kind, budget=Budget(rows=rows), policy=PrefixPolicy("full"), chunk_tokens=5)
        found.append(lm.generate_until([tiny.ask(prompt) for prompt in prompts], disable_tqdm=True))
    for alone, together, prompt in zip(*found, prompts, strict=True):
        surest, text, read = by_hand(lm, prompt, 5)
        assert alone == together == text
        for answer in (alone, together):
            stats = answer.stats
            assert (stats["jrt_chunk"], stats["jrt_tokens_read"]) == (surest, read)
    assert len({answer.stats["jrt_chunk"] for answer in found[0]}) > 1, "a rule that takes the first would pass"
    assert lm.get_model_info()["jrt"]["chunk_tokens"] == 5


def test_questions_on_a_document_share_its_chunks() -> None:
    prompts = tiny.prompts(1, 3)
    lm = tiny.lm("jrt", budget=Budget(rows=4), policy=PrefixPolicy("document"), chunk_tokens=3)
    answers = lm.generate_until([tiny.ask(prompt) for prompt in prompts], disable_tqdm=True)
    assert lm.runtime.totals.prompt_tokens_computed < sum(answer.stats["jrt_tokens_read"] for answer in answers)


def test_every_token_is_in_one_chunk_with_what_stands_around_the_document() -> None:
    prompt = Prompt("what? a b c d e f g the end", 6, 19, "a b c d e f g")
    row = tiny.lm("jrt").encoder.row(0, prompt)
    start, end = row.document_start, row.document_end
    for size in (1, 2, 3, 100):
        chunks = chunks_of(row, size)
        inside = [chunk.ids[start : chunk.document_end] for chunk in chunks]
        assert list(chain(*inside)) == row.ids[start:end] and max(map(len, inside)) <= size
        assert all(
            chunk.ids[:start] + chunk.ids[chunk.document_end :] == row.ids[:start] + row.ids[end:] for chunk in chunks
        )
        assert max(map(len, inside)) - min(map(len, inside)) <= 1


def test_what_cannot_be_cut_is_refused() -> None:
    lm = tiny.lm("jrt", chunk_tokens=5)
    with pytest.raises(JRTError, match="does not say where its document ends"):
        lm.generate_until([tiny.ask("a plain prompt")], disable_tqdm=True)
    for scored in (
        lambda: lm.loglikelihood([tiny.choose("a", "b")]),
        lambda: lm.loglikelihood_rolling([tiny.whole("a")]),
    ):
        with pytest.raises(JRTError, match="chunk_tokens is for tasks that generate"):
            scored()
    with pytest.raises(JRTError, match="chunk_tokens must be a whole number of at least 1"):
        tiny.lm("jrt", chunk_tokens=0)
    assert RunOptions(chunk_tokens=7).chunk_tokens == 7


def test_a_prompt_of_which_a_chunk_does_not_fit_is_skipped_whole() -> None:
    prompt = tiny.prompts(1, 1)[0]
    chunks = chunks_of(tiny.lm("jrt").encoder.row(0, prompt), 4)
    lengths = sorted(len(chunk.ids) for chunk in chunks)
    assert lengths[0] < lengths[-1], "else all of them fit, or none"
    lm = tiny.lm("jrt", chunk_tokens=4, max_length=lengths[0] + 8, on_overflow="skip")
    (answer,) = lm.generate_until([tiny.ask(prompt)], disable_tqdm=True)
    assert answer.stats == {"jrt_skipped": 1} and lm.runtime.totals.rows_skipped == 1
