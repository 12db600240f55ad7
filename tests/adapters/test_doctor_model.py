"""`jrt-eval doctor MODEL`: sound models pass, and each kind of breakage is caught by its own check."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from released import FOLDERS, HERE

from jrt_lmeval.checkpoints import load_pretrained
from jrt_lmeval.checkpoints.found import shipped_models
from jrt_lmeval.checkpoints.load import load_model
from jrt_lmeval.cli import main
from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.state import RecurrentState
from model_adapters.engines.checkup import CHECKS, checkup
from model_adapters.engines.jrt import JRTEngine
from model_adapters.models import JRTRNN

torch.set_num_threads(1)


def failed(engine: Any, **options: Any) -> list[str]:
    return [check.name for check in checkup(engine, **options) if check.passed is False]


@pytest.mark.parametrize("kind", tiny.ENGINES)
def test_sound_engines_pass(kind: str) -> None:
    checks = list(checkup(tiny.engine(kind), tiny.tokenizer(), [40, 70]))
    assert [check.name for check in checks] == list(CHECKS)
    assert all(check.passed is not False for check in checks)
    assert checks[-1].seen.startswith("70 tokens")


@pytest.mark.parametrize("name", FOLDERS)
def test_released_checkpoints_pass(name: str, capsys) -> None:
    assert main(["doctor", str(FOLDERS[name]), "--tokenizer", "none", "--device", "cpu"]) == 0
    assert "FAIL" not in capsys.readouterr().out


def ignores_lengths(engine: JRTEngine) -> None:
    read = engine.model.prefill
    engine.model.prefill = lambda ids, lengths, *rest: read(ids, None, *rest)


def lets_neighbours_in(engine: JRTEngine) -> None:
    read = engine.prefill

    def prefill(ids: Any, prefixes: Any, state: Any = None) -> Any:
        logits, state = read(ids, prefixes, state)
        return logits + 0.01 * logits.mean(0), state

    engine.prefill = prefill  # type: ignore[method-assign]


def decodes_as_published(engine: JRTEngine) -> None:
    engine.model.config.decode = "published"


def writes_into_the_state(engine: JRTEngine) -> None:
    read = engine.prefill

    def prefill(ids: Any, prefixes: Any, state: Any = None) -> Any:
        if state is not None:
            state.layers[1]["S"].mul_(0.5)
        return read(ids, prefixes, state)

    engine.prefill = prefill  # type: ignore[method-assign]
    RecurrentState.select = lambda self, rows: self  # type: ignore[method-assign]


def has_a_hole(engine: JRTEngine) -> None:
    next(iter(engine.model.blocks[0].mixer.parameters())).data[0] = float("nan")


def forgets_its_vocabulary(engine: JRTEngine) -> None:
    engine.model.next_logits = engine.model.logits


def is_half_precision(engine: JRTEngine) -> None:
    engine.model.bfloat16()


def chunks_wrongly(engine: JRTEngine) -> None:
    mixer = next(block.mixer for block in engine.model.blocks if hasattr(block.mixer, "by_sum"))
    forward = mixer.forward

    def wrong(x: Any, span: Any, state: Any) -> Any:
        y, end = forward(x, span, state)
        return (y * 1.1 if span.linear_attention != "naive" else y), end

    mixer.forward = wrong


BROKEN: dict[Callable[[JRTEngine], None], str] = {
    ignores_lengths: "padded == unpadded",
    lets_neighbours_in: "batch of 1 == batch of 3",
    decodes_as_published: "prefill + decode == full forward",
    writes_into_the_state: "reused state == fresh",
    has_a_hole: "all weights loaded",
    forgets_its_vocabulary: "no id beyond the vocabulary",
    is_half_precision: "dtype and device sane",
    chunks_wrongly: "chunked == naive",
}


@pytest.mark.parametrize("breakage, check", BROKEN.items(), ids=lambda x: getattr(x, "__name__", None))
def test_each_breakage_is_caught_by_its_own_check(breakage: Any, check: str, monkeypatch) -> None:
    monkeypatch.setattr(RecurrentState, "select", RecurrentState.select)  # put back whatever a breakage does to it
    engine = JRTEngine(load_pretrained(HERE / "based_tiny"))
    assert failed(engine) == []
    breakage(engine)
    assert check in failed(engine)


ON_ANY_MODEL = [ignores_lengths, lets_neighbours_in, writes_into_the_state, chunks_wrongly]


@pytest.mark.parametrize("breakage", ON_ANY_MODEL, ids=lambda x: x.__name__)
def test_breakages_of_a_model_with_a_barred_token_are_caught(breakage: Any, monkeypatch) -> None:
    """The logit of the mask token is the lowest number there is; differences must not be measured against it."""
    monkeypatch.setattr(RecurrentState, "select", RecurrentState.select)
    engine = JRTEngine(load_model(shipped_models()["jrt-mlp"]))
    assert engine.model.config.mask_token_id is not None and failed(engine) == []
    breakage(engine)
    assert BROKEN[breakage] in failed(engine)


def test_wrong_tokenizers_and_long_prompts_are_caught() -> None:
    engine = JRTEngine(load_pretrained(HERE / "based_decay_tiny"))
    assert failed(engine, tokenizer=tiny.tokenizer(), prompt_lengths=[128]) == []
    assert failed(engine, prompt_lengths=[129]) == ["longest prompt fits"]
    from jrt_lmeval.checkpoints.tokenizers import gpt2

    assert "no id beyond the vocabulary" in failed(engine, tokenizer=gpt2())


def test_a_checkpoint_that_does_not_load_is_a_finding(tmp_path: Path, capsys) -> None:
    folder = Path(shutil.copytree(HERE / "jrt_tiny", tmp_path / "model"))
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    del weights["model.transformer.layers.4.mixer.proj_k_enc.weight"]
    torch.save(weights, folder / "pytorch_model.bin")
    assert main(["doctor", str(folder), "--tokenizer", "none"]) == 1
    assert "FAIL  all weights loaded" in (out := capsys.readouterr().out)
    assert "blocks.4.mixer.k_prefix_proj.weight" in out


def test_ordinary_hugging_face_models_are_checked_too(tmp_path: Path, capsys) -> None:
    folder = tiny.save(tiny.llama(), tmp_path)
    assert main(["doctor", folder, "--device", "cpu"]) == 0
    assert "pass  tokenizer round trip" in capsys.readouterr().out


def test_a_task_that_does_not_exist_is_named(tmp_path: Path, monkeypatch) -> None:
    import lm_eval.tasks

    from jrt_lmeval.doctor import prompt_lengths

    class Few:
        all_tasks = ("swde_once",)

    monkeypatch.setattr(lm_eval.tasks, "TaskManager", Few)
    monkeypatch.setattr("jrt_lmeval.plugin.register", lambda: None)
    with pytest.raises(JRTError, match="no task or group called swde_onse"):
        prompt_lengths(["swde_onse"], None)


def test_the_table_goes_into_the_results_but_not_into_the_caches_fingerprint(tmp_path: Path) -> None:
    folder = tiny.save(tiny.jrt(), tmp_path)
    lm = JRTRNN(folder, doctor=True, device="cpu")
    records = lm.get_model_info()["jrt"]["doctor"]
    assert [record["name"] for record in json.loads(json.dumps(records))] == list(CHECKS)
    assert lm.fingerprint() == JRTRNN(folder, device="cpu").fingerprint()
