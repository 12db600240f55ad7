"""Where the document and the answers stand in a prompt, also when something was put around it."""

from __future__ import annotations

from jrt_lmeval import answers
from jrt_lmeval.prompts.gpt2 import count_tokens
from jrt_lmeval.prompts.layouts import LayoutSpec, Parts, Prompt


def without_document(parts: Parts, spec: LayoutSpec) -> Prompt:
    """The prompt with nothing to read: lead and question."""
    lead = parts.lead if spec.lead else ""
    text = lead + parts.question
    return Prompt(text, len(lead), len(lead), "", {"prompt_tokens": count_tokens(text), "answer_outside": 1})


def placed(prompt: Prompt, context: str) -> str:
    """`context` with the spans of the prompt it holds; as it is if it does not hold the prompt.

    Chat templates often strip a message, so the prompt is also looked for without white space at its ends.
    """
    for text, cut_off in ((str(prompt), 0), (prompt.strip(), len(prompt) - len(prompt.lstrip()))):
        at = context.rfind(text)
        if at >= 0:
            shift = at - cut_off
            start, end = max(0, prompt.document_start + shift), min(len(context), prompt.document_end + shift)
            return Prompt(context, start, end, prompt.document, prompt.counters)
    return context


def cut_left(prompt: Prompt, characters: int) -> Prompt:
    """What is left of a prompt whose first characters a model could not read.

    The document itself is left as it is: what is left of its copies stands between `document_start` and
    `document_end`, and `counters["document_cut"]` is 1 where that is less than there was.
    """
    text = prompt[characters:]
    start, end = (max(0, place - characters) for place in (prompt.document_start, prompt.document_end))
    counters = {**prompt.counters, "prompt_tokens": count_tokens(text)}
    if characters > prompt.document_start:
        counters["document_cut"] = 1
    return Prompt(text, start, end, prompt.document, counters)


def position(document: str, labels: list[str]) -> float | None:
    """Where in the document the first answer starts, 0 to 1; None if none stands in it."""
    found = answers.spans(labels, document)
    return found[0][0] / len(document) if found else None
