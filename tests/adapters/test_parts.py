"""Long documents are read in parts, at constant memory, with the answers of one reading; a run that stops goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prefix import PrefixPolicy
from model_adapters.running import generation
from model_adapters.running.batching import Budget

POLICY = PrefixPolicy("fixed", prefix_length=7)
KINDS = ["jrt", "based", "attention", "llama", "mamba", "mamba2", "hybrid"]


def ask(lm) -> list[str]:
    return lm.generate_until([tiny.ask(prompt) for prompt in tiny.prompts(3, 2)], disable_tqdm=True)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_give_the_answers_of_the_whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ask(tiny.lm(kind, policy=POLICY))
    lm, widths = tiny.lm(kind, policy=POLICY, budget=Budget(rows=3)), []
    plain = lm.engine.prefill
    monkeypatch.setattr(lm.engine, "prefill", lambda ids, *more: widths.append(min(map(len, ids))) or plain(ids, *more))
    monkeypatch.setattr(generation, "READ_AT_ONCE", 5)
    assert ask(lm) == whole
    assert max(widths) <= 7, "the prefix is read at once, and nothing else that is longer than a part"
    assert lm.runtime.totals.prompt_tokens_computed < lm.runtime.totals.prompt_tokens, "documents are still shared"


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_stops_goes_on_from_the_state_it_saved(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ask(tiny.lm(kind, policy=POLICY))
    monkeypatch.setattr(generation, "READ_AT_ONCE", 5)
    lm = tiny.lm(kind, policy=POLICY, budget=Budget(rows=1), state_dir=str(tmp_path / "states"))
    plain, calls = lm.engine.prefill, []

    def stops(ids, *more):
        calls.append(len(ids[0]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(ids, *more)

    monkeypatch.setattr(lm.engine, "prefill", stops)
    with pytest.raises(KeyboardInterrupt):
        ask(lm)
    (file,) = (tmp_path / "states").glob("*.state")
    again = tiny.lm(kind, policy=POLICY, budget=Budget(rows=1), state_dir=str(tmp_path / "states"))
    first: list[int] = []
    plain_again = again.engine.prefill
    monkeypatch.setattr(
        again.engine, "prefill", lambda ids, *more: first.append(more[1] is not None) or plain_again(ids, *more)
    )
    assert ask(again) == whole and first[0], "what the first run read is not read again"
    assert not file.exists(), "the state of a later part takes its place"
    changed = tiny.lm(kind, policy=PrefixPolicy("fixed", prefix_length=6), state_dir=str(tmp_path / "states"))
    ask(changed)
    assert len(list((tmp_path / "states").glob("*.state"))) > 1 or not changed.engine.has_prefix


def test_a_file_that_is_no_state_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "READ_AT_ONCE", 5)
    ask(tiny.lm("jrt", policy=POLICY, budget=Budget(rows=3), state_dir=str(tmp_path)))
    (file,) = tmp_path.glob("*.state")
    for content in (b"", b"not a file of torch", None):
        if content is None:
            torch.save(Path("x"), file)
        else:
            file.write_bytes(content)
        with pytest.raises(JRTError, match=rf"{file.name} is no state saved by this package"):
            ask(tiny.lm("jrt", policy=POLICY, budget=Budget(rows=3), state_dir=str(tmp_path)))
