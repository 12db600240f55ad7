"""Which runs the paper's tables need, and for which row of which table; a run that several rows need is made once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jrt_lmeval.checkpoints.found import named
from jrt_lmeval.checkpoints.packaged import PACKAGED
from jrt_lmeval.prompts.layouts import LAYOUTS
from jrt_lmeval.runner import EvalRun

NARROW = "Learnable MLP, 128 features"
"""An MLP whose state is as large as the linear map's, which shows the effect of the map at equal memory."""
MAPS: dict[str, dict[str, str]] = {
    "Linear": {"feature_map": "linear"},
    NARROW: {"pretrained": "jrt-mlp-128"},
    "GELU, learned expansion": {"feature_map": "gelu"},
    "ReLU, learned expansion": {"feature_map": "relu"},
    "Gaussian kernel": {"feature_map": "gaussian"},
    "Learnable MLP": {"feature_map": "mlp"},
    "poly": {"feature_map": "poly"},
    "taylor": {"feature_map": "taylor"},
    "GELU, element by element": {"pretrained": "jrt-gelu-plain"},
    "ReLU, element by element": {"pretrained": "jrt-relu-plain"},
}
"""Row -> arguments of `jrt_rnn`; maps of equal state stand together, and `plan` leaves out what does not ship."""
NO_LEAD = {"lead": False}
"""Without the question before the first copy, which shows the effect of the second copy alone."""
LAYOUT_ENDINGS = {name: layout.ending for name, layout in LAYOUTS.items() if layout.ending}
PERPLEXITY = "recall_ppl"
WRONG_CONTEXT = {"control": "wrong_context"}
COUNTERFACTUAL = {"control": "counterfactual"}
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
        decisive: benchmarks of more questions, on which the claims are decided where they were asked.
        further: benchmarks of the table of recall and memory besides, which the picture does not show.
        budgets: bytes that a windowed Transformer may keep in the table of recall and memory.
        about: a sentence for `--help` and `--dry-run`.
    """

    maps: Mapping[str, Mapping[str, Any]]
    default: Mapping[str, Any]
    others: tuple[tuple[str, str, Mapping[str, Any]], ...]
    benchmarks: tuple[str, ...]
    about: str
    decisive: tuple[str, ...] = ()
    further: tuple[str, ...] = ()
    budgets: tuple[int, ...] = ()


WINDOWED = "Llama, window"
AT_EQUAL_MEMORY = "Llama, as many bytes"
TRAINED_SO = "Llama, trained with as many bytes"
"""The one before restricts a Llama that was trained without a window; this one was trained with it."""
TEACHER = "Softmax in its place"
"""The teacher from which the students were distilled; its state grows with the text as Llama's does."""
JRT_BYTES, CENTRED_BYTES = 805_000, 4_000_000
"""Bytes of the state of the main bundled model and of SmolLM2's memories and windows, and of a Transformer's cache that
is compared with each at equal memory."""
CENTRED = "quadratic less its mean"

SINKS = 4


def _windowed(budget: int) -> dict[str, Any]:
    return {"kv_bytes": budget, "kv_sinks": SINKS}


def _memory_of(kind: str) -> dict[str, str]:
    return {"pretrained": f"{PACKAGED}-{kind}"}


SUITES: dict[str, Suite] = {
    "bundled": Suite(
        maps=MAPS,
        default={"feature_map": "mlp"},
        others=(
            ("Mamba-2", "mamba", {}),
            ("Based", "based", {}),
            ("Llama", "hf_recall", {}),
            (AT_EQUAL_MEMORY, "hf_recall", _windowed(JRT_BYTES)),
            (TRAINED_SO, "hf_recall", {"pretrained": "llama-window", **_windowed(JRT_BYTES)}),
            (TEACHER, "based", {"pretrained": "softmax-teacher"}),
        ),
        benchmarks=("factbook", "swde"),
        decisive=("factbook_large",),
        further=("swde_uniform",),
        about="the models that come with the package, on local rows or samples; two CPU cores are enough",
        budgets=(100_000, 200_000, 400_000, JRT_BYTES, 1_600_000, 3_200_000),
    ),
    "smollm2": Suite(
        maps={
            **{
                row: {"pretrained": f"{PACKAGED}-{given['feature_map']}"}
                for row, given in MAPS.items()
                if "feature_map" in given
            },
            CENTRED: {"pretrained": f"{PACKAGED}-centred"},
        },
        default=_memory_of("centred"),
        others=(
            ("Mamba-2", "based", _memory_of("mamba2")),
            ("Based", "based", _memory_of("based")),
            ("Llama", "hf_recall", {"pretrained": PACKAGED}),
            ("Llama, its windows alone", "hf_recall", {"pretrained": PACKAGED, "kv_window": 64, "kv_sinks": SINKS}),
            (AT_EQUAL_MEMORY, "hf_recall", {"pretrained": PACKAGED, **_windowed(CENTRED_BYTES)}),
            (TEACHER, "based", _memory_of("softmax")),
        ),
        benchmarks=("factbook", "swde"),
        about="SmolLM2-135M, a Llama, with memory layers in place of its long attention (extra: smollm2); hours",
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

MOVED = {"fixed": "JRT-RNN fixed prefix", "dynamic": "JRT-RNN dynamic prefix"}
PROMPTS = {"flat": "flat JRT prompt", "hier": "hierarchical JRT prompt"}


def fixed(length: float) -> str:
    """The row of a fixed prefix of that share of the document."""
    return f"fixed at {length}"


def dynamic(length: float, step: float) -> str:
    """The row of a dynamic prefix whose mean length is that of `fixed(length)`."""
    return f"dynamic, {length} ± {100 * step:.0f} %"


LENGTHS = (0.5, 0.75)
STEP = 0.10
STEPS = (0.05, STEP, 0.20)
"""Changes of the dynamic prefix's length, of which the paper's table has `STEP`."""
IN_PAPER = {
    **{fixed(length): MOVED["fixed"] for length in LENGTHS},
    **{dynamic(length, STEP): MOVED["dynamic"] for length in LENGTHS},
    "GELU, learned expansion": "GELU",
    "ReLU, learned expansion": "ReLU",
}
"""Our row -> the row of the paper's table, where the names differ (`recall_paper.yaml`)."""
ENTROPIES = {
    "factbook": (0.638, 0.766, -0.18),
    "factbook_large": (0.638, 0.766, -0.19),
    "swde": (0.783, 0.826, -0.17),
}
"""Benchmark -> outer quartiles of the entropy of development documents of its kind in tokens of the shipped models
(`experiments/entropy.py`), and how much larger the share of its own documents is that lie above the upper one than the
share of those below the lower one."""


def equal_mean(length: float, step: float, benchmark: str) -> dict[str, Any]:
    """Arguments of a dynamic prefix that is on average as long as the fixed one of `length`.

    More documents of the benchmarks lie below the development documents' lower quartile than above the upper one, so
    that the length that is scaled has to be larger than the mean.
    """
    if benchmark not in ENTROPIES:
        return {"prefix_length": length, "prefix_step": step}
    low, high, surplus = ENTROPIES[benchmark]
    scaled = round(length / (1 + step * surplus), 4)
    return {"prefix_length": scaled, "prefix_step": step, "entropy_low": low, "entropy_high": high}


SHORT = {"window": {"context_length": 300}}
"""Documents that a model of the suite can read five times within the length of its training rows."""
WHOLE = {**SHORT, "budget": 6}
"""A budget that holds every segment: the document, its paragraphs once and its sentences twice."""
FLAT_AS_LONG, NOTHING_DROPPED = "flat, 4 copies", "hier, all segments, overlap 0 %"
TWICE, BACKWARDS = "hier, all segments, paragraphs twice", "hier, all segments, fine to coarse"
OVERLAPS = {percent / 100: f"hier, all segments, overlap {percent} %" for percent in (0, 10, 20, 30)}
STRUCTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "once": ("once", {}),
    **{f"flat, {copies} copies": ("flat", {"lead": False, "repeats": copies}) for copies in (2, 4)},
    **{f"hier, budget {budget}": ("hier", {"budget": budget}) for budget in (2, 3, 5)},
    **{row: ("hier", {**WHOLE, "overlap": overlap}) for overlap, row in OVERLAPS.items()},
    TWICE: ("hier", {**WHOLE, "overlap": 0.0, "repeat_level": "paragraph"}),
    BACKWARDS: ("hier", {**WHOLE, "overlap": 0.0, "order": "fine_to_coarse"}),
}
"""Row -> layout and settings of the prompts of short documents, without a lead in any of them."""


def plan(suite: Suite) -> tuple[TableRow, ...]:
    """All rows of all tables of a suite. What needs weights that do not ship with the package is left out."""
    known = named()

    def there(given: Mapping[str, Any]) -> bool:
        name = str(given.get("pretrained", ""))
        return "/" in name or not name or name in known

    maps = {row: given for row, given in suite.maps.items() if there(given)}
    others = tuple(other for other in suite.others if there(other[2]))
    return tuple(_rows(replace(suite, maps=maps, others=others)))


def _rows(suite: Suite) -> Iterable[TableRow]:
    """Rows of one table that have the same label are one row: the tasks of each are run with other arguments."""
    asked = (*suite.benchmarks, *suite.decisive)
    once = _tasks(asked, "once")
    main = {**suite.default, "prefix": "dynamic"}
    full = {row: {**given, "prefix": "full"} for row, given in suite.maps.items()}
    for policy in ("full", "document", "none"):
        yield TableRow("prefix", policy, EvalRun("jrt_rnn", {**suite.default, "prefix": policy}, once))
    yield TableRow("prefix", "dynamic, by default", EvalRun("jrt_rnn", main, once))
    for length in LENGTHS:
        arguments = {**suite.default, "prefix": "fixed", "prefix_length": length}
        yield TableRow("prefix", fixed(length), EvalRun("jrt_rnn", arguments, once))
        for step in STEPS:
            for benchmark in asked:
                run = EvalRun("jrt_rnn", {**main, **equal_mean(length, step, benchmark)}, _tasks([benchmark], "once"))
                yield TableRow("prefix", dynamic(length, step), run)
    for label, given in full.items():
        yield TableRow("feature_map", label, EvalRun("jrt_rnn", given, (*once, PERPLEXITY)))
        yield from _controls(label, EvalRun("jrt_rnn", given, _tasks(suite.benchmarks, "once")))
    for layout in LAYOUT_ENDINGS:
        run = EvalRun("jrt_rnn", main, _tasks(asked, layout))
        yield TableRow("prompt", PROMPTS.get(layout, layout), run)
    for layout in PROMPTS:
        for control, what in EQUAL_LENGTH.items():
            block = {"layout": control, "as_long_as": layout}
            run = EvalRun("jrt_rnn", main, _tasks(suite.benchmarks, layout), block)
            yield TableRow("prompt", f"as long as {PROMPTS[layout]}: {what}", run)
    for label, (layout, block) in STRUCTURES.items():
        yield TableRow("structure", label, EvalRun("jrt_rnn", main, _tasks(asked, layout), {**SHORT, **block}))
    yield from _comparison(suite, asked, main)
    if suite.budgets:
        yield from _memory(suite, full)


def _controls(label: str, once: EvalRun) -> Iterable[TableRow]:
    """The same questions on the document of another, and on the document with another answer in it."""
    for control in (WRONG_CONTEXT, COUNTERFACTUAL):
        yield TableRow("control", label, replace(once, block=control))


def _comparison(suite: Suite, asked: Sequence[str], main: Mapping[str, Any]) -> Iterable[TableRow]:
    for label, model, arguments in (("JRT-RNN", "jrt_rnn", main), *suite.others):
        once, flat, hier = (_tasks(asked, layout) for layout in ("once", "flat", "hier"))
        for layout, tasks in (("once", (*once, PERPLEXITY)), ("flat", flat), ("hier", hier)):
            yield TableRow("comparison", f"{label}, {layout}", EvalRun(model, arguments, tasks))
        yield TableRow("comparison", f"{label}, flat without the lead", EvalRun(model, arguments, flat, NO_LEAD))
        yield from _controls(label, EvalRun(model, arguments, _tasks(suite.benchmarks, "once")))


def _memory(suite: Suite, maps: Mapping[str, Mapping[str, Any]]) -> Iterable[TableRow]:
    """Every model, and a Transformer that keeps as much of the text as fits into each budget."""
    once = _tasks((*suite.benchmarks, *suite.further), "once")
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


def without(rows: Sequence[TableRow], benchmarks: Sequence[str]) -> tuple[TableRow, ...]:
    """The rows without the tasks of these benchmarks; a row that has no others is left out."""
    left_out = {task for layout in LAYOUT_ENDINGS for task in _tasks(benchmarks, layout)}
    tasks = [tuple(task for task in row.run.tasks if task not in left_out) for row in rows]
    return tuple(replace(row, run=replace(row.run, tasks=kept)) for row, kept in zip(rows, tasks, strict=True) if kept)


def _tasks(benchmarks: Iterable[str], layout: str) -> tuple[str, ...]:
    return tuple(f"{name}{LAYOUT_ENDINGS[layout]}" for name in benchmarks)
