"""The shipped model: it recalls, far above its control, and its answers do not depend on how it is run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from jrt_lmeval.checkpoints.found import shipped_models
from jrt_lmeval.checkpoints.load import load_model
from jrt_lmeval.checkpoints.tokenizers import find_tokenizer
from jrt_lmeval.errors import JRTError
from jrt_lmeval.paths import tasks_dir
from model_adapters.jrt_rnn import JRTRNN

SHIPPED = sorted(shipped_models())


def _answers(
    task: str, limit: int, metadata: dict[str, Any] | None = None, **arguments: Any
) -> tuple[float, list[str]]:
    manager = TaskManager(include_path=[str(tasks_dir())], include_defaults=False, metadata=metadata)
    model = JRTRNN(feature_map="mlp", device="cpu", **{"prefix": "dynamic", **arguments})
    found = simple_evaluate(model, tasks=[task], limit=limit, task_manager=manager, bootstrap_iters=0)
    assert found is not None
    texts = [str(sample["filtered_resps"][0]) for sample in found["samples"][task]]
    return found["results"][task]["contains,none"], texts


def test_the_map_of_the_main_command_is_shipped() -> None:
    assert "jrt-mlp" in SHIPPED


@pytest.mark.parametrize(("task", "least"), [("swde_jrt_focus", 0.3), ("factbook_jrt_focus", 0.12)])
def test_it_recalls_from_the_document_and_not_from_memory(task: str, least: float) -> None:
    recalled, _ = _answers(task, 36, batch_size="auto")
    without, _ = _answers(task.replace("jrt_focus", "once"), 36, {"jrt": {"control": "no_context"}}, batch_size="auto")
    assert recalled >= least and without <= least / 4


@pytest.mark.parametrize("prefix", ["full", "document", "none"])
def test_answers_do_not_depend_on_the_batch_or_on_reuse(prefix: str) -> None:
    _, alone = _answers("swde_jrt_hier", 10, prefix=prefix, batch_size=1, reuse=False)
    _, together = _answers("swde_jrt_hier", 10, prefix=prefix, batch_size=7)
    assert alone == together


@pytest.mark.parametrize("name", SHIPPED)
def test_ten_times_the_training_length_stays_finite(name: str) -> None:
    model = load_model(shipped_models()[name])
    ids = torch.randint(2, model.config.vocab_size, (1, 10 * model.config.context_length))
    with torch.inference_mode():
        logits, state = model.prefill(ids, None, torch.tensor([ids.shape[1] // 2]))
        logits, _ = model.step(logits.argmax(-1), state)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", SHIPPED)
def test_its_tokenizer_loses_nothing(name: str) -> None:
    tokenizer = find_tokenizer(shipped_models()[name])
    text = "Käse: 1,234.50 (2023 est.)\n\tFounded - 1887 «naïve» 東京 😀  end"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_prefix_beyond_every_row_it_was_trained_on_is_refused() -> None:
    with pytest.raises(JRTError, match=r"prefix_length=2049 is longer than the model's context of 2048 tokens"):
        JRTRNN(feature_map="mlp", prefix="fixed", prefix_length=2049, device="cpu")
    JRTRNN(feature_map="mlp", prefix="fixed", prefix_length=2048, device="cpu")
