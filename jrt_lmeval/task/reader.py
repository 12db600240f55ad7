"""From a row to what a task needs of it: accepted answers, the parts of its prompt, the name of its document.

A reader follows either a published recipe or the templates of a task's YAML file. Its methods raise a `JRTError` that
names the field where a row lacks something.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import jinja2

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prompts.benchmarks import Row, alternatives_of, benchmark_of, read_row
from jrt_lmeval.prompts.prompt import Counters, LayoutSpec, Parts
from jrt_lmeval.prompts.window import Window, cut

DOCUMENT_ID = "jrt_doc_id"
"""Field of a row whose document was rewritten: what told it from others, so that its rows belong together."""


def document_id(row: Mapping[str, Any], named_by: str | None, document: str) -> str:
    """What tells one document from another: the field that names it, or 16 hexadecimal digits of the text's SHA-256."""
    given = row.get(DOCUMENT_ID, row.get(named_by) if named_by else None)
    return str(given) if given is not None else hashlib.sha256(document.encode()).hexdigest()[:16]


def require_name(row: Mapping[str, Any], named_by: str | None) -> None:
    """Raise for a row whose document has a blank name: all documents without a name would be taken for one."""
    if named_by is not None and named_by in row and (row[named_by] is None or not str(row[named_by]).strip()):
        raise JRTError(
            f"field {named_by!r} is {row[named_by]!r}: it must tell the document from others. Name every document, or "
            "leave the field out of all rows; documents are told apart by their text then."
        )


def require_text(value: Any, what: str, role: str) -> None:
    """Raise unless a value is a text that is not blank."""
    if not isinstance(value, str):
        raise JRTError(f"{what} is {value!r}: it must be a string, {role}.")
    if not value.strip():
        raise JRTError(f"{what} is empty: it must hold {role}.")
    require_unicode(value, what)


def require_unicode(value: Any, what: str) -> None:
    """Raise for a text or list of texts that no tokenizer can read.

    A JSON file of good UTF-8 can still hold an escape such as "\\ud800".
    """
    for text in value if isinstance(value, (list, tuple)) else [value]:
        try:
            _ = text.encode() if isinstance(text, str) else b""
        except UnicodeEncodeError as error:
            raise JRTError(
                f"{what} holds {text[error.start]!r} at character {error.start + 1}: half of a surrogate pair, "
                "which is no Unicode text. Decode the source again, or put a replacement there (errors='replace')."
            ) from None


def accepted(value: Any, what: str) -> list[str]:
    """The accepted answers as a list of texts; raises unless one of them is not blank."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    strange = any(isinstance(one, bool) or not isinstance(one, (str, int, float)) or one != one for one in values)
    if strange or not any(str(one).strip() for one in values):
        raise JRTError(
            f"{what} is {value!r}: it must hold the accepted answer or a list of them, not all of them empty."
        )
    require_unicode(values, what)
    return [str(one) for one in values]


def missing_field(field: str, row: Mapping[str, Any]) -> JRTError:
    """The error for a field that a row does not have, with the nearest that it has."""
    near = get_close_matches(field, list(row), n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return JRTError(f"field {field!r} is missing.{hint} The row has: {', '.join(row)}.")


Rewrite = Callable[[str], str]
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

    Attributes:
        templates: what the reader was made from, to tell readers apart.
        has_lead: whether there is a text to put before the document.

    Raises:
        JRTError: a template that cannot be parsed.
    """

    def __init__(self, document: str, question: str, answers: str, lead: str = "", joiner: str = " ") -> None:
        self.templates = {"document": document, "question": question, "doc_to_target": answers, "lead": lead}
        made = {name: _template(name, text) for name, text in self.templates.items()}
        self._document, self._question, self._answers, self._lead = made.values()
        if not isinstance(joiner, str):
            raise JRTError(f"'joiner' is {joiner!r}: it must be the text between document and question, such as ' '.")
        self._joiner = self.templates["joiner"] = joiner
        self.has_lead = bool(lead)

    def check(self, row: Row) -> None:
        """Raise if document, question or answers are missing or empty."""
        require_text(self._document(row), "'document'", "the document")
        require_text(self._question(row), "'question'", "what is asked for")
        if not isinstance(lead := self._lead(row), str):
            raise JRTError(f"'lead' is {lead!r}: it must be a string, the text before the document.")
        require_unicode(lead, "'lead'")
        require_name(row, "doc_id")
        self.labels(row)

    def labels(self, row: Row) -> list[str]:
        """The accepted answers."""
        return row[_ANSWERS] if _ANSWERS in row else accepted(self._answers(row), "'doc_to_target'")

    def names(self, row: Row) -> list[str]:
        """The accepted answers and all that the row says to be another name of them."""
        return self.labels(row)

    def dropped(self, row: Row, window: Window) -> bool:
        """Whether the window leaves the row out, as the published one does with answers of one character."""
        return window.drops(self.labels(row)[:1])

    def read(self, row: Row, spec: LayoutSpec, window: Window) -> tuple[Parts, Counters]:
        """The parts of the prompt, and what the window counted; not for a dropped row."""
        labels = self.labels(row)
        read = cut(self.document(row), window, labels, labels[:1], labels[1:])
        assert read.text is not None, "a dropped row"
        return Parts(read.text, self.question(row), self._lead(row), self._joiner), read.counters

    def document(self, row: Row) -> str:
        """The whole document, as the row has it."""
        return str(row[_DOCUMENT] if _DOCUMENT in row else self._document(row))

    def document_id(self, row: Row) -> str:
        """What tells its document from others: see `document_id`."""
        return document_id(row, "doc_id", self.document(row))

    def question(self, row: Row) -> str:
        """What is asked for; rows that ask for the same have the same."""
        return str(self._question(row))

    def rewritten(self, row: Row, rewrite: Rewrite, answer: str) -> dict[str, Any]:
        """A copy of the row with its document rewritten and one accepted answer."""
        return {**row, _DOCUMENT: rewrite(self.document(row)), _ANSWERS: [answer]}


class _Blank(Exception):
    """A value that a template would write into a prompt, and that is no text to read."""


def _environment(what: str) -> jinja2.Environment:
    """Where a template of this key is compiled: nothing is written that is null, or, in a question, blank."""

    def checked(value: Any) -> Any:
        if value is None or (what == "question" and isinstance(value, str) and not value.strip()):
            raise _Blank(value)
        return value

    return jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False, finalize=checked
    )


def _template(what: str, text: str) -> Callable[[Row], Any]:
    """A function from a row to the value of a template, or to the field that has the template's name."""
    if not isinstance(text, str):
        raise JRTError(f"{what!r} is {text!r}: it must be the name of a field or a template such as '{{{{text}}}}'.")
    try:
        evaluate = _compiled(_environment(what), text)
    except jinja2.TemplateSyntaxError as error:
        raise JRTError(f"{what!r} is {text!r}, which jinja2 cannot read: {error.message}.") from None
    names_a_field = what in ("document", "doc_to_target") and "{" not in text

    def value(row: Row) -> Any:
        if text in row:
            return row[text]
        if names_a_field:
            raise JRTError(f"{what!r} is {text!r}: {missing_field(text, row)}")
        try:
            return evaluate(row)
        except _Blank as blank:
            named = [name for name in re.findall(r"\w+", text) if name in row and row[name] == blank.args[0]]
            where = f"field {named[0]!r}" if named else "what it writes"
            raise JRTError(f"{what!r} is {text!r}: {where} is {blank.args[0]!r}; it must hold a text.") from None
        except jinja2.UndefinedError as error:
            name = next(iter(re.findall(r"'(.*?)' is undefined", str(error))), None)
            raise JRTError(f"{what!r} is {text!r}: {missing_field(name, row) if name else error}") from None
        except Exception as error:  # whatever an expression can raise, such as a division of a text
            reason = f"{type(error).__name__}: {error}"
            raise JRTError(f"{what!r} is {text!r}, which fails on this row ({reason}).") from None

    return value


def _compiled(environment: jinja2.Environment, text: str) -> Callable[[Row], Any]:
    inner = text.strip()[2:-2]
    if text.strip() != f"{{{{{inner}}}}}" or "{{" in inner:
        template = environment.from_string(text)
        return lambda row: template.render(**row)
    expression = environment.compile_expression(inner.strip("-+ "), undefined_to_none=False)

    def evaluate(row: Row) -> Any:
        value = expression(**row)
        if isinstance(value, jinja2.Undefined):
            str(value)  # a strict undefined value raises when it is used
        return value

    return evaluate


class RecipeReader:
    """Rows of a benchmark, named by its recipe; attributes and methods are those of `TemplateReader`."""

    has_lead = True

    def __init__(self, name: str) -> None:
        self._name, self._recipe = name, benchmark_of(name)
        self.templates = {"recipe": name}

    def check(self, row: Row) -> None:
        recipe = self._recipe
        for field in (recipe.document, recipe.question, recipe.answers):
            if field not in row:
                raise missing_field(field, row)
        for field, value in row.items():
            require_unicode(value, f"field {field!r}")
        require_name(row, recipe.named_by)
        require_text(row[recipe.document], f"field {recipe.document!r}", "the document")
        require_text(row[recipe.question], f"field {recipe.question!r}", "what is asked for")
        accepted(row[recipe.answers], f"field {recipe.answers!r}")

    def labels(self, row: Row) -> list[str]:
        return self._recipe.labels(row)

    def names(self, row: Row) -> list[str]:
        return [*self.labels(row), *alternatives_of(row)]

    def dropped(self, row: Row, window: Window) -> bool:
        return window.drops(self._recipe.seeks(row))

    def read(self, row: Row, spec: LayoutSpec, window: Window) -> tuple[Parts, Counters]:
        parts, cut_out = read_row(self._name, spec.form, row, window)
        assert parts is not None, "a dropped row"
        # Only `once` reads rows without the natural question, and it has no lead unless it is asked for.
        if spec.lead and spec.form == "once" and not parts.lead.strip():
            raise JRTError("lead: True has no effect on a row without 'orig_question', the question to put there.")
        return parts, cut_out.counters

    def document(self, row: Row) -> str:
        return str(row[self._recipe.document])

    def document_id(self, row: Row) -> str:
        return document_id(row, self._recipe.named_by, self.document(row))

    def question(self, row: Row) -> str:
        return str(row[self._recipe.question])

    def rewritten(self, row: Row, rewrite: Rewrite, answer: str) -> dict[str, Any]:
        return self._recipe.rewritten(row, rewrite, answer)


Reader = TemplateReader | RecipeReader


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
        if "doc_to_target" in config:
            raise JRTError(f"'doc_to_target' has no effect with jrt.recipe {recipe!r}: leave out one of them.")
        return RecipeReader(recipe)
    for key in ("document", "question"):
        if key not in templates:
            raise JRTError(
                f"{key!r} is missing: a template such as '{{{{text}}}}' (or jrt.recipe, for a published task)."
            )
    if "doc_to_target" not in config:
        raise JRTError("'doc_to_target' is missing: a template for the accepted answer or answers.")
    return TemplateReader(**templates, answers=config["doc_to_target"])
