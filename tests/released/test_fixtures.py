"""Released checkpoints give what the original code gives: logits, left-padded reading, greedy continuations, layers."""

from __future__ import annotations

import shutil
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from released import FOLDERS, LIMIT, cases, error, expected, padded

from jrt_lmeval.checkpoints import load_pretrained
from jrt_lmeval.modeling.mixers import Span


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


@lru_cache(maxsize=32)
def load(name: str, **options: str) -> torch.nn.Module:
    return load_pretrained(FOLDERS[name], **options)


def in_mode(name: str, mode: str) -> torch.nn.Module:
    """The model as it decodes in one of the original's modes."""
    model = load(name)
    mixers = getattr(model.config, "mixers", ())
    if "prefix_linear" in mixers:
        options = {"default": {}, "leftpad": {"padding": "published"}, "reforward": {"filling": "iterate"}}
    elif "linear" in mixers:
        options = {"default": {"decode": "published"}, "reforward": {}}
    else:
        options = {"default": {}}
    return load(name, **options[mode])


@pytest.mark.parametrize("name, case", cases("forward", "logits"))
def test_logits(name: str, case: str) -> None:
    truth = expected(name)
    logits = load(name)(truth[f"forward.{case}.input_ids"]).logits
    assert error(logits[..., truth["logits_columns"]], truth[f"forward.{case}.logits"]) < LIMIT
    if f"forward.{case}.last_logits" in truth:
        assert error(logits[:, -1], truth[f"forward.{case}.last_logits"]) < LIMIT


@pytest.mark.parametrize("name, case", cases("leftpad", "prefill_logits"))
def test_left_padded_with_the_published_mask(name: str, case: str) -> None:
    truth, model = expected(name), load(name, padding="published")
    ids, mask = padded(truth[f"forward.{case}.input_ids"], model.config.enc_length)
    logits = model(ids, attention_mask=mask).logits
    assert error(logits[..., truth["logits_columns"]], truth[f"leftpad.{case}.prefill_logits"]) < LIMIT
    assert error(logits[:, -1], truth[f"leftpad.{case}.prefill_last_logits"]) < LIMIT
    prompt = truth[f"forward.{case}.input_ids"]
    by_itself = model(prompt).logits  # pads like the original, and gives the logits of what was there
    assert torch.equal(by_itself, logits[:, -prompt.shape[1] :])
    assert torch.equal(model(prompt, attention_mask=torch.ones_like(prompt)).logits, by_itself)


@pytest.mark.parametrize("name, case", cases("greedy", "new_ids"))
def test_greedy_continuations(name: str, case: str) -> None:
    truth = expected(name)
    mode, prompt = case.split(".")
    model, ids, new = in_mode(name, mode), truth[f"forward.{prompt}.input_ids"], truth[f"greedy.{case}.new_ids"]
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new.shape[1],
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    assert torch.equal(out.sequences[:, ids.shape[1] :], new)
    logits = torch.stack(out.logits, 1)[..., truth["logits_columns"]]
    assert error(logits, truth[f"greedy.{case}.logits"]) < LIMIT


OWN = [pair for pair in cases("greedy", "new_ids") if "mamba" not in pair[0]]  # Mamba is transformers' own model


@pytest.mark.parametrize("name, case", OWN)
def test_prefill_and_step_say_the_same(name: str, case: str) -> None:
    truth = expected(name)
    mode, prompt = case.split(".")
    model, ids, new = in_mode(name, mode), truth[f"forward.{prompt}.input_ids"], truth[f"greedy.{case}.new_ids"]
    columns = truth["logits_columns"]
    known = columns < model.config.token_count
    whole = torch.full((len(ids),), ids.shape[1])
    logits, state = model.prefill(ids, None, whole if model.has_prefix else None)
    for i in range(new.shape[1]):
        assert torch.equal(logits.argmax(-1), new[:, i])
        assert error(logits[:, columns[known]], truth[f"greedy.{case}.logits"][:, i, known]) < LIMIT
        logits, state = model.step(new[:, i], state)


def span(x: torch.Tensor, prefix: int, offset: int = 0, keyless: torch.Tensor | None = None, decoding: bool = False):
    B, T, _ = x.shape
    order = torch.arange(T).expand(B, T)
    return Span(torch.full((B,), T), None, order < prefix, torch.full((B,), offset), "chunked", keyless, decoding)


@pytest.mark.parametrize("name, layer", cases("layer", "y"))
def test_single_layers(name: str, layer: str) -> None:
    truth, model = expected(name), load(name)
    x, prefix = truth["layer.x"], model.config.enc_length or 0
    kind = {"conv": "conv", "swa": "swa", "la": "linear", "pla": "prefix_linear", "mlp": "conv"}[layer]
    block = model.blocks[model.config.mixers.index(kind)]
    y = block.mlp(x) if layer == "mlp" else block.mixer(x, span(x, prefix), None)[0]
    assert error(y, truth[f"layer.{layer}.y"]) < LIMIT


@pytest.mark.parametrize("name, layer", cases("layer", "state_kv"))
def test_states_of_linear_attention(name: str, layer: str) -> None:
    truth, decode = expected(name), {"decode": "published"} if layer == "la" else {}
    model = load(name, **decode)
    x, prefix = truth["layer.x"], model.config.enc_length or 0
    mixer = model.blocks[model.config.mixers.index("linear" if layer == "la" else "prefix_linear")].mixer
    head = x[:, :-4]
    _, state = mixer(head, span(head, prefix), None)
    kernel = model.config.feature_dim
    # theirs keeps every product x_i x_j twice, ours once and sqrt 2 larger
    symmetric = _symmetric(truth[f"layer.{layer}.state_kv"].transpose(-1, -2), kernel)
    assert error(state["S"], symmetric) < LIMIT
    assert error(state["z"], _symmetric(truth[f"layer.{layer}.state_k"][..., None], kernel)[..., 0]) < LIMIT
    for i in range(4):
        token = x[:, -4 + i : x.shape[1] - 3 + i]
        y, state = mixer(token, span(token, 0, head.shape[1] + i, decoding=True), state)
        assert error(y, truth[f"layer.{layer}.decode_y"][:, i : i + 1]) < LIMIT


def _symmetric(features: torch.Tensor, dim: int) -> torch.Tensor:
    """From 1 + D + D^2 features `[B, H, F, V]` to 1 + D + D (D + 1) / 2."""
    rows, columns = torch.triu_indices(dim, dim)
    twice = torch.where(rows == columns, 1.0, 2.0**0.5)[:, None]
    products = features[:, :, 1 + dim :].unflatten(2, (dim, dim))[:, :, rows, columns] * twice
    return torch.cat([features[:, :, : 1 + dim], products], dim=2)


@pytest.mark.parametrize("name", [name for name in FOLDERS if "layer.pla.masked_y" in expected(name)])
def test_the_published_mask_in_one_layer(name: str) -> None:
    truth, model = expected(name), load(name)
    x, mask = truth["layer.masked_x"], truth["layer.mask"]
    mixer = model.blocks[model.config.mixers.index("prefix_linear")].mixer
    y, _ = mixer(x, span(x, model.config.enc_length, keyless=mask == 0), None)
    assert error(y, truth["layer.pla.masked_y"]) < LIMIT


@pytest.mark.parametrize("name", [name for name in FOLDERS if (FOLDERS[name] / "config.older_names.json").is_file()])
def test_class_and_key_names_of_earlier_releases(name: str, tmp_path: Path) -> None:
    shutil.copy(FOLDERS[name] / "config.older_names.json", tmp_path / "config.json")
    weights = torch.load(FOLDERS[name] / "pytorch_model.bin", weights_only=True)
    older = {key.replace(".conv.conv.", ".conv1.conv."): tensor for key, tensor in weights.items()}
    assert older.keys() != weights.keys()
    torch.save(older, tmp_path / "pytorch_model.bin")
    ids = torch.randint(0, 500, (2, 23), generator=torch.Generator().manual_seed(0))
    assert torch.equal(load_pretrained(tmp_path)(ids).logits, load(name)(ids).logits)
