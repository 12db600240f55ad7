"""Released checkpoints as lm_eval builds them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from released import HERE, expected

from jrt_lmeval.checkpoints import load_pretrained
from jrt_lmeval.checkpoints.convert import convert
from jrt_lmeval.errors import JRTError
from model_adapters.engines.jrt import JRTEngine
from model_adapters.models import JRTRNN, Based, HFRecall, Mamba

torch.set_num_threads(1)
LARGE = {"jrt": "jrt_tiny", "based": "based_tiny", "attn": "attn_tiny", "mamba": "mamba_tiny"}


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny.tokenizer().save_pretrained(folder)
    return {"tokenizer": str(folder), "device": "cpu"}


@pytest.mark.parametrize("kind, model", [
    ("jrt", JRTRNN), ("based", JRTRNN), ("attn", JRTRNN), ("based", Based), ("attn", Based), ("mamba", Mamba),
])  # fmt: skip
def test_a_released_model_answers(kind: str, model: type, options: dict[str, str]) -> None:
    lm = model(str(HERE / LARGE[kind]), **options)
    prompts = [str(prompt) for prompt in tiny.prompts()]
    answers = lm.generate_until([tiny.ask(prompt) for prompt in prompts], disable_tqdm=True)
    alone = model(str(HERE / LARGE[kind]), batch_size=4, **options)
    assert answers == alone.generate_until([tiny.ask(prompt) for prompt in prompts], disable_tqdm=True)
    figures = lm.get_model_info()["jrt"]
    if kind != "mamba":
        modes = {"padding": "exact", "decode": "exact", "filling": "left_pad"}
        assert figures["modes"] == {**modes, "enc_length": 32 if kind == "jrt" else None}
        assert figures["released"].split(",")[0] == {"jrt": "JRT-RNN", "based": "Based", "attn": "Transformer"}[kind]
        assert figures["prefix"] == ("full" if kind == "jrt" else "none")


def test_modes_reach_the_model_and_the_results(options: dict[str, str]) -> None:
    folder = str(HERE / "jrt_tiny")
    lm = JRTRNN(folder, padding="published", filling="read_twice", enc_length=20, **options)
    figures = lm.get_model_info()["jrt"]
    modes = {"padding": "published", "decode": "exact", "filling": "read_twice", "enc_length": 20}
    assert figures["modes"] == modes
    assert "padding=published" in figures["released"]
    based = Based(str(HERE / "based_tiny"), decode="published", **options)
    assert based.get_model_info()["jrt"]["modes"]["decode"] == "published"
    with pytest.raises(JRTError, match="Did you mean 'iterate'"):
        JRTRNN(folder, filling="iterated", **options)


def test_the_engine_reads_as_published() -> None:
    truth = expected("jrt_tiny")
    ids, new = truth["forward.b3_len13.input_ids"].tolist(), truth["greedy.leftpad.b3_len13.new_ids"]
    engine = JRTEngine(load_pretrained(HERE / "jrt_tiny", padding="published"))
    assert not engine.can_continue
    logits, state = engine.prefill(ids, [13] * 3)
    for i in range(new.shape[1]):
        assert torch.equal(logits.argmax(-1), new[:, i])
        logits, state = engine.step(new[:, i], state)


@pytest.mark.parametrize("padding", ["exact", "published"])
def test_scores_and_generation_agree_where_padding_is_exact(padding: str) -> None:
    engine = JRTEngine(load_pretrained(HERE / "jrt_tiny", padding=padding))
    engine.model.config.token_count = None  # what pads the vocabulary is never generated but counts in scores
    ids = torch.randint(1, 300, (11,), generator=torch.Generator().manual_seed(0)).tolist()
    context = 8
    logits, state = engine.prefill([ids[:context]], [context])
    total = []
    for token in ids[context:]:
        total.append(float(logits.log_softmax(-1)[0, token]))
        logits, state = engine.step(torch.tensor([token]), state)
    (scores,) = engine.score([ids], [context], [context])
    if padding == "exact":
        torch.testing.assert_close(scores.logprobs, torch.tensor(total), rtol=1e-4, atol=1e-4)
    else:  # scoring fills context and continuation together, as published: more of the text, fewer pads
        assert float((scores.logprobs - torch.tensor(total)).abs().max()) > 1e-3


def test_a_prefix_longer_than_enc_length_is_reported_as_what_it_is(options: dict[str, str]) -> None:
    lm = JRTRNN(str(HERE / "jrt_tiny"), enc_length=5, **options)
    answer = lm.generate_until([tiny.ask(str(tiny.prompts()[0]))], disable_tqdm=True)[0]
    assert answer.stats["jrt_prefix_tokens"] == 5


def test_wrong_ways_in_are_named(options: dict[str, str]) -> None:
    with pytest.raises(JRTError, match="a prefix would change nothing"):
        JRTRNN(str(HERE / "based_tiny"), prefix="document", **options)
    with pytest.raises(JRTError, match="is a JRT-RNN"):
        Based(str(HERE / "jrt_tiny"), **options)
    with pytest.raises(JRTError, match="use --model jrt_rnn"):
        HFRecall(str(HERE / "jrt_tiny"), **options)
    with pytest.raises(JRTError, match="jrt-eval convert"):
        Mamba(str(HERE / "mamba_tiny"), device_map="auto", **options)
    lm = JRTRNN(str(HERE / "jrt_tiny"), device="cpu")
    with pytest.raises(JRTError, match=r"needs the token .*, and the model embeds 512 tokens"):
        lm.generate_until([tiny.ask("Where was he born?")], disable_tqdm=True)


def test_what_was_found_is_said(caplog, options: dict[str, str]) -> None:
    with caplog.at_level("INFO", logger="lm_eval.jrt"):
        JRTRNN(str(HERE / "attn_tiny"), **options)
    assert "attn_tiny: Transformer, width 24, 3 layers (3 attention)" in caplog.text


def test_a_converted_model_runs_like_its_source(tmp_path: Path, options: dict[str, str]) -> None:
    load_pretrained(HERE / "jrt_tiny").save_pretrained(tmp_path)
    requests = [tiny.ask(str(prompt)) for prompt in tiny.prompts()]
    mine, source = JRTRNN(str(tmp_path), **options), JRTRNN(str(HERE / "jrt_tiny"), **options)
    assert mine.generate_until(requests, disable_tqdm=True) == source.generate_until(requests, disable_tqdm=True)


def test_one_warning_names_the_kernels_that_cuda_lacks(caplog, monkeypatch, options: dict[str, str]) -> None:
    with caplog.at_level("WARNING", logger="lm_eval.jrt"):
        Mamba(str(HERE / "mamba_tiny"), **options)
        assert "CUDA" not in caplog.text
        monkeypatch.setattr(Mamba, "device", property(lambda self: torch.device("cuda")))
        monkeypatch.setattr("model_adapters.models.find_spec", lambda name: None)
        Mamba(str(HERE / "mamba_tiny"), **options)
    assert caplog.text.count("pip install mamba-ssm causal-conv1d") == 1


@pytest.mark.slow
def test_lm_evals_own_hf_loads_a_converted_model(tmp_path: Path, options: dict[str, str]) -> None:
    convert(str(HERE / "jrt_tiny"), tmp_path, tokenizer=options["tokenizer"])
    code = f"""
import _jrt_lmeval_hook
_jrt_lmeval_hook.install()
from lm_eval.api.registry import get_model
from lm_eval.api.instance import Instance
lm = get_model("hf")(pretrained={str(tmp_path)!r}, device="cpu", batch_size=2)
arguments = ("of the Director in Maine", {{"until": [], "max_gen_toks": 6}})
print(repr(lm.generate_until([Instance("generate_until", {{}}, arguments, 0)], disable_tqdm=True)[0]))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    lm = JRTRNN(str(tmp_path), device="cpu")
    mine = lm.generate_until([tiny.ask("of the Director in Maine", until=[], max_gen_toks=6)], disable_tqdm=True)[0]
    assert done.stdout.strip().splitlines()[-1] == repr(str(mine))
