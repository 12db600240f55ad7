"""From a row of a published task to its prompt."""

from __future__ import annotations

from jrt_lmeval.errors import unknown
from jrt_lmeval.prompts.benchmarks import Row, alternatives_of, recipe_of
from jrt_lmeval.prompts.layouts import LayoutSpec, Parts, Prompt, build
from jrt_lmeval.prompts.spec import LAYOUTS
from jrt_lmeval.prompts.window import Cut, Window, cut

_WHOLE = Window()


def render(task: str, layout: str, row: Row, context_length: int | None = None) -> str | None:
    """The prompt of a row as published, with the default settings of the layout.

    Args:
        task: swde, fda, squadv2, nq_512, nq_1024, nq_2048, triviaqa, drop or factbook.
        layout: once (published as "default"), flat (published as "twice") or one of ours.
        row: the row as the data set gives it; it is not changed.
        context_length: GPT-2 tokens of one document copy plus 50, cut around the answer; None leaves it whole.

    Returns:
        The prompt, or None where the published code drops the row (with a context length, if a string that places the
        window has at most one character).

    Raises:
        JRTError: unknown task or layout, or a field that is missing or empty.
    """
    return prompt_for(task, LayoutSpec(layout), row, Window(context_length=context_length))


def prompt_for(task: str, spec: LayoutSpec, row: Row, window: Window = _WHOLE) -> Prompt | None:
    """As `render`, for any settings of layout and window; the window's counters are among the prompt's."""
    parts, read = read_row(task, spec.form, row, window)
    if parts is None:
        return None
    prompt = build(parts, spec)
    prompt.counters.update(read.counters)
    return prompt


def parts_for(task: str, layout: str, row: Row, window: Window = _WHOLE) -> Parts | None:
    """The parts from which the prompt of a row is laid out; None where the row is dropped.

    They differ between layouts, since the published prompts strip the document differently.
    """
    return read_row(task, layout, row, window)[0]


def read_row(task: str, layout: str, row: Row, window: Window) -> tuple[Parts | None, Cut]:
    """As `parts_for`, with what the window did."""
    recipe = recipe_of(task)
    if layout not in LAYOUTS:
        raise unknown("layout", layout, LAYOUTS)
    read = cut(
        recipe.text(row, layout, window),
        window,
        recipe.labels(row),
        recipe.seeks(row),
        alternatives_of(row),
        token_position=row.get("tok_pos"),
    )
    return (None if read.text is None else recipe.parts(row, read.text, layout, window)), read
