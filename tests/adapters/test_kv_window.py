"""A Transformer under a window: a token sees its window and the sinks, whatever the batch, the blocks and the cuts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from jrt_lmeval.errors import JRTError
from model_adapters.engines.checkup import checkup
from model_adapters.engines.kv_window import NO_TOKEN, KVWindow, WindowEngine, WindowOptions, full_pass
from model_adapters.lm import RecallLM
from model_adapters.models import HFRecall, Mamba
from model_adapters.running.batching import Budget

torch.set_num_threads(1)

TOKEN_BYTES = 2 * 2 * 2 * 8 * 4  # layers, keys and values, heads, size of a head, bytes of a number


def gpt2() -> Any:
    config = GPT2Config(vocab_size=tiny.VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=256, eos_token_id=0)
    return tiny._wild(GPT2LMHeadModel(config))


def engine(size: int, sinks: int = 2, block: int | None = None, model: Any = None) -> WindowEngine:
    return WindowEngine(model or tiny.llama(), WindowOptions(kv_window=size, kv_sinks=sinks), block)


def texts(*lengths: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(sum(lengths))
    return [torch.randint(1, tiny.VOCAB, (n,), generator=generator).tolist() for n in lengths]


def close(mine: torch.Tensor, truth: torch.Tensor) -> None:
    torch.testing.assert_close(mine, truth, atol=2e-5, rtol=1e-4)


def test_what_a_token_sees() -> None:
    seen = KVWindow(2, 1).sees(torch.tensor([[0, 1, 2, 3, 4]]), torch.tensor([[0, 1, 2, 3, 4]]))[0].int().tolist()
    assert seen == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 0, 1, 1, 0], [1, 0, 0, 1, 1]]


def test_what_a_state_keeps() -> None:
    keys = torch.tensor([[0, 1, 2, 3, 4, 5], [NO_TOKEN, NO_TOKEN, NO_TOKEN, 0, 1, 2]])
    slots, positions = KVWindow(3, 1).cut(keys, torch.tensor([6, 3]))
    assert positions.tolist() == [[0, 4, 5], [0, 1, 2]]
    assert slots.tolist() == [[0, 4, 5], [3, 4, 5]]
    assert KVWindow(1, 0).cut(keys, torch.tensor([6, 3]))[1].shape == (2, 0)
    assert KVWindow(4, 1).cut(keys, torch.tensor([6, 3]))[1].tolist() == [[0, 3, 4, 5], [0, 1, 2, NO_TOKEN]]


@pytest.mark.parametrize("build", [tiny.llama, gpt2])
@pytest.mark.parametrize(("size", "sinks"), [(1, 0), (1, 3), (5, 2), (64, 4)])
def test_every_position_is_read_as_by_one_masked_pass(build: Any, size: int, sinks: int) -> None:
    model = build()
    rows = texts(37, 5, 1, 22, 2)
    truth = [full_pass(model, row, KVWindow(size, sinks)) for row in rows]
    for block in (3, 8, 64):
        found = engine(size, sinks, block, model)
        logits, state = found.prefill(rows, [0] * len(rows))
        close(logits, torch.stack([row[-1] for row in truth]))
        assert state.row_bytes() == [min(len(row), size - 1 + sinks) * _weight(model) for row in rows]
        scores = found.score([row for row in rows if len(row) > 1], [0] * 4, [1] * 4)
        for score, row, logits in zip(scores, *_longer(rows, truth), strict=True):
            expected = logits[:-1].log_softmax(-1).gather(1, torch.tensor(row[1:])[:, None])[:, 0]
            torch.testing.assert_close(score.logprobs, expected, atol=1e-4, rtol=1e-4)


def _longer(rows: Any, truth: Any) -> tuple[list[Any], list[Any]]:
    chosen = [(row, logits) for row, logits in zip(rows, truth, strict=True) if len(row) > 1]
    return [row for row, _ in chosen], [logits for _, logits in chosen]


def _weight(model: Any) -> int:
    return TOKEN_BYTES if "Llama" in type(model).__name__ else 2 * TOKEN_BYTES


def test_a_restricted_pass_is_another_than_the_model_s_own() -> None:
    model, (row,) = tiny.llama(), texts(40)
    plain = model(torch.tensor([row])).logits[0]
    close(full_pass(model, row, KVWindow(40, 0)), plain)
    restricted = full_pass(model, row, KVWindow(5, 2))
    close(restricted[:5], plain[:5])
    assert (restricted[7:] - plain[7:]).abs().amax(1).min() > 1e-3, "from there on every token lacks one"


@pytest.mark.parametrize("block", [2, 5, 64])
def test_prefill_then_decode_and_forks(block: int) -> None:
    model, window = tiny.llama(), KVWindow(6, 2)
    found = engine(6, 2, block, model)
    rows, more, steps = texts(19, 1, 8), texts(4, 9, 2), texts(5, 5, 5)
    _, state = found.prefill(rows, [0] * 3)
    kept = [tensor.clone() for pair in state.layers for tensor in pair]
    for order in ([0, 1, 2], [2, 0, 0]):
        logits, fork = found.prefill([more[i] for i in range(3)], [0] * 3, state.select(torch.tensor(order)))
        for step in range(6):
            read = [rows[order[i]] + more[i] + steps[i][:step] for i in range(3)]
            close(logits, torch.stack([full_pass(model, row, window)[-1] for row in read]))
            assert fork.row_bytes() == [min(len(row), 7) * TOKEN_BYTES for row in read]
            if step < 5:
                logits, fork = found.step(torch.tensor([steps[i][step] for i in range(3)]), fork)
    assert all(torch.equal(a, b) for a, b in zip(kept, (t for pair in state.layers for t in pair), strict=True))


def test_answers_equal_a_plain_loop_in_every_batch_and_documents_are_shared() -> None:
    prompts = tiny.prompts(documents=2)

    def lm(**options: Any) -> RecallLM:
        return RecallLM(engine(9, 2, 8), tiny.tokenizer(), **options)

    expected = [tiny.plain_loop(lm(), prompt) for prompt in prompts]
    assert expected != [tiny.plain_loop(tiny.lm("llama"), prompt) for prompt in prompts], "the window must matter"
    requests = [tiny.ask(prompt) for prompt in prompts]
    for rows, reuse in ((1, True), (4, True), (4, False)):
        model = lm(budget=Budget(rows=rows), reuse=reuse)
        answers = model.generate_until(requests, disable_tqdm=True)
        assert answers == expected
        for part in ("jrt_state_bytes", "jrt_window_bytes"):
            assert {answer.stats[part] for answer in answers} == {10 * TOKEN_BYTES}
        assert (model.get_model_info()["jrt"]["prompt_tokens_reused"] > 0) == reuse


def test_doctor_finds_a_windowed_model_sound() -> None:
    checks = list(checkup(engine(4, 1, 50), tiny.tokenizer()))
    assert [check.name for check in checks if check.passed is False] == []
    naive = next(check for check in checks if check.name == "chunked == naive")
    assert naive.passed


def test_a_window_in_bytes() -> None:
    assert WindowOptions(kv_bytes=1000, kv_sinks=2).window(100) == KVWindow(9, 2)
    assert WindowOptions(kv_bytes=999, kv_sinks=2).window(100) == KVWindow(8, 2)
    assert WindowOptions(kv_bytes=400).window(100) == KVWindow(1, 4)
    found = WindowEngine(tiny.llama(), WindowOptions(kv_bytes=10 * TOKEN_BYTES + 1, kv_sinks=3))
    assert found.kv_window == KVWindow(8, 3)
    _, state = found.prefill(texts(50), [0])
    assert state.row_bytes() == [10 * TOKEN_BYTES]
    with pytest.raises(JRTError, match=r"kv_bytes=399 holds 3 tokens of 100 bytes each; the 4 sinks .* at least 400"):
        WindowOptions(kv_bytes=399).window(100)
    with pytest.raises(JRTError, match=r"kv_bytes=99 holds 0 tokens of 100 bytes each; .* at least 100"):
        WindowOptions(kv_bytes=99, kv_sinks=0).window(100)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kv_window": 0}, "kv_window must be a whole number of at least 1, not 0"),
        ({"kv_window": True}, "kv_window .* not True"),
        ({"kv_window": "64k"}, "kv_window .* not '64k'"),
        ({"kv_window": 4, "kv_sinks": -1}, "kv_sinks must be a whole number of at least 0, not -1"),
        ({"kv_sinks": 4}, "kv_sinks=4 needs a window"),
        ({"kv_window": 4, "kv_bytes": 5}, "kv_window=4 and kv_bytes=5 both say"),
        ({"kv_windows": 4}, "kv_windows.*Did you mean 'kv_window'"),
    ],
)
def test_bad_windows_are_one_clear_error(given: dict[str, Any], said: str, tmp_path: Path) -> None:
    folder = tiny.save(tiny.llama(), tmp_path)
    with pytest.raises(JRTError, match=said):
        HFRecall(folder, **given)


@pytest.mark.parametrize(
    ("build", "kind"),
    [
        (tiny.mistral, "MistralForCausalLM.*DynamicSlidingWindowLayer"),
        (tiny.hybrid, "BambaForCausalLM.*LinearAttention"),
        (tiny.mamba, "MambaForCausalLM.*takes no position_ids"),
    ],
)
def test_other_kinds_of_layers_are_refused(build: Any, kind: str) -> None:
    with pytest.raises(JRTError, match=f"{kind}.*leave kv_window, kv_sinks and kv_bytes out"):
        engine(4, model=build())


def test_a_model_that_does_not_heed_the_mask_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.llama()
    forward = type(model).forward

    def careless(self: Any, input_ids: Any = None, attention_mask: Any = None, position_ids: Any = None,
                 past_key_values: Any = None, **rest: Any) -> Any:  # fmt: skip
        return forward(self, input_ids=input_ids, position_ids=position_ids, past_key_values=past_key_values, **rest)

    monkeypatch.setattr(type(model), "forward", careless)
    with pytest.raises(JRTError, match="LlamaForCausalLM does not heed a mask"):
        engine(4, model=model)


def test_the_model_arguments(tmp_path: Path) -> None:
    folder = tiny.save(tiny.llama(), tmp_path / "llama")
    lm = HFRecall.create_from_arg_string(f"pretrained={folder},kv_window=6,kv_sinks=1")
    facts = lm.get_model_info()["jrt"]
    assert (facts["kv_window"], facts["kv_sinks"]) == (6, 1)
    prints = [
        HFRecall(folder, **given).fingerprint()
        for given in ({}, {"kv_window": 6}, {"kv_window": 6, "kv_sinks": 1}, {"kv_bytes": 9 * TOKEN_BYTES})
    ]
    assert prints[1] == prints[3], "the same window in bytes is the same model"
    assert len({str(sorted(p.items(), key=str)) for p in prints}) == 3
    with pytest.raises(JRTError, match="MambaForCausalLM"):
        Mamba(tiny.save(tiny.mamba(), tmp_path / "mamba"), kv_window=8)
