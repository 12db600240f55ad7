"""The shipped model: it recalls, far above its control, and its answers do not depend on how it is run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from scipy.stats import binomtest
from transformers import AutoModelForCausalLM, AutoTokenizer

from jrt_lmeval.checkpoints.found import OURS, shipped_for, shipped_models
from jrt_lmeval.checkpoints.load import load_model
from jrt_lmeval.checkpoints.tokenizers import find_tokenizer
from jrt_lmeval.cli import main
from jrt_lmeval.errors import JRTError
from jrt_lmeval.paths import published_dir, tasks_dir, weights_dir
from model_adapters.models import JRTRNN

SHIPPED = sorted(shipped_models())
ONE_OF_A_MAP = [name for name, found in shipped_models().items() if found.kind == OURS and name.count("-") == 1][:-1]
"""Of each feature map one model; the teacher, which is not recurrent, comes last."""


def _asked(task: str, rows: Sequence[int], metadata: dict[str, Any] | None = None, **arguments: Any) -> list[Any]:
    """What the shipped model answers to these rows of a task: the samples as lm_eval logs them."""
    manager = TaskManager(include_path=[str(tasks_dir())], include_defaults=False, metadata=metadata)
    model = JRTRNN(feature_map="mlp", device="cpu", **{"prefix": "dynamic", **arguments})
    found = simple_evaluate(model, tasks=[task], samples={task: list(rows)}, task_manager=manager, bootstrap_iters=0)
    assert found is not None
    return found["samples"][task]


def _answers(samples: list[Any]) -> list[str]:
    return [str(sample["filtered_resps"][0]) for sample in samples]


def test_the_map_of_the_main_command_is_shipped() -> None:
    assert "jrt-mlp" in SHIPPED


# Rows spread over all documents: questions on one document are answered alike.
@pytest.mark.parametrize(("benchmark", "rows"), [("swde", range(0, 72, 3)), ("factbook", range(0, 985, 30))])
def test_it_recalls_from_the_document_and_not_from_memory(benchmark: str, rows: Sequence[int]) -> None:
    """Question by question it is right where the same model without the document, and the rule that gives each kind of
    question its most frequent answer, are wrong: oftener than chance would have it (sign test)."""
    read = _asked(f"{benchmark}_jrt_focus", rows, batch_size="auto")
    blind = _asked(f"{benchmark}_once", rows, {"jrt": {"control": "no_context"}}, batch_size="auto")
    assert [sample["doc_id"] for sample in read] == [sample["doc_id"] for sample in blind] == list(rows)
    right = [float(sample["contains"]) for sample in read]
    floors = {
        "no document": [float(sample["contains"]) for sample in blind],
        "majority": [float(sample["doc"]["jrt"]["majority"]) for sample in read],
    }
    for name, floor in floors.items():
        wins, losses = (sum(a > b for a, b in zip(*pair, strict=True)) for pair in ((right, floor), (floor, right)))
        assert binomtest(wins, max(1, wins + losses), alternative="greater").pvalue < 0.01, (name, wins, losses)


@pytest.mark.parametrize("prefix", ["full", "document", "none"])
def test_answers_do_not_depend_on_the_batch_or_on_reuse(prefix: str) -> None:
    alone = _asked("swde_jrt_hier", range(6), prefix=prefix, batch_size=1, reuse=False)
    together = _asked("swde_jrt_hier", range(6), prefix=prefix, batch_size=5)
    assert _answers(alone) == _answers(together)


@pytest.mark.parametrize("name", ONE_OF_A_MAP)
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


@pytest.mark.parametrize(
    ("family", "feature_map", "name"),
    [
        *(("jrt_rnn", name, f"jrt-{name}") for name in ("linear", "gelu", "relu", "poly", "gaussian", "mlp", "taylor")),
        ("based", None, "based-taylor"),
        ("mamba", None, "mamba2"),
        ("hf_recall", None, "llama"),
    ],
)
def test_every_kind_finds_its_shipped_model(family: str, feature_map: str | None, name: str) -> None:
    found = shipped_for(family, feature_map)
    assert found.name.endswith(name) and found.folder.name == name


@pytest.mark.parametrize("name", ["jrt-mlp", "llama", "mamba2"])
def test_a_converted_shipped_model_is_an_ordinary_hugging_face_folder(name: str, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "out"
    assert main(["convert", name, str(folder)]) == 0
    assert "AutoModelForCausalLM.from_pretrained" in capsys.readouterr().out
    shipped = shipped_models()[name]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "Alder Hall\nLocation: Wexmouth\nOpened: 1931.\nLocation:"
    assert tokenizer.encode(text) == find_tokenizer(shipped).encode(text)
    assert (tokenizer.eos_token_id, tokenizer.mask_token_id) == (0, 1)
    ids = torch.tensor([tokenizer.encode(text)])
    ours, theirs = (
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32) for path in (shipped.folder, folder)
    )
    with torch.no_grad():
        assert torch.equal(ours(ids).logits, theirs(ids).logits)
    assert {"README.md", "recipe.json", "heldout.jsonl"} <= {file.name for file in folder.iterdir()}
    assert main(["convert", name, str(folder)]) == 1 and "holds a model already" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["jrt-mlp", "llama"])
def test_the_harness_own_model_runs_a_converted_one(name: str, tmp_path: Path) -> None:
    assert main(["convert", name, str(tmp_path / "out")]) == 0
    arguments = {"pretrained": str(tmp_path / "out"), "device": "cpu", "dtype": "float32", "batch_size": 2}
    manager = TaskManager(include_path=[str(tasks_dir())], include_defaults=False)
    task = {"swde_once": list(range(4))}
    found = simple_evaluate("hf", arguments, ["swde_once"], samples=task, task_manager=manager, bootstrap_iters=0)
    ours = shipped_models()[name]
    arguments = {"pretrained": name, "device": "cpu", "dtype": "float32"}
    if ours.family == "jrt_rnn":
        arguments["prefix"] = "full"  # as the model reads a prompt by itself
    expected = simple_evaluate(
        ours.family, arguments, ["swde_once"], samples=task, task_manager=manager, bootstrap_iters=0
    )
    assert _answers(found["samples"]["swde_once"]) == _answers(expected["samples"]["swde_once"])


def test_the_shipped_models_share_one_tokenizer() -> None:
    assert [file.name for file in weights_dir().rglob("tokenizer.json")] == ["tokenizer.json"]
    assert not list(weights_dir().rglob("log.jsonl"))
    steps = {file.stem for file in (published_dir().parent / "training").glob("*.jsonl")}
    assert set(SHIPPED) <= steps
