"""Answers and scores do not depend on batches, padding, reuse or the order of requests, and equal a plain loop."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import tiny
import torch

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prefix import PrefixPolicy, choose_prefix
from model_adapters.running.batching import Budget, batches
from model_adapters.running.drafts import DRAFT_TOKENS
from model_adapters.running.rows import read_goal

torch.set_num_threads(1)


@pytest.mark.parametrize("kind", tiny.ENGINES)
def test_answers_equal_a_plain_loop_in_every_batch(kind):
    prompts = tiny.prompts()
    expected = [tiny.plain_loop(tiny.lm(kind), prompt) for prompt in prompts]
    assert len(set(expected)) > len(expected) // 2, "the tiny models must tell the prompts apart"
    for rows in (Budget(rows=1), Budget(rows=4), Budget(tokens=1000), Budget(rows=2, tokens=500)):
        for reuse in (True, False):
            lm = tiny.lm(kind, budget=rows, reuse=reuse)
            answers = lm.generate_until([tiny.ask(prompt) for prompt in prompts], disable_tqdm=True)
            assert answers == expected
    back = tiny.lm(kind, budget=Budget(rows=3)).generate_until([tiny.ask(p) for p in prompts[::-1]], disable_tqdm=True)
    assert back == expected[::-1]


@pytest.mark.parametrize("kind", ["jrt", "attention"])
@pytest.mark.parametrize("policy", ["full", "document", "dynamic", "none"])
def test_every_prefix_policy_equals_a_plain_loop(kind, policy):
    prompts = tiny.prompts()
    options = {"policy": PrefixPolicy(policy)}
    expected = [tiny.plain_loop(tiny.lm(kind, **options), prompt) for prompt in prompts]
    lm = tiny.lm(kind, budget=Budget(rows=4), **options)
    answers = lm.generate_until([tiny.ask(prompt) for prompt in prompts], disable_tqdm=True)
    assert answers == expected
    for answer, prompt in zip(answers, prompts, strict=True):
        row = lm.encoder.row(0, prompt)
        choice = choose_prefix(PrefixPolicy(policy), len(row.ids), row.document_end, row.document_ids)
        assert answer.stats["jrt_prefix_tokens"] == choice.length
        assert answer.stats["jrt_entropy"] == choice.entropy
        assert answer.stats["jrt_prompt_tokens"] == len(row.ids)
        # where the prefix ends in the text: its characters are the first M tokens'
        end = answer.stats["jrt_prefix_characters"]
        shown = lm.tok_decode(row.ids[: choice.length]).rstrip("\ufffd")  # the last may be part of a character
        assert prompt[:end].startswith(shown) and end - len(shown) <= 1
        assert {"full": end == len(prompt), "none": end == 0}.get(policy, 0 < end <= len(prompt))


@pytest.mark.parametrize("sure", [1e-9, 0.03, 1.0])
def test_drafts_choose_a_prefix_that_answers_as_a_fixed_one(sure):
    prompts, chunk = tiny.prompts(), 7
    policy = PrefixPolicy("answer", prefix_chunk=chunk, prefix_sure=sure)
    lm = tiny.lm("jrt", budget=Budget(rows=4), policy=policy)
    answers = lm.generate_until([tiny.ask(prompt) for prompt in prompts], disable_tqdm=True)
    alone = tiny.lm("jrt", budget=Budget(rows=1), policy=policy, reuse=False)
    assert answers == alone.generate_until([tiny.ask(prompt) for prompt in prompts], disable_tqdm=True)
    for answer, prompt in zip(answers, prompts, strict=True):
        row, stats = lm.encoder.row(0, prompt), answer.stats
        length, last, drafts, cost = naive_draft(tiny.lm("jrt", policy=PrefixPolicy("none")), row, chunk, sure)
        assert stats["jrt_prefix_tokens"] == length
        found = (stats.get("jrt_draft", ""), stats.get("jrt_drafts", 0), stats.get("jrt_draft_tokens", 0))
        assert found == (last, drafts, cost)
        fixed = tiny.lm("jrt", policy=PrefixPolicy("fixed", prefix_length=length))
        assert fixed.generate_until([tiny.ask(prompt)], disable_tqdm=True) == [answer]


def naive_draft(lm, row, chunk, sure):
    """The prefix by the definition: every draft from nothing, nothing kept."""
    last, drafts, cost, question = "", 0, 0, row.ids[row.document_end :]
    if not question:
        return row.document_end, last, drafts, cost
    for end in range(chunk, row.document_end, chunk):
        ids, logprob, written = [*row.ids[:end], *question], 0.0, []
        for _ in range(min(tiny.ask("").args[1]["max_gen_toks"], DRAFT_TOKENS)):
            logits, _ = lm.engine.prefill([[*ids, *written]], [0])
            logprob += float(logits[0, : lm._vocabulary].log_softmax(-1).max())
            written.append(int(logits[0, : lm._vocabulary].argmax()))
            stops = lm._stops(read_goal(tiny.ask("").args[1]))
            if written[-1] in lm._end_ids() or stops.hit(written):
                break
        text = stops.answer(written, written[-1] in lm._end_ids())
        drafts, cost = drafts + 1, cost + chunk + len(question) + len(written)
        if text.strip() and text == last and math.exp(logprob / len(written)) >= sure:
            return end, text, drafts, cost
        last = text
    return row.document_end, last, drafts, cost


def test_drafts_are_refused_where_nothing_is_generated():
    lm = tiny.lm("jrt", policy=PrefixPolicy("answer"))
    with pytest.raises(JRTError, match="scores a given text"):
        lm._loglikelihood_tokens([(("a", "b"), [1, 2], [3])], disable_tqdm=True)


WINDOW, KV_BYTES = 16, 2 * 32 * 4  # keys and values of a token in a layer of the tiny models, float32


@pytest.mark.parametrize(
    ("kind", "layers", "slots"),
    [("jrt", 1, WINDOW - 1), ("based", 1, WINDOW - 1), ("mistral", 1, None), ("mamba", 0, 0)],
)
def test_the_two_parts_of_a_state_are_told_apart(kind, layers, slots):
    lm = tiny.lm(kind, budget=Budget(rows=4))
    for answer in lm.generate_until([tiny.ask(prompt) for prompt in tiny.prompts()], disable_tqdm=True):
        # Mistral's two layers keep two heads of keys and values where there are four of queries
        expected = layers * KV_BYTES * (min(answer.stats["jrt_prompt_tokens"], WINDOW - 1) if slots is None else slots)
        assert answer.stats["jrt_window_bytes"] == expected
        rest = answer.stats["jrt_state_bytes"] - expected
        assert answer.stats.get("jrt_recurrent_bytes", rest) == rest and (rest > 0 or kind == "mistral")
    assert ("jrt_recurrent_bytes" in answer.stats) == (kind != "mistral")
    assert lm.get_model_info()["jrt"].get("sliding_window") == (None if kind == "mamba" else WINDOW)


@pytest.mark.parametrize("kind", ["llama", "mamba", "jrt", "attention"])
def test_a_shared_document_is_read_once(kind):
    lm = tiny.lm(kind, budget=Budget(rows=8), policy=PrefixPolicy("document"))
    prompts = tiny.prompts(documents=2, questions=3)
    answers = lm.generate_until([tiny.ask(prompt) for prompt in prompts], disable_tqdm=True)
    ends = [lm.encoder.row(0, prompt).document_end for prompt in prompts[:2]]
    info = lm.get_model_info()["jrt"]
    assert info["prompt_tokens_reused"] == 2 * sum(ends)
    assert info["seconds"] == pytest.approx(sum(answer.stats["jrt_seconds"] for answer in answers))
    assert info["new_tokens"] == sum(answer.stats["jrt_new_tokens"] for answer in answers)


def test_a_document_is_not_shared_where_its_state_depends_on_the_question():
    lm = tiny.lm("jrt", budget=Budget(rows=8), policy=PrefixPolicy("full"))
    lm.generate_until([tiny.ask(prompt) for prompt in tiny.prompts()], disable_tqdm=True)
    assert lm.get_model_info()["jrt"]["prompt_tokens_reused"] == 0
    mixed = tiny.lm("mistral", budget=Budget(rows=8))  # a sliding window cannot be continued past padding
    mixed.generate_until([tiny.ask(prompt) for prompt in tiny.prompts()], disable_tqdm=True)
    assert mixed.get_model_info()["jrt"]["prompt_tokens_reused"] == 0


@pytest.mark.parametrize("kind", ["llama", "mamba", "jrt", "attention"])
def test_continuing_a_state_gives_the_logits_of_one_pass(kind):
    engine = tiny.engine(kind)
    ids = [tiny.tokenizer().encode(tiny.text(seed, words)) for seed, words in ((1, 3), (2, 17), (3, 9))]
    more = [tiny.tokenizer().encode(tiny.text(seed, words)) for seed, words in ((4, 2), (5, 1), (6, 5))]
    prefix = [len(row) if engine.has_prefix else 0 for row in ids]
    _, state = engine.prefill(ids, prefix)
    twin = deepcopy(state)
    continued, _ = engine.prefill(more, [0] * 3, state)
    for source in (state, twin):
        again, _ = engine.prefill(more, [0] * 3, source)
        assert torch.equal(continued, again), "continuing a state must leave it as it was"
    for row in range(3):
        once, after = engine.prefill([ids[row] + more[row]], [prefix[row]])
        torch.testing.assert_close(once[0], continued[row], atol=2e-5, rtol=1e-4)
        assert after.row_bytes()[0] > 0


@pytest.mark.parametrize("kind", tiny.ENGINES)
def test_a_state_weighs_the_same_in_every_batch(kind):
    lm = tiny.lm(kind, budget=Budget(rows=1))
    together = tiny.lm(kind, budget=Budget(rows=9), reuse=False)
    requests = [tiny.ask(prompt) for prompt in tiny.prompts()]
    alone, batch = (m.generate_until(requests, disable_tqdm=True) for m in (lm, together))
    sizes = [answer.stats["jrt_state_bytes"] for answer in alone]
    assert sizes == [answer.stats["jrt_state_bytes"] for answer in batch]
    if kind != "mistral":  # its window may or may not be full
        assert (len(set(sizes)) == 1) == (kind in ("mamba", "mamba2", "jrt", "based"))


@pytest.mark.parametrize("kind", tiny.ENGINES)
def test_an_engine_gives_the_logits_of_its_model(kind):
    engine, ids = tiny.engine(kind), tiny.tokenizer().encode(tiny.text(3, 12))
    prefix = {"prefix_lengths": torch.tensor([7])} if engine.has_prefix else {}
    with torch.no_grad():
        expected = engine.model(torch.tensor([ids]), **prefix).logits[0, -1]
    found, _ = engine.prefill([ids[:4], ids], [0, 7 if engine.has_prefix else 0])
    torch.testing.assert_close(found[1], expected, atol=2e-5, rtol=1e-4)


def loglikelihood_loop(lm, context, continuation):
    """Token by token, the whole row again each time."""
    context_ids, continuation_ids = lm._encode_pair(context, continuation)
    row = lm.runtime.prepared([lm.encoder.row(0, context, context_ids)])[0]
    total, greedy = 0.0, True
    for place, token in enumerate(continuation_ids):
        logits, _ = lm.engine.prefill([context_ids + continuation_ids[:place]], [row.choice.length])
        total += float(logits[0].float().log_softmax(-1)[token])
        greedy &= int(logits[0].argmax()) == token
    return total, greedy


@pytest.mark.parametrize("kind", tiny.ENGINES)
def test_loglikelihoods_equal_a_plain_loop(kind):
    pairs = [(prompt, f" {tiny.text(i, 1 + i % 3)}") for i, prompt in enumerate(tiny.prompts())]
    pairs += [(prompt + " ", tiny.text(7, 2)) for prompt in tiny.prompts()[:2]]  # the space moves over
    for policy in (PrefixPolicy("full"), PrefixPolicy("fixed", prefix_length=0.5)):
        lm = tiny.lm(kind, budget=Budget(rows=1), policy=policy)
        expected = [loglikelihood_loop(lm, *pair) for pair in pairs]
        for budget in (Budget(rows=1), Budget(rows=5), Budget(tokens=600)):
            batched = tiny.lm(kind, budget=budget, policy=policy)
            found = batched.loglikelihood([tiny.choose(*pair) for pair in pairs], disable_tqdm=True)
            assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=1e-3)
            assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


@pytest.mark.parametrize("policy", ["full", "document", "fixed", "dynamic"])
def test_no_continuation_token_is_in_the_prefix(policy):
    """Changing a later token of the continuation moves no earlier log-probability."""
    lm = tiny.lm("jrt", policy=PrefixPolicy(policy))
    context, continuation = lm._encode_pair(tiny.prompts()[4], " Ashgrove Maine 1994")
    row = lm.runtime.prepared([lm.encoder.row(0, tiny.prompts()[4], context)])[0]
    assert row.choice.length <= len(context)
    changed = [*continuation[:-1], (continuation[-1] + 1) % tiny.VOCAB]
    first, second = (
        lm.engine.score([context + tokens], [row.choice.length], [len(context)])[0]
        for tokens in (continuation, changed)
    )
    assert torch.equal(first.logprobs[:-1], second.logprobs[:-1])
    assert first.logprobs[-1] != second.logprobs[-1]


@pytest.mark.parametrize("kind", ["llama", "mamba", "jrt"])
def test_rolling_loglikelihood_equals_a_plain_loop(kind):
    texts = [tiny.text(1, 30), tiny.text(2, 3), ""]
    lm = tiny.lm(kind, budget=Budget(rows=2), max_length=40)
    found = lm.loglikelihood_rolling([tiny.whole(content) for content in texts], disable_tqdm=True)
    for value, content in zip(found, texts, strict=True):
        ids, total, done = lm.tok_encode(content), 0.0, 0
        # the windows of lm_eval: full ones, then one that reaches back as far as the context allows
        while done < len(ids):
            end = min(len(ids), done + 40)
            window = [lm.prefix_token_id, *ids][max(0, end - 40) : end + 1]
            for place in range(len(window) - (end - done), len(window)):
                known = len(window) - (end - done)
                prefix = known if lm.engine.has_prefix and lm.policy.policy == "full" else 0
                logits, _ = lm.engine.prefill([window[:place]], [prefix])
                total += float(logits[0].float().log_softmax(-1)[window[place]])
            done = end
        assert value == pytest.approx(total, abs=1e-3)


def test_batches_are_full_and_within_the_budget():
    lengths = [300, 10, 200, 260, 150]
    assert list(batches(lengths, Budget(rows=2))) == [[0, 3], [2, 4], [1]]
    assert list(batches(lengths, Budget(tokens=600))) == [[0, 3], [2, 4, 1]]
    assert list(batches(lengths, Budget(tokens=100))) == [[0], [3], [2], [4], [1]], "a long row gets a batch of its own"
    assert list(batches([], Budget())) == []
