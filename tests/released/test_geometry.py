"""Sizes that no fixture has, against a plain second forward pass over the released names and fields."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from jrt_lmeval.checkpoints import load_pretrained
from model_adapters.engines.checkup import checkup
from model_adapters.engines.jrt import JRTEngine

MIXERS = "based.models.mixers"
CONV = {"_target_": f"{MIXERS}.convolution.BaseConv", "expand_proj": 4}
LINEAR = {"_target_": f"{MIXERS}.linear_attention.LinearAttention", "num_heads": 2, "feature_dim": 4}
PREFIX = {**LINEAR, "_target_": f"{MIXERS}.prefix_linear_attention.PrefixLinearAttention", "enc_length": 11}
WINDOW = {"_target_": f"{MIXERS}.slide_attention.SlidingAttention", "window_size": 8, "num_heads": 2}
HYBRID = {
    "n_embd": 16, "n_head": 2, "n_layer": 4, "n_inner": 30, "vocab_size": 61, "pad_vocab_size_multiple": 8,
    "rms_norm": True, "activation_function": "swiglu", "rotary_emb_fraction": 1, "layer_norm_epsilon": 1e-5,
    "mixer": CONV, "alt_mixer": PREFIX, "alt_mixer_layers": [1, 3], "alt_mixer_2": WINDOW, "alt_mixer_2_layers": [2],
}  # fmt: skip
BASED = {**HYBRID, "alt_mixer": LINEAR}
FADING = {**HYBRID, "alt_mixer": {**LINEAR, "use_decay_proj": True}, "fixed_decay": True, "decay_const": -2}
TRANSFORMER = {
    name: value for name, value in HYBRID.items() if "mixer" not in name and name not in ("n_inner", "n_layer")
} | {"n_layer": 2, "rotary_emb_fraction": 0.5, "model_type": "gpt2"}  # fmt: skip

VARIANTS: dict[str, dict[str, Any]] = {
    "hybrid": HYBRID,
    "other heads for linear and softmax attention": {**HYBRID, "n_head": 4},
    "narrow convolution, longer kernel": {**HYBRID, "mixer": {**CONV, "expand_proj": 2, "kernel_size": 5}},
    "one key": {**HYBRID, "alt_mixer_2": {**WINDOW, "window_size": 1}},
    "odd window": {**HYBRID, "alt_mixer_2": {**WINDOW, "window_size": 7}},
    "half rotary, other base": {**HYBRID, "rotary_emb_fraction": 0.5, "rotary_emb_base": 500.0},
    "no rotary": {**HYBRID, "rotary_emb_fraction": 0},
    "no padding of the vocabulary": {**HYBRID, "pad_vocab_size_multiple": 1},
    "other epsilon": {**HYBRID, "layer_norm_epsilon": 0.1},
    "inner width beyond 256": {**HYBRID, "n_inner": 300},
    "both lists name a layer": {**HYBRID, "alt_mixer_2_layers": [2, 3]},
    "a layer of full attention": {**HYBRID, "alt_mixer_2": None},
    "based": BASED,
    "two fading layers": FADING,
    "transformer": TRANSFORMER,
    "transformer with odd rotary": {**TRANSFORMER, "n_embd": 28, "n_head": 2},
    "transformer with a width of its own": {**TRANSFORMER, "n_inner": 200},
    "untied": {**HYBRID, "tie_word_embeddings": False},
}


def mixer_of(config: dict[str, Any], layer: int) -> dict[str, Any] | None:
    for tag in ("alt_mixer_2", "alt_mixer"):
        if layer in config.get(f"{tag}_layers", ()):
            return config[tag]
    return config.get("mixer")


def write(config: dict[str, Any], folder: Path, round_to: int) -> dict[str, Tensor]:
    """A checkpoint with random weights; returns them without their `model.`."""
    d, vocabulary = config["n_embd"], config["vocab_size"]
    inner = -(-(config.get("n_inner") or int(8 * d / 3)) // round_to) * round_to
    multiple = config["pad_vocab_size_multiple"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (-(-vocabulary // multiple) * multiple, d)
    }
    for i in range(config["n_layer"]):
        mixer = mixer_of(config, i)
        name = "" if mixer is None else mixer["_target_"].rpartition(".")[2]
        if name == "BaseConv":
            e = mixer["expand_proj"] * d // 2
            own = {"in_proj.weight": (2 * e, d), "in_proj.bias": (2 * e,), "out_proj.weight": (d, e),
                   "out_proj.bias": (d,), "conv.conv.weight": (e, 1, mixer.get("kernel_size", 3))}  # fmt: skip
        elif name.endswith("LinearAttention"):
            features = mixer["num_heads"] * mixer["feature_dim"]
            own = {f"proj_{part}.weight": (features, d) for part in "qk"}
            own |= {"proj_v.weight": (d, d), "out_proj.weight": (d, d)}
            if name.startswith("Prefix"):
                own |= {"proj_k_enc.weight": (features, d), "proj_v_enc.weight": (d, d)}
            if mixer.get("use_decay_proj"):
                own["decay_proj.weight"] = (mixer["num_heads"], d)
        else:
            own = {"Wqkv.weight": (3 * d, d), "out_proj.weight": (d, d)}
        block = {f"mixer.{key}": shape for key, shape in own.items()}
        block |= {"norm1.weight": (d,), "norm2.weight": (d,), "mlp.fc1.weight": (2 * inner, d)}
        block["mlp.fc2.weight"] = (d, inner)
        shapes |= {f"layers.{i}.{key}": shape for key, shape in block.items()}
    shapes["ln_f.weight"] = (d,)
    generator = torch.Generator().manual_seed(0)
    weights = {
        f"transformer.{key}": torch.randn(shape, generator=generator, dtype=torch.float64) / math.sqrt(shape[-1])
        for key, shape in shapes.items()
    }
    if config.get("fixed_decay"):
        powers = config["decay_const"] - torch.arange(config["n_head"], dtype=torch.float64)
        weights["transformer.decay.decay"] = torch.log(1 - 2**powers)
    table = weights["transformer.embeddings.word_embeddings.weight"]
    weights["lm_head.weight"] = table if config.get("tie_word_embeddings", True) else table.flip(0).clone()
    torch.save({f"model.{key}": tensor for key, tensor in weights.items()}, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps(config))
    return weights


def forward(weights: dict[str, Tensor], config: dict[str, Any], ids: Tensor) -> Tensor:
    """Logits `[T, V]` of one text `[T]`, position by position where that is the plainer way."""
    W = {key.removeprefix("transformer."): tensor for key, tensor in weights.items()}
    x = W["embeddings.word_embeddings.weight"][ids]

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + config["layer_norm_epsilon"]) * weight

    for i in range(config["n_layer"]):
        own = {key.removeprefix(f"layers.{i}."): tensor for key, tensor in W.items() if key.startswith(f"layers.{i}.")}
        h, mixer = norm(x, own["norm1.weight"]), mixer_of(config, i)
        name = "" if mixer is None else mixer["_target_"].rpartition(".")[2]
        if name == "BaseConv":
            y = conv(h, own)
        elif name.endswith("LinearAttention"):
            y = linear(h, own, mixer, W.get("decay.decay"))
        else:
            y = attention(h, own, config, None if mixer is None else mixer["window_size"] // 2 + 1)
        x = x + y
        value, gate = (norm(x, own["norm2.weight"]) @ own["mlp.fc1.weight"].T).chunk(2, -1)
        x = x + (F.silu(gate) * value) @ own["mlp.fc2.weight"].T
    return norm(x, W["ln_f.weight"]) @ W["lm_head.weight"].T


def conv(h: Tensor, own: dict[str, Tensor]) -> Tensor:
    u, gate = (h @ own["mixer.in_proj.weight"].T + own["mixer.in_proj.bias"]).chunk(2, -1)
    kernel = own["mixer.conv.conv.weight"]
    u = F.conv1d(F.pad(u.T, (kernel.shape[-1] - 1, 0)), kernel, groups=kernel.shape[0]).T
    return (F.silu(u) * gate) @ own["mixer.out_proj.weight"].T + own["mixer.out_proj.bias"]


def linear(h: Tensor, own: dict[str, Tensor], mixer: dict[str, Any], decay: Tensor | None) -> Tensor:
    def heads(key: str) -> Tensor:
        return (h @ own[f"mixer.{key}.weight"].T).unflatten(-1, (mixer["num_heads"], -1))

    def kernel(q: Tensor, k: Tensor) -> Tensor:
        s = (q * k).sum(-1) / math.sqrt(mixer["feature_dim"])
        return 1 + s + s * s / 2

    q, k, v = heads("proj_q"), heads("proj_k"), heads("proj_v")
    prefix = min(mixer.get("enc_length", 0), len(h))
    rows = []
    for i in range(len(h)):
        top, below = torch.zeros_like(v[0]), torch.zeros_like(v[0][:, :1])
        for j in range(i + 1):
            weight = kernel(q[i], k[j])[:, None]
            below = below + weight
            top = top + (weight if decay is None else weight * torch.exp(decay * (i - j))[:, None]) * v[j]
        if decay is not None:
            top = top * (own["mixer.decay_proj.weight"] @ h[i])[:, None]
        for j in range(prefix):
            weight = kernel(q[i], heads("proj_k_enc")[j])[:, None]
            below, top = below + weight, top + weight * heads("proj_v_enc")[j]
        rows.append((top / below).flatten())
    return torch.stack(rows) @ own["mixer.out_proj.weight"].T


def attention(h: Tensor, own: dict[str, Tensor], config: dict[str, Any], window: int | None) -> Tensor:
    T = len(h)
    q, k, v = (part.unflatten(-1, (config["n_head"], -1)) for part in (h @ own["mixer.Wqkv.weight"].T).chunk(3, -1))
    dim = int(config["rotary_emb_fraction"] * q.shape[-1])
    if dim:
        base = torch.tensor(config.get("rotary_emb_base", 10000.0), dtype=torch.float64)
        angles = torch.arange(T)[:, None, None] * base ** (-torch.arange(0, dim, 2) / dim)
        half = angles.shape[-1]
        for x in (q, k):
            left, right = x[..., :half].clone(), x[..., half : 2 * half].clone()
            x[..., :half] = left * angles.cos() - right * angles.sin()
            x[..., half : 2 * half] = right * angles.cos() + left * angles.sin()
    scores = torch.einsum("ihd,jhd->hij", q, k) / math.sqrt(q.shape[-1])
    distance = torch.arange(T)[:, None] - torch.arange(T)
    hidden = (distance < 0) | (distance >= (window or T))
    weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
    return torch.einsum("hij,jhd->ihd", weights, v).flatten(1) @ own["mixer.out_proj.weight"].T


@pytest.mark.parametrize("round_to", [256, 128])
@pytest.mark.parametrize("name", VARIANTS)
def test_any_geometry_is_read_from_the_config(name: str, round_to: int, tmp_path: Path) -> None:
    config = VARIANTS[name]
    weights = write(config, tmp_path, round_to)
    model = load_pretrained(tmp_path)
    assert model.dtype == torch.float64
    ids = torch.randint(0, config["vocab_size"], (2, 21), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for length in (1, 10, 21):
            logits = model(ids[:, :length]).logits
            truth = torch.stack([forward(weights, config, text[:length]) for text in ids])
            # our rotary angles are float32
            torch.testing.assert_close(logits, truth, rtol=0, atol=1e-5 * float(truth.abs().max()))
    if round_to == 256:
        checks = [check for check in checkup(JRTEngine(model)) if check.name != "dtype and device sane"]
        assert [check.name for check in checks if check.passed is False] == []
