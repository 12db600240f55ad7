"""The four models as lm_eval builds them: arguments, checkpoints, and agreement with lm_eval's own `hf`."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import families
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prefix import PrefixPolicy
from jrt_lmeval.prompts import Prompt
from model_adapters.models import JRTRNN, Based, HFRecall, Mamba

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {kind: tiny.save(tiny.engine(kind).model, root / kind) for kind in ("jrt", "based", "llama", "mamba")}


CLASSES = {"jrt": JRTRNN, "based": Based, "llama": HFRecall, "mamba": Mamba}


@pytest.mark.parametrize("kind", CLASSES)
def test_a_model_answers_as_lm_eval_builds_it(kind, folders, caplog):
    lm = CLASSES[kind].create_from_arg_obj(
        {"pretrained": folders[kind]}, {"batch_size": 4, "max_batch_size": None, "device": "cuda:0"}
    )
    prompts = tiny.prompts()
    answers = lm.generate_until([tiny.ask(prompt) for prompt in prompts], disable_tqdm=True)
    expected = tiny.lm(kind, policy=PrefixPolicy("full"))
    assert answers == expected.generate_until([tiny.ask(prompt) for prompt in prompts], disable_tqdm=True)
    # lm_eval asks for cuda:0 where nobody did
    assert not [record for record in caplog.records if record.levelname == "WARNING" and "cuda" in record.getMessage()]
    info = lm.get_model_info()
    json.dumps(info)
    figures = info["jrt"]
    assert figures["pretrained"] == folders[kind]
    assert figures["device"] == str(lm.device)
    assert figures["rows"] == len(prompts)
    assert 0 <= figures["work_peak_bytes"] < figures["process_peak_memory_bytes"]
    assert figures["prefix"] == ("full" if kind == "jrt" else "none")
    assert lm.batch_sizes == {0: figures["largest_batch"]} and 1 < figures["largest_batch"] <= 4


def test_model_arguments_win_over_the_command_line_defaults(folders):
    lm = JRTRNN.create_from_arg_obj({"path": folders["jrt"], "batch_size": 7, "device": "cpu"}, {"batch_size": 1})
    assert lm.runtime.budget.rows == 7
    lm = JRTRNN.create_from_arg_string(
        f"pretrained={folders['jrt']},batch_size=auto,prefix=none", {"batch_size": 1, "device": "cpu"}
    )
    assert lm.runtime.budget.tokens == 16384
    assert lm.policy.policy == "none"  # lm_eval turns the word into None on the way


def test_prefix_arguments_reach_the_policy(folders):
    lm = JRTRNN(folders["jrt"], prefix="dynamic", prefix_length=0.5, prefix_step=0.2, entropy_high=0.9, entropy_low=0.1)
    assert (
        lm.get_model_info()["jrt"].items()
        >= {
            "prefix": "dynamic",
            "prefix_length": 0.5,
            "prefix_step": 0.2,
            "entropy_high": 0.9,
            "entropy_low": 0.1,
        }.items()
    )
    document = " ".join(tiny.WORDS) + " Maine" * 60
    prompt = Prompt(f"{document} Director:", 0, len(document), document)
    (plain,) = lm.generate_until([tiny.ask(prompt)], disable_tqdm=True)
    read = lm.encoder.row(0, prompt).document_end
    limits = "entropy_window=64,entropy_low=0.3,entropy_high=0.6"
    lm = JRTRNN.create_from_arg_string(f"pretrained={folders['jrt']},prefix=dynamic,{limits},device=cpu")
    assert lm.get_model_info()["jrt"]["entropy_window"] == 64
    (passages,) = lm.generate_until([tiny.ask(prompt)], disable_tqdm=True)
    # the words are varied, what follows is one word: each passage of 64 tokens changes its own share
    assert passages.stats["jrt_entropy"] != plain.stats["jrt_entropy"]
    assert 0.9 * read < passages.stats["jrt_prefix_tokens"] < 1.1 * read


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("jrt", {"prefix_lenght": 4}, r"unknown model argument 'prefix_lenght'\. Did you mean 'prefix_length'"),
        ("jrt", {"batchsize": 4}, "Did you mean 'batch_size'"),
        ("llama", {"gguf": "x"}, "Did you mean 'gguf_file'"),
        ("llama", {"prefix": "full"}, "unknown model argument 'prefix'"),
        ("based", {"prefix": "full"}, "unknown model argument 'prefix'"),
        ("jrt", {"prefix": "dinamic"}, "Did you mean 'dynamic'"),
        ("jrt", {"prefix_length": 4}, "no effect with prefix=full"),
        ("jrt", {"feature_map": "mpl"}, r"unknown feature map 'mpl'\. Did you mean 'mlp'"),
        ("jrt", {"feature_map": "taylor"}, "trained with 'mlp'.*jrt-eval train --feature-map taylor"),
        ("jrt", {"init": "zeros"}, "unknown init 'zeros'"),
        ("jrt", {"path": "/elsewhere"}, "name the same thing"),
        ("jrt", {"dtype": "float8"}, "unknown dtype 'float8'"),
        ("jrt", {"device": "gpu"}, "device='gpu'"),
        ("jrt", {"batch_size": "many"}, "batch_size .* must be a whole number of at least 1, not 'many'"),
        ("jrt", {"batch_size": 0}, "batch_size .* not 0"),
        ("jrt", {"max_batch_tokens": 0}, "max_batch_tokens must be .* not 0"),
        ("jrt", {"on_overflow": "truncate"}, "Did you mean 'truncate_left'"),
        ("jrt", {"max_length": 1}, "max_length must be .* at least 2, not 1"),
        ("jrt", {"max_batch_size": 2.5, "batch_size": "auto"}, "max_batch_size .* must be .* not 2.5"),
        ("jrt", {"latency": True, "batch_size": 4}, "latency=True times one row at a time"),
        ("llama", {"enable_thinking": True}, "needs think_end_token"),
        ("llama", {"peft": "/nowhere"}, "peft=/nowhere"),
        ("jrt", {"prefix": "fixed", "prefix_length": 999, "max_length": 100}, "longer than the model's context of 100"),
    ],
)
def test_mistaken_arguments(kind, arguments, message, folders):
    with pytest.raises(JRTError, match=message):
        CLASSES[kind](pretrained=folders[kind], **arguments)


def test_a_model_of_another_family_is_named(folders):
    with pytest.raises(JRTError, match="--model based"):
        JRTRNN(folders["based"])
    with pytest.raises(JRTError, match="prefix=none"):
        Based(folders["jrt"])
    with pytest.raises(JRTError, match="--model jrt_rnn"):
        HFRecall(folders["jrt"])
    with pytest.raises(JRTError, match=r"'llama', not one of mamba.*hf_recall"):
        Mamba(folders["llama"])
    with pytest.raises(JRTError, match="hf_recall"):
        JRTRNN(folders["llama"])


@pytest.mark.parametrize("kind", CLASSES)
def test_a_missing_folder_is_named(kind, folders):
    with pytest.raises(JRTError, match="no such folder"):
        CLASSES[kind](folders[kind] + "s")
    with pytest.raises(JRTError, match="no/such"):
        CLASSES[kind]("no/such")


def test_a_feature_map_without_weights_says_how_to_train_them():
    with pytest.raises(JRTError, match=r"jrt-eval train --feature-map square --out DIR"):
        JRTRNN(feature_map="square")


def damaged(folder, target, change):
    shutil.copytree(folder, target)
    tensors = load_file(target / "model.safetensors")
    change(tensors)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return str(target)


@pytest.mark.parametrize("kind", ["llama", "jrt", "mamba"])
def test_a_half_filled_checkpoint_is_an_error_that_names_the_weights(kind, folders, tmp_path):
    name = next(name for name in load_file(Path(folders[kind]) / "model.safetensors") if "norm" not in name)
    changes = {
        "missing": lambda tensors: tensors.pop(name),
        "extra": lambda tensors: tensors.update({"a.stray.weight": torch.zeros(2)}),
        "shape": lambda tensors: tensors.update({name: torch.zeros(3, 3)}),
    }
    for what, change in changes.items():
        named = "a.stray.weight" if what == "extra" else name
        with pytest.raises(JRTError, match=named.replace(".", r"\.")):
            CLASSES[kind](damaged(folders[kind], tmp_path / what, change))


@pytest.mark.parametrize("kind", ["llama", "jrt"])
def test_a_tokenizer_of_another_model_is_a_warning(kind, folders, tmp_path, caplog):
    from tokenizers import AddedToken

    bigger = tiny.tokenizer().__class__.from_pretrained(folders[kind])
    bigger.save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["model"]["vocab"] |= {f"another{i}": 1000 + i for i in range(9)}
    file.write_text(json.dumps(content), encoding="utf-8")
    with caplog.at_level(logging.WARNING, logger="lm_eval.jrt"):
        CLASSES[kind](folders[kind], tokenizer=str(tmp_path))
    (told,) = [record.getMessage() for record in caplog.records if "no vector" in record.getMessage()]
    assert "(9 in all)" in told and "mean nothing unless the model was trained with this tokenizer" in told

    # Added tokens that no prompt needs are no other model's tokenizer: they are named in a warning.
    added = tiny.tokenizer().__class__.from_pretrained(folders[kind])
    added.add_tokens([AddedToken(f"<extra{i}>") for i in range(9)])
    added.save_pretrained(tmp_path / "added")
    with caplog.at_level(logging.WARNING, logger="lm_eval.jrt"):
        CLASSES[kind](folders[kind], tokenizer=str(tmp_path / "added"))
    assert "has no vector for '<extra0>'" in caplog.text


def test_random_weights_only_by_name_and_said_aloud(folders, caplog):
    with caplog.at_level(logging.WARNING, logger="lm_eval.jrt"):
        lm = JRTRNN(folders["jrt"], feature_map="relu", init="random")
    assert "untrained" in caplog.text
    figures = lm.get_model_info()["jrt"]
    assert (figures["init"], figures["feature_map"]) == ("random", "relu")
    assert JRTRNN(folders["jrt"]).get_model_info()["jrt"]["init"] == "trained"


def test_the_tokenizer_is_lm_evals(folders):
    from lm_eval.models.huggingface import HFLM

    ours, theirs = HFRecall(folders["llama"], device="cpu"), HFLM(folders["llama"], device="cpu", dtype="float32")
    for content in (*tiny.prompts(), "", tiny.END + "Maine"):
        assert ours.tok_encode(content) == theirs.tok_encode(content)
    assert ours.prefix_token_id == theirs.prefix_token_id
    assert ours.tokenizer_name == theirs.tokenizer_name
    assert ours.max_length == theirs.max_length


def test_hf_recall_agrees_with_lm_evals_hf(folders):
    from lm_eval.models.huggingface import HFLM

    ours = HFRecall(folders["llama"], device="cpu", batch_size=4)
    theirs = HFLM(folders["llama"], device="cpu", dtype="float32", batch_size=1)
    requests = [tiny.ask(prompt, do_sample=False) for prompt in tiny.prompts(documents=2, questions=2)]
    assert ours.generate_until(requests, disable_tqdm=True) == theirs.generate_until(requests, disable_tqdm=True)
    pairs = [tiny.choose(prompt, " Ashgrove Maine") for prompt in tiny.prompts(documents=2, questions=2)]
    pairs.append(tiny.choose("", "Maine"))
    for mine, other in zip(ours.loglikelihood(pairs, True), theirs.loglikelihood(pairs, True), strict=True):
        assert mine[0] == pytest.approx(other[0], abs=1e-3)
        assert mine[1] == other[1]
    texts = [tiny.whole(tiny.text(1, 400)), tiny.whole(tiny.text(2, 5))]
    assert ours.loglikelihood_rolling(texts, True) == pytest.approx(theirs.loglikelihood_rolling(texts, True), abs=1e-2)


def test_a_model_whose_state_cannot_be_forked_is_refused(tmp_path):
    folder = tiny.save(families.model("qwen4_exp_text"), tmp_path / "qwen4")
    with pytest.raises(JRTError, match=r"Qwen4ExpForCausalLM.*first dimension is not the row.*--model hf"):
        HFRecall(folder, device="cpu")


def test_a_chat_template_is_applied_or_missed_clearly(folders):
    lm = HFRecall(folders["llama"], device="cpu")
    with pytest.raises(JRTError, match="no chat template"):
        lm.apply_chat_template([{"role": "user", "content": "Who?"}])
    lm.tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"
    assert lm.apply_chat_template([{"role": "user", "content": "Who?"}]) == "[user] Who?"
    assert lm.chat_template(True) == lm.tokenizer.chat_template


def test_the_chat_template_is_told_whether_to_reason(folders):
    lm = HFRecall(folders["llama"], device="cpu", enable_thinking=False, chat_template_args={"tone": "dry"})
    lm.tokenizer.chat_template = "{% for m in messages %}{{ m.content }}|{{ enable_thinking }}|{{ tone }}{% endfor %}"
    assert lm.apply_chat_template([{"role": "user", "content": "Who?"}]) == "Who?|False|dry"
    thinking = HFRecall(folders["llama"], device="cpu", enable_thinking=True, think_end_token="</think>")
    assert thinking.fingerprint()["think_end_token"] == "</think>"
    with pytest.raises(JRTError, match="enable_thinking=True is for tasks that generate"):
        thinking.loglikelihood([tiny.choose("born in", " Maine")], disable_tqdm=True)


def test_an_adapter_of_peft_is_put_into_the_model(folders, tmp_path):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    kind = {"task_type": "CAUSAL_LM"}
    lora = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, **kind)
    adapted = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(folders["llama"]), lora)
    adapted.save_pretrained(tmp_path / "lora")
    lm, plain = (HFRecall(folders["llama"], device="cpu", peft=one) for one in (str(tmp_path / "lora"), None))
    ids = [3, 5, 9, 11, 40]
    with torch.no_grad():
        expected = adapted(torch.tensor([ids])).logits[:, -1]
    torch.testing.assert_close(lm.engine.prefill([ids], [0])[0], expected, atol=1e-5, rtol=1e-5)
    assert lm.fingerprint()["weights"] != plain.fingerprint()["weights"]
    prompts = peft.get_peft_model(
        AutoModelForCausalLM.from_pretrained(folders["llama"]), peft.PromptTuningConfig(num_virtual_tokens=3, **kind)
    )
    prompts.save_pretrained(tmp_path / "prompts")
    with pytest.raises(JRTError, match="puts learned vectors before the prompt"):
        HFRecall(folders["llama"], device="cpu", peft=str(tmp_path / "prompts"))


PARALLEL = """
import json, sys
sys.path.insert(0, sys.argv[1])
import torch, tiny
torch.set_num_threads(1)
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from model_adapters.models import JRTRNN

lm = JRTRNN(sys.argv[2], prefix="dynamic", batch_size=2, device="cpu")
manager = TaskManager(include_defaults=False, include_path=sys.argv[3])
results = simple_evaluate(lm, tasks=["tiny_task"], task_manager=manager, bootstrap_iters=0, log_samples=True)
if lm.rank == 0:
    info = lm.get_model_info()["jrt"]
    keep = {name: info[name] for name in ("rows", "prompt_tokens", "prefix_tokens_mean", "entropy_mean")}
    answers = {s["doc_id"]: s["resps"][0][0] for s in results["samples"]["tiny_task"]}
    score = results["results"]["tiny_task"]["exact_match,none"]
    open(sys.argv[4], "w").write(json.dumps([info["world_size"], keep, sorted(answers.items()), score]))
"""

TASK = """
task: tiny_task
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{text}}}}"
doc_to_target: "{{{{value}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 6}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""


@pytest.mark.slow
def test_two_processes_give_the_results_of_one(folders, tmp_path):
    rows = [{"text": str(prompt), "value": "Maine"} for prompt in tiny.prompts()][:7]  # an odd number, so one pads
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "task.yaml").write_text(TASK.format(data=tmp_path / "rows.jsonl"))
    (tmp_path / "run.py").write_text(PARALLEL)
    found = []
    for processes in (1, 2):
        out = tmp_path / f"{processes}.json"
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        launch = [] if processes == 1 else launch
        arguments = [str(Path(__file__).parents[1]), folders["jrt"], str(tmp_path), str(out)]
        path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        command = [sys.executable, *launch, str(tmp_path / "run.py"), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(json.loads(out.read_text()))
    (one, one_sums, *one_rest), (two, two_sums, *two_rest) = found
    assert (one, two) == (1, 2)
    assert one_rest == two_rest
    assert (one_sums["rows"], two_sums["rows"]) == (7, 7)  # a row that lm_eval repeats to even the shares counts once
