"""Pictures: the numbers of the logs, legible a column wide, each drawn or listed with the reason."""

from __future__ import annotations

import json
import random
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.text
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from reportlogs import sample, write_run

from jrt_lmeval.errors import JRTError
from jrt_lmeval.report.cells import Collection, number_of
from jrt_lmeval.report.cli import main
from jrt_lmeval.report.collect import collect
from jrt_lmeval.report.plots.gallery import PICTURES, families, gallery, published_points
from jrt_lmeval.report.plots.picture import COLOURS, SMALL, WIDTH, Picture, look
from jrt_lmeval.report.published import published, state_bytes, timed

FACTS = {
    "pretrained": "jrt-mlp", "feature_map": "mlp", "prefix": "dynamic", "prefix_step": 0.1, "prefix_length": 0.8,
    "entropy_low": 0.67, "entropy_high": 0.77, "sliding_window": 64,
}  # fmt: skip
BLOCK = {"source": "local", "control": "none", "window": {"context_length": 600}}
LAYOUTS = {"once": ("_once", 1), "flat": ("_jrt", 2), "hier": ("_jrt_hier", 2)}


def lines(
    accuracy: float, length: int = 550, copies: int = 1, step: float = 0.1, seed: int = 0
) -> list[dict[str, Any]]:
    """120 answers with everything that a picture reads, three on each document."""
    made = []
    for i in range(120):
        draw = random.Random(1000 * seed + i)
        depth, h, prompt = i % 10 / 10, 0.6 + 0.02 * (i % 12), copies * length + 20
        share = 0.8 * (1 + step * (h >= 0.77) - step * (h <= 0.67))
        facts = {
            "answer_last_token": 20 + (copies - 1 + depth) * length, "prompt_tokens": prompt, "document_tokens": length,
            "jrt_prompt_tokens": prompt, "answer_position": depth, "jrt_entropy": h,
            "jrt_prefix_tokens": share * prompt,
            "jrt_state_bytes": 331776, "jrt_seconds": 0.05 * copies, "majority": float(i % 20 == 0),
        }  # fmt: skip
        score = float(draw.random() < accuracy)
        made.append(sample(i, score, f"{length} {copies}", facts={**facts, "doc_id": f"d{i // 3}"}))
    return made


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model on three layouts, without the document, on another length, with other steps and overlaps; a training."""
    out = tmp_path_factory.mktemp("runs")
    for number, (layout, (ending, copies)) in enumerate(LAYOUTS.items()):
        block = {**BLOCK, "layout": layout, **({"overlap": 0.2} if layout == "hier" else {})}
        made = lines(0.3 + 0.2 * number, copies=copies, seed=number)
        write_run(out / layout, task=f"swde{ending}", lines=made, facts=FACTS, block=block)
    once = {**BLOCK, "layout": "once"}
    empty = {**once, "control": "no_context"}
    write_run(out / "empty", task="swde_once", lines=lines(0.05, seed=9), facts=FACTS, block=empty)
    longer = {**once, "window": {"context_length": 1200}}
    write_run(out / "long", task="swde_once", lines=lines(0.2, 1100, seed=8), facts=FACTS, block=longer)
    other = {**FACTS, "prefix_step": 0.2}
    write_run(out / "step", task="swde_once", lines=lines(0.4, step=0.2, seed=7), facts=other, block=once)
    more = {**BLOCK, "layout": "hier", "overlap": 0.3}
    write_run(out / "overlap", task="swde_jrt_hier", lines=lines(0.6, copies=2, seed=6), facts=FACTS, block=more)
    (out / "trained").mkdir()
    curve = [{"step": n, "tokens": n * 1000, "seconds": 1.0, "short": n / 10, "long": n / 20} for n in range(1, 5)]
    (out / "trained" / "heldout.jsonl").write_text("".join(json.dumps(line) + "\n" for line in curve))
    return out


@pytest.fixture(scope="module")
def collection(runs: Path) -> Collection:
    return collect([runs])


@pytest.fixture(scope="module")
def drawn(collection: Collection) -> dict[str, Picture]:
    return {picture.name: picture for picture in gallery(collection)[0]}


def one(drawn: dict[str, Picture], name: str) -> Picture:
    (found,) = (picture for key, picture in drawn.items() if key.startswith(name))
    return found


def test_everything_is_drawn_and_nothing_twice(collection: Collection, drawn: dict[str, Picture]) -> None:
    found, missing = gallery(collection)
    assert not missing and len(found) == len(drawn)
    for kind in PICTURES:
        assert any(name.startswith({"step": "prefix_step"}.get(kind, kind)) for name in drawn), kind


def test_what_is_not_drawn_is_listed_with_the_reason(tmp_path: Path) -> None:
    write_run(tmp_path, [1.0, 0.0] * 10)
    found, missing = gallery(collect([tmp_path]))
    reasons = {one.name: one.why for one in missing}
    assert [picture.name for picture in found] == ["recall_swde", "cost_swde"]
    assert set(reasons) == set(PICTURES) - {"recall", "cost"}
    assert "jrt_entropy" in reasons["entropy"] and "answer_position" in reasons["depth"]


def test_each_is_a_column_wide_and_no_word_is_small_or_cut_off(drawn: dict[str, Picture]) -> None:
    for name, picture in drawn.items():
        figure = picture.figure
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        assert figure.get_size_inches()[0] == WIDTH
        unseen = _out_of_view(figure)
        words = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text().strip()]
        words = [text for text in words if text.get_visible() and id(text) not in unseen]
        assert len(words) > 5
        for text in words:
            box = text.get_window_extent(canvas.get_renderer())
            assert text.get_fontsize() >= SMALL, (name, text)
            inside = figure.bbox.padded(1)
            assert inside.contains(box.x0, box.y0) and inside.contains(box.x1, box.y1), (name, text)


def _out_of_view(figure: Any) -> set[int]:
    """Words of ticks that are not drawn since they stand outside the axes."""
    found = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low <= tick.get_loc() <= high:
                found |= {id(tick.label1), id(tick.label2)}
    return found


def test_captions_say_n_and_what_the_bars_are(drawn: dict[str, Picture]) -> None:
    for name, picture in drawn.items():
        if name.startswith("learning"):
            assert "Without error bars" in picture.caption
            continue
        assert "n = 120 questions on 40 documents" in picture.caption or "n = " in picture.caption, name
        assert "clustered by document" in picture.caption, name


def test_bars_are_the_means_with_their_intervals(collection: Collection, drawn: dict[str, Picture]) -> None:
    axis = drawn["recall_swde"].figure.axes[0]
    numbers = [number_of(cell, "contains") for cell in collection.cells if cell.control == "none"]
    widths = sorted(bar.get_width() for bar in axis.patches)
    assert widths == pytest.approx(sorted(100 * number.value for number in numbers))
    spans = sorted(tuple(part[:, 0]) for bars in axis.collections for part in bars.get_segments())
    assert spans == [
        pytest.approx((100 * number.interval.low, 100 * number.interval.high))
        for number in sorted(numbers, key=lambda number: number.interval.low)  # type: ignore[union-attr]
        if number.interval
    ]
    control = next(cell for cell in collection.cells if cell.control == "no_context")
    dotted = [line.get_xdata()[0] for line in axis.lines if line.get_linestyle() == ":"]
    dashed = {round(float(line.get_xdata()[0]), 9) for line in axis.lines if line.get_linestyle() == "--"}
    assert dotted == [pytest.approx(number_of(control, "contains").value * 100)] and dashed == {5.0}


def test_recall_stands_over_the_bytes_and_seconds_that_were_logged(drawn: dict[str, Picture]) -> None:
    size, time = drawn["cost_swde"].figure.axes
    measured = [[line for line in axis.lines if str(line.get_marker()) in ("o", "s", "^")] for axis in (size, time)]
    assert {float(x) for line in measured[0] for x in line.get_xdata()} == {331776.0}
    seconds = {round(float(x), 9) for line in measured[1] for x in line.get_xdata()}
    assert seconds == {0.05, 0.1}
    assert sorted(text.get_text() for text in time.texts) == ["P"] * len(timed())
    placed = sorted((*text.get_position(), text.get_text()) for text in size.texts)
    assert placed == sorted(published_points("swde")[0])


def test_published_points_are_the_printed_ones() -> None:
    points, source = published_points("fda")
    assert "Table 1" in source and "mean" not in source
    row = next(n for n in published("jrt_table1") if (n.model, n.params, n.tokens) == ("Based", "1.3B", "50B"))
    assert (state_bytes(row), row.value, "B") in points
    average, source = published_points("factbook")
    assert "means over the six tasks" in source and average and not any(mark in "Jj" for *_, mark in average)


def test_states_of_published_models_are_counted_as_their_note_says() -> None:
    sizes = {f"{n.model} {n.params}": state_bytes(n) for n in published() if n.setting == "once"}
    based = 7 * 16 * 273 * (112 + 1) + 7 * 2 * 1792 * 129 + 2 * 2 * 1792 * 22
    assert sizes["Based 1.3B"] == 2 * based and sizes["Mamba 1.4B"] == 2 * 48 * 4096 * 20
    assert sizes["Mamba-2 2.7B"] == 2 * 64 * (5120 * 128 + (5120 + 256) * 4)
    one_copy, two = (
        next(state_bytes(n) for n in published("jrt_table1") if n.model == "Transformer++" and n.setting == setting)
        for setting in ("once", "flat")
    )
    assert two == 2 * one_copy == 2 * 2 * 36 * 2 * 1680 * 1000
    assert np.isnan(next(state_bytes(n) for n in published() if n.model == "GLA"))


def test_the_heat_map_has_a_row_a_length_and_the_means_of_its_cells(drawn: dict[str, Picture]) -> None:
    first, *_ = one(drawn, "depth").figure.axes
    values = first.images[0].get_array()
    assert values.shape == (2, 5)
    made = lines(0.3, seed=0)
    deep = [line["contains"] for line in made if line["doc"]["jrt"]["answer_position"] >= 0.8]
    assert values[0, 4] == pytest.approx(100 * np.mean(deep))
    assert [label.get_text() for label in first.get_yticklabels()] == ["513-1024", "1025-2048"]


def test_recall_by_distance_has_a_point_a_range(drawn: dict[str, Picture]) -> None:
    axis = drawn["distance_swde_hier"].figure.axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["≤64", "≤128", "≤256", "≤512", "≤1024"]
    curves = [line for line in axis.lines if str(line.get_marker()) in ("o", "s")]
    made = lines(0.7, copies=2, seed=2)
    near = [a["contains"] for a in made if a["doc"]["jrt"]["answer_position"] >= 0.9]
    assert any(curve.get_ydata()[0] == pytest.approx(100 * np.mean(near)) for curve in curves)


def test_prefixes_stand_over_entropy_with_both_thresholds(drawn: dict[str, Picture]) -> None:
    points, bands = next(p for n, p in drawn.items() if n.startswith("entropy") and "0.1" in n).figure.axes
    uprights = {line.get_xdata()[0] for line in points.lines if line.get_linestyle() == "--"}
    assert uprights == {0.67, 0.77}
    shares = {round(float(y), 6) for line in points.lines if line.get_marker() == "." for y in line.get_ydata()}
    assert shares == {72.0, 80.0, 88.0}
    assert [label.get_text().split("\n")[-1] for label in bands.get_xticklabels()] == ["shorter", "between", "longer"]


def test_sensitivity_is_to_one_setting_alone(collection: Collection, drawn: dict[str, Picture]) -> None:
    (steps,) = families(collection.cells, "contains", "prefix_step")
    assert [cell.first.run.settings["prefix_step"] for cell in steps] == [0.1, 0.2]
    assert {cell.task for cell in steps} == {"swde_once"}
    (overlaps,) = families(collection.cells, "contains", "overlap")
    assert [cell.first.settings["overlap"] for cell in overlaps] == [0.2, 0.3]
    ticks = [label.get_text() for label in drawn["overlap"].figure.axes[0].get_xticklabels()]
    assert ticks == ["20", "30"]


def test_learning_curves_are_of_held_out_rows_where_there_are_any(runs: Path, drawn: dict[str, Picture]) -> None:
    (curve,) = drawn["learning_short"].figure.axes[0].lines
    assert curve.get_xdata() == pytest.approx([0.001, 0.002, 0.003, 0.004])
    assert curve.get_ydata() == pytest.approx([10, 20, 30, 40])
    assert "40.0 % after 4,000 tokens" in drawn["learning_short"].caption


def test_logs_of_steps_are_drawn_as_means_and_said_not_to_be_held_out(tmp_path: Path) -> None:
    write_run(tmp_path / "run", [1.0, 0.0] * 10)
    steps = [{"step": n, "tokens": 10 * n, "answer_accuracy": n % 2} for n in range(1, 101)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in steps))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "heldout.jsonl").write_text("{")
    found = collect([tmp_path])
    assert found.trainings[0].curves == {"answer_accuracy": ((500.0, 0.5), (1000.0, 0.5))}
    assert ["heldout.jsonl: not the log of a training" in broken for broken in found.broken] == [True]
    assert "not held out" in next(p for p in gallery(found)[0] if p.name.startswith("learning")).caption


def test_more_models_than_colours_get_a_second_picture(tmp_path: Path) -> None:
    for number in range(len(COLOURS) + 2):
        facts = {**FACTS, "pretrained": f"model-{number}"}
        write_run(tmp_path / str(number), task="swde_once", lines=lines(0.3, seed=number), facts=facts, block=BLOCK)
    names = [picture.name for picture in gallery(collect([tmp_path]))[0]]
    assert {"cost_swde", "cost_swde_2", "distance_swde_once", "distance_swde_once_2"} <= set(names)


def test_every_series_looks_its_own_way() -> None:
    looks = [(shown["color"], shown["marker"]) for shown in map(look, range(40))]
    assert len(set(looks)) == 40
    assert all(a[0] != b[0] and a[1] != b[1] for a, b in pairwise(looks))


def test_layouts_that_differ_by_nature_are_bars_of_one_model(tmp_path: Path) -> None:
    for number, (layout, (ending, copies)) in enumerate(LAYOUTS.items()):
        block = {**BLOCK, "layout": layout, "lead": layout == "flat"}
        made = lines(0.5, copies=copies, seed=number)
        write_run(tmp_path / layout, task=f"swde{ending}", lines=made, facts=FACTS, block=block, version=2.0 + number)
    (axis,) = gallery(collect([tmp_path]))[0][0].figure.axes
    assert [text.get_text() for text in axis.texts if "jrt" in text.get_text()] == ["jrt_rnn jrt-mlp"]


def test_long_names_are_broken_and_leave_the_axes_their_width(tmp_path: Path) -> None:
    for number, low in enumerate((0.123456, 0.234567)):
        facts = {**FACTS, "entropy_low": low, "entropy_high": low + 0.5, "prefix_length": low + 0.1}
        write_run(tmp_path / str(number), task="swde_once", lines=lines(0.5), facts=facts, block=BLOCK)
    for picture in gallery(collect([tmp_path]))[0]:
        for axis in picture.figure.axes:
            assert axis.get_position().width > 0.7, picture.name
            assert all(len(line) < 70 for text in axis.texts for line in text.get_text().split("\n"))


def test_the_same_logs_give_the_same_svg_with_words_in_it(collection: Collection, drawn: dict[str, Picture]) -> None:
    first = drawn["recall_swde"].saved("svg").decode()
    again = next(picture for picture in gallery(collection)[0] if picture.name == "recall_swde")
    assert again.saved("svg").decode() == first and ">hierarchical<" in first and len(first) < 60_000
    ET.fromstring(first)
    assert again.saved("png").startswith(b"\x89PNG")


def test_no_setting_of_the_users_matplotlib_changes_a_picture(collection: Collection) -> None:
    plain = gallery(collection)[0][0].saved("svg")
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert gallery(collection)[0][0].saved("svg") == plain


def test_the_folder_holds_every_picture_twice_and_an_index(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    assert main([str(runs / "once"), str(runs / "flat"), "--out", str(out)]) == 0
    files = {file.name for file in (out / "pictures").iterdir()}
    assert {"recall_swde.png", "recall_swde.svg", "cost_swde.svg", "depth_swde.png"} <= files
    index = (out / "index.md").read_text(encoding="utf-8")
    assert all(f"pictures/{name}" in index for name in files) and "[report.md](report.md)" in index
    assert "## Not drawn" in index and "- Learning curves: no folder of a training" in index
    assert str(tmp_path) not in index


def test_one_picture_by_its_name(runs: Path, tmp_path: Path) -> None:
    assert main([str(runs / "once"), "--plot", str(tmp_path / "depth_swde.pdf")]) == 0
    assert (tmp_path / "depth_swde.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(JRTError, match=r"unknown picture in --plot 'recal_swde'\. Did you mean 'recall_swde'"):
        main([str(runs / "once"), "--plot", str(tmp_path / "recal_swde.png")])
