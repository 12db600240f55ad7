"""Tokenizers that append an end token, or have tokens that the model does not embed; arguments that mean nothing."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from tokenizers.processors import TemplateProcessing

from jrt_lmeval.errors import JRTError
from model_adapters.engines.checkup import checkup
from model_adapters.lm import RecallLM
from model_adapters.models import JRTRNN, Based, HFRecall


def appending() -> Any:
    """The tokenizer of the tests, with an end token after every text."""
    fast = copy.deepcopy(tiny.tokenizer())
    fast.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {tiny.END}", special_tokens=[(tiny.END, fast.eos_token_id)]
    )
    assert fast.encode("a")[-1] == fast.eos_token_id
    return fast


def check_of(kind: str, tokenizer: Any, name: str) -> Any:
    return next(check for check in checkup(tiny.engine(kind), tokenizer) if check.name == name)


@pytest.mark.parametrize("kind", ["jrt", "llama"])
def test_no_prompt_ends_in_an_end_token(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "lm_eval.jrt")
    plain = tiny.lm(kind)
    assert not caplog.records
    torch.manual_seed(0)
    other = RecallLM(tiny.engine(kind), appending())
    assert f"appends '{tiny.END}' to every text" in caplog.text
    asked = [tiny.ask(prompt) for prompt in (*tiny.prompts(), "a plain prompt", "")]
    assert other.generate_until(asked, disable_tqdm=True) == plain.generate_until(asked, disable_tqdm=True)
    pairs = [tiny.choose(str(request.args[0]) or "x", " and more") for request in asked]
    found, truth = (lm.loglikelihood(pairs, disable_tqdm=True) for lm in (other, plain))
    assert [value for value, _ in found] == pytest.approx([value for value, _ in truth])
    assert other.tok_encode("a b") == plain.tok_encode("a b")


def test_the_doctor_says_what_a_tokenizer_appends() -> None:
    name = "no end token after a prompt"
    assert check_of("jrt", tiny.tokenizer(), name).seen == "the tokenizer appends nothing"
    found = check_of("jrt", appending(), name)
    assert found.passed and f"appends '{tiny.END}'" in found.seen


def test_an_added_token_is_refused_where_a_prompt_needs_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "lm_eval.jrt")
    folder = tiny.save(tiny.llama(), tmp_path / "llama")
    fast = copy.deepcopy(tiny.tokenizer())
    beyond = tiny.llama().get_input_embeddings().weight.shape[0] - len(fast)
    fast.add_tokens([*(f"<unused{number}>" for number in range(beyond)), "<image>"])
    fast.save_pretrained(folder)
    lm = HFRecall(folder, device="cpu")
    assert "has no vector for '<image>'" in caplog.text
    asked = [tiny.ask(prompt) for prompt in tiny.prompts()]
    assert lm.generate_until(asked, disable_tqdm=True) == tiny.lm("llama").generate_until(asked, disable_tqdm=True)
    with pytest.raises(JRTError, match=r"needs the token '<image>' \(id \d+\), and the model embeds \d+ tokens"):
        lm.generate_until([tiny.ask("what is in <image>")], disable_tqdm=True)
    with pytest.raises(JRTError, match="needs the token '<image>'"):
        lm.loglikelihood([tiny.choose("what is in", " <image>")], disable_tqdm=True)
    found = check_of("llama", lm.tokenizer, "no id beyond the vocabulary")
    assert found.passed and "'<image>' is refused" in found.seen


@pytest.mark.parametrize("kind", ["llama", "jrt"])
def test_a_vocabulary_beyond_the_embedding_is_a_warning_and_a_prompt_that_needs_it_is_refused(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "lm_eval.jrt")
    rows = len(tiny.tokenizer()) - 3
    model = tiny.llama() if kind == "llama" else tiny.jrt()
    model.resize_token_embeddings(rows)
    model.config.vocab_size = rows
    folder = tiny.save(model, tmp_path / kind)
    lm = HFRecall(folder, device="cpu") if kind == "llama" else JRTRNN(folder)
    (told,) = [record.getMessage() for record in caplog.records if "has no vector" in record.getMessage()]
    assert "(3 in all)" in told and "mean nothing unless the model was trained with this tokenizer" in told
    beyond = tiny.tokenizer().decode([rows])
    with pytest.raises(JRTError, match=rf"needs the token .* \(id \d+\), and the model embeds {rows} tokens"):
        lm.generate_until([tiny.ask(f"what is {beyond}{beyond}")], disable_tqdm=True)
    assert lm.generate_until([tiny.ask("of")], disable_tqdm=True)


@pytest.mark.parametrize("make", [JRTRNN, Based, HFRecall])
@pytest.mark.parametrize("source", [None, "llama", "jrt-mlp"])
def test_a_revision_of_a_model_on_this_machine_is_refused(make: Any, source: str | None) -> None:
    with pytest.raises(JRTError, match=r"revision=abc: .* has no revisions; leave revision out"):
        make(source, revision="abc")


def test_a_revision_of_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JRTError, match=r"revision=main: .*has no revisions"):
        HFRecall(tiny.save(tiny.llama(), tmp_path / "llama"), revision="main")


@pytest.mark.parametrize("length", [-1, 0, 2.5, True])
def test_a_prefix_of_no_length_is_refused(length: Any) -> None:
    with pytest.raises(JRTError, match=r"enc_length must be a whole number of at least 1, not"):
        JRTRNN(enc_length=length)


@pytest.mark.parametrize("make", [JRTRNN, Based])
def test_no_code_of_a_checkpoint_ever_runs(make: Any) -> None:
    with pytest.raises(JRTError, match="no code of a checkpoint ever runs"):
        make(trust_remote_code=True)
    make(trust_remote_code=False)
