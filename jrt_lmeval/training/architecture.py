"""What a model card says of an architecture, from the model's `config.json` alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from jrt_lmeval.modeling import with_feature_map, with_prefix
from jrt_lmeval.modeling.feature_maps import build_feature_map

Config = dict[str, Any]


@dataclass(frozen=True)
class Architecture:
    """Words for a card.

    Attributes:
        tag: on the hub.
        title: what the model is, as a noun phrase.
        runs_as: the model's name for lm_eval.
        prefix: what is added to its arguments to try a prefix; empty where there is none.
        lines: of the card's first table, `(what, how)`.
        auto_import: the line of Python that makes the architecture known to transformers; empty if it is.
    """

    tag: str
    title: str
    runs_as: str
    prefix: str
    lines: tuple[tuple[str, str], ...]
    auto_import: str


def describe(config: Config) -> Architecture:
    """The words for a configuration of ours, or of transformers' Llama, Mamba or Mamba-2."""
    if config["model_type"] == "llama":
        return Architecture("llama", "Llama (softmax attention alone)", "hf_recall", "", _llama(config), "")
    if config["model_type"] == "mamba":
        return Architecture("mamba", "Mamba", "mamba", "", _mamba(config), "")
    if config["model_type"] == "mamba2":
        return Architecture("mamba2", "Mamba-2", "mamba", "", _mamba2(config), "")
    lines = _ours(config)
    known = "import jrt_lmeval.modeling.model  # makes the architecture known to transformers\n"
    if with_prefix(config["mixers"]):
        title = f"JRT-RNN (prefix linear attention{_beside(config)})"
        return Architecture("jrt-rnn", title, "jrt_rnn", ",prefix=dynamic", lines, known)
    if with_feature_map(config["mixers"]):
        return Architecture("based", f"Based model (linear attention{_beside(config)})", "based", "", lines, known)
    title = "teacher of recurrent models (softmax attention without positions where they have linear attention)"
    return Architecture("softmax-attention", title, "based", "", lines, known)


def _beside(config: Config) -> str:
    """What else mixes tokens in a model of linear attention."""
    others = {"conv": "short convolutions", "swa": f"a sliding window of {config['window']} tokens"}
    found = [words for mixer, words in others.items() if mixer in config["mixers"]]
    return f" beside {' and '.join(found)}" if found else ""


def _ours(config: Config) -> tuple[tuple[str, str], ...]:
    options = config.get("feature_map_options")
    lines = [
        ("layers", ", ".join(f"`{mixer}`" for mixer in config["mixers"])),
        (
            "width",
            f"{config['hidden_size']}, {config['num_heads']} heads, MLP {config['intermediate_size']}, window of the "
            f"sliding attention {config['window']} tokens",
        ),
    ]
    if with_feature_map(config["mixers"]):
        with_options = f" with `{json.dumps(options)}`" if options else ""
        made = build_feature_map(config["feature_map"], config["num_heads"], config["feature_dim"], **(options or {}))
        dims = f"on queries and keys of {config['feature_dim']} dimensions: {made.feature_dim} features a head"
        lines.append(("feature map", f"`{config['feature_map']}`{with_options}, {dims}"))
    if config.get("shifted_heads"):
        begin = "make their keys from the token before and begin as induction heads; all else begins silent"
        heads = f"{config['shifted_heads']} of {config['num_heads']} heads of each attention layer"
        lines.append(("first start", f"{heads} {begin}"))
    return tuple(lines)


def _llama(config: Config) -> tuple[tuple[str, str], ...]:
    heads = config["num_attention_heads"]
    width = f"{config['hidden_size']}, {heads} heads, MLP {config['intermediate_size']}"
    start = (
        f"heads of the first layer look 1 to {heads} tokens back, those of the others look for what was read last and "
        "write what followed: induction heads of two layers; MLPs begin silent"
    )
    return (("layers", f"{config['num_hidden_layers']}"), ("width", width), ("first start", start))


def _mamba(config: Config) -> tuple[tuple[str, str], ...]:
    width = f"{config['hidden_size']}, inner {config['intermediate_size']}, state {config['state_size']}"
    return (("layers", f"{config['num_hidden_layers']}"), ("width", width))


def _mamba2(config: Config) -> tuple[tuple[str, str], ...]:
    width = (
        f"{config['hidden_size']}, {config['num_heads']} heads of {config['head_dim']}, state {config['state_size']}, "
        f"groups {config['n_groups']}"
    )
    start = (
        "the middle layer looks for what was read last and writes what followed, its keys made by its convolution: an "
        "induction head; all else begins silent"
    )
    return (("layers", f"{config['num_hidden_layers']}"), ("width", width), ("first start", start))
