"""A model's memory is what it takes at work, and not what else lies in the process."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import tiny
import torch

from model_adapters.running.runtime import Memory, process_peak

MEGABYTE = 1 << 20  # the kernel counts pages roughly: a few may be missing


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_memory_is_of_the_work_alone(monkeypatch):
    lm = tiny.lm("jrt")
    elsewhere = np.ones(100 * MEGABYTE, dtype=np.uint8)  # data, say, that lie there before and after
    plain = lm.engine.prefill

    def prefill(*arguments):
        taken = torch.ones(60 * MEGABYTE, dtype=torch.uint8)
        return (*plain(*arguments), taken)[:2]

    monkeypatch.setattr(lm.engine, "prefill", prefill)
    lm.generate_until([tiny.ask("the Budget of Maine:")], disable_tqdm=True)
    figures = lm.get_model_info()["jrt"]
    assert 57 * MEGABYTE <= figures["work_peak_bytes"] < 95 * MEGABYTE
    assert figures["process_peak_memory_bytes"] > figures["work_peak_bytes"] + elsewhere.nbytes
    lm.runtime.reset()
    assert lm.get_model_info()["jrt"]["work_peak_bytes"] == 0


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_the_most_of_several_times_counts():
    memory = Memory(torch.device("cpu"))
    assert memory.read() == 0
    found = []
    for size in (30, 80, 10):
        memory.started()
        taken = torch.ones(size * MEGABYTE, dtype=torch.uint8)
        del taken
        found.append(memory.read() / MEGABYTE)
    assert 27 <= found[0] < 50 and 77 <= found[1] < 100 and found[2] == found[1]
    assert process_peak() > memory.read()
