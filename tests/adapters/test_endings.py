"""What goes wrong or ends early while an answer is made: numbers that are not finite, empty answers, counts of both."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from jrt_lmeval.errors import JRTError
from model_adapters.engines.hf import HFEngine
from model_adapters.lm import RecallLM
from model_adapters.running.batching import Budget

torch.set_num_threads(1)


def breaking(position: int, **options: Any) -> RecallLM:
    """A model whose logits are NaN from a position on."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=tiny.VOCAB, n_embd=32, n_layer=1, n_head=4, n_positions=64, bos_token_id=None, eos_token_id=None
    )
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn(weight.shape))
        model.transformer.wpe.weight[position:] = 3.3e38
    return RecallLM(HFEngine(model.eval()), tiny.tokenizer(), **options)


def ask(words: int, tokens: int) -> Any:
    return tiny.ask(tiny.text(4, words), until=[], max_gen_toks=tokens)


def length(words: int) -> int:
    return len(tiny.tokenizer().encode(tiny.text(4, words)))


@pytest.mark.parametrize("rows", [1, 4])
def test_numbers_that_break_while_decoding_name_the_answer(rows: int) -> None:
    lm = breaking(length(2) + 3, budget=Budget(rows=rows))
    # the prompt is read and three more tokens; with the fourth the model breaks
    assert lm.generate_until([ask(2, 4)], disable_tqdm=True)[0].stats["jrt_new_tokens"] == 4
    with pytest.raises(JRTError, match=r"^task t, doc_id 0: .*not finite.* at token 5 of its answer.*--use_cache"):
        lm.generate_until([ask(1, 1), ask(2, 8)], disable_tqdm=True)
    with pytest.raises(JRTError, match=r"^task t, doc_id 0: .*not finite.* after its prompt"):
        lm.generate_until([ask(9, 2)], disable_tqdm=True)


def test_what_was_finished_before_is_kept(tmp_path: Path) -> None:
    from lm_eval.api.model import CachingLM

    requests = [ask(2, 4), ask(2, 8)]
    with pytest.raises(JRTError, match="not finite"):
        CachingLM(breaking(length(2) + 3, budget=Budget(rows=4)), str(tmp_path / "c.db")).generate_until(requests)
    again = breaking(length(2) + 3)
    (kept,) = CachingLM(again, str(tmp_path / "c.db")).generate_until(requests[:1])
    assert kept.stats["jrt_new_tokens"] == 4
    assert again.get_model_info()["jrt"]["rows"] == 0


def test_other_rows_of_a_batch_are_scored_before_the_error(tmp_path: Path) -> None:
    from lm_eval.api.model import CachingLM

    pairs = [tiny.choose(tiny.text(4, words), " Maine") for words in (9, 1)]
    with pytest.raises(JRTError, match=r"not finite .* while it was scored"):
        CachingLM(breaking(length(1) + 6, budget=Budget(rows=4)), str(tmp_path / "c.db")).loglikelihood(pairs)
    again = breaking(length(1) + 6)
    assert CachingLM(again, str(tmp_path / "c.db")).loglikelihood(pairs[1:])[0][0] < 0
    assert again.get_model_info()["jrt"]["rows"] == 0


def test_answers_are_counted_by_what_ended_them(caplog: pytest.LogCaptureFixture) -> None:
    lm = tiny.lm("llama", budget=Budget(rows=4))
    prompts = tiny.prompts()
    free = lm.generate_until([tiny.ask(prompt, until=[], max_gen_toks=1) for prompt in prompts], disable_tqdm=True)
    assert {answer.stats["jrt_ended"] for answer in free} == {"length"}
    lm.runtime.reset()
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="lm_eval.jrt"):
        answers = lm.generate_until(
            [tiny.ask(prompt, until=[said[:1]]) for prompt, said in zip(prompts, free, strict=True)], disable_tqdm=True
        )
    assert set(answers) == {""} and all(answer.stats["jrt_empty_answer"] == 1 for answer in answers)
    figures = lm.get_model_info()["jrt"]
    assert figures["answers_empty"] == figures["ended"]["stop"] == len(prompts)
    (warning,) = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(r"9 of 9 answers are empty: 9 began with a stop string .*--apply_chat_template.*", warning)


def test_an_instruct_model_without_its_template_is_told(caplog: pytest.LogCaptureFixture) -> None:
    lm = tiny.lm("llama")
    real = lm.engine.prefill

    @torch.inference_mode()
    def ends_at_once(ids: Any, prefixes: Any, state: Any = None) -> Any:
        logits, state = real(ids, prefixes, state)
        logits = logits.clone()
        logits[:, 0] = 1e4  # the end token
        return logits, state

    lm.engine.prefill = ends_at_once  # type: ignore[method-assign]
    prompts = tiny.prompts()
    with caplog.at_level(logging.WARNING, logger="lm_eval.jrt"):
        lm.generate_until([tiny.ask(prompt) for prompt in prompts], disable_tqdm=True)
    assert "9 of 9 answers are empty: 9 began with the end token: an instruct model needs --apply_chat_template" in (
        caplog.text
    )
    assert lm.get_model_info()["jrt"]["ended"] == {"eos": 9}


def test_one_answer_at_a_time_is_a_mode_of_its_own() -> None:
    from model_adapters.models import HFRecall

    lm = HFRecall.create_from_arg_obj({"latency": True, "device": "cpu"}, {"batch_size": None})
    plain = HFRecall.create_from_arg_obj({"device": "cpu"}, {"batch_size": None})
    prompts = tiny.prompts(documents=1)
    answers = lm.generate_until([tiny.ask(prompt) for prompt in prompts], disable_tqdm=True)
    assert answers == plain.generate_until([tiny.ask(prompt) for prompt in prompts], disable_tqdm=True)
    figures = lm.get_model_info()["jrt"]
    assert figures["latency"] and figures["largest_batch"] == 1 and figures["prompt_tokens_reused"] == 0
    assert figures["rows"] == len(prompts), "the answer that warms up is not counted"
    assert figures["answer_seconds_median"] == sorted(answer.stats["jrt_seconds"] for answer in answers)[1]
    assert plain.get_model_info()["jrt"]["prompt_tokens_reused"] > 0


@pytest.mark.parametrize(
    ("given", "command", "rows"),
    [(1, True, None), ("1", True, 1), (1, False, 1), ("auto", True, None), (None, True, None), (3, True, 3)],
)
def test_who_asks_for_one_row_gets_one(
    given: Any, command: bool, rows: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lm_eval's command line passes the number 1 where nobody gave --batch_size, and text where somebody did."""
    import sys

    from model_adapters.models import HFRecall

    monkeypatch.setattr(sys, "argv", ["lm_eval", "run", "--model", "hf_recall"])
    if command:
        import lm_eval._cli  # noqa: F401
    else:
        monkeypatch.delitem(sys.modules, "lm_eval._cli", raising=False)
    lm = HFRecall.create_from_arg_string("device=cpu", {"batch_size": given})
    assert lm.runtime.budget.rows == rows


def test_a_configuration_file_asks_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    import lm_eval._cli  # noqa: F401

    from model_adapters.lm import is_default_batch_size

    (tmp_path / "one.yaml").write_text("model: hf_recall\nbatch_size: 1\n")
    (tmp_path / "none.yaml").write_text("model: hf_recall\n")
    for name, default in (("one", False), ("none", True)):
        monkeypatch.setattr(sys, "argv", ["lm_eval", "run", "--config", str(tmp_path / f"{name}.yaml")])
        assert is_default_batch_size(1) == default
