"""Which runs the paper's tables need: what is run, on what, for which row of which table.

Several rows may need the same run; it is then made once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from jrt_lmeval.prompts.layouts import LAYOUTS
from jrt_lmeval.runner import EvalRun

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
class TableRow:
    """A row of a table.

    Attributes:
        table: `prefix`, `feature_map`, `prompt`, `step`, `overlap`, `comparison`, `memory` or `control`.
        label: of the row; where it stands in the paper's table too, the paper's own words (`recall_paper.yaml`).
        run: what it is made from.
    """

    table: str
    label: str
    run: EvalRun


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
TEACHER = "Softmax in its place"
"""The teacher of the suite's students, no model of its own kind: its state grows with the text as Llama's does."""
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
            (TEACHER, "based", {"pretrained": "softmax-teacher"}),
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


def plan(suite: Suite, thresholds: Mapping[str, tuple[float, float]]) -> tuple[TableRow, ...]:
    """All rows of all tables of a suite.

    Args:
        suite: what it evaluates.
        thresholds: entropy thresholds (low, high) of the appendix, by name; the policy's own are always there.
    """
    return tuple(_rows(suite, thresholds))


def _rows(suite: Suite, thresholds: Mapping[str, tuple[float, float]]) -> Iterable[TableRow]:
    once, hier = (_tasks(suite.benchmarks, layout) for layout in ("once", "hier"))
    main = {**suite.default, "prefix": "dynamic"}
    full = {_label(name): {**given, "prefix": "full"} for name, given in suite.maps.items()}
    for policy in POLICIES:
        yield TableRow("prefix", _label(policy), EvalRun("jrt_rnn", {**suite.default, "prefix": policy}, once))
    for label, given in full.items():
        yield TableRow("feature_map", label, EvalRun("jrt_rnn", given, (*once, PERPLEXITY)))
    for label, given in full.items():
        yield TableRow("control", label, EvalRun("jrt_rnn", given, once, NO_CONTEXT))
    for layout in LAYOUT_ENDINGS:
        yield TableRow("prompt", _label(layout), EvalRun("jrt_rnn", main, _tasks(suite.benchmarks, layout)))
    for layout in ("flat", "hier"):
        for control, what in EQUAL_LENGTH.items():
            block = {"layout": control, "as_long_as": layout}
            run = EvalRun("jrt_rnn", main, _tasks(suite.benchmarks, layout), block)
            yield TableRow("prompt", f"as long as {_label(layout)}: {what}", run)
    for name, limits in _limits(thresholds).items():
        for step in STEPS:
            run = EvalRun("jrt_rnn", {**main, "prefix_step": step, **limits}, once)
            yield TableRow("step", f"step {step}, {name}", run)
    for overlap in OVERLAPS:
        yield TableRow("overlap", f"{overlap:.0%}", EvalRun("jrt_rnn", main, hier, {"overlap": overlap}))
    yield from _comparison(suite, main)
    if suite.budgets:
        yield from _memory(suite, full, once)


def _comparison(suite: Suite, main: Mapping[str, Any]) -> Iterable[TableRow]:
    for label, model, arguments in (("JRT-RNN", "jrt_rnn", main), *suite.others):
        once, flat, hier = (_tasks(suite.compared, layout) for layout in ("once", "flat", "hier"))
        for layout, tasks in (("once", (*once, PERPLEXITY)), ("flat", flat), ("hier", hier)):
            yield TableRow("comparison", f"{label}, {layout}", EvalRun(model, arguments, tasks))
        yield TableRow("comparison", f"{label}, flat without the lead", EvalRun(model, arguments, flat, NO_LEAD))
        yield TableRow("control", label, EvalRun(model, arguments, once, NO_CONTEXT))


def _memory(suite: Suite, maps: Mapping[str, Mapping[str, Any]], once: tuple[str, ...]) -> Iterable[TableRow]:
    """Every model beside a Transformer that keeps as much of the text as fits into so many bytes."""
    for label, given in maps.items():
        yield TableRow("memory", label, EvalRun("jrt_rnn", given, once))
    for label, model, arguments in suite.others:
        if label != AT_EQUAL_MEMORY:
            yield TableRow("memory", label, EvalRun(model, arguments, once))
    for budget in suite.budgets:
        yield TableRow("memory", f"{WINDOWED}, {budget / 1000:,.0f} KB", EvalRun("hf_recall", _windowed(budget), once))


def runs(rows: Iterable[TableRow]) -> tuple[EvalRun, ...]:
    """What has to be run for the rows: each combination of model and block once, with all tasks asked of it.

    Runs of the same loaded model stand together, so that it is loaded once.
    """
    found: dict[str, EvalRun] = {}
    for row in rows:
        known = found.get(row.run.key, row.run)
        found[row.run.key] = replace(row.run, tasks=tuple(dict.fromkeys((*known.tasks, *row.run.tasks))))
    loaded = list(dict.fromkeys(run.loaded for run in found.values()))
    return tuple(sorted(found.values(), key=lambda run: loaded.index(run.loaded)))


def _tasks(benchmarks: Iterable[str], layout: str) -> tuple[str, ...]:
    return tuple(f"{name}{LAYOUT_ENDINGS[layout]}" for name in benchmarks)


def _limits(thresholds: Mapping[str, tuple[float, float]]) -> dict[str, dict[str, float]]:
    own: dict[str, dict[str, float]] = {"default thresholds": {}}
    return own | {
        f"thresholds {name}": {"entropy_low": low, "entropy_high": high} for name, (low, high) in thresholds.items()
    }


def _label(name: str) -> str:
    return PAPER_ROWS.get(name, name)
