"""Which runs the paper's tables need, and for which row of which table; a run that several rows need is made once."""

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
"""Entropy thresholds (low, high) of the appendix: with `wide` fewer documents change their prefix length."""
NARROW = "Learnable MLP, 128 features"
"""An MLP whose state is as large as the linear map's, which shows the effect of the map at equal memory."""
NO_LEAD = {"lead": False}
"""Without the question before the first copy, which shows the effect of the second copy alone."""
LAYOUT_ENDINGS = {name: layout.ending for name, layout in LAYOUTS.items() if layout.ending}
PERPLEXITY = "recall_ppl"
NO_CONTEXT = {"control": "no_context"}
EQUAL_LENGTH = {"repeat_random": "sentences of other documents", "repeat_question": "the question again"}
"""Layouts that hold the document once and fill the prompt to the length of another layout -> what fills it.

They show the effect of longer prompts alone.
"""


@dataclass(frozen=True)
class TableRow:
    """A row of a table.

    Attributes:
        table: a key of `tables.TITLES`, or `control`.
        label: of the row; in the paper's own words (`recall_paper.yaml`) if the paper's table has the row too.
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
        budgets: bytes that a windowed Transformer may keep in the table of recall and memory.
        about: a sentence for `--help` and `--dry-run`.
    """

    maps: Mapping[str, Mapping[str, Any]]
    default: Mapping[str, Any]
    others: tuple[tuple[str, str, Mapping[str, Any]], ...]
    benchmarks: tuple[str, ...]
    about: str
    budgets: tuple[int, ...] = ()


WINDOWED = "Llama, window"
AT_EQUAL_MEMORY = "Llama, as many bytes"
TEACHER = "Softmax in its place"
"""The teacher from which the students were distilled; its state grows with the text as Llama's does."""
JRT_BYTES = 805_000
"""Bytes of the main bundled model's state, and of a Transformer's cache that is compared with it at equal memory."""

SINKS = 4


def _windowed(budget: int) -> dict[str, Any]:
    return {"kv_bytes": budget, "kv_sinks": SINKS}


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
        benchmarks=("swde", "fda", "squadv2", "nq_1024", "triviaqa", "drop"),
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
"""Our name of a setting -> the row's label in the paper."""


def plan(suite: Suite) -> tuple[TableRow, ...]:
    """All rows of all tables of a suite."""
    return tuple(_rows(suite))


def _rows(suite: Suite) -> Iterable[TableRow]:
    once, hier = (_tasks(suite.benchmarks, layout) for layout in ("once", "hier"))
    main = {**suite.default, "prefix": "dynamic"}
    full = {PAPER_ROWS.get(name, name): {**given, "prefix": "full"} for name, given in suite.maps.items()}
    for policy in POLICIES:
        yield TableRow(
            "prefix", PAPER_ROWS.get(policy, policy), EvalRun("jrt_rnn", {**suite.default, "prefix": policy}, once)
        )
    for label, given in full.items():
        yield TableRow("feature_map", label, EvalRun("jrt_rnn", given, (*once, PERPLEXITY)))
    for label, given in full.items():
        yield TableRow("control", label, EvalRun("jrt_rnn", given, once, NO_CONTEXT))
    for layout in LAYOUT_ENDINGS:
        yield TableRow(
            "prompt", PAPER_ROWS.get(layout, layout), EvalRun("jrt_rnn", main, _tasks(suite.benchmarks, layout))
        )
    for layout in ("flat", "hier"):
        for control, what in EQUAL_LENGTH.items():
            block = {"layout": control, "as_long_as": layout}
            run = EvalRun("jrt_rnn", main, _tasks(suite.benchmarks, layout), block)
            yield TableRow("prompt", f"as long as {PAPER_ROWS[layout]}: {what}", run)
    limits = {f"thresholds {name}": {"entropy_low": a, "entropy_high": b} for name, (a, b) in THRESHOLDS.items()}
    for name, given in {"default thresholds": {}, **limits}.items():
        for step in STEPS:
            run = EvalRun("jrt_rnn", {**main, "prefix_step": step, **given}, once)
            yield TableRow("step", f"step {step}, {name}", run)
    for overlap in OVERLAPS:
        yield TableRow("overlap", f"{overlap:.0%}", EvalRun("jrt_rnn", main, hier, {"overlap": overlap}))
    yield from _comparison(suite, main)
    if suite.budgets:
        yield from _memory(suite, full, once)


def _comparison(suite: Suite, main: Mapping[str, Any]) -> Iterable[TableRow]:
    for label, model, arguments in (("JRT-RNN", "jrt_rnn", main), *suite.others):
        once, flat, hier = (_tasks(suite.benchmarks, layout) for layout in ("once", "flat", "hier"))
        for layout, tasks in (("once", (*once, PERPLEXITY)), ("flat", flat), ("hier", hier)):
            yield TableRow("comparison", f"{label}, {layout}", EvalRun(model, arguments, tasks))
        yield TableRow("comparison", f"{label}, flat without the lead", EvalRun(model, arguments, flat, NO_LEAD))
        yield TableRow("control", label, EvalRun(model, arguments, once, NO_CONTEXT))


def _memory(suite: Suite, maps: Mapping[str, Mapping[str, Any]], once: tuple[str, ...]) -> Iterable[TableRow]:
    """Every model, and a Transformer that keeps as much of the text as fits into each budget."""
    for label, given in maps.items():
        yield TableRow("memory", label, EvalRun("jrt_rnn", given, once))
    for label, model, arguments in suite.others:
        if label != AT_EQUAL_MEMORY:
            yield TableRow("memory", label, EvalRun(model, arguments, once))
    for budget in suite.budgets:
        yield TableRow("memory", f"{WINDOWED}, {budget / 1000:,.0f} KB", EvalRun("hf_recall", _windowed(budget), once))


def runs(rows: Iterable[TableRow]) -> tuple[EvalRun, ...]:
    """The runs that the rows need: each combination of model and block once, with all its tasks.

    Runs of the same model follow each other, so that it is loaded once.
    """
    found: dict[str, EvalRun] = {}
    for row in rows:
        known = found.get(row.run.key, row.run)
        found[row.run.key] = replace(row.run, tasks=tuple(dict.fromkeys((*known.tasks, *row.run.tasks))))
    loaded = list(dict.fromkeys(run.loaded for run in found.values()))
    return tuple(sorted(found.values(), key=lambda run: loaded.index(run.loaded)))


def _tasks(benchmarks: Iterable[str], layout: str) -> tuple[str, ...]:
    return tuple(f"{name}{LAYOUT_ENDINGS[layout]}" for name in benchmarks)
