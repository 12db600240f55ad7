"""Results as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from jrt_lmeval.report.records import Cell

LAYOUTS = ("once", "flat", "hier")

NAMES = {"once": "read once", "flat": "read twice (JRT)", "hier": "hierarchical JRT"}
COLOURS = {"once": "#9aa5b1", "flat": "#4c78a8", "hier": "#e4572e"}


def reach(cell: Cell) -> tuple[float, float]:
    """How far the 95 % interval reaches below and above the mean, in points; 0 where there is none."""
    found = cell.interval("contains")
    if found is None or math.isnan(found.low):
        return 0.0, 0.0
    return 100 * (found.mean - found.low), 100 * (found.high - found.mean)


def plot_layouts(results: Sequence[Cell], file: Path) -> None:
    """Bars of recall by layout, one panel a benchmark, one group a model; the control without a document as a line."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    benchmarks = list(dict.fromkeys(r.benchmark for r in results))
    models = list(dict.fromkeys(r.model for r in results))
    found = {(r.model, r.benchmark, r.layout, r.control): r for r in results}
    figure, axes = plt.subplots(
        1, len(benchmarks), figsize=(1.5 + 3.6 * len(benchmarks), 3.6), sharey=True, squeeze=False
    )
    for axis, benchmark in zip(axes[0], benchmarks, strict=True):
        for place, model in enumerate(models):
            for offset, layout in enumerate(LAYOUTS):
                result = found.get((model, benchmark, layout, "none"))
                if result is None:
                    continue
                height, (below, above) = 100 * (result.mean("contains") or 0.0), reach(result)
                x = place + 0.27 * (offset - 1)
                axis.bar(x, height, 0.25, yerr=[[below], [above]], capsize=3, color=COLOURS[layout])
                axis.text(x, height + above + 1, f"{height:.0f}", ha="center", fontsize=9)
            control = next((r for k in LAYOUTS if (r := found.get((model, benchmark, k, "no_context")))), None)
            if control is not None:
                ends = (place - 0.42, place + 0.42)
                axis.plot(
                    ends, (100 * (control.mean("contains") or 0.0),) * 2, color="black", linestyle=":", linewidth=1.5
                )
        axis.set_title(benchmark, fontsize=11)
        axis.set_xticks(range(len(models)), [model.replace(" ", "\n") for model in models], fontsize=9)
        axis.set_ylim(0, 105)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("answers recalled, %")
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[layout]) for layout in LAYOUTS]
    handles.append(plt.Line2D([], [], color="black", linestyle=":"))
    labels = [*(NAMES[layout] for layout in LAYOUTS), "no document (control)"]
    figure.legend(handles, labels, loc="lower center", ncol=4, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(file, dpi=150)
    plt.close(figure)
