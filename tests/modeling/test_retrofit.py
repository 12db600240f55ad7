"""A Transformer with a constant state: however a text is read, the result is the same, and windows are windows."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen3Config

from jrt_lmeval.checkpoints.found import find
from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.retrofit import WINDOWED, RetrofitConfig, RetrofitForCausalLM, default_depths, read_backbone
from model_adapters.models import JRTRNN, Based, HFRecall

SHAPE = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "eos_token_id": 0, "bos_token_id": None,
}  # fmt: skip
BACKBONES = {
    "llama": LlamaConfig(**SHAPE),
    "mistral": MistralConfig(**SHAPE),
    "qwen3": Qwen3Config(**SHAPE, head_dim=8),
}
KERNELS = [
    ("jrt_rnn", "centred"), ("jrt_rnn", "mlp"), ("based", "taylor"), ("based", "linear"), ("softmax", "centred"),
    ("mamba2", "centred"),
]  # fmt: skip


def retrofitted(kernel: str = "jrt_rnn", feature_map: str = "centred", backbone: str = "llama") -> RetrofitForCausalLM:
    torch.manual_seed(0)
    config = RetrofitConfig(
        "tiny", BACKBONES[backbone].to_dict(), window=5, sinks=2, at=[1, 3], kernel=kernel, feature_map=feature_map,
        memory_heads=4, memory_dim=4,
    )  # fmt: skip
    model = RetrofitForCausalLM(config).eval()
    with torch.no_grad():
        model.start()
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0.0, 0.2)
    return model


@pytest.fixture(scope="module")
def ids() -> Tensor:
    return torch.randint(1, 97, (3, 29), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(("kernel", "feature_map"), KERNELS)
@pytest.mark.parametrize("backbone", BACKBONES)
@torch.no_grad()
def test_a_ragged_batch_reads_like_its_rows_and_steps_like_one_pass(
    kernel: str, feature_map: str, backbone: str, ids: Tensor
) -> None:
    model, lengths = retrofitted(kernel, feature_map, backbone), torch.tensor([29, 11, 2])
    prefixes = torch.tensor([13, 0, 2]) if model.has_prefix else None
    together, _ = model.hidden_states(ids, lengths, prefixes)
    for row, length in enumerate(lengths.tolist()):
        alone, _ = model.hidden_states(
            ids[row : row + 1, :length], None, None if prefixes is None else prefixes[row : row + 1]
        )
        torch.testing.assert_close(together[row, :length], alone[0], atol=2e-5, rtol=1e-4)
    _, state = model.hidden_states(ids[:, :13], lengths.clamp(max=13), prefixes)
    whole = together[0, 13:]
    steps, at = [], state.select([0])
    for token in range(13, 29):
        hidden, at = model.hidden_states(ids[:1, token : token + 1], state=at, decoding=True)
        steps.append(hidden[0, 0])
    torch.testing.assert_close(torch.stack(steps), whole, atol=2e-5, rtol=1e-4)
    forked = state.select([0, 0])
    _, middle = model.hidden_states(ids[:1, 13:20].expand(2, -1), torch.tensor([7, 3]), state=forked)
    rest, end = model.hidden_states(ids[:1, 16:].expand(2, -1), state=middle.select([1, 1]))
    torch.testing.assert_close(rest[1], whole[3:], atol=2e-5, rtol=1e-4)
    assert end.lengths.tolist() == [29, 29]


@torch.no_grad()
def test_without_memories_the_windows_are_those_of_a_masked_transformer(ids: Tensor) -> None:
    config = RetrofitConfig("tiny", BACKBONES["llama"].to_dict(), window=5, sinks=2, at=[])
    model = RetrofitForCausalLM(config).eval()
    plain = AutoModelForCausalLM.from_config(BACKBONES["llama"], attn_implementation="eager").eval()
    plain.load_state_dict(model.backbone.state_dict())
    place = torch.arange(29)
    seen = (place <= place[:, None]) & ((place < 2) | (place > place[:, None] - 5))
    mask = torch.zeros(29, 29).masked_fill(~seen, torch.finfo(torch.float32).min).expand(3, 1, -1, -1)
    expected = plain(ids, attention_mask=mask).logits
    torch.testing.assert_close(model.logits(model.hidden_states(ids)[0]), expected, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_long_texts_are_read_in_blocks(monkeypatch: pytest.MonkeyPatch, ids: Tensor) -> None:
    model = retrofitted("based", "taylor")
    whole, _ = model.hidden_states(ids)
    monkeypatch.setattr("jrt_lmeval.modeling.retrofit.BLOCK", 4)
    torch.testing.assert_close(model.hidden_states(ids)[0], whole, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_the_state_is_constant_and_the_softmax_memory_grows(ids: Tensor) -> None:
    for kernel, grows in (("jrt_rnn", False), ("softmax", True)):
        model = retrofitted(kernel)
        sizes = [model.hidden_states(ids[:, :length])[1].row_bytes() for length in (9, 27)]
        assert (sizes[1] > sizes[0]) == grows


def test_training_reaches_the_memories_alone_and_equals_reading(ids: Tensor) -> None:
    for kernel, feature_map in KERNELS:
        model = retrofitted(kernel, feature_map).train()
        prefixes = torch.tensor([13, 0, 2]) if model.has_prefix else None
        hidden, _ = model.hidden_states(ids, None, prefixes)
        with torch.no_grad():
            read, _ = model.eval().hidden_states(ids, None, prefixes)
        torch.testing.assert_close(hidden, read, atol=2e-5, rtol=1e-4)
        hidden.square().sum().backward()
        assert all(weight.grad is None for weight in model.backbone.parameters())
        assert all(weight.grad is not None and bool(weight.grad.any()) for weight in model.memories.parameters())


def test_saved_are_the_memories_and_the_name_of_the_backbone(tmp_path: Path, ids: Tensor) -> None:
    backbone = AutoModelForCausalLM.from_config(BACKBONES["llama"])
    backbone.save_pretrained(tmp_path / "backbone")
    name = str(tmp_path / "backbone")
    config = RetrofitConfig(name, backbone.config.to_dict(), window=5, sinks=2, at=[1], memory_heads=4, memory_dim=4)
    model = RetrofitForCausalLM(config, read_backbone(name, torch.float32)).eval()
    model.start()
    model.save_pretrained(tmp_path / "memory")
    assert (tmp_path / "memory" / "model.safetensors").stat().st_size < 60_000
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "memory")
    assert isinstance(again, RetrofitForCausalLM)
    with torch.no_grad():
        torch.testing.assert_close(again.hidden_states(ids)[0], model.hidden_states(ids)[0])
        half = RetrofitForCausalLM.from_pretrained(tmp_path / "memory", torch.bfloat16)
        assert half.backbone.dtype == torch.bfloat16 and half.memories[0].out_proj.weight.dtype == torch.float32
        torch.testing.assert_close(half.hidden_states(ids)[0].float(), model.hidden_states(ids)[0], atol=0.1, rtol=0.1)
        answer = again.generate(ids[:2], max_new_tokens=4, do_sample=False, pad_token_id=0)
        logits, state = again.prefill(ids[:2], prefix_lengths=torch.tensor([29, 29]))
        for place in range(29, 33):
            assert answer[0, place] == logits[0].argmax()
            logits, state = again.step(answer[:, place], state)


def test_depths_and_settings() -> None:
    assert default_depths(30) == [20, 28] and default_depths(3) == [1, 2]
    shape = BACKBONES["llama"].to_dict()
    for fault, settings in (
        ("Did you mean 'based'", {"kernel": "base"}),
        ("must divide", {"memory_heads": 5}),
        ("from 0 to 3", {"at": [2, 7]}),
        ("at least 1", {"window": 0}),
    ):
        with pytest.raises(JRTError, match=fault):
            RetrofitConfig("tiny", shape, **settings)
    with pytest.raises(JRTError, match="runs only inside"):
        AutoModelForCausalLM.from_config(BACKBONES["llama"], attn_implementation=WINDOWED)(torch.tensor([[1, 2]]))


def test_lm_eval_runs_it_as_any_model_of_ours(tmp_path: Path) -> None:
    backbone = tiny.save(tiny.llama(), tmp_path / "backbone")
    for kernel, adapter in (("jrt_rnn", JRTRNN), ("based", Based)):
        config = RetrofitConfig(
            backbone, tiny.llama().config.to_dict(), window=5, sinks=2, at=[1], kernel=kernel, memory_heads=4
        )  # fmt: skip
        model = RetrofitForCausalLM(config, read_backbone(backbone, torch.float32)).eval()
        model.start()
        model.save_pretrained(folder := tmp_path / kernel)
        asked = [tiny.ask(prompt) for prompt in tiny.prompts()]
        lm = adapter(pretrained=str(folder), batch_size=3)
        answers = lm.generate_until(asked)
        assert answers == adapter(pretrained=str(folder), batch_size=1).generate_until(asked)
        assert answers == [tiny.plain_loop(lm, prompt) for prompt in tiny.prompts()]
        assert find(str(folder)).family == kernel
        other = Based if adapter is JRTRNN else JRTRNN
        with pytest.raises(JRTError, match=f"--model {kernel}"):
            other(pretrained=str(folder))
        with pytest.raises(JRTError, match=f"--model {kernel}"):
            HFRecall(pretrained=str(folder))
