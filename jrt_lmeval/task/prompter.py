"""From the rows of a task to their prompts, controls included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from jrt_lmeval.prompts.layouts import LAYOUTS, Prompt, build
from jrt_lmeval.prompts.spans import without_document
from jrt_lmeval.task.block import Settings
from jrt_lmeval.task.controls import other_document, other_sentences
from jrt_lmeval.task.readers import Reader
from jrt_lmeval.task.rows import Rows, SplitRow


class Prompter:
    """Makes each prompt once.

    Args:
        rows: the rows that are asked, by split.
        reader: what is read in them.
        jrt: layout, window and control.
    """

    def __init__(self, rows: Mapping[str, Rows], reader: Reader, jrt: Settings) -> None:
        self._rows, self._reader, self._jrt = rows, reader, jrt
        self._made: dict[tuple[str, int], Prompt] = {}

    def prompt(self, row: SplitRow) -> Prompt:
        """The prompt of a row; errors as those of `layouts.build` and of the controls."""
        key = row.split, row.number
        if key not in self._made:
            self._made[key] = self._make(row)
        return self._made[key]

    def _make(self, row: SplitRow) -> Prompt:
        spec, window, rows = self._jrt.layout, self._jrt.window, self._rows[row.split]
        parts, counters = self._reader.read(row, spec, window)
        if self._jrt.control == "no_context":
            return without_document(parts, spec)
        if self._jrt.control == "wrong_context":
            other = other_document(rows, row.number, self._reader, spec, window)
            parts = replace(parts, document=other.document, first_document=other.first_document)
            counters = {"answer_outside": 1}
        if LAYOUTS[spec.layout].needs_filler:
            parts = replace(parts, filler=other_sentences(rows, row.number, self._reader, spec, window))
        prompt = build(parts, spec)
        prompt.counters.update(counters)
        return prompt
