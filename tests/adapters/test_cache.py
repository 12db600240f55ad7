"""The request cache answers only for the configuration that filled it, and keeps what was finished."""

from __future__ import annotations

import pytest
import tiny
import torch
from lm_eval.api.model import CachingLM

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prefix import PrefixPolicy
from model_adapters.running.batching import Budget
from model_adapters.running.runtime import Answer

torch.set_num_threads(1)


def requests():
    return [tiny.ask(prompt) for prompt in tiny.prompts()]


def cached(lm, path):
    return CachingLM(lm, str(path))


def test_a_second_run_computes_nothing_and_keeps_the_figures(tmp_path):
    first = cached(tiny.lm("jrt"), tmp_path / "c.db")
    answers = first.generate_until(requests())
    scores = first.loglikelihood([tiny.choose("born in", " Maine")])
    rolling = first.loglikelihood_rolling([tiny.whole("born in Maine")])
    first.dbdict.close()
    second = cached(tiny.lm("jrt"), tmp_path / "c.db")
    again = second.generate_until(requests())
    assert again == answers
    assert all(isinstance(answer, Answer) for answer in again)
    assert [answer.stats for answer in again] == [answer.stats for answer in answers]
    assert second.loglikelihood([tiny.choose("born in", " Maine")]) == scores
    assert second.loglikelihood_rolling([tiny.whole("born in Maine")]) == rolling
    assert second.get_model_info()["jrt"]["batches"] == 0


def other_weights():
    lm = tiny.lm("jrt")
    with torch.no_grad():
        next(lm.engine.model.parameters())[3, 3] += 1e-3
    return lm


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (lambda: tiny.lm("jrt", policy=PrefixPolicy("dynamic")), "prefix "),
        (lambda: tiny.lm("jrt", policy=PrefixPolicy("fixed", prefix_length=64)), "prefix_length"),
        (lambda: tiny.lm("based"), "weights"),
        (lambda: tiny.lm("llama"), "model_class"),
        (lambda: tiny.lm("jrt", on_overflow="skip"), "on_overflow"),
        (lambda: tiny.lm("jrt", description={"feature_map": "taylor"}), "feature_map"),
        (other_weights, "weights"),
    ],
)
def test_another_configuration_is_refused(tmp_path, other, named):
    cached(tiny.lm("jrt"), tmp_path / "c.db").dbdict.close()
    with pytest.raises(JRTError, match=rf"c\.db was filled by another configuration.*{named}"):
        cached(other(), tmp_path / "c.db")


def test_batches_and_places_may_differ(tmp_path):
    cached(tiny.lm("jrt", description={"pretrained": "here"}), tmp_path / "c.db").dbdict.close()
    cached(tiny.lm("jrt", budget=Budget(rows=7), description={"pretrained": "there"}), tmp_path / "c.db").dbdict.close()


def test_answers_of_a_model_without_a_fingerprint_are_refused(tmp_path):
    from sqlitedict import SqliteDict

    with SqliteDict(str(tmp_path / "c.db"), autocommit=True) as store:
        store["abc"] = "an answer"
    with pytest.raises(JRTError, match="no fingerprint"):
        cached(tiny.lm("jrt"), tmp_path / "c.db")


def test_another_model_on_our_cache_is_warned_of(tmp_path, caplog):
    from lm_eval.models.dummy import DummyLM

    from jrt_lmeval.plugin import register

    register()
    cached(tiny.lm("jrt"), tmp_path / "c.db").dbdict.close()
    assert "only the models of this package look at whose answers a cache holds" in caplog.text
    caplog.clear()
    cached(DummyLM(), tmp_path / "c.db").dbdict.close()
    assert "c.db: holds answers of a model of jrt_lmeval, which this model (DummyLM) would give" in caplog.text
    caplog.clear()
    cached(DummyLM(), tmp_path / "theirs.db").dbdict.close()
    assert not caplog.text


class Interrupted:
    """An engine that is interrupted in its n-th prefill."""

    def __init__(self, engine, after):
        self.engine, self.left = engine, after

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def prefill(self, *args):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.engine.prefill(*args)


def interrupted_lm(after):
    from model_adapters.lm import RecallLM

    return RecallLM(Interrupted(tiny.engine("jrt"), after), tiny.tokenizer(), budget=Budget(rows=2), reuse=False)


def test_an_interrupted_run_keeps_what_was_finished(tmp_path):
    lm = cached(interrupted_lm(after=2), tmp_path / "c.db")
    with pytest.raises(KeyboardInterrupt):
        lm.generate_until(requests())
    lm.dbdict.close()
    rest = cached(tiny.lm("jrt", budget=Budget(rows=2), reuse=False), tmp_path / "c.db")
    answers = rest.generate_until(requests())
    assert rest.get_model_info()["jrt"]["rows"] == len(requests()) - 4
    assert answers == tiny.lm("jrt").generate_until(requests(), disable_tqdm=True)


def test_a_full_disk_is_one_clear_error_and_loses_nothing(tmp_path):
    many = [tiny.ask(prompt) for prompt in tiny.prompts(documents=3, questions=10)]
    lm = cached(tiny.lm("jrt", budget=Budget(rows=1), reuse=False), tmp_path / "c.db")
    list(lm.dbdict.conn.select("PRAGMA max_page_count = 4"))  # sqlite then says what it says of a full disk
    with pytest.raises(JRTError, match=r"cannot write to .*c\.db: .*full.*run the same command again"):
        lm.generate_until(many)
    lm.dbdict.close(force=True)
    rest = cached(tiny.lm("jrt", budget=Budget(rows=1), reuse=False), tmp_path / "c.db")
    answers = rest.generate_until(many)
    assert 0 < rest.get_model_info()["jrt"]["rows"] < len(many)
    assert answers == tiny.lm("jrt").generate_until(many, disable_tqdm=True)


def test_a_damaged_cache_is_one_clear_error(tmp_path):
    import sqlite3

    cached(tiny.lm("jrt"), tmp_path / "c.db").dbdict.close()
    with sqlite3.connect(tmp_path / "c.db") as store:
        store.execute("UPDATE unnamed SET value = ?", (b"\x80\x05cut short",))
    store.close()
    with pytest.raises(JRTError, match=r"c\.db cannot be read as a request cache"):
        cached(tiny.lm("jrt"), tmp_path / "c.db")
