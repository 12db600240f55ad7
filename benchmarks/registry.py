"""Name -> benchmark. Each module is loaded when its benchmark runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from benchmarks.row import Options, Row


@dataclass(frozen=True)
class Benchmark:
    """`target` is `"module:function"`, a function from `Options` to a list of `Row`."""

    target: str
    what: str

    def rows(self, options: Options) -> list[Row]:
        """Run it."""
        module, _, function = self.target.partition(":")
        found: Callable[[Options], list[Row]] = getattr(import_module(module), function)
        return found(options)


BENCHMARKS = {
    "linear_attention": Benchmark("benchmarks.linear_attention:rows", "the recurrence: chunked, quadratic, by steps"),
    "prefix_linear": Benchmark(
        "benchmarks.prefix_linear:rows", "prefix linear attention with its map, against the published quadratic form"
    ),
    "answers": Benchmark("benchmarks.answers:rows", "answers with features chunk by chunk and with the quadratic form"),
    "mamba_scan": Benchmark("benchmarks.mamba_scan:rows", "Mamba's scan of a prompt on a CPU"),
    "sliding_window": Benchmark("benchmarks.sliding_window:rows", "window attention in blocks"),
    "kv_window": Benchmark("benchmarks.kv_window:rows", "a Transformer under a window, read in blocks"),
    "reuse": Benchmark("benchmarks.reuse:rows", "many questions on a document that is read once"),
    "processes": Benchmark("benchmarks.processes:rows", "documents split among processes"),
    "startup": Benchmark("benchmarks.startup:rows", "the start-up hook, and a run's way to its first prompt"),
    "layers": Benchmark("benchmarks.layers:rows", "layers of the released sizes; a model's time against their sum"),
    "linear_layers": Benchmark("benchmarks.layers:linear_rows", "prefix linear attention's layers"),
}
