"""Time and memory to load a released checkpoint of the 1.3B geometry: ours, and the plain way side by side.

    python benchmarks/load_released.py            # writes 5.5 GB of random weights to a temporary folder
    python benchmarks/load_released.py --small    # the same at toy size, to see that it runs

The plain way is what the published code does: build the model, read the whole pickle, copy one into the other. Each way
runs in a process of its own. "private" is memory that only this process holds (the file's pages, which the system can
drop and read again, do not count); "peak" counts everything.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MIXERS = "based.models.mixers"
LINEAR, WINDOW = (1, 6, 11, 16, 21, 27, 33), (2, 7, 12, 17, 22, 28, 34)


def geometry(small: bool) -> dict[str, Any]:
    """config.json of JRT-1B-50B, or a toy of the same make."""
    width, heads, vocabulary = (64, 4, 509) if small else (1792, 16, 50257)
    prefix = {"_target_": f"{MIXERS}.prefix_linear_attention.PrefixLinearAttention", "feature_dim": 16}
    return {
        "n_embd": width,
        "n_layer": 36,
        "n_head": heads,
        "n_inner": 2 * width,
        "vocab_size": vocabulary,
        "pad_vocab_size_multiple": 8,
        "activation_function": "swiglu",
        "rms_norm": True,
        "rotary_emb_fraction": 1,
        "mixer": {"_target_": f"{MIXERS}.convolution.BaseConv", "expand_proj": 4, "l_max": 2048},
        "alt_mixer": {**prefix, "num_heads": heads, "enc_length": 1024, "dec_length": 1024},
        "alt_mixer_layers": list(LINEAR),
        "alt_mixer_2": {"_target_": f"{MIXERS}.slide_attention.SlidingAttention", "window_size": 256},
        "alt_mixer_2_layers": list(WINDOW),
    }


def write(folder: Path, small: bool) -> None:
    """A checkpoint with random weights in the released layout."""
    import torch

    config = geometry(small)
    (folder / "config.json").write_text(json.dumps(config))
    d, h, rows = config["n_embd"], -(-config["n_inner"] // 256) * 256, -(-config["vocab_size"] // 8) * 8
    features = 16 * config["n_head"]
    kinds = {
        "conv": {"in_proj.weight": (4 * d, d), "in_proj.bias": (4 * d,), "conv.conv.weight": (2 * d, 1, 3),
                 "out_proj.weight": (d, 2 * d), "out_proj.bias": (d,)},
        "linear": {"proj_q.weight": (features, d), "proj_k.weight": (features, d), "proj_v.weight": (d, d),
                   "proj_k_enc.weight": (features, d), "proj_v_enc.weight": (d, d), "out_proj.weight": (d, d)},
        "window": {"Wqkv.weight": (3 * d, d), "out_proj.weight": (d, d)},
    }  # fmt: skip
    shapes = {"transformer.embeddings.word_embeddings.weight": (rows, d), "transformer.ln_f.weight": (d,)}
    for i in range(config["n_layer"]):
        kind = "linear" if i in LINEAR else "window" if i in WINDOW else "conv"
        block = {"norm1.weight": (d,), "norm2.weight": (d,), "mlp.fc1.weight": (2 * h, d), "mlp.fc2.weight": (d, h)}
        block |= {f"mixer.{name}": shape for name, shape in kinds[kind].items()}
        shapes |= {f"transformer.layers.{i}.{name}": shape for name, shape in block.items()}
    tensors = {f"model.{name}": torch.randn(shape) * 0.02 for name, shape in shapes.items()}
    tensors["model.lm_head.weight"] = tensors["model.transformer.embeddings.word_embeddings.weight"]
    torch.save(tensors, folder / "pytorch_model.bin")


def memory(field: str) -> float:
    """A line of this process's status, in GB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1e6
    raise KeyError(field)


def ours(folder: Path) -> Any:
    from jrt_lmeval.checkpoints import load_pretrained

    return load_pretrained(folder)


def plain(folder: Path) -> Any:
    import torch

    from jrt_lmeval.checkpoints.found import read_config
    from jrt_lmeval.checkpoints.released import gpt
    from jrt_lmeval.modeling.model import JRTForCausalLM

    held = torch.load(folder / "pytorch_model.bin", weights_only=True)
    held = {name.removeprefix("model."): tensor for name, tensor in held.items()}
    model = JRTForCausalLM(gpt.jrt_config(read_config(folder), held))
    wanted = model.state_dict()
    for old, news in gpt.parameter_names(read_config(folder), held).items():
        for new in news:
            wanted[new].copy_(held[old].reshape(wanted[new].shape))
    return model


WAYS = {"ours": ours, "plain": plain}


def measure(way: str, folder: Path) -> None:
    """Load once and print the figures as JSON."""
    import torch
    import transformers.modeling_utils  # noqa: F401 - not part of loading

    torch.set_num_threads(1)
    before, start = memory("RssAnon"), time.perf_counter()
    model = WAYS[way](folder)
    loaded, private = time.perf_counter() - start, memory("RssAnon") - before
    peak = memory("VmHWM")
    with torch.no_grad():
        model(torch.arange(16)[None])
    figures = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds to load": round(loaded, 2),
        "seconds to first logits": round(time.perf_counter() - start, 2),
        "GB private": round(private, 2),
        "GB peak": round(peak, 2),
    }
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="toy size")
    parser.add_argument("--ways", default="ours,plain", help="which of ours, plain")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        return measure(arguments.one[0], Path(arguments.one[1]))
    with tempfile.TemporaryDirectory() as folder:
        code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import load_released, pathlib; "
        code += f"load_released.write(pathlib.Path({folder!r}), {arguments.small})"
        subprocess.run([sys.executable, "-c", code], check=True)  # its memory goes back before anything is measured
        print(f"file: {(Path(folder) / 'pytorch_model.bin').stat().st_size / 1e9:.2f} GB")
        for way in arguments.ways.split(","):
            done = subprocess.run(
                [sys.executable, __file__, "--one", way, folder], check=True, capture_output=True, text=True
            )
            print(f"{way:6}", done.stdout.strip().splitlines()[-1])
    return None


if __name__ == "__main__":
    main()
