"""Which runs the paper's tables need. Pure data: what is run, on what, for which table.

A suite is a tuple of `Entry`: a row of a table and the run it is made from. Several rows may need the same run; it is
then run once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jrt_lmeval.prompts.layouts import LAYOUTS

MAPS = ("linear", "gelu", "relu", "poly", "gaussian", "mlp", "taylor")
POLICIES = ("fixed", "dynamic", "full", "document", "none")
STEPS = (0.05, 0.10, 0.20)
OVERLAPS = (0.0, 0.1, 0.2, 0.3)
THRESHOLDS = {"wide": (0.64, 0.83), "narrow": (0.76, 0.79)}
"""Of the appendix, (low, high): fewer documents change their prefix, and more of them."""
NARROW = "Learnable MLP, 128 features"
"""The state of the linear map, which cannot have a larger one: what the map does at equal memory."""
NO_LEAD = {"lead": False}
"""The question does not stand before the first copy: what the second copy alone does."""
LAYOUT_ENDINGS = {name: layout.ending for name, layout in LAYOUTS.items() if layout.ending}
PERPLEXITY = "recall_ppl"
NO_CONTEXT = {"control": "no_context"}
EQUAL_LENGTH = {"repeat_random": "sentences of other documents", "repeat_question": "the question again"}
"""Layouts that hold the document once and are as long as another: what longer prompts alone do, by what fills them."""


@dataclass(frozen=True)
class Run:
    """One evaluation.

    Attributes:
        model: lm_eval's `--model`.
        arguments: its `--model_args`.
        tasks: names of tasks.
        block: laid over each task's `jrt:` block.
    """

    model: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    block: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """A folder's name: everything that makes the run what it is but its tasks."""
        words = [f"{key}={_text(value)}" for part in (self.arguments, self.block) for key, value in part.items()]
        return ",".join([self.model, *words])

    @property
    def plain(self) -> Run:
        """The same model on the same tasks as they are."""
        return Run(self.model, self.arguments, self.tasks)

    @property
    def loaded(self) -> str:
        """What the same loaded model serves."""
        return json.dumps([self.model, dict(self.arguments)], sort_keys=True)


@dataclass(frozen=True)
class Entry:
    """A row of a table.

    Attributes:
        table: `prefix`, `feature_map`, `prompt`, `step`, `overlap`, `comparison`, `memory` or `control`.
        row: its label; where a row stands in the paper's table too, the paper's own words (`recall_paper.yaml`).
        run: what it is made from.
    """

    table: str
    row: str
    run: Run


@dataclass(frozen=True)
class Suite:
    """What a suite evaluates.

    Attributes:
        maps: feature maps to compare, as `jrt_rnn` arguments by name.
        default: `jrt_rnn` arguments of the main model, the prefix policy aside.
        others: the other families, as (row, model, arguments).
        benchmarks: of every table.
        compared: of the main comparison.
        budgets: bytes that a windowed Transformer may keep, where recall is set against memory.
        about: a sentence for `--help` and `--dry-run`.
    """

    maps: Mapping[str, Mapping[str, Any]]
    default: Mapping[str, Any]
    others: tuple[tuple[str, str, Mapping[str, Any]], ...]
    benchmarks: tuple[str, ...]
    compared: tuple[str, ...]
    about: str
    budgets: tuple[int, ...] = ()


WINDOWED = "Llama, window"
AT_EQUAL_MEMORY = "Llama, as many bytes"
JRT_BYTES = 805_000
"""State of the main bundled model: what a Transformer may keep that is compared with it at equal memory."""

SINKS = 4


def _windowed(budget: int) -> dict[str, Any]:
    return {"kv_bytes": budget, "kv_sinks": SINKS}


ALL = ("swde", "fda", "squadv2", "nq_1024", "triviaqa", "drop")
SUITES: dict[str, Suite] = {
    "bundled": Suite(
        maps={**{name: {"feature_map": name} for name in MAPS}, NARROW: {"pretrained": "jrt-mlp-128"}},
        default={"feature_map": "mlp"},
        others=(
            ("Mamba-2", "mamba", {}),
            ("Based", "based", {}),
            ("Llama", "hf_recall", {}),
            (AT_EQUAL_MEMORY, "hf_recall", _windowed(JRT_BYTES)),
            ("Softmax in its place", "based", {"pretrained": "softmax-teacher"}),
        ),
        benchmarks=("factbook", "swde"),
        compared=("factbook", "swde"),
        about="the models that come with the package, on local rows or samples; two CPU cores are enough",
        budgets=(100_000, 200_000, 400_000, JRT_BYTES, 1_600_000, 3_200_000),
    ),
    "released": Suite(
        maps={},
        default={"pretrained": "hazyresearch/JRT-1B-50B"},
        others=(
            ("JRT-RNN 360M", "jrt_rnn", {"pretrained": "hazyresearch/JRT-360M-30B"}),
            ("Based 360M", "based", {"pretrained": "hazyresearch/based-360M-30B"}),
            ("Based 1.3B", "based", {"pretrained": "hazyresearch/based-1b-50b"}),
            ("Mamba 360M", "mamba", {"pretrained": "hazyresearch/mamba-360M-30B"}),
            ("Mamba 1.3B", "mamba", {"pretrained": "hazyresearch/mamba-1b-50b"}),
            ("Transformer 360M", "jrt_rnn", {"pretrained": "hazyresearch/attn-360M-30B"}),
            ("Transformer 1.3B", "jrt_rnn", {"pretrained": "hazyresearch/attn-1b-50bn"}),
        ),
        benchmarks=ALL,
        compared=ALL,
        about="the published checkpoints and data sets, for a machine with a GPU and access to the hub",
    ),
}

PAPER_ROWS = {
    "fixed": "JRT-RNN fixed prefix",
    "dynamic": "JRT-RNN dynamic prefix",
    "linear": "Linear",
    "gelu": "GELU",
    "relu": "ReLU",
    "gaussian": "Gaussian kernel",
    "mlp": "Learnable MLP",
    "flat": "flat JRT prompt",
    "hier": "hierarchical JRT prompt",
}
"""Our name of a setting -> the paper's name of the row."""


def plan(suite: Suite, thresholds: Mapping[str, tuple[float, float]]) -> tuple[Entry, ...]:
    """All rows of all tables of a suite.

    Args:
        suite: what it evaluates.
        thresholds: entropy thresholds (low, high) of the appendix, by name; the policy's own are always there.
    """
    once = _tasks(suite.benchmarks, "once")
    main = {**suite.default, "prefix": "dynamic"}
    parts: list[Callable[[], Iterable[Entry]]] = [
        lambda: (
            Entry("prefix", _row(p), _with(Run("jrt_rnn", {**suite.default, "prefix": p}), once)) for p in POLICIES
        ),
        lambda: (
            Entry("feature_map", _row(name), Run("jrt_rnn", {**given, "prefix": "full"}, (*once, PERPLEXITY)))
            for name, given in suite.maps.items()
        ),
        lambda: (
            Entry("control", _row(name), Run("jrt_rnn", {**given, "prefix": "full"}, once, NO_CONTEXT))
            for name, given in suite.maps.items()
        ),
        lambda: (
            Entry("prompt", _row(layout), Run("jrt_rnn", main, _tasks(suite.benchmarks, layout)))
            for layout in LAYOUT_ENDINGS
        ),
        lambda: (
            Entry(
                "prompt",
                f"as long as {_row(layout)}: {what}",
                Run("jrt_rnn", main, _tasks(suite.benchmarks, layout), {"layout": control, "as_long_as": layout}),
            )
            for layout in ("flat", "hier")
            for control, what in EQUAL_LENGTH.items()
        ),
        lambda: (
            Entry("step", f"step {step}, {name}", Run("jrt_rnn", {**main, "prefix_step": step, **limits}, once))
            for name, limits in _limits(thresholds).items()
            for step in STEPS
        ),
        lambda: (
            Entry(
                "overlap",
                f"{overlap:.0%}",
                Run("jrt_rnn", main, _tasks(suite.benchmarks, "hier"), {"overlap": overlap}),
            )
            for overlap in OVERLAPS
        ),
        lambda: _comparison(suite, main),
        lambda: _memory(suite, once),
    ]
    return tuple(entry for part in parts for entry in part())


def _comparison(suite: Suite, main: Mapping[str, Any]) -> Iterable[Entry]:
    for row, model, arguments in (("JRT-RNN", "jrt_rnn", main), *suite.others):
        for layout in ("once", "flat", "hier"):
            extra = (PERPLEXITY,) if layout == "once" else ()
            yield Entry(
                "comparison", f"{row}, {layout}", Run(model, arguments, (*_tasks(suite.compared, layout), *extra))
            )
        flat = _tasks(suite.compared, "flat")
        yield Entry("comparison", f"{row}, flat without the lead", Run(model, arguments, flat, NO_LEAD))
        yield Entry("control", row, Run(model, arguments, _tasks(suite.compared, "once"), NO_CONTEXT))


def _memory(suite: Suite, once: tuple[str, ...]) -> Iterable[Entry]:
    """Every model beside a Transformer that keeps as much of the text as fits into so many bytes."""
    if not suite.budgets:
        return
    for name, given in suite.maps.items():
        yield Entry("memory", _row(name), Run("jrt_rnn", {**given, "prefix": "full"}, once))
    for row, model, arguments in suite.others:
        if row != AT_EQUAL_MEMORY:
            yield Entry("memory", row, Run(model, arguments, once))
    for budget in suite.budgets:
        yield Entry("memory", f"{WINDOWED}, {budget / 1000:,.0f} KB", Run("hf_recall", _windowed(budget), once))


def runs(entries: Iterable[Entry]) -> tuple[Run, ...]:
    """What has to be run for the rows: each combination of model and block once, with all tasks asked of it."""
    found: dict[str, Run] = {}
    for entry in entries:
        known = found.get(entry.run.name)
        tasks = entry.run.tasks if known is None else tuple(dict.fromkeys((*known.tasks, *entry.run.tasks)))
        found[entry.run.name] = _with(entry.run, tasks)
    return tuple(sorted(found.values(), key=lambda run: list(found).index(_first(found, run))))


def _first(found: Mapping[str, Run], run: Run) -> str:
    """The first run of the same loaded model: its runs stand together, so that it is loaded once."""
    return next(name for name, other in found.items() if other.loaded == run.loaded)


def _with(run: Run, tasks: tuple[str, ...]) -> Run:
    return Run(run.model, run.arguments, tasks, run.block)


def _tasks(benchmarks: Iterable[str], layout: str) -> tuple[str, ...]:
    return tuple(f"{name}{LAYOUT_ENDINGS[layout]}" for name in benchmarks)


def _limits(thresholds: Mapping[str, tuple[float, float]]) -> dict[str, dict[str, float]]:
    own: dict[str, dict[str, float]] = {"default thresholds": {}}
    return own | {
        f"thresholds {name}": {"entropy_low": low, "entropy_high": high} for name, (low, high) in thresholds.items()
    }


def _row(name: str) -> str:
    return PAPER_ROWS.get(name, name)


def _text(value: Any) -> str:
    plain = value if isinstance(value, str) else json.dumps(value)
    return "".join(character if character.isalnum() or character in "._-" else "_" for character in plain)
