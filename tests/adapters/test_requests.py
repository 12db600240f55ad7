"""Requests: where generation stops, where a document ends, what happens to prompts that are too long."""

from __future__ import annotations

import logging
import pickle
import re

import pytest
import tiny
import torch

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prefix import PrefixPolicy
from jrt_lmeval.prompts import Prompt
from model_adapters.lm import RecallLM
from model_adapters.running.batching import Budget
from model_adapters.running.generation import StopStrings, decode
from model_adapters.running.rows import Goal, read_goal
from model_adapters.running.runtime import Answer, Clock

torch.set_num_threads(1)


class Script:
    """An engine that says what it was told to, row by row; its state is the rows and how far they are."""

    def __init__(self, texts):
        self.ids = [tiny.tokenizer().encode(text) for text in texts]
        self.device, self.batches = torch.device("cpu"), []

    class State:
        def __init__(self, rows, step):
            self.rows, self.at = rows, step

        def select(self, rows):
            return Script.State([self.rows[row] for row in rows.tolist()], self.at)

    def logits(self, state):
        out = torch.zeros(len(state.rows), tiny.VOCAB + 9)
        out[:, tiny.VOCAB :] = 1.0  # embedding rows without a token must never be chosen
        for place, row in enumerate(state.rows):
            ids = self.ids[row]
            out[place, ids[state.at] if state.at < len(ids) else 0] = 0.5
        return out

    def step(self, ids, state):
        self.batches.append(len(ids))
        state = Script.State(state.rows, state.at + 1)
        return self.logits(state), state


SPECIAL = {tiny.END: 0}


def decoded(ids, special=False):
    return tiny.tokenizer().decode(ids, skip_special_tokens=not special)


def run(texts, *goals, thinks=None):
    engine = Script(texts)
    goals = list(goals) * (len(texts) // len(goals))
    state = Script.State(list(range(len(texts))), 0)
    tokenizer = tiny.tokenizer()
    done = decode(
        engine,
        engine.logits(state),
        state,
        goals,
        end_ids=frozenset({tokenizer.eos_token_id}),
        vocabulary=tiny.VOCAB,
        stops=lambda goal: StopStrings(goal.until, decoded, SPECIAL, thinks),
        clock=Clock(engine.device),
    )
    found = {finished.row: finished for finished in done}
    return [found[row] for row in range(len(texts))], engine.batches


@pytest.mark.parametrize(
    ("said", "until", "kept"),
    [
        ("Ashgrove\nMaine", ["\n"], "Ashgrove"),
        ("Ashgrove\nMaine", ["\n\n"], "Ashgrove\nMaine"),
        ("Ashgrove Maine 1994", ["Main", "grove"], "Ash"),  # the first in the text, not in the list
        ("xyzq zzz STOPPED", ["zzz STOP"], "xyzq "),  # spans several tokens and ends inside one
        ("Genre 東京タワー", ["京"], "Genre 東"),  # one character of several tokens
        ("Genre 😀😀", ["😀😀"], "Genre "),
        ("café", ["é"], "caf"),
        ("Ashgrove", [], "Ashgrove"),
        ("\nAshgrove", ["\n"], ""),
    ],
)
def test_stop_strings_cut_the_text(said, until, kept):
    (finished,), _ = run([said], Goal(tuple(until), 60))
    assert finished.text == kept


def test_generation_stops_at_the_stop_string_and_not_later():
    said = "Ashgrove\n" + "Maine 1994 " * 20
    (finished,), batches = run([said], Goal(("\n",), 200))
    needed = len(tiny.tokenizer().encode("Ashgrove\n"))
    assert finished.tokens == needed
    assert len(batches) == needed - 1


def test_finished_rows_leave_the_batch():
    said = ["Genre", "Ashgrove Maine 1994", "Genre Genre\nno more"]
    finished, batches = run(said, Goal(("\n",), 100))
    assert [row.text for row in finished] == ["Genre", "Ashgrove Maine 1994", "Genre Genre"]
    assert batches[0] == 3
    assert batches == sorted(batches, reverse=True)
    assert batches[-1] == 1


def test_each_row_has_its_own_limit():
    ids = tiny.tokenizer().encode("Ashgrove Maine 1994")
    finished, _ = run(["Ashgrove Maine 1994"] * 2, Goal((), 2), Goal((), 3))
    assert [row.tokens for row in finished] == [2, 3]
    assert finished[0].text == tiny.tokenizer().decode(ids[:2])


def test_only_the_end_of_a_long_text_is_looked_at():
    stops, calls = StopStrings(("\n",), lambda ids, _: calls.append(len(ids)) or "x" * len(ids), {}), []
    assert not stops.hit(list(range(500)))
    assert max(calls) <= 9


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({}, Goal((), 256)),
        ({"until": "\n", "max_gen_toks": 48}, Goal(("\n",), 48)),
        ({"until": ["\n", ""], "max_new_tokens": 5}, Goal(("\n",), 5)),
        ({"until": None, "do_sample": False, "temperature": 0.7, "top_p": 0.9}, Goal()),
        ({"temperature": 0.0, "num_beams": 1}, Goal()),
    ],
)
def test_generation_arguments(kwargs, expected):
    assert read_goal(kwargs) == expected


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"untl": ["\n"]}, "Did you mean 'until'"),
        ({"do_sample": True, "temperature": 0.7}, "do_sample=True asks for more than greedy"),
        ({"temperature": 0.7}, "temperature=0.7 asks for more than greedy"),
        ({"do_sample": False, "num_beams": 4}, "num_beams=4"),
        ({"max_gen_toks": 0}, "max_gen_toks=0"),
        ({"max_gen_toks": "many"}, "max_gen_toks='many'"),
        ({"until": [7]}, "until=7 must be text"),
    ],
)
def test_mistaken_generation_arguments(kwargs, message):
    with pytest.raises(JRTError, match=message):
        read_goal(kwargs)


TURN = "<|eot_id|>"


@pytest.fixture
def chatty():
    """A model whose tokenizer marks a token as special in tokenizer.json alone, as Llama 3's does."""
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    core = tiny.tokenizer().backend_tokenizer
    core = type(core).from_str(core.to_str())
    core.add_special_tokens([AddedToken(TURN, special=True)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=tiny.END)
    assert TURN not in tokenizer.all_special_tokens and tokenizer.decode([tiny.VOCAB], skip_special_tokens=True) == ""
    engine = tiny.engine("llama")
    engine.model.resize_token_embeddings(tiny.VOCAB + 1)
    return RecallLM(engine, tokenizer)


@pytest.mark.parametrize(
    ("said", "until", "kept", "tokens"),
    [
        ([*"Maine", TURN, *" no no"], [TURN], "Maine", 6),
        ([*"Maine", TURN, *" no no"], [TURN, "\n"], "Maine", 6),
        ([*"Mai", TURN, *"ne", "\n", *"no"], ["\n"], "Maine", 7),  # asked for nothing of it, so it vanishes
        ([*"Maine", TURN, "\n", *"no"], [TURN + "\n"], "Maine", 7),  # part of a longer stop string
        ([*"Mai", TURN, *"ne", TURN, "\n", *"no"], [TURN + "\n"], "Maine", 8),
        ([*"Maine", tiny.END, *"no"], [tiny.END, "\n"], "Maine", 6),
    ],
)
def test_a_special_token_stops_an_answer_wherever_it_is_marked(said, until, kept, tokens, chatty):
    ids = [token for word in said for token in chatty.tokenizer.encode(word, add_special_tokens=False)]
    stops, read = chatty._stops(Goal(tuple(until))), []
    for token in ids:
        read.append(token)
        ended = token in chatty._end_ids()
        if ended or stops.hit(read):
            break
    assert (stops.answer(read, ended), len(read)) == (kept, tokens)


@pytest.mark.parametrize(
    ("said", "goal", "ended", "text"),
    [
        ("Ashgrove\nMaine", Goal(("\n",), 60), "stop", "Ashgrove"),
        ("Ashgrove", Goal(("\n",), 60), "eos", "Ashgrove"),
        ("Ashgrove Maine 1994", Goal(("\n",), 2), "length", None),
        ("", Goal(("\n",), 60), "eos", ""),
        (" \n", Goal(("\n",), 60), "stop", " "),
    ],
)
def test_what_ended_an_answer_is_known(said, goal, ended, text):
    (finished,), _ = run([said], goal)
    assert finished.ended == ended and text in (None, finished.text)


def test_reasoning_is_no_part_of_an_answer():
    said = "Who was born\nin Maine </think> Ashgrove\nMaine"
    (finished,), _ = run([said], Goal(("\n",), 200), thinks="</think>")
    assert finished.text == "Ashgrove"
    (cut,), _ = run([said], Goal(("\n",), 4), thinks="</think>")
    assert cut.ended == "length", "a stop string in the reasoning ends nothing"
    (token,) = tiny.tokenizer().encode(" ")
    (by_id,), _ = run(["of Maine\n Ashgrove\n"], Goal(("\n",), 200), thinks=token)
    assert by_id.text == "Ashgrove" or by_id.ended == "eos"


def test_where_the_document_ends():
    lm, tokenizer = tiny.lm("jrt"), tiny.tokenizer()
    document = "born in Ashgrove 東京"
    prompt = Prompt(f"{document} Genre:", 0, len(document), document)
    row = lm.encoder.row(0, prompt)
    assert row.ids == tokenizer.encode(str(prompt))
    assert tokenizer.decode(row.ids[: row.document_end]) == document
    assert row.document_ids == tokenizer.encode(document)
    twice = Prompt(f"Lead. {document}\n{document} Genre:", 6, 7 + 2 * len(document), document)
    row = lm.encoder.row(0, twice)
    assert tokenizer.decode(row.ids[: row.document_end]) == f"Lead. {document}\n{document}"
    assert row.document_ids == tokenizer.encode(document)
    # A token that reaches over the end of the document is not part of it.
    inside = Prompt("born in Ashgrove Maine", 0, len("born in Ashgr"), "born in Ashgr")
    row = lm.encoder.row(0, inside)
    assert len(tokenizer.decode(row.ids[: row.document_end])) <= len("born in Ashgr")


def test_a_plain_prompt_is_all_document(caplog):
    lm = tiny.lm("jrt")
    with caplog.at_level(logging.INFO, logger="lm_eval.jrt"):
        rows = [lm.encoder.row(0, "born in Ashgrove"), lm.encoder.row(1, "born in Maine")]
    assert [row.document_end for row in rows] == [len(row.ids) for row in rows]
    assert sum("plain prompts" in record.message for record in caplog.records) == 1


def test_an_empty_prompt_starts_from_the_end_of_text():
    assert tiny.lm("llama").encoder.row(0, "").ids == [0]
    assert tiny.lm("llama").generate_until([tiny.ask("")], disable_tqdm=True)


def long_and_short():
    return [tiny.ask(tiny.text(1, 40)), tiny.ask(tiny.text(2, 3))]


def test_a_prompt_that_does_not_fit_is_an_error_before_anything_runs():
    lm = tiny.lm("llama", max_length=40)
    with pytest.raises(JRTError, match=r"1 of 2 prompts do not fit.*context of 40.*on_overflow=truncate_left"):
        lm.generate_until(long_and_short(), disable_tqdm=True)
    assert lm.get_model_info()["jrt"]["batches"] == 0
    with pytest.raises(JRTError, match="on_overflow"):
        lm.loglikelihood([tiny.choose(tiny.text(1, 40), " Maine")], disable_tqdm=True)


def test_truncating_on_the_left_is_counted():
    lm = tiny.lm("llama", max_length=40, on_overflow="truncate_left")
    answers = lm.generate_until(long_and_short(), disable_tqdm=True)
    assert answers[0].stats["jrt_prompt_tokens"] == 32  # 40 less the 8 to generate
    kept = tiny.lm("llama").encoder.ids(tiny.text(1, 40))[-32:]
    logits, _ = tiny.engine("llama").prefill([kept], [0])
    assert lm.tok_encode(answers[0])[:1] == [int(logits.argmax())] or answers[0] == ""
    assert lm.get_model_info()["jrt"]["rows_truncated"] == 1


def test_truncating_moves_the_end_of_the_document():
    lm = tiny.lm("jrt", max_length=40, on_overflow="truncate_left")
    prompt = tiny.prompts()[2]
    whole = lm.encoder.row(0, prompt, goal=Goal((), 8))
    (row,) = lm.runtime.prepared([whole])
    assert len(row.ids) == 32
    assert row.ids[row.document_end :] == whole.ids[whole.document_end :]


def test_skipping_is_counted():
    lm = tiny.lm("llama", max_length=40, on_overflow="skip")
    answers = lm.generate_until(long_and_short(), disable_tqdm=True)
    assert answers[0] == "" and answers[0].stats == {"jrt_skipped": 1}
    assert answers[1] == tiny.lm("llama").generate_until(long_and_short()[1:], disable_tqdm=True)[0]
    assert lm.loglikelihood([tiny.choose(tiny.text(1, 40), " Maine")], disable_tqdm=True) == [(float("-inf"), False)]
    assert lm.get_model_info()["jrt"]["rows_skipped"] == 2


def test_a_context_without_room_is_an_error():
    lm = tiny.lm("llama", max_length=40, on_overflow="truncate_left")
    with pytest.raises(JRTError, match="lower max_gen_toks"):
        lm.generate_until([tiny.ask("Genre", max_gen_toks=40)], disable_tqdm=True)


def test_prompts_longer_than_training_run_and_are_counted(caplog):
    from model_adapters.engines.jrt import JRTEngine

    lm = RecallLM(JRTEngine(tiny.jrt(context_length=20)), tiny.tokenizer(), budget=Budget(rows=2))
    with caplog.at_level(logging.WARNING, logger="lm_eval.jrt"):
        lm.generate_until(long_and_short(), disable_tqdm=True)
    assert "1 of 2 prompts are longer than the 20 tokens" in caplog.text
    assert lm.get_model_info()["jrt"]["rows_beyond_training"] == 1


def test_an_answer_is_text_that_keeps_its_figures_through_a_pickle():
    answer = Answer("Ashgrove", {"jrt_seconds": 0.5})
    again = pickle.loads(pickle.dumps(answer))
    assert again == "Ashgrove" and isinstance(again, str)
    assert again.stats == {"jrt_seconds": 0.5}


def test_what_cannot_be_scored_is_an_error():
    lm = tiny.lm("llama")
    with pytest.raises(JRTError, match="continuation"):
        lm._loglikelihood_tokens([(("Genre", ""), [5], [])], disable_tqdm=True)
    with pytest.raises(JRTError, match="context before"):
        lm._loglikelihood_tokens([(("", "Genre"), [], [5])], disable_tqdm=True)


def test_prompts_beyond_the_context_are_warned_of_and_say_where_they_were_cut(caplog, tmp_path):
    from lm_eval.api.model import CachingLM

    text = tiny.text(1, 40)
    for choice, said in (("truncate_left", "1 of 2 prompts .* without their start"), ("skip", "are not answered")):
        lm = CachingLM(tiny.lm("llama", max_length=40, on_overflow=choice), str(tmp_path / f"{choice}.db"))
        with caplog.at_level(logging.WARNING, logger="lm_eval.jrt"):
            first = lm.generate_until(long_and_short())
        assert re.search(said, caplog.text)
        again = lm.generate_until(long_and_short())  # from the cache
        assert [answer.stats for answer in again] == [answer.stats for answer in first]
    cut = CachingLM(tiny.lm("llama", max_length=40, on_overflow="truncate_left"), str(tmp_path / "other.db"))
    (answer,) = cut.generate_until(long_and_short()[:1])
    kept = text[answer.stats["jrt_truncated_characters"] :]
    assert tiny.lm("llama").encoder.ids(kept) == tiny.lm("llama").encoder.ids(text)[-32:]
    half = tiny.lm("jrt", max_length=40, on_overflow="truncate_left", policy=PrefixPolicy("fixed", prefix_length=10))
    (answer,) = half.generate_until(long_and_short()[:1])
    first, end = answer.stats["jrt_truncated_characters"], answer.stats["jrt_prefix_characters"]
    assert half.encoder.ids(text[first:end]) == half.encoder.ids(text)[-32:-22]
