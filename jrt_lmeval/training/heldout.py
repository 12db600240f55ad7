"""Recall on documents that are in no training row, by which a training run is judged.

Three sets: short pages (about 170 tokens), long pages (about 580) and fact sheets of countries that are kept out of the
training rows. Pages have names that the training split does not have and come from a seed that no shipped test row was
made with; the sheets' countries are not among those that `factbook` asks about either.

    python -m jrt_lmeval.training.heldout jrt-mlp models/mlp ...

prints the recall of shipped models and folders on each set, for documents read once, twice (JRT), and once after the
question.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, PreTrainedModel

from jrt_lmeval.checkpoints.found import find
from jrt_lmeval.checkpoints.tokenizers import read_own
from jrt_lmeval.data.making.factbook import kept_out, train_sheets
from jrt_lmeval.data.making.pages import Page, generate_pages
from jrt_lmeval.markdown import markdown_table
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.modeling.scans import fast_scans
from jrt_lmeval.prompts import LayoutSpec, Parts, build, layout_spec
from jrt_lmeval.training.models import last_hidden, logits_of
from jrt_lmeval.training.rows import Encode, encoder

SEED = 4_100
QUESTIONS = 6
"""Most questions on each document."""
ONCE = layout_spec({"layout": "once"})


@dataclass(frozen=True)
class Asked:
    """A document and what is asked of it: `body` its tokens, `questions` pairs of question tokens and answer tokens."""

    body: list[int]
    questions: tuple[tuple[list[int], list[int]], ...]


SETS: dict[str, tuple[Callable[[], Iterator[Page]], int]] = {
    "short": (lambda: generate_pages("test", SEED, words=(55, 90)), 48),
    "long": (lambda: generate_pages("test", SEED, words=(240, 320)), 32),
    "sheets": (lambda: (page for page in train_sheets(SEED, (150, 350)) if kept_out(page.doc_id)), 32),
}
"""Name -> how its documents are made, and how many there are."""


def held_out(name: str, encode: Encode, layout: LayoutSpec = ONCE) -> list[Asked]:
    """The documents of one of `SETS`, the same every time, each with up to `QUESTIONS` of its facts.

    Where the layout of the prompts has a lead, each question of a document has a prompt of its own.
    """
    make, documents = SETS[name]
    rng = random.Random(f"{name}/{SEED}")
    found = []
    for page in islice((page for page in make() if len(page.facts) >= 2), documents):
        bodies: dict[str, list[tuple[list[int], list[int]]]] = {}
        document = page.text.strip("\n").strip(".") + "."
        for key, value in rng.sample(page.facts, min(QUESTIONS, len(page.facts))):
            stem = key[:1].upper() + key[1:]
            prompt = build(Parts(document, f"{stem}:", f"Information about {stem}. "), layout)
            question = (encode(prompt[prompt.document_end :]), encode(f" {value}\n"))
            bodies.setdefault(prompt[: prompt.document_end], []).append(question)
        found += [Asked(encode(body), tuple(questions)) for body, questions in bodies.items()]
    return found


@torch.no_grad()
def exact_recall(model: PreTrainedModel, documents: list[Asked]) -> float:
    """Share of the questions whose answer would be generated in full: every token, the line's end included, is the
    likeliest one after those before it. Each question is asked by itself, with the document as the prefix."""
    training = model.training
    model.eval()
    right = []
    for asked in documents:
        tails = [torch.tensor(question + answer, device=model.device) for question, answer in asked.questions]
        lengths = torch.tensor([len(tail) for tail in tails], device=model.device)
        hidden = _after(model, asked.body, pad_sequence(tails, batch_first=True), lengths)
        for row, (question, answer) in enumerate(asked.questions):
            at = slice(len(question) - 1, len(question) + len(answer) - 1)
            right.append(logits_of(model, hidden[row, at]).argmax(-1).tolist() == answer)
    model.train(training)
    return sum(right) / len(right)


def _after(model: PreTrainedModel, body: list[int], ids: Tensor, lengths: Tensor) -> Tensor:
    """Hidden states `[B, T, C]` of the rows `ids`, each read after `body`, which is read once where a state allows."""
    start = torch.tensor([body], device=ids.device)
    if not isinstance(model, JRTForCausalLM):
        both = torch.cat([start.expand(len(ids), -1), ids], dim=1)
        return last_hidden(model, both, len(body) + lengths, torch.zeros_like(lengths))[:, len(body) :]
    length = torch.tensor([len(body)], device=ids.device)
    _, state = model.hidden_states(start, length, length)
    return model.hidden_states(ids, lengths, state=state.select([0] * len(ids)))[0]


LAYOUTS = {name: layout_spec({"layout": name}) for name in ("once", "flat", "lead_once")}
"""Layouts that the command compares."""


def main(argv: Sequence[str]) -> int:
    """Print a table of the exact recall of shipped models or folders, by set and layout."""
    cases = [(name, layout) for name in SETS for layout in LAYOUTS]
    rows = []
    for pretrained in argv:
        folder = find(pretrained).folder
        encode, model = encoder(read_own(folder)), AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        with fast_scans():
            found = [exact_recall(model, held_out(name, encode, LAYOUTS[layout])) for name, layout in cases]
        rows.append([pretrained, *(f"{100 * share:.1f}" for share in found)])
    print(markdown_table(["model", *map(", ".join, cases)], rows), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
