"""From a row to what a task needs of it: accepted answers, the parts of its prompt, the prompt.

A reader is either a published recipe or the templates of a task's YAML file. Its methods raise `JRTError`, naming the
field, for a row that lacks something.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prompts.benchmarks import alternatives_of, recipe_of
from jrt_lmeval.prompts.layouts import LayoutSpec, Parts
from jrt_lmeval.prompts.render import read_row
from jrt_lmeval.prompts.window import Window
from jrt_lmeval.task import fields
from jrt_lmeval.task.templates import TemplateReader

Row = Mapping[str, Any]
Counters = dict[str, int | float]
Rewrite = Callable[[str], str]


class Reader(Protocol):
    """What a task asks of a row.

    Attributes:
        templates: what the reader was made from, to tell readers apart.
    """

    templates: dict[str, str]

    def check(self, row: Row) -> None:
        """Raise if document, question or answers are missing or empty."""

    def labels(self, row: Row) -> list[str]:
        """The accepted answers."""

    def names(self, row: Row) -> list[str]:
        """The accepted answers and all that the row says to be another name of them."""

    def dropped(self, row: Row, window: Window) -> bool:
        """Whether the window leaves the row out, as the published one does with answers of one character."""

    def read(self, row: Row, spec: LayoutSpec, window: Window) -> tuple[Parts, Counters]:
        """The parts of the prompt, and what the window counted; not for a dropped row."""

    def document(self, row: Row) -> str:
        """The whole document, as the row has it."""

    def document_id(self, row: Row) -> str:
        """What tells its document from others: a name that the row gives, or 16 hexadecimal digits of the text."""

    def question(self, row: Row) -> str:
        """What is asked for; rows that ask for the same have the same."""

    def rewritten(self, row: Row, rewrite: Rewrite, answer: str) -> dict[str, Any]:
        """A copy of the row with its document rewritten and one accepted answer."""


class RecipeReader:
    """Rows of a benchmark, named by its recipe."""

    def __init__(self, name: str) -> None:
        self._name, self._recipe = name, recipe_of(name)
        self.templates = {"recipe": name}

    def check(self, row: Row) -> None:
        recipe = self._recipe
        for field in (recipe.document, recipe.question, recipe.answers):
            if field not in row:
                raise fields.missing(field, row)
        for field, value in row.items():
            fields.unicode(value, f"field {field!r}")
        fields.filled(row[recipe.document], f"field {recipe.document!r}", "the document")
        fields.filled(row[recipe.question], f"field {recipe.question!r}", "what is asked for")
        fields.answers(row[recipe.answers], f"field {recipe.answers!r}")

    def labels(self, row: Row) -> list[str]:
        return self._recipe.labels(row)

    def names(self, row: Row) -> list[str]:
        return [*self.labels(row), *alternatives_of(row)]

    def dropped(self, row: Row, window: Window) -> bool:
        return window.drops(self._recipe.seeks(row))

    def read(self, row: Row, spec: LayoutSpec, window: Window) -> tuple[Parts, Counters]:
        parts, cut_out = read_row(self._name, spec.form, row, window)
        assert parts is not None, "a dropped row"
        return parts, cut_out.counters

    def document(self, row: Row) -> str:
        return str(row[self._recipe.document])

    def document_id(self, row: Row) -> str:
        return fields.document_id(row, self._recipe.named_by, self.document(row))

    def question(self, row: Row) -> str:
        return str(row[self._recipe.question])

    def rewritten(self, row: Row, rewrite: Rewrite, answer: str) -> dict[str, Any]:
        return self._recipe.rewritten(row, rewrite, answer)


def reader_of(recipe: str | None, templates: dict[str, str], config: Mapping[str, Any]) -> Reader:
    """The reader of a task.

    Args:
        recipe: the `recipe` of its `jrt:` block.
        templates: the keys of its YAML that are among `TEMPLATE_KEYS`.
        config: lm_eval's own keys of its YAML.

    Raises:
        JRTError: recipe and templates, a template that is missing or cannot be parsed.
    """
    if recipe is not None:
        if templates:
            raise JRTError(
                f"{next(iter(templates))!r} has no effect with jrt.recipe {recipe!r}: leave out one of them."
            )
        return RecipeReader(recipe)
    for key in ("document", "question"):
        if key not in templates:
            raise JRTError(
                f"{key!r} is missing: a template such as '{{{{text}}}}' (or jrt.recipe, for a published task)."
            )
    if "doc_to_target" not in config:
        raise JRTError("'doc_to_target' is missing: a template for the accepted answer or answers.")
    return TemplateReader(**templates, answers=config["doc_to_target"])
