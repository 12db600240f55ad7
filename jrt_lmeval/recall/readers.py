"""From a row to what a task needs of it: accepted answers, the parts of its prompt, the prompt.

A reader is either a published recipe or the templates of a task's YAML file. Its methods raise `JRTError`, naming the
field, for a row that lacks something.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, Protocol

import jinja2

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prompts.benchmarks import SWDE_MARKER, filled, labels_of, recipe_of
from jrt_lmeval.prompts.layouts import LayoutSpec, Parts
from jrt_lmeval.prompts.render import read_row
from jrt_lmeval.prompts.window import Window, cut

Row = Mapping[str, Any]
TEMPLATE_KEYS = ("document", "question", "lead", "joiner")
"""Keys of a task's YAML beside lm_eval's own, for a task without a recipe; `doc_to_target` holds the answers."""

Counters = dict[str, int | float]
Rewrite = Callable[[str], str]

_KEY_VALUE = ("text", "key", "value")
_CLOZE = ("context", "question", "answers")
# Fields of a rewritten row of a task with templates.
_DOCUMENT, _ANSWERS = "jrt_document", "jrt_answers"
_FIELDS = {
    "swde": _KEY_VALUE,
    "fda": _KEY_VALUE,
    "factbook": _KEY_VALUE,
    "squadv2": ("text", "question", "value"),
    "nq_512": _CLOZE,
    "nq_1024": _CLOZE,
    "nq_2048": _CLOZE,
    "triviaqa": _CLOZE,
    "drop": _CLOZE,
}


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

    def dropped(self, row: Row, window: Window) -> bool:
        """Whether the window leaves the row out, as the published one does with answers of one character."""

    def read(self, row: Row, spec: LayoutSpec, window: Window) -> tuple[Parts, Counters]:
        """The parts of the prompt, and what the window counted; not for a dropped row."""

    def document(self, row: Row) -> str:
        """The whole document, as the row has it."""

    def question(self, row: Row) -> str:
        """What is asked for; rows that ask for the same have the same."""

    def rewritten(self, row: Row, rewrite: Rewrite, answer: str) -> dict[str, Any]:
        """A copy of the row with its document rewritten and one accepted answer."""


class RecipeReader:
    """Rows of a published task, named by its recipe."""

    def __init__(self, recipe: str) -> None:
        self.recipe = recipe
        self.templates = {"recipe": recipe}

    def check(self, row: Row) -> None:
        document, question, answers = _FIELDS[self.recipe]
        for field in (document, question, answers):
            if field not in row:
                raise _missing(field, row)
        for field, value in row.items():
            _unicode(value, f"field {field!r}")
        _filled(row[document], f"field {document!r}", "the document")
        _filled(row[question], f"field {question!r}", "what is asked for")
        _answers(row[answers], f"field {answers!r}")

    def labels(self, row: Row) -> list[str]:
        return labels_of(row, recipe_of(self.recipe).labels)

    def dropped(self, row: Row, window: Window) -> bool:
        recipe, labels = recipe_of(self.recipe), self.labels(row)
        sought = [labels[0] if field == recipe.labels else filled(row, field) for field in recipe.sought]
        return _drops(window, labels, sought)

    def read(self, row: Row, spec: LayoutSpec, window: Window) -> tuple[Parts, Counters]:
        parts, cut_out = read_row(self.recipe, spec.form, row, window)
        assert parts is not None, "a dropped row"
        return parts, cut_out.counters

    def document(self, row: Row) -> str:
        return str(row[_FIELDS[self.recipe][0]])

    def question(self, row: Row) -> str:
        return str(row[_FIELDS[self.recipe][1]])

    def rewritten(self, row: Row, rewrite: Rewrite, answer: str) -> dict[str, Any]:
        document, _, answers = _FIELDS[self.recipe]
        # The first copy of SQuAD's document is a field of its own.
        fields = {
            field: row[field] for field in dict.fromkeys((document, "context")) if isinstance(row.get(field), str)
        }
        for field, text in fields.items():
            before, mark, after = text.partition(SWDE_MARKER)
            fields[field] = rewrite(before) + mark + after
        copy = {**row, **fields, answers: answer if isinstance(row[answers], str) else [answer]}
        copy.pop("alt_answers", None)
        return copy


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
        fields = {name: _template(name, text) for name, text in self.templates.items()}
        self._document, self._question, self._answers, self._lead = fields.values()
        self._joiner = self.templates["joiner"] = joiner

    def check(self, row: Row) -> None:
        _filled(self._document(row), "'document'", "the document")
        _filled(self._question(row), "'question'", "what is asked for")
        _unicode(self._lead(row), "'lead'")
        self.labels(row)

    def labels(self, row: Row) -> list[str]:
        return row[_ANSWERS] if _ANSWERS in row else _answers(self._answers(row), "'doc_to_target'")

    def dropped(self, row: Row, window: Window) -> bool:
        labels = self.labels(row)
        return _drops(window, labels, labels[:1])

    def read(self, row: Row, spec: LayoutSpec, window: Window) -> tuple[Parts, Counters]:
        labels = self.labels(row)
        read = cut(self.document(row), window, labels, labels[:1], labels[1:])
        assert read.text is not None, "a dropped row"
        return Parts(read.text, self.question(row), str(self._lead(row)), self._joiner), read.counters

    def document(self, row: Row) -> str:
        return str(row[_DOCUMENT] if _DOCUMENT in row else self._document(row))

    def question(self, row: Row) -> str:
        return str(self._question(row))

    def rewritten(self, row: Row, rewrite: Rewrite, answer: str) -> dict[str, Any]:
        # Which fields a template takes its text from cannot be told, so the text itself is kept.
        return {**row, _DOCUMENT: rewrite(self.document(row)), _ANSWERS: [answer]}


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


def _drops(window: Window, labels: list[str], sought: list[str]) -> bool:
    # An empty text is cut at no cost, and dropped for the same reasons.
    return cut("", window, labels, sought).text is None


def _filled(value: Any, what: str, role: str) -> None:
    if not isinstance(value, str):
        raise JRTError(f"{what} is {value!r}: it must be a string, {role}.")
    if not value.strip():
        raise JRTError(f"{what} is empty: it must hold {role}.")
    _unicode(value, what)


def _unicode(value: Any, what: str) -> None:
    """A JSON file of good UTF-8 can still hold an escape such as "\\ud800", which no tokenizer can read."""
    for text in value if isinstance(value, (list, tuple)) else [value]:
        try:
            _ = text.encode() if isinstance(text, str) else b""
        except UnicodeEncodeError as error:
            raise JRTError(
                f"{what} holds {text[error.start]!r} at character {error.start + 1}: half of a surrogate pair, "
                "which is no Unicode text. Decode the source again, or put a replacement there (errors='replace')."
            ) from None


def _answers(value: Any, what: str) -> list[str]:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    if not all(isinstance(one, (str, int, float)) for one in values) or not any(str(one).strip() for one in values):
        raise JRTError(
            f"{what} is {value!r}: it must hold the accepted answer or a list of them, not all of them empty."
        )
    _unicode(values, what)
    return [str(one) for one in values]


def _missing(field: str, row: Row) -> JRTError:
    near = get_close_matches(field, list(row), n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return JRTError(f"field {field!r} is missing.{hint} The row has: {', '.join(row)}.")


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
            raise JRTError(f"{what!r} is {text!r}: {_missing(text, row)}")
        try:
            return evaluate(row)
        except jinja2.UndefinedError as error:
            name = next(iter(re.findall(r"'(.*?)' is undefined", str(error))), None)
            raise JRTError(f"{what!r} is {text!r}: {_missing(name, row) if name else error}") from None

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
