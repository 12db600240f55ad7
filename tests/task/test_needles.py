"""Needles as tasks of lm_eval: scores by length, the effective length, groups, and whose tokens are counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.api.model import TemplateLM
from lm_eval.tasks import TaskManager

from jrt_lmeval.data.needles import FORMS, niah
from jrt_lmeval.paths import MODEL, tasks_dir, weights_dir
from jrt_lmeval.plugin import tasks_ready, with_tokenizer

METADATA = {"tokenizer": "gpt2", "needles": {"lengths": [400, 700], "documents": 6}}


class Reader(TemplateLM):
    """Answers in short prompts, knows half of the answers in longer ones."""

    eot_token_id = 0

    def __init__(self) -> None:
        super().__init__()
        rows = [row for form in FORMS for row in niah(form, **METADATA)["test"]]
        self.known = {row["question"]: (row["answer"], row["needle_length"]) for row in rows}

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        answered = []
        for request in requests:
            stem = str(request.args[0]).rpartition("\n")[2]
            answers, length = self.known[stem]
            answered.append(", ".join(answers if length == 400 else answers[: len(answers) // 2]))
        return answered

    def tok_encode(self, string: str, **_: Any) -> list[int]:
        return list(string.encode())

    def _loglikelihood_tokens(self, requests: Any, **_: Any) -> Any:
        raise NotImplementedError

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> Any:
        raise NotImplementedError


def test_scores_by_length_effective_length_and_the_groups_mean() -> None:
    import lm_eval.tasks

    tasks_ready(lm_eval.tasks)
    manager = TaskManager(include_defaults=False, include_path=str(tasks_dir()), metadata=METADATA)
    found = simple_evaluate(Reader(), tasks=["needles", "needles_jrt"], task_manager=manager, bootstrap_iters=0)
    single, many = (found["results"][f"niah_{form}_once"] for form in ("single_1", "multiquery"))
    assert [single[f"{name},none"] for name in ("400", "700", "string_match_all", "effective_length")] == [
        1,
        0,
        0.5,
        400,
    ]
    assert [many[f"{name},none"] for name in ("400", "700", "string_match_all")] == [1, 0.5, 0.75]
    assert many["700_stderr,none"] == 0 and single["string_match_all_stderr,none"] > 0
    effective = found["configs"]["niah_single_1_once"]["metadata"]["jrt_found"]["effective_length"]
    assert effective == {"length": 400, "low": 0, "high": 400, "threshold": pytest.approx(85.6)}
    group = found["groups"]["needles"]
    assert group["400,none"] == 1 and group["700,none"] == pytest.approx(2 * 0.5 / 8)
    assert found["groups"]["needles_jrt"]["400,none"] == 1
    (logged, *_) = found["samples"]["niah_multivalue_once"]
    assert logged["doc"]["jrt"]["needle_length"] == 400 and logged["string_match_all"] == 1
    text = logged["arguments"][0][0]
    assert text == f"{logged['doc']['document']}\n{logged['doc']['question']}"


@pytest.fixture
def model() -> Any:
    before = MODEL.get()
    yield MODEL.set
    MODEL.set(before)


def test_tasks_are_told_the_tokenizer_of_a_model_of_ours(model: Any, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from lm_eval.tasks.ruler.common_utils import get_tokenizer, resolve_tokenizer_name

    from jrt_lmeval.checkpoints.tokenizers import gpt2, read_own

    model(({"feature_map": "mlp"}, read_own(weights_dir() / "jrt-mlp")))
    told = with_tokenizer({"feature_map": "mlp", "needles": {}})
    assert told["tokenizer"] == str(weights_dir() / "tokenizer")
    assert get_tokenizer(resolve_tokenizer_name(told)).vocab_size  # lm_eval's ruler finds it
    assert "tokenizer" not in with_tokenizer({})  # of another model than the last
    assert "tokenizer" not in with_tokenizer({"feature_map": "mlp", "pretrained": "owner/name"})
    assert with_tokenizer({"feature_map": "mlp", "tokenizer": "mine"})["tokenizer"] == "mine"
    model(({"pretrained": "somewhere"}, gpt2()))  # a tokenizer that lies in no folder
    told = with_tokenizer({"pretrained": "somewhere"})
    assert get_tokenizer(resolve_tokenizer_name(told))("a b").input_ids == gpt2()("a b").input_ids


def test_lm_evals_manager_hands_the_tokenizer_to_tasks(model: Any) -> None:
    import lm_eval.tasks

    from jrt_lmeval.checkpoints.tokenizers import read_own

    tasks_ready(lm_eval.tasks)
    model(({}, read_own(weights_dir() / "jrt-mlp")))
    metadata = {"needles": {"lengths": [900], "documents": 1}}
    manager = TaskManager(include_defaults=False, include_path=str(tasks_dir()), metadata=metadata)
    (task,) = manager.load(["niah_multikey_3_once"])["tasks"].values()
    own = read_own(weights_dir() / "jrt-mlp")
    read = f"{task.eval_docs[0]['document']}\n{task.eval_docs[0]['asked']}"
    assert len(own(read).input_ids) + 128 <= 900 and task.config.metadata["tokenizer"].endswith("tokenizer")


def test_groups_of_six_have_the_error_of_their_unweighted_mean() -> None:
    from lm_eval.api.group import Group

    manager = TaskManager(include_defaults=False, include_path=str(tasks_dir()), metadata={})
    loaded = manager.load(["recall_2k", "recall_whole_jrt"])
    for name, group in loaded["groups"].items():
        assert isinstance(group, Group) and len(group.get_all_tasks()) == 6
        figures = {
            task.task_name: {"contains,none": at / 10, "contains_stderr,none": 0.01 * at, "sample_len": 10**at}
            for at, task in enumerate(group.get_all_tasks(), 1)
        }
        made = group.aggregate(figures)
        assert made["contains,none"] == pytest.approx(sum(range(1, 7)) / 60), name
        assert made["contains_stderr,none"] == pytest.approx(0.01 * sum(at**2 for at in range(1, 7)) ** 0.5 / 6)
    for task in loaded["groups"]["recall_whole_jrt"].get_all_tasks():
        assert task.config.metadata["jrt"]["window"]["policy"] == "none"
        assert task.config.metadata["jrt"]["layout"] == "flat"


@pytest.mark.slow
def test_greedy_answers_depend_neither_on_the_batch_nor_on_the_processes(model: Any) -> None:
    import lm_eval.tasks

    from model_adapters.models import JRTRNN

    tasks_ready(lm_eval.tasks)
    metadata = {"feature_map": "mlp", "needles": {"lengths": [900], "documents": 3}}
    answered = []
    for rows in (1, 3):
        lm = JRTRNN.create_from_arg_obj({"feature_map": "mlp"}, {"batch_size": rows})
        manager = TaskManager(include_defaults=False, include_path=str(tasks_dir()), metadata=metadata)
        names = ["niah_single_1_once", "middle_match_padded"]
        found = simple_evaluate(lm, tasks=names, task_manager=manager, limit=3, gen_kwargs={"max_gen_toks": 6})
        answered.append([line["filtered_resps"] for name in names for line in found["samples"][name]])
    assert answered[0] == answered[1] and len(answered[0]) == 6
    (task,) = manager.load(["niah_multikey_3_once"])["tasks"].values()
    shares = [[number for number, _ in task.doc_iterator(rank=rank, world_size=2)] for rank in (0, 1)]
    assert sorted([*shares[0], *shares[1]]) == [0, 1, 2] and all(shares)
