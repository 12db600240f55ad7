"""Every recurrent and hybrid family of the installed transformers: padding, batches and forks change no answer."""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import families
import pytest
import tiny
import torch
from torch import Tensor

from jrt_lmeval.errors import JRTError
from model_adapters.engines.hf import HFEngine
from model_adapters.lm import RecallLM
from model_adapters.models import HFRecall
from model_adapters.running.batching import Budget

torch.set_num_threads(1)

PAGE = Path(__file__).parents[2] / "docs" / "recurrent-models.md"
INSTALLED = families.discovered()
RIGHT = sorted(set(families.SHAPES) & set(INSTALLED) - set(families.REFUSED))
LENGTHS = (23, 9, 1, 40)  # shorter than a convolution, longer than a window and a chunk
LIMIT = 1e-5


@lru_cache(maxsize=1)
def engine(kind: str) -> HFEngine:
    return HFEngine(families.model(kind))


def texts(*lengths: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(1, 300, (n,), generator=generator).tolist() for n in lengths]


def apart(mine: Tensor, truth: Tensor) -> float:
    return float((mine - truth).abs().max() / truth.abs().max())


@pytest.mark.parametrize("kind", INSTALLED)
def test_every_family_has_a_verdict(kind: str) -> None:
    known = kind in families.SHAPES or kind in families.COMPOSITE
    assert known, (
        f"transformers has a recurrent family without a verdict. Give it a tiny shape in tests/families.py, as in\n"
        f'    "{kind}": {{}},\nand see whether the tests below pass; else say why in REFUSED.'
    )


@pytest.mark.parametrize("kind", RIGHT)
def test_a_ragged_batch_reads_like_its_rows(kind: str) -> None:
    model, rows, new = engine(kind), texts(*LENGTHS), torch.tensor([5, 6, 7, 8])
    alone = [model.prefill([row], [0]) for row in rows]
    logits, state = model.prefill(rows, [0] * 4)
    assert apart(logits, torch.cat([one for one, _ in alone])) < LIMIT
    assert state.row_bytes() == [one.row_bytes()[0] for _, one in alone]
    chosen = torch.tensor([2, 0, 0, 3, 1])
    fork = state.select(chosen)
    steps = torch.cat([model.step(new[i : i + 1], one)[0] for i, (_, one) in enumerate(alone)])
    assert apart(model.step(new[chosen], fork)[0], steps[chosen]) < LIMIT
    twin = deepcopy(state)
    assert apart(model.step(new, twin)[0], steps) < LIMIT
    assert apart(model.step(new, state)[0], steps) < LIMIT  # neither fork has touched it


@pytest.mark.parametrize("kind", RIGHT)
def test_a_token_read_by_itself_is_read_as_in_its_text(kind: str) -> None:
    model, (text,) = engine(kind), texts(19)
    _, state = model.prefill([text[:-1]], [0])
    whole, _ = model.prefill([text], [0])
    limit = 1e-3 if kind in ("nemotron_h", "zamba2") else LIMIT  # see families.STEPS_DIFFER
    assert apart(model.step(torch.tensor(text[-1:]), state)[0], whole) < limit


@pytest.mark.parametrize("kind", RIGHT)
def test_a_shared_document_goes_on_like_a_fresh_one(kind: str) -> None:
    model = engine(kind)
    document, *questions = texts(17, 6, 3, 1)
    _, state = model.prefill([document], [0])
    fork = state.select(torch.tensor([0, 0, 0]))
    if not model.can_continue:
        with pytest.raises(JRTError, match="cannot be continued"):
            model.prefill(questions, [0] * 3, fork)
        return
    logits, after = model.prefill(questions, [0] * 3, fork)
    fresh = [model.prefill([document + question], [0]) for question in questions]
    assert apart(logits, torch.cat([one for one, _ in fresh])) < LIMIT
    assert after.row_bytes() == [one.row_bytes()[0] for _, one in fresh]
    new = torch.tensor([5, 6, 7])
    steps = torch.cat([model.step(new[i : i + 1], one)[0] for i, (_, one) in enumerate(fresh)])
    assert apart(model.step(new, after)[0], steps) < LIMIT
    again, _ = model.prefill(questions[:1], [0], state)
    assert apart(again, fresh[0][0]) < LIMIT  # the first use has left it alone


@pytest.mark.parametrize("kind", sorted(set(families.REFUSED) & set(INSTALLED)))
def test_a_refused_family_says_what_is_in_the_way(kind: str) -> None:
    words = {"deepseek_v4": "padding would change its answers"}
    with pytest.raises(JRTError, match=words.get(kind, r"dimension is not the row \(layers\.1\.indexer_position_ids")):
        engine(kind)


def test_a_model_of_fla_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gla"}')
    advice = r"pip install 'jrt-lmeval\[fla\]'" if find_spec("fla") is None else "run on a GPU alone"
    with pytest.raises(JRTError, match=f"has model_type 'gla'.*{advice}"):
        HFRecall(str(tmp_path), device="cpu")


@pytest.mark.parametrize("kind", [kind for kind in INSTALLED if kind in families.SHAPES])
def test_the_page_says_what_holds(kind: str) -> None:
    assert families.page_row(kind) in PAGE.read_text(encoding="utf-8").splitlines()


def test_a_model_that_cannot_run_is_one_error() -> None:
    broken = families.model("mamba")
    broken.forward = _fails.__get__(broken)
    with pytest.raises(
        JRTError, match="MambaForCausalLM cannot read two tokens on cpu: RuntimeError: 0 active drivers"
    ):
        HFEngine(broken)


def _fails(self: object, input_ids: Tensor, attention_mask: Tensor, cache: object = None, **_: object) -> None:
    raise RuntimeError("0 active drivers")


@pytest.mark.parametrize("kind", ["minimax", "rwkv", "recurrent_gemma"])
def test_answers_are_those_of_one_row_at_a_time(kind: str) -> None:
    requests = [tiny.ask(prompt) for prompt in tiny.prompts(documents=2, questions=2)]
    model, tokenizer = engine(kind), tiny.tokenizer()
    together = RecallLM(model, tokenizer, budget=Budget(rows=8))
    alone = RecallLM(model, tokenizer, budget=Budget(rows=1), reuse=False)
    answers = together.generate_until(requests, disable_tqdm=True)
    assert answers == alone.generate_until(requests, disable_tqdm=True)
    assert len(set(answers)) > 1
    reused = together.get_model_info()["jrt"]["prompt_tokens_reused"]
    assert (reused > 0) == model.can_continue
