"""Memory and speed while a stream is read: 8k to 128k tokens of fact sheets, one process for each model and length.

    python -m experiments.stream_memory results/stream/memory.json

`work_bytes` is what states and activations took at most beyond the weights, `state_bytes` what is kept of the stream,
and `cpu_seconds` the time of one core for reading it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

MODELS = {
    "jrt_rnn": {"feature_map": "mlp", "prefix": "none"},
    "jrt_rnn prefix=fixed": {"feature_map": "mlp", "prefix": "fixed", "prefix_length": 1024},
    "based": {},
    "mamba": {"pretrained": "mamba2"},
    "hf_recall kv_window=512": {"pretrained": "llama", "kv_window": 512, "max_length": 200_000},
}
LENGTHS = (8, 32, 128)
"""Thousands (1,024) of the model's tokens."""


def measured(name: str, thousands: int) -> dict[str, float]:
    """One model on one length, in a process of its own, so that nothing is left of another measurement."""
    import torch
    from lm_eval.api.registry import get_model

    import jrt_lmeval
    from jrt_lmeval.data.streams import stream
    from model_adapters.running.runtime import Memory

    torch.set_num_threads(1)
    jrt_lmeval.register()
    lm = get_model(name.split()[0])(device="cpu", batch_size=1, **MODELS[name])
    text = stream(stream={"tokens": 160_000, "cuts": 1})["test"][0]["document"]
    ids, memory = lm.tok_encode(text)[: thousands * 1024], Memory(lm.engine.device)
    prefix = lm.policy.prefix_length if lm.policy.policy == "fixed" else 0
    memory.started()
    start = time.process_time()
    _, state = lm._generator.in_parts([ids], [int(prefix or 0)], None)
    return {
        "tokens": len(ids),
        "work_bytes": memory.read(),
        "state_bytes": state.row_bytes()[0],
        "cpu_seconds": round(time.process_time() - start, 2),
    }


def main(argv: list[str]) -> None:
    """Measure everything and write it, or one model and length for the process that does."""
    if len(argv) == 2:
        print(json.dumps(measured(argv[0], int(argv[1]))))
        return
    found: dict[str, list[dict[str, float]]] = {}
    for name in MODELS:
        for thousands in LENGTHS:
            command = [sys.executable, "-m", "experiments.stream_memory", name, str(thousands)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found.setdefault(name, []).append(json.loads(done.stdout.splitlines()[-1]))
            print(name, found[name][-1], flush=True)
            Path(argv[0]).parent.mkdir(parents=True, exist_ok=True)
            Path(argv[0]).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
