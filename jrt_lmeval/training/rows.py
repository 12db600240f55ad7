"""Training rows: a laid-out prompt and its answers, random repeats, or prose; each with its own prefix length."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from jrt_lmeval.data.making.pages import Page
from jrt_lmeval.prompts.layouts import LayoutSpec, Parts, build
from jrt_lmeval.training.recipes import Stage

Encode = Callable[[str], list[int]]
LAYOUTS = (*(LayoutSpec(layout) for layout in ("once", "flat", "hier", "focus")), LayoutSpec("once", lead=True))
MOST_LED = 4
"""Most questions that a matching lead names: a lead that names all of a document's facts selects none."""
PROSE_PREFIX = 0.5


@dataclass(frozen=True)
class Row:
    """One training row.

    Attributes:
        ids: tokens `[T]`.
        prefix_length: M; the next-token loss is taken on tokens M and later, the masked loss on the ones before.
        answer: per token, whether it belongs to an answer.
        weight: of the next-token loss on tokens that are no answer; None for what the recipe says.
    """

    ids: list[int]
    prefix_length: int
    answer: list[bool]
    weight: float | None = None


def random_prefix(rng: random.Random, prompt: int, document: int, shares: tuple[float, float, float]) -> int:
    """A prefix length for a prompt of so many tokens whose document ends at `document`.

    Args:
        shares: how often the prefix is the whole prompt, the document, a part (40 % and more) of the document. Else it
            is anything, or none: every policy is in distribution.
    """
    kind = rng.choices(("prompt", "document", "part", "any"), weights=(*shares, max(0.0, 1 - sum(shares))))[0]
    if kind == "prompt":
        return prompt
    if kind == "document":
        return document
    if kind == "part":
        return max(1, round(document * rng.uniform(0.4, 1.0)))
    return rng.choice((0, rng.randint(0, prompt)))


def cropped(rng: random.Random, page: Page) -> Page:
    """A stretch of a page that may begin and end in the middle of a line, as windows do, with the facts that are
    left."""
    if rng.random() < 0.5:
        return page
    low, high = sorted((rng.uniform(0, 0.4), rng.uniform(0.6, 1.0)))
    text = page.text[int(low * len(page.text)) : int(high * len(page.text))].strip()
    facts = tuple((key, value) for key, value in page.facts if value in text and key.lower() in text.lower())
    return Page(page.doc_id, page.site, text, facts) if facts else page


def question_row(
    rng: random.Random,
    page: Page,
    layout: LayoutSpec,
    encode: Encode,
    questions: int,
    prefixes: tuple[float, float, float],
    matching_leads: bool = False,
) -> Row:
    """A page laid out for one of its facts, the answer, and then further questions on it, one a line.

    Args:
        questions: most facts asked for; how many is drawn, and all of them where the page has fewer.
        prefixes: see `random_prefix`.
        matching_leads: where the layout has a lead, it names all questions of the row: one in half of the rows, else up
            to `MOST_LED`. Otherwise it names the first.
    """
    led = matching_leads and layout.lead
    if led:
        questions = 1 if rng.random() < 0.5 else min(questions, MOST_LED)
    facts = rng.sample(page.facts, min(len(page.facts), rng.randint(1, questions)))
    stems = [key[:1].upper() + key[1:] for key, _ in facts]
    document = page.text.strip("\n").strip(".") + "."
    lead = "".join(f"Information about {stem}. " for stem in (stems if led else stems[:1]))
    prompt = build(Parts(document, f"{stems[0]}:", lead), layout)
    body, question = encode(prompt[: prompt.document_end]), encode(prompt[prompt.document_end :])
    ids = body + question
    answer = [False] * len(ids)
    prefix = random_prefix(rng, len(ids), len(body), prefixes)
    for i, (_, value) in enumerate(facts):
        for text, counts in ((f"{stems[i]}:", False), (f" {value}\n", True))[i == 0 :]:
            tokens = encode(text)
            ids += tokens
            answer += [counts] * len(tokens)
    return Row(ids, prefix, answer)


def repeat_row(rng: random.Random, vocab: int, max_tokens: int) -> Row:
    """Random tokens, then stretches of them again: the plainest form of looking up what followed."""
    length = rng.randint(12, max(13, min(200, max_tokens // 2)))
    ids = [rng.randint(2, vocab - 1) for _ in range(length)]
    answer = [False] * length
    for _ in range(rng.randint(1, 3)):
        start = rng.randint(0, length - 8)
        size = rng.randint(6, min(32, length - start))
        ids += ids[start : start + size]
        answer += [False] * 2 + [True] * (size - 2)  # two tokens tell which stretch it is
    return Row(ids, rng.choice((0, length, length)), answer)


def prose_row(
    rng: random.Random, text: str, encode: Encode, end_of_text: int, max_tokens: int, weight: float | None = None
) -> Row:
    """A stretch of running text; half of the rows without a prefix."""
    ids = [end_of_text, *encode(text)]
    ids = ids[:max_tokens]
    prefix = 0 if rng.random() < PROSE_PREFIX else rng.randint(1, max(1, len(ids) // 2))
    return Row(ids, prefix, [False] * len(ids), weight)


def text_row(text: Callable[[], str], encode: Encode, end_of_text: int, tokens: int) -> Row:
    """Whole texts one after the other, cut at `tokens`; the first half is the prefix (JRT, arXiv 2407.05483)."""
    ids: list[int] = []
    while len(ids) < tokens:
        ids += [*encode(text()), end_of_text]
    return Row(ids[:tokens], tokens // 2, [False] * tokens)


def draw_layout(rng: random.Random, stage: Stage) -> LayoutSpec:
    """One of the layouts, with their usual defaults."""
    return rng.choices(LAYOUTS[: len(stage.layouts)], weights=stage.layouts)[0]
