"""The templates of a task's YAML file: where in a row document, question, lead and answers are."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import jinja2

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prompts.layouts import LayoutSpec, Parts
from jrt_lmeval.prompts.window import Window, cut
from jrt_lmeval.task import fields

Row = Mapping[str, Any]
TEMPLATE_KEYS = ("document", "question", "lead", "joiner")
"""Keys of a task's YAML beside lm_eval's own, for a task without a recipe; `doc_to_target` holds the answers."""

# Fields of a rewritten row: which fields a template takes its text from cannot be told, so the text itself is kept.
_DOCUMENT, _ANSWERS = "jrt_document", "jrt_answers"


class TemplateReader:
    """Rows of a task that says in its YAML where document, question, lead and answers are.

    Each is the name of a field or a jinja2 template over the row's fields; a template that is one `{{expression}}`
    gives the expression's value, so that answers may be a list. Question and lead may also be plain words.

    Args:
        document: what is read.
        question: the words that the answer completes.
        answers: an accepted answer, or a list of them.
        lead: what goes before the document in layouts that want it, its trailing space included.
        joiner: what stands between the document and the question; not a template.

    Raises:
        JRTError: a template that cannot be parsed.
    """

    def __init__(self, document: str, question: str, answers: str, lead: str = "", joiner: str = " ") -> None:
        self.templates = {"document": document, "question": question, "doc_to_target": answers, "lead": lead}
        made = {name: _template(name, text) for name, text in self.templates.items()}
        self._document, self._question, self._answers, self._lead = made.values()
        self._joiner = self.templates["joiner"] = joiner

    def check(self, row: Row) -> None:
        fields.filled(self._document(row), "'document'", "the document")
        fields.filled(self._question(row), "'question'", "what is asked for")
        fields.unicode(self._lead(row), "'lead'")
        self.labels(row)

    def labels(self, row: Row) -> list[str]:
        return row[_ANSWERS] if _ANSWERS in row else fields.answers(self._answers(row), "'doc_to_target'")

    def names(self, row: Row) -> list[str]:
        return self.labels(row)

    def dropped(self, row: Row, window: Window) -> bool:
        return window.drops(self.labels(row)[:1])

    def read(self, row: Row, spec: LayoutSpec, window: Window) -> tuple[Parts, dict[str, int | float]]:
        labels = self.labels(row)
        read = cut(self.document(row), window, labels, labels[:1], labels[1:])
        assert read.text is not None, "a dropped row"
        return Parts(read.text, self.question(row), str(self._lead(row)), self._joiner), read.counters

    def document(self, row: Row) -> str:
        return str(row[_DOCUMENT] if _DOCUMENT in row else self._document(row))

    def document_id(self, row: Row) -> str:
        return fields.document_id(row, "doc_id", self.document(row))

    def question(self, row: Row) -> str:
        return str(self._question(row))

    def rewritten(self, row: Row, rewrite: Callable[[str], str], answer: str) -> dict[str, Any]:
        return {**row, _DOCUMENT: rewrite(self.document(row)), _ANSWERS: [answer]}


_JINJA = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)


def _template(what: str, text: str) -> Callable[[Row], Any]:
    """A function from a row to the value of a template, or to the field that has the template's name."""
    if not isinstance(text, str):
        raise JRTError(f"{what!r} is {text!r}: it must be the name of a field or a template such as '{{{{text}}}}'.")
    try:
        evaluate = _compiled(text)
    except jinja2.TemplateSyntaxError as error:
        raise JRTError(f"{what!r} is {text!r}, which jinja2 cannot read: {error.message}.") from None
    names_a_field = what in ("document", "doc_to_target") and "{" not in text

    def value(row: Row) -> Any:
        if text in row:
            return row[text]
        if names_a_field:
            raise JRTError(f"{what!r} is {text!r}: {fields.missing(text, row)}")
        try:
            return evaluate(row)
        except jinja2.UndefinedError as error:
            name = next(iter(re.findall(r"'(.*?)' is undefined", str(error))), None)
            raise JRTError(f"{what!r} is {text!r}: {fields.missing(name, row) if name else error}") from None

    return value


def _compiled(text: str) -> Callable[[Row], Any]:
    inner = text.strip()[2:-2]
    if text.strip() != f"{{{{{inner}}}}}" or "{{" in inner:
        template = _JINJA.from_string(text)
        return lambda row: template.render(**row)
    expression = _JINJA.compile_expression(inner.strip("-+ "), undefined_to_none=False)

    def evaluate(row: Row) -> Any:
        value = expression(**row)
        if isinstance(value, jinja2.Undefined):
            str(value)  # a strict undefined value raises when it is used
        return value

    return evaluate
