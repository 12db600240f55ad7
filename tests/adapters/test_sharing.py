"""What prompts begin with is read once, as a tree; answers stay those of a plain loop, and nothing is counted twice."""

from __future__ import annotations

import pytest
import tiny
import torch
from lm_eval.api.instance import Instance

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prefix import PrefixPolicy
from jrt_lmeval.prompts import Prompt
from model_adapters.engines.engine import score_positions
from model_adapters.options import RunOptions
from model_adapters.running.batching import Budget, Opening, Start, shared_starts
from model_adapters.running.rows import read_goal


def opening(text: str, prefix: int = 0) -> Opening:
    return Opening(prefix, tuple(map(ord, text)))


def shape(start: Start) -> tuple:
    return "".join(map(chr, start.new_ids)), start.rows, [shape(child) for child in start.children]


def test_starts_become_a_tree() -> None:
    texts = ["ab", "abcd", "abcd", "ab", None, "abce", "x", "y", "y", "abc"]
    roots, alone = shared_starts([None if text is None else opening(text) for text in texts])
    assert [shape(root) for root in roots] == [("ab", [0, 3], [("c", [5, 9], [("d", [1, 2], [])])]), ("y", [7, 8], [])]
    assert alone == [4, 6]
    assert [len(root.rows_below) for root in roots] == [6, 2]


def test_a_start_that_nobody_shares_is_not_kept() -> None:
    roots, alone = shared_starts([opening("a"), opening("ab"), opening("abc"), opening("abc")])
    assert [shape(root) for root in roots] == [("a", [0], [("b", [1], [("c", [2, 3], [])])])] or alone == []
    assert shared_starts([opening("abc"), opening("b")]) == ([], [0, 1])


def test_rows_of_different_prefixes_share_nothing() -> None:
    roots, alone = shared_starts([opening("abc", 2), opening("abc", 3), opening("abcd", 2), opening("abc", 2)])
    assert [shape(root) for root in roots] == [("abc", [0, 2, 3], [])]
    assert alone == [1]


def nested() -> list[Prompt]:
    """Questions on half of a document and on all of it."""
    half, rest = tiny.text(3, 20), tiny.text(4, 15)
    whole = f"{half} {rest}"
    return [
        Prompt(f"{document} {stem}:", 0, len(document), document)
        for document in (half, whole)
        for stem in ("Director", "Runtime", "Budget")
    ]


@pytest.mark.parametrize("kind", ["llama", "mamba", "based", "attention"])
def test_half_a_document_is_read_once_for_the_whole_one(kind: str) -> None:
    prompts = nested()
    lm = tiny.lm(kind, budget=Budget(rows=8))
    answers = lm.generate_until([tiny.ask(prompt) for prompt in prompts], disable_tqdm=True)
    assert answers == [tiny.plain_loop(tiny.lm(kind), prompt) for prompt in prompts]
    rows = [lm.encoder.row(0, prompt) for prompt in prompts]
    questions = sum(len(row.ids) - row.document_end for row in rows)
    info = lm.get_model_info()["jrt"]
    assert info["prompt_tokens_computed"] == rows[-1].document_end + questions
    assert info["prompt_tokens_reused"] == info["prompt_tokens"] - info["prompt_tokens_computed"] > 0
    assert info["seconds"] == pytest.approx(sum(answer.stats["jrt_seconds"] for answer in answers))
    assert info["tokens_per_second"] == pytest.approx(
        (info["prompt_tokens_computed"] + info["new_tokens"]) / info["seconds"]
    )


def test_a_prefix_inside_the_document_is_shared_too() -> None:
    prompts = tiny.prompts(documents=2, questions=4)
    policy = PrefixPolicy("fixed", prefix_length=5)
    lm = tiny.lm("jrt", budget=Budget(rows=8), policy=policy)
    answers = lm.generate_until([tiny.ask(prompt) for prompt in prompts], disable_tqdm=True)
    assert answers == [tiny.plain_loop(tiny.lm("jrt", policy=policy), prompt) for prompt in prompts]
    ends = [lm.encoder.row(0, prompt).document_end for prompt in prompts[:2]]
    assert lm.get_model_info()["jrt"]["prompt_tokens_reused"] == 3 * sum(ends)
    assert all(answer.stats["jrt_prefix_share"] == 5 / answer.stats["jrt_prompt_tokens"] for answer in answers)


def test_a_request_that_lm_eval_repeats_for_other_processes_is_run_once() -> None:
    lm = tiny.lm("jrt")
    first, last = (tiny.ask(prompt) for prompt in tiny.prompts(documents=1, questions=2))
    answers = lm.generate_until([first, last, last, last], disable_tqdm=True)
    assert answers[1:] == [answers[1]] * 3
    assert lm.get_model_info()["jrt"]["rows"] == 2
    scored = [tiny.choose("of the", " Budget"), tiny.choose("of the", " Genre")]
    assert len(set(lm.loglikelihood([*scored, scored[1]], disable_tqdm=True))) == 2
    whole = tiny.whole(tiny.text(1, 5))
    assert len(lm.loglikelihood_rolling([whole, whole], disable_tqdm=True)) == 2
    assert lm.get_model_info()["jrt"]["rows"] == 2 + 2 + 1


def test_skipped_and_cut_prompts_say_so_themselves() -> None:
    prompts = nested()
    lengths = [len(tiny.lm("jrt").encoder.row(0, prompt).ids) for prompt in prompts]
    limit = max(lengths[:3]) + 8
    requests = [tiny.ask(prompt, max_gen_toks=8) for prompt in prompts]
    skipped = tiny.lm("jrt", max_length=limit, on_overflow="skip").generate_until(requests, disable_tqdm=True)
    assert [answer.stats.get("jrt_skipped") for answer in skipped] == [None] * 3 + [1] * 3
    assert all(set(answer.stats) == {"jrt_skipped"} for answer in skipped[3:])
    cut = tiny.lm("jrt", max_length=limit, on_overflow="truncate_left").generate_until(requests, disable_tqdm=True)
    for answer, length in zip(cut, lengths, strict=True):
        assert answer.stats.get("jrt_truncated_tokens", 0) == max(0, length + 8 - limit)
        assert answer.stats["jrt_prompt_tokens"] == min(length, limit - 8)


def test_logits_that_are_not_finite_stop_the_run() -> None:
    lm = tiny.lm("jrt")
    with torch.no_grad():
        lm.engine.model.norm.weight[0] = float("nan")
    with pytest.raises(JRTError, match="logits are not finite"):
        lm.generate_until([tiny.ask(tiny.prompts()[0])], disable_tqdm=True)
    pair = Instance("loglikelihood", {}, ("Genre:", " Ashgrove"), 0)
    with pytest.raises(JRTError, match="logits are not finite"):
        lm.loglikelihood([pair], disable_tqdm=True)


def test_a_barred_token_is_unlikely_and_an_infinite_logit_is_no_distribution() -> None:
    infinity = float("inf")
    barred, broken = torch.tensor([[0.0, -infinity, 1.0]]), torch.tensor([[0.0, 2.0, infinity]])
    assert score_positions(barred, torch.tensor([1])).logprobs.tolist() == [-infinity]
    assert score_positions(broken, torch.tensor([0])).logprobs.isnan().all()


@pytest.mark.parametrize("name", ["reuse", "doctor", "add_bos_token"])
def test_a_switch_that_is_neither_on_nor_off(name: str) -> None:
    with pytest.raises(JRTError, match=f"{name}='maybe': must be True or False"):
        RunOptions.read(RunOptions, {name: "maybe"})


def test_a_stop_that_is_no_text() -> None:
    with pytest.raises(JRTError, match="until=5 must be text or a list of texts"):
        read_goal({"until": 5})
