"""Recall on documents that are in no training row: what a training run is judged by, and not by its own batches.

Three sets: short pages (about 170 tokens), long pages (about 580) and fact sheets of countries that are kept out of the
training rows. Pages have names that the training split does not have and come from a seed that no shipped test row was
made with; the sheets' countries are not among those that `factbook` asks about either.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor
from transformers import PreTrainedModel

from jrt_lmeval.data.making.factbook import train_sheets
from jrt_lmeval.data.making.pages import Page, generate_pages
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.prompts.layouts import LayoutSpec, Parts, build
from jrt_lmeval.training.objective import last_hidden, logits_of

SEED = 4_100
SHARE = 10  # one country in so many is kept out of the training sheets
QUESTIONS = 6  # of each document
_ONCE = LayoutSpec("once")

Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class Asked:
    """A document and what is asked of it: `body` its tokens, `questions` pairs of question tokens and answer tokens."""

    body: list[int]
    questions: tuple[tuple[list[int], list[int]], ...]


def kept_out(doc_id: str) -> bool:
    """Whether a country's sheets are for judging and never for training."""
    return zlib.crc32(doc_id.encode()) % SHARE == 0


def _sheets(words: tuple[int, int]) -> Iterator[Page]:
    return (page for page in train_sheets(SEED, words) if kept_out(page.doc_id))


SETS: dict[str, tuple[Callable[[], Iterator[Page]], int]] = {
    "short": (lambda: generate_pages("test", SEED, words=(55, 90)), 48),
    "long": (lambda: generate_pages("test", SEED, words=(240, 320)), 32),
    "sheets": (lambda: _sheets((150, 350)), 32),
}
"""Name -> how its documents are made, and how many there are."""


def held_out(name: str, encode: Encode, layout: LayoutSpec = _ONCE) -> list[Asked]:
    """The documents of a set, the same every time, each with up to `QUESTIONS` of its facts.

    Args:
        name: one of `SETS`.
        encode: text to tokens.
        layout: of the prompts. Where it has a lead, a document stands once for each of its questions.
    """
    make, documents = SETS[name]
    rng = random.Random(f"{name}/{SEED}")
    pages = (page for page in make() if len(page.facts) >= 2)
    return [asked for page in islice(pages, documents) for asked in _asked(rng, page, encode, layout)]


def _asked(rng: random.Random, page: Page, encode: Encode, layout: LayoutSpec) -> list[Asked]:
    bodies: dict[str, list[tuple[list[int], list[int]]]] = {}
    document = page.text.strip("\n").strip(".") + "."
    for key, value in rng.sample(page.facts, min(QUESTIONS, len(page.facts))):
        stem = key[:1].upper() + key[1:]
        prompt = build(Parts(document, f"{stem}:", f"Information about {stem}. "), layout)
        question = (encode(prompt[prompt.document_end :]), encode(f" {value}\n"))
        bodies.setdefault(prompt[: prompt.document_end], []).append(question)
    return [Asked(encode(body), tuple(questions)) for body, questions in bodies.items()]


@torch.no_grad()
def exact_recall(model: PreTrainedModel, documents: list[Asked]) -> float:
    """Share of the questions whose answer would be written out whole: every token, the line's end included, is the
    likeliest one after those before it. Each question is asked by itself, with the document as the prefix."""
    training = model.training
    model.eval()
    right = [found for asked in documents for found in _recalled(model, asked)]
    model.train(training)
    return sum(right) / len(right)


def _recalled(model: PreTrainedModel, asked: Asked) -> list[bool]:
    device = next(model.parameters()).device
    tails = [question + answer for question, answer in asked.questions]
    width = max(map(len, tails))
    ids = torch.tensor([tail + [0] * (width - len(tail)) for tail in tails], device=device)
    hidden = _after(model, asked.body, ids, torch.tensor([len(tail) for tail in tails], device=device))
    found = []
    for row, (question, answer) in enumerate(asked.questions):
        at = slice(len(question) - 1, len(question) + len(answer) - 1)
        best = logits_of(model, hidden[row, at]).argmax(-1)
        found.append(best.tolist() == answer)
    return found


def _after(model: PreTrainedModel, body: list[int], ids: Tensor, lengths: Tensor) -> Tensor:
    """Hidden states `[B, T, C]` of the rows `ids`, each read after `body`, which is read once where a state allows."""
    start = torch.tensor([body], device=ids.device)
    if not isinstance(model, JRTForCausalLM):
        both = torch.cat([start.expand(len(ids), -1), ids], dim=1)
        return last_hidden(model, both, len(body) + lengths, torch.zeros_like(lengths))[:, len(body) :]
    length = torch.tensor([len(body)], device=ids.device)
    _, state = model.hidden_states(start, length, length)
    return model.hidden_states(ids, lengths, state=state.select([0] * len(ids)))[0]
